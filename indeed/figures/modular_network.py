"""Figures of the inference network: its module tree with the shapes, what a pixel sees, who learns from what."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float

from indeed.figures.canvas import HATCHES, Drawn, blank, page, palette
from indeed.networks.inference_network import NetworkConfig
from indeed.networks.stages import Shape, Stage, dependences, stages
from indeed.types import Map

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HALF = 0.36
"""Half of the height of a box, in units of the drawing."""


def architecture(config: NetworkConfig, height: int, width: int) -> Drawn[list[Stage]]:
    """Draw the modules of a network as they run on an image of this size, from the module tree itself.

    Boxes are modules, with the shape that comes out of them and their parameters; beside an arrow stands the shape that
    goes into the next one, where something that is not a module (an average, a rearrangement of pixels) changed it.
    Long arrows are drawn where a gradient passes between modules.

    Returns
    -------
    figure, data
        The stages that are drawn.
    """
    data, flows = stages(config, height, width), dependences(config, height, width)
    columns = {owner: [stage for stage in data if stage.module == owner] for owner in ("f_A", "f_B", "f_S")}
    places = {"f_A": 0.0, "f_B": 2.25, "f_S": 5.0}
    kinds = list(dict.fromkeys(stage.kind for stage in data))
    colours = dict(zip(kinds, palette(len(kinds)), strict=True))
    step, top = 1.15, 1.25
    product = -step * max(len(columns["f_A"]), len(columns["f_S"]) - 1) + 0.1
    figure, ax = page(7.2, 0.66 * (top - product + 0.7))
    _box(ax, 1.125, top, f"observation Y\n{_text((config.channels, height, width))}", "0.85")
    for owner, x in places.items():
        total = sum(stage.parameters for stage in columns[owner])
        title = f"{owner}: {_count(total)} parameters"
        ax.text(x, _HALF + 0.15, title, ha="center", va="center", fontsize=9, weight="bold")
        for i, stage in enumerate(columns[owner]):
            kind = f"{stage.repeats} × {stage.kind}" if stage.repeats > 1 else stage.kind
            label = f"{stage.name}\n{kind} ({_count(stage.parameters)})\n{_text(stage.shape)}"
            y = -i * step
            _box(ax, x, y, label, (*colours[stage.kind], 0.3))
            if i:
                _arrow(ax, [(x, y + step - _HALF), (x, y + _HALF)])
                if columns[owner][i - 1].shape != stage.seen:
                    note = f"to {_text(stage.seen)}"
                    ax.text(x + 0.08, y + step / 2, note, fontsize=8, style="italic", va="center")
    _box(ax, 1.125, product, f"low-rank part A Bᵀ\n{_text((config.channels, height, width))}", "0.85")
    heading = _HALF + 0.28
    for owner, tail in {"f_A": 0.6, "f_B": 1.65}.items():
        if ("Y", owner) in flows:
            _arrow(ax, [(tail, top - _HALF), (places[owner], heading)])
        if (owner, "f_S") in flows:
            _arrow(ax, [(places[owner], step * (1 - len(columns[owner])) - _HALF), (tail, product + _HALF)])
    if ("Y", "f_S") in flows:
        _arrow(ax, [(2.18, top), (5.0, top), (5.0, heading)])
    if {("f_A", "f_S"), ("f_B", "f_S")} & flows:
        _arrow(ax, [(2.18, product), (3.62, product), (3.62, 0.0), (3.95, 0.0)])
    ax.set(xlim=(-1.1, 6.1), ylim=(product - _HALF - 0.05, top + _HALF + 0.05))
    ax.set_axis_off()
    return figure, data


def _box(ax: "Axes", x: float, y: float, label: str, colour: Any) -> None:
    from matplotlib.patches import FancyBboxPatch

    corner, size = (x - 1.0, y - _HALF + 0.05), (2.0, 2 * _HALF - 0.1)
    ax.add_patch(FancyBboxPatch(corner, *size, boxstyle="round,pad=0.05", facecolor=colour, edgecolor="0.3"))
    ax.text(x, y, label, ha="center", va="center", fontsize=8, linespacing=1.25)


def _arrow(ax: "Axes", points: Sequence[tuple[float, float]]) -> None:
    from matplotlib.patches import FancyArrowPatch

    *bends, end = points
    if len(bends) > 1:
        ax.plot(*zip(*bends, strict=True), color="0.2", linewidth=1.2, solid_capstyle="butt")
    style: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 10, "color": "0.2", "shrinkA": 0, "shrinkB": 0}
    ax.add_patch(FancyArrowPatch(bends[-1], end, **style))


def _text(shape: Shape) -> str:
    return " × ".join(map(str, shape))


def _count(number: int) -> str:
    """Round a count for a label.

    >>> _count(5_836_294), _count(1234), _count(56)
    ('5.84 M', '1.2 k', '56')
    """
    if number >= 1e6:
        return f"{number / 1e6:.2f} M"
    return f"{number / 1e3:.1f} k" if number >= 1e3 else str(number)


def receptive_fields(gradients: dict[str, Map]) -> Drawn[dict[str, tuple[int, int]]]:
    """Show how strongly one output depends on each pixel, on a logarithmic scale from the largest value down.

    Parameters
    ----------
    gradients
        Absolute derivatives of an output by the pixels, by title.

    Returns
    -------
    figure, data
        Height and width of the box around the pixels that are not exactly zero, by title.
    """
    decades = 8
    figure, (axes,) = page(2.5 * len(gradients) + 0.6, 2.9, 1, len(gradients), squeeze=False)
    data = {}
    for ax, (title, gradient) in zip(axes, gradients.items(), strict=True):
        reached = gradient != 0
        rows, columns = (torch.nonzero(reached.any(dim)).flatten() for dim in (1, 0))
        data[title] = (
            int(rows[-1] - rows[0]) + 1 if len(rows) else 0,
            int(columns[-1] - columns[0]) + 1 if len(columns) else 0,
        )
        values = (gradient / gradient.max()).numpy()
        # The colour map has no colour for minus infinity: pixels without any influence stay white.
        with np.errstate(divide="ignore"):
            shown = np.log10(values)
        shown[np.isneginf(shown)] = np.nan
        picture = ax.imshow(shown, cmap="viridis", vmin=-decades, vmax=0, interpolation="nearest")
        ax.set_title(f"{title}\n{data[title][0]} × {data[title][1]} pixels", fontsize=9)
        ax.tick_params(labelsize=8)
    axes[0].set_ylabel("row", fontsize=9)
    for ax in axes:
        ax.set_xlabel("column", fontsize=9)
    bar = figure.colorbar(picture, ax=axes, shrink=0.8)
    bar.set_label("influence, log$_{10}$ of the largest", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    return figure, data


def gradient_flow(norms: dict[str, dict[str, float]]) -> Drawn[Float[np.ndarray, "term module"]]:
    """Show the norm of the gradient that each term of the loss sends into each module; an empty cell has none.

    Parameters
    ----------
    norms
        By term, then by module.

    Returns
    -------
    figure, data
        The norms, terms in rows, modules in columns.
    """
    import seaborn

    data = np.array([list(row.values()) for row in norms.values()])
    modules = list(next(iter(norms.values())))
    figure, ax = page(5.6, 0.5 * len(norms) + 0.9)
    logarithm = np.full(data.shape, np.nan)
    np.log10(data, out=logarithm, where=data > 0)
    labels = np.array([[f"{value:.1e}" if value > 0 else "0" for value in row] for row in data])
    seaborn.heatmap(
        logarithm,
        annot=labels,
        fmt="",
        cmap="viridis",
        annot_kws={"fontsize": 9},
        cbar_kws={"label": "log$_{10}$ of the norm"},
        linewidths=1,
        ax=ax,
    )
    for (row, column), value in np.ndenumerate(data):
        if value == 0:  # seaborn labels only the cells that it paints
            ax.text(column + 0.5, row + 0.5, "0", ha="center", va="center", fontsize=9)
    ax.set_xticklabels(modules, fontsize=10)
    ax.set_yticklabels(list(norms), rotation=0, fontsize=10)
    return figure, data


def maps(
    rows: dict[str, dict[str, Map]], label: str, limit: float | None = None
) -> Drawn[dict[str, dict[str, Float[np.ndarray, "height width"]]]]:
    """Show maps on one common scale from zero to ``limit``, black to white.

    Parameters
    ----------
    rows
        Maps by the name of their row, then by the title of their column, the same in all rows.
    label
        What the colour bar says.
    limit
        Value of white; None: the largest of all maps.

    Returns
    -------
    figure, data
        What is shown, as arrays.
    """
    data = {row: {title: values.numpy() for title, values in panels.items()} for row, panels in rows.items()}
    titles = list(next(iter(data.values())))
    limit = limit or max(float(values.max()) for panels in data.values() for values in panels.values())
    inches = 6.2 / len(titles)
    figure, axes = page(7.2, (inches + 0.15) * len(data) + 0.3, len(data), len(titles), squeeze=False)
    for line, (row, panels) in zip(axes, data.items(), strict=True):
        line[0].set_ylabel(row, fontsize=9)
        for ax, (title, values) in zip(line, panels.items(), strict=True):
            picture = ax.imshow(values, cmap="gray", vmin=0, vmax=limit, interpolation="nearest")
            ax.set_xticks([])
            ax.set_yticks([])
            if ax in axes[0]:
                ax.set_title(title, fontsize=9)
    bar = figure.colorbar(picture, ax=axes, shrink=0.9, aspect=15)
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=8)
    return figure, data


def module_shares(networks: dict[str, list[Stage]]) -> Drawn[dict[str, dict[str, tuple[int, int]]]]:
    """Bars of the shares of the modules in the parameters and in the operations, for several networks.

    Parameters
    ----------
    networks
        Stages of each network, by its title.

    Returns
    -------
    figure, data
        Parameters and operations of the forward pass, by title and module.
    """
    data: dict[str, dict[str, tuple[int, int]]] = {}
    for title, found in networks.items():
        totals = data[title] = {}
        for stage in found:
            parameters, operations = totals.get(stage.module, (0, 0))
            totals[stage.module] = (parameters + stage.parameters, operations + stage.operations)
    figure = blank(7.2, 0.45 * len(data) + 1.3)
    colours = palette(3)
    quantities = (("parameters", 1e6, "M"), ("operations, forward", 1e9, "GFLOP"))
    for i, (ax, (name, unit, symbol)) in enumerate(zip(figure.subplots(1, 2, sharey=True), quantities, strict=True)):
        for row, owners in enumerate(data.values()):
            total, left = sum(values[i] for values in owners.values()), 0.0
            for colour, hatch, (owner, values) in zip(colours, HATCHES, owners.items(), strict=False):
                share = 100 * values[i] / total
                style = {"color": colour, "hatch": hatch, "edgecolor": "white", "linewidth": 0}
                ax.barh(row, share, left=left, label=owner if row == 0 else None, **style)
                if row == 0:  # the order is the same in all bars: nothing is told by colour alone
                    ax.text(left + share / 2, row, owner, ha="center", va="center", fontsize=9, color="black")
                left += share
            ax.text(102, row, f"{total / unit:.3g} {symbol}", va="center", fontsize=9)
        ax.set_xlabel(f"share of the {name} (%)", fontsize=9)
        ax.set_xlim(0, 150)
        ax.set_xticks(range(0, 101, 25))
        ax.tick_params(labelsize=9)
        if i == 0:
            ax.set_yticks(range(len(data)), list(data))
            ax.invert_yaxis()
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=9)
    return figure, data
