"""Figures of denoising: the table beside the paper's, quality against time and sweeps, what the posterior claims."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from indeed.checks import expect, one_of
from indeed.experiments.methods import TABLE4_METHODS, titles
from indeed.figures.canvas import Drawn, draw_lines, name_axes, page, palette

NAMES = titles(TABLE4_METHODS)
SETS = {
    "cbsd68": "CBSD68",
    "kodak24": "Kodak24",
    "kodak24_500": "Kodak24, centres",
    "mcmaster": "McMaster",
    "set12": "Set12",
    "bsd68": "BSD68",
}


def denoising_table(
    rows: Sequence[Mapping[str, Any]], value: str = "psnr"
) -> Drawn[dict[tuple[str, int, str, int], tuple[float, float]]]:
    """Table of a figure of merit by method and noise level, with the difference to the paper as number and colour.

    Orange is below the paper, purple above, white equal, the full colour the largest difference in the table; a cell
    without colour has no counterpart in the paper.

    Parameters
    ----------
    rows
        As :func:`indeed.experiments.table4.beside_paper` returns them: ``dataset``, ``images``, ``method``, ``sigma``,
        the value and its difference to the paper (NaN where the paper has none).
    value
        ``psnr`` or ``ssim``.

    Returns
    -------
    figure, data
        Value and difference by (data set, images, method, sigma), as they are shown.

    Raises
    ------
    ValueError
        If there is no row, or another value is asked for.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    one_of(("psnr", "ssim"), value=value)
    expect(rows, "rows", "none", "at least one")
    data = {
        (str(row["dataset"]), int(row["images"]), str(row["method"]), int(row["sigma"])): (
            float(row[value]),
            float(row[f"{value}_difference"]),
        )
        for row in rows
    }
    differences = [abs(difference) for _, difference in data.values() if not math.isnan(difference)]
    limit = max(differences, default=1.0) or 1.0
    sigmas = sorted({sigma for *_, sigma in data})
    blocks: dict[tuple[str, int], list[str]] = {}
    for dataset, images, method, _ in data:
        methods = blocks.setdefault((dataset, images), [])
        if method not in methods:
            methods.append(method)

    digits = 2 if value == "psnr" else 4
    lines = sum(len(methods) + 1 for methods in blocks.values())
    label, cell, height = 1.55, 1.12, 0.21  # inches; a figure is about six inches wide in the book
    size = (label + cell * len(sigmas), height * (lines + 1.2))
    figure = Figure(figsize=size)
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, size[0]), ylim=(size[1], 0))
    ax.set_axis_off()
    text: dict[str, Any] = {"fontsize": 8.5, "va": "center"}
    colours = matplotlib.colormaps["PuOr"]
    unit = "PSNR (dB)" if value == "psnr" else "SSIM"
    ax.text(0.05, 0.6 * height, unit, **text, fontweight="bold")
    for column, sigma in enumerate(sigmas):
        ax.text(label + (column + 0.5) * cell, 0.6 * height, f"σ = {sigma}", ha="center", **text, fontweight="bold")
    line = 1.2
    for (dataset, images), methods in blocks.items():
        middle = (line + 0.5) * height
        ax.axhline(line * height, color="0.6", linewidth=0.8)
        plural = "image" if images == 1 else "images"
        ax.text(0.05, middle, f"{SETS.get(dataset, dataset)} ({images} {plural})", fontstyle="italic", **text)
        line += 1
        for method in methods:
            middle = (line + 0.5) * height
            ax.text(0.15, middle, NAMES.get(method, method), **text)
            for column, sigma in enumerate(sigmas):
                if (dataset, images, method, sigma) not in data:
                    continue
                here, difference = data[dataset, images, method, sigma]
                left = label + column * cell
                shown = f"{here:.{digits}f}"
                if not math.isnan(difference):
                    shown += f" ({difference:+.{digits}f})".replace("-", "−")
                    # The ends of the map are too dark to read black on.
                    face = colours(0.5 + 0.3 * max(-1.0, min(1.0, difference / limit)))
                    ax.add_patch(Rectangle((left + 0.02, line * height + 0.01), cell - 0.04, height - 0.02, color=face))
                ax.text(left + 0.5 * cell, middle, shown, ha="center", **text)
            line += 1
    return figure, data


