"""The denoising table, drawn with the differences to the paper coloured."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from indeed.experiments.methods import TABLE4_METHODS, titles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
    rows: Sequence[Mapping[str, Any]], value: str = "psnr", limit: float | None = None
) -> tuple["Figure", dict[tuple[str, int, str, int], tuple[float, float]]]:
    """Table of a figure of merit by method and noise level, with the difference to the paper as number and colour.

    Orange is below the paper, purple above, white equal; a cell without colour has no counterpart in the paper.

    Parameters
    ----------
    rows
        As :func:`indeed.experiments.table4.beside_paper` returns them: ``dataset``, ``images``, ``method``, ``sigma``,
        the value and its difference to the paper (NaN where the paper has none).
    value
        ``psnr`` or ``ssim``.
    limit
        Difference that has the full colour; None: the largest in the table.

    Returns
    -------
    figure
        A matplotlib figure.
    data
        Value and difference by (data set, images, method, sigma), as they are shown.

    Raises
    ------
    ValueError
        If there is no row, or another value is asked for.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    if value not in ("psnr", "ssim"):
        raise ValueError(f"value must be 'psnr' or 'ssim', got {value!r}")
    if not rows:
        raise ValueError("rows: got none, expected at least one")
    data = {
        (str(row["dataset"]), int(row["images"]), str(row["method"]), int(row["sigma"])): (
            float(row[value]),
            float(row[f"{value}_difference"]),
        )
        for row in rows
    }
    differences = [abs(difference) for _, difference in data.values() if not math.isnan(difference)]
    limit = limit or max(differences, default=1.0) or 1.0
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
