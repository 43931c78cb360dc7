"""Pictures of images, of their parts, and of maps over them, which chapters and the command share."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from indeed.checks import expect
from indeed.figures.canvas import Drawn, page
from indeed.images.noise import GREY_LEVEL
from indeed.images.pixels import as_channels
from indeed.types import Image, Map

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ImageArray = Float[np.ndarray, "height width channel"]


def signed_display(part: Image) -> tuple[Image, float]:
    """Display mapping of a signed image, ``1/2 + value / (2 limit)`` clipped to [0, 1], and its limit.

    Mid grey is zero, black and white are minus and plus the limit, the 99.5 % quantile of the absolute values (at least
    one 8-bit grey level, so that a part that vanishes looks empty).

    Examples
    --------
    >>> import torch
    >>> signed_display(torch.tensor([[[-0.25, 0.0, 0.25]]]))
    (tensor([[[0.0000, 0.5000, 1.0000]]]), 0.25)
    """
    # a million values determine the quantile well enough
    magnitudes = part.flatten()[:: max(1, part.numel() // 2**20)].abs().numpy()
    limit = max(float(np.quantile(magnitudes, 0.995)), 1 / 255)
    return (0.5 + part / (2 * limit)).clamp(0, 1), limit


def image_grid(panels: dict[str, Image], columns: int | None = None) -> Drawn[dict[str, ImageArray]]:
    """Images in [0, 1] side by side, each under its title; values outside are shown as black or white.

    Images of more than 1024 pixels a side are thinned out for display.

    Parameters
    ----------
    panels
        Images by title; all of one size.
    columns
        Panels in a row; None: all.

    Returns
    -------
    figure, data
        What each panel shows, by its title, (height, width, channel) in [0, 1].
    """
    data = {}
    for title, image in panels.items():
        stride = max(1, max(image.shape[1:]) // 1024)
        thinned = image.detach().cpu()[:, ::stride, ::stride].clamp(0, 1)
        data[title] = thinned.permute(1, 2, 0).numpy()
    columns = columns or len(data)
    rows = -(-len(data) // columns)
    height, width = next(iter(data.values())).shape[:2]
    inches = 2.6  # three panels fill a page of the book at 100 %
    size = (inches * columns, rows * (min(max(inches * height / width, 1), 12) + 0.35))
    figure, axes = page(*size, rows, columns, squeeze=False)
    for ax, (title, shown) in zip(axes.flat, data.items(), strict=False):
        _show(ax, shown)
        ax.set_title(title, fontsize=10)
    for ax in axes.flat:
        ax.set_axis_off()
    return figure, data


def decomposition_panel(
    image: Image, L: Image, S: Image, N: Image, clean: Image | None = None
) -> Drawn[dict[str, ImageArray]]:
    """Observation beside its low-rank, sparse and noise parts and L + S, in rows of three.

    S and N are shown by `signed_display`, with their limits in the titles, in 8-bit grey levels. The last panel is the
    clean image, where it is known. Figure and data are those of `image_grid`.
    """
    sparse, sparse_limit = signed_display(S)
    noise, noise_limit = signed_display(N)
    panels = {
        "observation Y": image,
        "low rank L": L,
        f"sparse S (white: {sparse_limit / GREY_LEVEL:.0f} grey levels)": sparse,
        "L + S": L + S,
        f"noise N (white: {noise_limit / GREY_LEVEL:.0f} grey levels)": noise,
    }
    if clean is not None:
        panels["clean image U"] = clean
    return image_grid(panels, columns=3)


OPACITY = 0.6
"""Largest opacity of a heat map over an image: the defect is to be seen through it."""


def heat(anomaly_map: Map, limit: float) -> Float[Tensor, "3 height width"]:
    """Colours of an anomaly map, ever brighter, from black at 0 over red to light yellow from ``limit`` on.

    Raises
    ------
    ValueError
        Unless the limit is positive.
    """
    from matplotlib import colormaps

    expect(limit > 0, "limit", limit, "a positive one")
    colours = torch.from_numpy(colormaps["inferno"](np.arange(256))[:, :3]).to(anomaly_map)
    return colours[(anomaly_map / limit * 255).round().clamp(0, 255).long()].permute(2, 0, 1)


def heat_overlay(
    image: Float[Tensor, "_ height width"], anomaly_map: Map, limit: float
) -> Float[Tensor, "3 height width"]:
    """Image in [0, 1] under the `heat` of its anomaly map, whose opacity rises from 0 at 0 to `OPACITY` at ``limit``.

    Raises
    ------
    ValueError
        As `heat` and :func:`indeed.images.pixels.as_channels`.
    """
    opacity = OPACITY * (anomaly_map / limit).clamp(0, 1)
    return torch.lerp(as_channels(image, 3), heat(anomaly_map, limit), opacity)


def picture_table(
    figure: "Figure",
    data: Mapping[tuple[str, str], ImageArray],
    rows: Sequence[str],
    columns: Mapping[str, str],
    fontsize: float,
) -> None:
    """Draw pictures into a figure, those of a row by row and column, under the titles of the columns."""
    for row, line in zip(rows, figure.subplots(len(rows), len(columns), squeeze=False), strict=True):
        for ax, (column, title) in zip(line, columns.items(), strict=True):
            _show(ax, data[row, column])
            ax.set(xticks=[], yticks=[])
            if row == rows[0]:
                ax.set_title(title, fontsize=fontsize)
        line[0].set_ylabel(row, fontsize=fontsize)


def _show(ax: "Axes", shown: ImageArray) -> None:
    ax.imshow(shown.squeeze(2) if shown.shape[2] == 1 else shown, cmap="gray", vmin=0, vmax=1)


def png(figure: "Figure", dpi: int = 100) -> bytes:
    """Encode a figure as a PNG file, for a widget that shows pictures without a running kernel."""
    import io

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()
