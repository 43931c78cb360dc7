"""A figure of the errata: formulas for the moments of L against samples."""

import numpy as np
from jaxtyping import Float
from torch import Tensor

from indeed.figures.canvas import Drawn, blank, name_axes, palette
from indeed.types import Images


def moments_against_samples(
    samples: Float[Tensor, "draw channel height width"], moments: dict[str, tuple[Images, Images]]
) -> Drawn[dict[str, dict[str, Float[np.ndarray, " pixel"]]]]:
    """Mean and standard deviation of each pixel by formula, against those of samples; a right formula has a diagonal.

    Parameters
    ----------
    samples
        Draws of an image.
    moments
        Mean and variance of each pixel, by the name of the formula.

    Returns
    -------
    figure, data
        ``mean`` and ``standard deviation`` of each pixel of the ``samples`` and by each formula.
    """
    data = {
        name: {"mean": mean.flatten().numpy(), "standard deviation": variance.sqrt().flatten().numpy()}
        for name, (mean, variance) in {"samples": (samples.mean(0), samples.var(0)), **moments}.items()
    }
    figure = blank(6.8, 3.3)
    colours = palette(len(moments))
    for ax, quantity in zip(figure.subplots(1, 2), ("mean", "standard deviation"), strict=True):
        truth = data["samples"][quantity]
        ends = [truth.min(), truth.max()]
        ax.plot(ends, ends, color="0.4", linewidth=1, zorder=0)
        for name, colour, marker in zip(moments, colours, "osD^", strict=False):
            ax.plot(truth, data[name][quantity], marker, color=colour, markersize=4, alpha=0.7, label=name)
        name_axes(ax, f"{quantity} of a pixel of L, samples", "by the formula")
        ax.legend()
    return figure, data
