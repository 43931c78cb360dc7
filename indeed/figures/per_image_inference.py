"""Figures of per-image inference: how the free energy falls."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from indeed.figures.canvas import Drawn, blank, page, palette

Series = Float[np.ndarray, " number"]


# The updates of a sweep as a reader knows them: three of the middle level, the leaf level, the fate of columns.
KINDS = {
    "A": ("A",),
    "B": ("B",),
    "S": ("S",),
    "leaf level": ("gamma", "omega", "lambda"),
    "columns off": ("switch off", "remove"),
}


def ascent_traces(traces: Mapping[str, Sequence[tuple[str, float]]]) -> Drawn[dict[str, dict[str, dict[str, Series]]]]:
    """Free energy after every update of coordinate ascent, above its last value, marked by the kind of update.

    Parameters
    ----------
    traces
        For each panel, by its title: the names of the updates and the free energy after each, as
        `indeed.bayes.coordinate_ascent.fit` reports them; the first is the start.

    Returns
    -------
    figure, data
        By title and kind of update: its ``number`` (the count of the update), what the free energy is then ``above``
        the last one, and by how much all updates of the kind ``lowered`` it, in total.
    """
    from matplotlib.collections import LineCollection

    lowest = 1e-4  # what happens further down is rounding and the last superfluous column
    colours = dict(zip(KINDS, palette(len(KINDS)), strict=True))
    figure = blank(6.4, 3.5)
    data: dict[str, dict[str, dict[str, Series]]] = {}
    for ax, (title, trace) in zip(figure.subplots(1, len(traces), squeeze=False)[0], traces.items(), strict=True):
        names = np.array([name for name, _ in trace])
        values = np.array([value for _, value in trace])
        steps = -np.diff(values, prepend=values[0])
        above = values - values[-1]
        data[title] = {}
        ax.plot(np.maximum(above, lowest), color="0.8", linewidth=1, zorder=0)
        for (kind, updates), marker in zip(KINDS.items(), "os^Dv", strict=True):
            number = np.flatnonzero(np.isin(names, updates))
            data[title][kind] = {
                "number": number.astype(float),
                "above": above[number],
                "lowered": np.atleast_1d(steps[number].sum()),
            }
            # Each update is a line from where it found the free energy to where it left it.
            ends = np.stack(
                [[number, np.maximum(above[number - 1], lowest)], [number, np.maximum(above[number], lowest)]]
            )
            ax.add_collection(LineCollection(list(ends.transpose(2, 0, 1)), colors=[colours[kind]], linewidths=2.5))
            # The largest steps of each kind bear its marker.
            marked = number[np.argsort(steps[number] / ends[:, 1].max(0))[-12:]]
            place = np.maximum(above[marked], lowest)
            ax.plot(marked, place, marker, color=colours[kind], markersize=4, label=kind)
        ax.set(xlim=(0.8, 1.2 * len(values)), ylim=(lowest, 2 * above[0]), xscale="log", yscale="log")
        ax.set_title(title, fontsize=10)
        ax.set_xlabel("update")
    figure.axes[0].set_ylabel("free energy above its last value\n(nats per pixel)")
    figure.axes[0].legend(fontsize=9, loc="lower left")
    return figure, data


def descent_against_ascent(
    ascent: Mapping[str, Sequence[float]], descent: Mapping[str, Mapping[str, Sequence[float]]], best: float
) -> Drawn[dict[str, dict[str, Series]]]:
    """Free energy above ``best`` by coordinate ascent and by stochastic gradient, against steps and against time.

    Parameters
    ----------
    ascent
        ``step`` (sweeps), ``seconds`` and ``free energy`` of coordinate ascent.
    descent
        The same of one or more gradient descents, by their label; their steps are gradient steps.
    best
        The free energy to subtract, in the same unit: nats per pixel.

    Returns
    -------
    figure, data
        The curves by label, ``free energy`` replaced by what is ``above`` the best.
    """
    curves = {"coordinate ascent": ascent, **descent}
    figure, axes = page(6.4, 3.2, 1, 2, sharey=True)
    data: dict[str, dict[str, Series]] = {}
    colours = palette(len(curves))
    for (label, curve), colour, marker in zip(curves.items(), colours, ".osD^v"[: len(curves)], strict=True):
        above = np.maximum(np.asarray(curve["free energy"]) - best, 1e-7)
        data[label] = {"step": np.asarray(curve["step"]), "seconds": np.asarray(curve["seconds"]), "above": above}
        for ax, along in zip(axes, ("step", "seconds"), strict=True):
            ax.plot(data[label][along], above, marker=marker, markersize=4, color=colour, linewidth=1.3, label=label)
    for ax, label in zip(axes, ("sweeps, or gradient steps", "seconds"), strict=True):
        ax.axhline(0.01, color="black", linestyle=":", linewidth=1)
        ax.set(xscale="log", yscale="log", xlabel=label)
    axes[0].set_ylabel("free energy above the best\n(nats per pixel)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=8)
    return figure, data
