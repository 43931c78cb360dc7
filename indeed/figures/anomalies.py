"""Figures of synthetic anomalies."""

from typing import TYPE_CHECKING

from indeed.figures.images import ImageArray, image_grid
from indeed.images.anomalies import AnomalySample
from indeed.images.noise import GREY_LEVEL

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
