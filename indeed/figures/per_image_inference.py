"""Figures of per-image inference: how the free energy falls."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from indeed.figures.canvas import Drawn, page, palette

Series = Float[np.ndarray, " number"]


# The updates of a sweep as a reader knows them: three of the middle level, the leaf level, the fate of columns.
KINDS = {
    "A": ("A",),
    "B": ("B",),
    "S": ("S",),
    "leaf level": ("gamma", "omega", "lambda"),
    "columns off": ("switch off", "remove"),
}


def ascent_by_kind(traces: Mapping[str, Sequence[tuple[str, float]]]) -> Drawn[dict[str, dict[str, Series]]]:
    """By how much each kind of update lowers the free energy in each sweep of coordinate ascent.

    Parameters
    ----------
    traces
        For each panel, by its title: the names of the updates and the free energy after each, as
        `indeed.bayes.coordinate_ascent.fit` reports them; the first is the start.

    Returns
    -------
    figure, data
        By title and kind of update: by how much its updates lowered the free energy in each sweep, from the first on.
    """
    lowest = 1e-6  # what happens further down is rounding
    figure, (axes,) = page(6.4, 3.4, 1, len(traces), sharey=True, squeeze=False)
    data: dict[str, dict[str, Series]] = {}
    for ax, (title, trace) in zip(axes, traces.items(), strict=True):
        names = np.array([name for name, _ in trace])
        lowered = -np.diff([value for _, value in trace], prepend=trace[0][1])
        sweep = np.cumsum(names == "A")  # a sweep begins with A; that of the start is number 0
        data[title] = {
            kind: np.bincount(sweep, np.where(np.isin(names, updates), lowered, 0))[1:]
            for kind, updates in KINDS.items()
        }
        styles = zip(data[title].items(), palette(len(KINDS)), "osD^v", strict=True)
        for (kind, steps), colour, marker in styles:
            number = 1 + np.flatnonzero(steps > lowest)
            ax.plot(number, steps[number - 1], marker=marker, markersize=3, color=colour, linewidth=1.2, label=kind)
        ax.set(xscale="log", yscale="log", ylim=(lowest, None), xlabel="sweep")
        ax.set_title(title, fontsize=10)
    axes[0].set_ylabel("lowered by the updates of a sweep\n(nats per pixel)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8)
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
