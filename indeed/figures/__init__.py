"""Figures of the chapters and of the command: functions that return the figure and the data it shows.

The only part that uses matplotlib and seaborn; it loads them when a figure is drawn.
"""

from indeed.figures.amortisation import all_or_nothing, parts_by_stage, per_image_progress, terms_before_after
from indeed.figures.decomposition import rank_curves, recovery_map
from indeed.figures.denoising import denoising_curve, rank_reference, training_curves
from indeed.figures.errata import moments_against_samples
from indeed.figures.free_energy import evidence_bound, term_bars, term_response
from indeed.figures.images import decomposition_panel, image_grid, png, signed_display
from indeed.figures.inference import (
    ascent_traces,
    descent_against_ascent,
    fidelity_of_a_pixel,
    target_precision_curve,
)
from indeed.figures.leaf_level import (
    Landscape,
    column_precisions,
    column_switch,
    precision_landscapes,
    precision_maps,
    variance_tails,
)
from indeed.figures.model import column_variances, heavy_tails, model_graph, prior_gallery

__all__ = [
    "Landscape",
    "all_or_nothing",
    "ascent_traces",
    "column_precisions",
    "column_switch",
    "column_variances",
    "decomposition_panel",
    "denoising_curve",
    "descent_against_ascent",
    "evidence_bound",
    "fidelity_of_a_pixel",
    "heavy_tails",
    "image_grid",
    "model_graph",
    "moments_against_samples",
    "parts_by_stage",
    "per_image_progress",
    "png",
    "precision_landscapes",
    "precision_maps",
    "prior_gallery",
    "rank_curves",
    "rank_reference",
    "recovery_map",
    "signed_display",
    "target_precision_curve",
    "term_bars",
    "term_response",
    "terms_before_after",
    "training_curves",
    "variance_tails",
]
