"""Figures of the chapters and of the command: functions that return the figure and the data it shows.

A module for each chapter that draws, beside ``images``, ``curves`` and ``canvas``, which they share. The only part that
uses matplotlib and seaborn; it loads them when a figure is drawn.
"""

from indeed.figures.ablations import ablation_study, conclusion_margins, low_rank_by_rank
from indeed.figures.active_generalisation import (
    adaptation_gains,
    adaptation_progress,
    coordinate_distributions,
    decompositions_before_after,
    gain_against_sparsity,
)
from indeed.figures.amortisation import all_or_nothing, parts_by_stage, per_image_progress, terms_before_after
from indeed.figures.anomaly_detection import anomaly_families, detection_gains, detection_maps, detection_scores
from indeed.figures.conjugate_updates import (
    Landscape,
    column_precisions,
    column_switch,
    precision_landscapes,
    precision_maps,
    variance_tails,
)
from indeed.figures.curves import denoising_curve, training_curves
from indeed.figures.denoising import (
    cost_chart,
    denoising_table,
    noise_estimates,
    refinement_curves,
    spread_against_error,
)
from indeed.figures.errata import moments_against_samples
from indeed.figures.first_decomposition import rank_reference
from indeed.figures.free_energy import evidence_bar, evidence_bound, term_bars, term_response
from indeed.figures.hierarchical_model import (
    column_variances,
    heavy_tails,
    model_graph,
    penalties_and_estimates,
    prior_gallery,
    rank_one_sum,
    shrinkage_rules,
)
from indeed.figures.image_decompositions import noise_edge, rank_curves, recovery_map
from indeed.figures.images import decomposition_panel, heat, heat_overlay, image_grid, png, signed_display
from indeed.figures.live import pixel_posteriors
from indeed.figures.method import METHOD_BOXES, method_drawing
from indeed.figures.modular_network import architecture, gradient_flow, maps, module_shares, receptive_fields
from indeed.figures.noise_and_target import fidelity_of_a_pixel, target_precision_curve
from indeed.figures.pac_bayes import generalisation_curves, loss_against_error
from indeed.figures.per_image_inference import ascent_by_kind, descent_against_ascent
from indeed.figures.scale import roofline
from indeed.figures.training import (
    design_differences,
    leaf_noise_shares,
    leaf_sampling_effect,
    loss_terms,
    orthogonality_limit,
    values_and_gradients,
)
