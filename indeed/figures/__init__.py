"""Figures of the chapters and of the command: functions that return the figure and the data it shows.

The only part that uses matplotlib and seaborn; it loads them when a figure is drawn.
"""

from indeed.figures.denoising import denoising_curve, rank_reference, training_curves
from indeed.figures.images import decomposition_panel, image_grid, png, signed_display
from indeed.figures.model import column_variances, heavy_tails, model_graph, prior_gallery

__all__ = [
    "column_variances",
    "decomposition_panel",
    "denoising_curve",
    "heavy_tails",
    "image_grid",
    "model_graph",
    "png",
    "prior_gallery",
    "rank_reference",
    "signed_display",
    "training_curves",
]