def cost_chart(
    psnr: dict[str, float], seconds: dict[str, float], observed: float
) -> Drawn[dict[str, tuple[float, float]]]:
    """PSNR of denoisers against their time, one labelled point for each; the observation is a dashed line.

    Parameters
    ----------
    psnr, seconds
        PSNR in dB and seconds for an image, by the name of the method.
    observed
        PSNR in dB of what they are given.

    Returns
    -------
    figure, data
        The point (seconds, PSNR) of each method.
    """
    data = {name: (seconds[name], value) for name, value in psnr.items()}
    figure, ax = page(5.6, 3.4)
    styles = zip(palette(), "os^DvP*X", strict=False)
    for (name, point), (colour, marker) in zip(data.items(), styles, strict=False):
        ax.plot(*point, marker, color=colour, label=name)
    ax.axhline(observed, color="0.4", linestyle="--", label="the observation")
    ax.set_xscale("log")
    ax.margins(x=0.15)
    name_axes(ax, "seconds for an image", "PSNR (dB)")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9)
    return figure, data


def refinement_curves(psnr: dict[str, list[float]], best_psnr: dict[int, float]) -> Drawn[dict[str, list[float]]]:
    """PSNR after each sweep of a refinement, and that of the best approximations of some ranks as thin lines.

    Parameters
    ----------
    psnr
        PSNR in dB before the first sweep and after each, by the name of the line.
    best_psnr
        PSNR in dB of the truncated singular value decomposition of the clean image, by its rank.

    Returns
    -------
    figure, data
        The heights of the lines by name; those of the ranks are named ``rank k``.
    """
    figure, ax = page(5.8, 3.6)
    draw_lines(ax, {name: list(enumerate(values)) for name, values in psnr.items()}, markersize=4)
    for rank, value in best_psnr.items():
        ax.axhline(value, color="0.6", linewidth=0.8, zorder=0)
        ax.annotate(
            f"rank {rank}",
            (1, value),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color="0.3",
        )
    ax.set(xlabel="sweeps", ylabel="PSNR (dB)")
    ax.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncol=2)
    return figure, psnr | {f"rank {rank}": [value] for rank, value in best_psnr.items()}


def noise_estimates(
    true: list[float], estimates: dict[str, list[float]], trained_to: float
) -> Drawn[dict[str, list[tuple[float, float]]]]:
    """Estimated minus true standard deviation of the noise, in grey levels; levels beyond training are shaded.

    Parameters
    ----------
    true
        Standard deviations of the noise that was added.
    estimates
        Estimates at each level, by the name of the line.
    trained_to
        Largest level in training.

    Returns
    -------
    figure, data
        The points (true, estimated minus true) of each line.
    """
    data = {
        name: [(level, value - level) for level, value in zip(true, values, strict=True)]
        for name, values in estimates.items()
    }
    figure, ax = page(5.6, 3.2)
    ax.axhline(0, color="0.4", linestyle="--", label="the truth")
    draw_lines(ax, data)
    right = 1.05 * max(true)
    if right > trained_to:
        ax.axvspan(trained_to, right, color="0.9", zorder=0, label="not in training")
    ax.set(xlim=(0, right), xlabel="σ of the noise (8-bit grey levels)", ylabel="error of the estimate (grey levels)")
    ax.grid(alpha=0.3)
    ax.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncol=3)
    return figure, data


def spread_against_error(
    spread: Float[Tensor, "*shape"], error: Float[Tensor, "*shape"], bins: int = 12
) -> Drawn[dict[str, list[float]]]:
    """Error of pixels against the standard deviation that a posterior claims for them, both in grey levels.

    The pixels are sorted by their standard deviation into bins of equal size; a point is the root mean square of both.

    Parameters
    ----------
    spread, error
        Standard deviation and error of each pixel, in the unit of images in [0, 1].
    bins
        Number of points.

    Returns
    -------
    figure, data
        ``spread`` and ``error`` of each point.
    """
    order = spread.flatten().argsort()
    points = {
        name: [255 * part.square().mean().sqrt().item() for part in values.flatten()[order].double().tensor_split(bins)]
        for name, values in (("spread", spread), ("error", error))
    }
    figure, ax = page(5.6, 3.4)
    colour = palette()[0]
    ax.loglog(points["spread"], points["error"], color=colour, marker="o", label="pixels of equal claim")
    ax.axline((1, 1), (10, 10), color="0.4", linestyle="--", label="an honest claim")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.xaxis.set_minor_formatter(lambda value, _: "")
    ax.yaxis.set_minor_formatter(lambda value, _: "")
    ax.set(xlabel="standard deviation claimed (8-bit grey levels)", ylabel="error made (8-bit grey levels)")
    ax.grid(alpha=0.3, which="both")
    ax.legend()
    return figure, points
