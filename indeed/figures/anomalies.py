"""Figures of anomalies: synthetic ones, and maps of those that were found."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from indeed.figures.images import ImageArray, image_grid
from indeed.images.anomalies import AnomalySample
from indeed.images.noise import GREY_LEVEL
from indeed.images.pixels import as_channels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OPACITY = 0.6
"""Largest opacity of a heat map over an image: the defect is to be seen through it."""


def anomaly_families(samples: dict[str, AnomalySample]) -> tuple["Figure", dict[str, ImageArray]]:
    """Synthetic anomalies: normal image, mask, observed image and anomaly, one row for each sample.

    The anomalies are shown as ``1/2 + value / (2 limit)``; the limit is the largest absolute value of all of them (at
    least one grey level), and in the titles.

    Parameters
    ----------
    samples
        By the name of the row, each of one image without a batch axis; all images of one size.

    Returns
    -------
    figure
        A matplotlib figure.
    data
        What each panel shows, by the name of the row and of the part, such as ``"scar: mask"``.
    """
    limit = max(GREY_LEVEL, *(sample.anomaly.abs().max().item() for sample in samples.values()))
    panels = {}
    for name, sample in samples.items():
        panels[f"{name}: normal $U_N$"] = sample.normal
        panels[f"{name}: mask"] = sample.mask[None].to(sample.normal)
        panels[f"{name}: observed $Y$"] = sample.observed
        panels[f"{name}: $U_A$ (grey 0, white {limit:.2g})"] = 0.5 + sample.anomaly / (2 * limit)
    return image_grid(panels, columns=4)


def heat(anomaly_map: Float[Tensor, "height width"], limit: float) -> Float[Tensor, "3 height width"]:
    """Colours of an anomaly map, ever brighter, from black at 0 over red to light yellow from ``limit`` on.

    Raises
    ------
    ValueError
        Unless the limit is positive.
    """
    from matplotlib import colormaps

    if not limit > 0:
        raise ValueError(f"limit: got {limit}, expected a positive one")
    colours = torch.from_numpy(colormaps["inferno"](np.arange(256))[:, :3]).to(anomaly_map)
    return colours[(anomaly_map / limit * 255).round().clamp(0, 255).long()].permute(2, 0, 1)


def heat_overlay(
    image: Float[Tensor, "_ height width"], anomaly_map: Float[Tensor, "height width"], limit: float
) -> Float[Tensor, "3 height width"]:
    """Image in [0, 1] under the `heat` of its anomaly map, whose opacity rises from 0 at 0 to `OPACITY` at ``limit``.

    Raises
    ------
    ValueError
        As `heat` and :func:`indeed.images.pixels.as_channels`.
    """
    opacity = OPACITY * (anomaly_map / limit).clamp(0, 1)
    return torch.lerp(as_channels(image, 3), heat(anomaly_map, limit), opacity)
