"""Pictures of images and of their parts."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ImageArray = Float[np.ndarray, "height width channel"]


def signed_display(part: Float[Tensor, "channel height width"]) -> tuple[Float[Tensor, "channel height width"], float]:
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


def image_grid(
    panels: dict[str, Float[Tensor, "channel height width"]], columns: int | None = None
) -> tuple["Figure", dict[str, ImageArray]]:
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
    figure
        A matplotlib figure.
    data
        What each panel shows, by its title, (height, width, channel) in [0, 1].
    """
    from matplotlib.figure import Figure

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
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for ax, (title, shown) in zip(axes, data.items(), strict=False):
        ax.imshow(shown.squeeze(2) if shown.shape[2] == 1 else shown, cmap="gray", vmin=0, vmax=1)
        ax.set_title(title, fontsize=10)
    for ax in axes:
        ax.set_axis_off()
    return figure, data


def decomposition_panel(
    image: Float[Tensor, "channel height width"],
    L: Float[Tensor, "channel height width"],
    S: Float[Tensor, "channel height width"],
    N: Float[Tensor, "channel height width"],
    clean: Float[Tensor, "channel height width"] | None = None,
) -> tuple["Figure", dict[str, ImageArray]]:
    """Observation beside its low-rank, sparse and noise parts and the denoised L + S, in rows of three.

    S and N are shown by `signed_display`, with their limits in the titles. The last panel is the clean image, where it
    is known. Figure and data are those of `image_grid`.
    """
    sparse, sparse_limit = signed_display(S)
    noise, noise_limit = signed_display(N)
    panels = {
        "observation Y": image,
        "low rank L": L,
        f"sparse S (grey 0, white {sparse_limit:.2g})": sparse,
        "denoised L + S": L + S,
        f"noise N (grey 0, white {noise_limit:.2g})": noise,
    }
    if clean is not None:
        panels["clean image U"] = clean
    return image_grid(panels, columns=3)


def png(figure: "Figure", dpi: int = 100) -> bytes:
    """Encode a figure as a PNG file, for a widget that shows pictures without a running kernel."""
    import io

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()
