"""The ablation study beside the paper's: its models, and the margins of what is concluded from them."""

from collections.abc import Mapping, Sequence
from typing import Any

from indeed.figures.canvas import Drawn, draw_lines, name_axes, page, palette


def ablation_study(rows: Sequence[Mapping[str, Any]]) -> Drawn[dict[str, dict[str, list[float]]]]:
    """PSNR of L and of L + S of each model, here and in the paper; a bar is the range over the seeds.

    Parameters
    ----------
    rows
        As :func:`indeed.experiments.table3_conclusions.beside_paper` returns them.

    Returns
    -------
    figure, data
        ``psnr_low_rank`` and ``psnr``, and for each the ``model``, ``here``, ``range`` and ``paper`` in dB.
    """
    panels = {"psnr_low_rank": "PSNR of L (dB)", "psnr": "PSNR of L + S (dB)"}
    data = {
        figure: {
            "model": [float(row["model"]) for row in rows],
            "here": [float(row[figure]) for row in rows],
            "range": [float(row[f"{figure}_range"]) for row in rows],
            "paper": [float(row[f"{figure}_paper"]) for row in rows],
        }
        for figure in panels
    }
    places = range(len(rows))
    ours, _, _, theirs, *_ = palette()
    drawing, axes = page(6.2, 0.6 + 0.31 * (len(rows) + 1), 1, 2, sharey=True)
    for ax, (figure, label) in zip(axes, panels.items(), strict=True):
        values = data[figure]
        ax.plot(values["paper"], places, "s", color=theirs, markerfacecolor="none", label="paper")
        half = [width / 2 for width in values["range"]]
        ax.errorbar(values["here"], places, xerr=half, fmt="o", color=ours, markersize=5, capsize=3, label="here")
        ax.set_xlabel(label)
        ax.grid(axis="x", alpha=0.3)
        ax.tick_params(labelsize=9)
        for place in places:
            ax.axhline(place, color="0.9", linewidth=0.6, zorder=0)
    axes[0].set_yticks(places, [f"#{row['model']}  {row['label']}" for row in rows])
    axes[0].invert_yaxis()
    drawing.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2, fontsize=9)
    return drawing, data


def conclusion_margins(rows: Sequence[Mapping[str, Any]]) -> Drawn[dict[str, tuple[float, float, float]]]:
    """Margin of each conclusion of the paper, in the paper and here: positive where it holds.

    A grey band is what the seeds alone make of a margin here: within it, nothing is decided.

    Parameters
    ----------
    rows
        As :func:`indeed.experiments.table3_conclusions.verdicts` returns them.

    Returns
    -------
    figure, data
        Margin in the paper, margin here and noise, in dB, by the name of the conclusion.
    """
    data = {str(row["claim"]): (float(row["paper"]), float(row["here"]), float(row["noise"])) for row in rows}
    places = range(len(rows))
    ours, _, _, theirs, *_ = palette()
    figure, ax = page(6.2, 0.8 + 0.34 * len(rows))
    for place, (paper, here, noise) in zip(places, data.values(), strict=True):
        ax.barh(place, 2 * noise, left=-noise, height=0.8, color="0.85", label="" if place else "range over the seeds")
        ax.plot(paper, place, "s", color=theirs, markerfacecolor="none", label="" if place else "paper")
        ax.plot(here, place, "o", color=ours, markersize=5, label="" if place else "here")
    ax.axvline(0, color="0.3", linewidth=0.8)
    ax.set_yticks(places, [str(row["meaning"]) for row in rows])
    ax.set_xscale("symlog", linthresh=0.5)
    ticks = (-10, -3, -1, 0, 1, 3, 10)
    ax.set_xticks(ticks, [f"{tick:g}".replace("-", "−") for tick in ticks])
    ax.set_xlim(-15, 15)
    ax.minorticks_off()
    ax.invert_yaxis()
    ax.set_xlabel("margin (dB), positive where it holds")
    ax.tick_params(labelsize=9)
    ax.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper right", ncols=3, fontsize=9)
    return figure, data


def low_rank_by_rank(
    ranks: Sequence[int], curves: Mapping[str, Sequence[float]], top: float | None = None
) -> Drawn[dict[str, list[tuple[int, float]]]]:
    """PSNR of L against the maximal rank, one line for each named method.

    Parameters
    ----------
    ranks
        Maximal ranks, rising.
    curves
        PSNR in dB at each rank by the name of the line; NaN where there is no number.
    top
        Upper end of the axis in dB, where a line may leave the picture.

    Returns
    -------
    figure, data
        The points (rank, PSNR) of each line.
    """
    data = {
        name: [(rank, value) for rank, value in zip(ranks, values, strict=True) if value == value]
        for name, values in curves.items()
    }
    figure, ax = page(5.6, 3.4)
    draw_lines(ax, data, "^os*Dv")
    ax.set_xscale("log", base=2)
    ax.set_xticks(list(ranks), [str(rank) for rank in ranks])
    ax.minorticks_off()
    ax.set_ylim(top=top)
    name_axes(ax, "maximal rank r0", "PSNR of L (dB)")
    ax.legend(fontsize=9)
    return figure, data
