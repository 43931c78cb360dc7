r"""What a task minimises: supervision, orthogonality, the loss of training and that of active generalisation.

Eq. 12, 14-15, 35 and 39-45.

These functions take posterior parameters and draws, never a network.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from indeed.bayes.anomaly_maps import sparse_and_noise
from indeed.bayes.conjugate_updates import solve_leaf_level
from indeed.bayes.elbo import ElboTerms, MiddleTerms, negative_elbo, per_sample_sum, sub_problem_2_terms
from indeed.bayes.generative_model import Hyperpriors
from indeed.bayes.posterior_summaries import expected_squared_residual, sampled_squared_residual
from indeed.bayes.variational_family import Draw, Generators, MiddleLevel
from indeed.checks import at_least, expect, one_of
from indeed.images.noise import GREY_LEVEL
from indeed.types import Images, Masks, PerSample, Scalar

_FLOOR = 1e-5

Modules = Literal["L", "S", "LS"]
"""Modules of the network: that of L (f_A and f_B), that of S, or both."""


class LossTerms(NamedTuple):
    """Per-sample terms of the training loss, Eq. 35 and 42, each of shape (batch,), in the paper's order."""

    fidelity: PerSample
    supervision: PerSample
    rank: PerSample
    sparsity: PerSample
    orthogonality: PerSample


def expected_negative_elbo(terms: ElboTerms) -> Scalar:
    r"""Mean over a batch of :math:`-\mathrm{ELBO}`: the loss :math:`\mathcal L_{dnn}` of a network (Eq. 12)."""
    return negative_elbo(terms).mean()


def denoising_supervision(draw: Draw, clean: Images, target_precision: float) -> PerSample:
    r"""Denoising supervision :math:`\tfrac{\sigma_0}{2}(\|\hat L + \hat S - U\|_F^2 + \|\hat L - U\|_F^2)` (Eq. 44).

    ``target_precision`` is the paper's :math:`\sigma_0`, which despite its name is a precision (1 / intensity²). Only
    the first term is the negative log-likelihood of U (up to a constant); the second keeps the solution L = 0, S = U
    away.

    Raises
    ------
    ValueError
        If ``target_precision`` is not positive.
    """
    _check_positive("target_precision", target_precision)
    low_rank = draw.low_rank
    error = (low_rank + draw.S - clean).square() + (low_rank - clean).square()
    return 0.5 * target_precision * per_sample_sum(error)


def anomaly_supervision(draw: Draw, normal: Images, anomaly: Images, target_precision: float) -> PerSample:
    r"""Anomaly supervision :math:`\tfrac{\sigma_0}{2}(\|\hat L - U_N\|_F^2 + \|\hat S - U_A\|_F^2)` (Eq. 45).

    ``normal`` is :math:`U_N`, ``anomaly`` is :math:`U_A = Y - U_N`.

    Raises
    ------
    ValueError
        If ``target_precision`` is not positive.
    """
    _check_positive("target_precision", target_precision)
    error = (draw.low_rank - normal).square() + (draw.S - anomaly).square()
    return 0.5 * target_precision * per_sample_sum(error)


def mask_supervision(y: Images, middle: MiddleLevel, mask: Masks) -> PerSample:
    r"""Cross-entropy, in nats, of the :func:`indeed.bayes.anomaly_maps.share` p against the mask of the anomaly.

    .. math:: -\sum_{ij} \big\{ M_{ij} \ln p_{ij} + (1 - M_{ij}) \ln (1 - p_{ij}) \big\}

    Eq. 45 weighs an error by the square of its intensity, so that a faint defect, and false alarms where L leaves
    little, cost nothing; here every pixel counts alike. Not in the paper.
    """
    sparse, noise = (each.sum(1) for each in sparse_and_noise(y, middle))
    rest = noise + y.shape[1] * GREY_LEVEL
    # The floor keeps the gradient finite where S is exactly zero.
    likely = torch.where(mask, sparse + _FLOOR, rest)
    return per_sample_sum((sparse + rest).log() - likely.log())


def orthogonality(draw: Draw, form: Literal["literal", "cosine"] = "literal") -> PerSample:
    r"""Orthogonality of the columns of the factors (Eq. 42).

    ``literal``: :math:`\|\hat A^\top\hat A - I\|_F^2 + \|\hat B^\top\hat B - I\|_F^2` as printed. Satisfied exactly,
    it sets every singular value of L to one, and so works against the rank term and against any natural image.
    ``cosine``: the same with columns scaled to unit length and the diagonal left out; asks for different directions
    only.
    """
    if form == "literal":
        return per_sample_sum(_gram_error(draw.A)) + per_sample_sum(_gram_error(draw.B))
    if form == "cosine":
        # A column of exactly zero has no direction; the small floor leaves it without a penalty.
        unit_A = draw.A / draw.A.norm(dim=-2, keepdim=True).clamp_min(1e-12)
        unit_B = draw.B / draw.B.norm(dim=-2, keepdim=True).clamp_min(1e-12)
        return per_sample_sum(_off_diagonal(unit_A)) + per_sample_sum(_off_diagonal(unit_B))
    raise ValueError(f"form: got {form!r}, expected 'literal' or 'cosine'")


def amortised_terms(
    y: Images,
    middle: MiddleLevel,
    draw: Draw,
    supervision: PerSample,
    hyperpriors: Hyperpriors,
    *,
    residual: Literal["sampled", "expected"] = "sampled",
    orthogonality_form: Literal["literal", "cosine"] = "literal",
    leaf_generator: Generators | None = None,
) -> LossTerms:
    r"""Per-sample loss of one step of the alternation (Eq. 14, 15).

    Sub-problem 1 is solved at the current output :math:`f_{\theta^{[k]}}(Y)` and **detached**; the terms of
    sub-problem 2 are then functions of the network alone: the leaf level :math:`\phi_{\mathcal Z_l}^{[k+1]}` carries
    no gradient.

    Parameters
    ----------
    residual
        Whether Eq. 30 and 32 use the residual of the draw, as in the paper, or its expectation.
    orthogonality_form
        See :func:`orthogonality`.
    leaf_generator
        With it, the precisions of the leaf level enter by one draw each in the place of their means (section 3.1.4).
    """
    one_of(("sampled", "expected"), residual=residual)
    sampled = residual == "sampled"
    with torch.no_grad():
        leaf = solve_leaf_level(y, middle, hyperpriors, draw=draw if sampled else None)
    squared = sampled_squared_residual(y, draw) if sampled else expected_squared_residual(y, middle)
    terms = sub_problem_2_terms(middle, leaf, squared, supervision, generator=leaf_generator)
    return LossTerms(*terms, orthogonality(draw, orthogonality_form))


def training_loss(terms: LossTerms, *, orthogonality_weight: float, elements: int, variational: bool = True) -> Scalar:
    r"""Training loss :math:`\hat{\mathcal L}_{dnn} + \tau\,\ell_{orth}` averaged over the batch (Eq. 35 and 43).

    The one place where terms are reduced. All of them are divided by ``elements``, the pixels times channels of one
    sample: one constant for the whole loss, so the ratios are those of the ELBO and the learning rate does not depend
    on the image size. Eq. 43 prints a *sum* over the data for the orthogonality beside a *mean* for the rest; the
    mean is used for both.

    Parameters
    ----------
    orthogonality_weight
        The paper's :math:`\tau`.
    elements
        channel * height * width of one sample.
    variational
        False leaves out fidelity, rank and sparsity, so that supervision and orthogonality alone are learned from: the
        loss of model 9 of Table 3.

    Raises
    ------
    ValueError
        If ``orthogonality_weight`` is negative or ``elements`` smaller than one.
    """
    at_least(0, orthogonality_weight=orthogonality_weight)
    at_least(1, elements=elements)
    per_sample = terms.supervision
    if variational:
        per_sample = per_sample + terms.fidelity + terms.rank + terms.sparsity
    return (per_sample + orthogonality_weight * terms.orthogonality).mean() / elements


def active_generalisation_loss(terms: MiddleTerms, modules: Modules) -> PerSample:
    r"""Unsupervised loss of the module that adapts: S, L, or both (Eq. 39-41).

    :math:`\ell_{fid} + \ell_{sparse}`, :math:`\ell_{fid} + \ell_{rank}`, or all three; in nats, (batch,).
    """
    loss = terms.fidelity
    if "L" in modules:
        loss = loss + terms.rank
    if "S" in modules:
        loss = loss + terms.sparsity
    return loss


def _gram_error(factor: Tensor) -> Tensor:
    gram = factor.mT @ factor
    return (gram - torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)).square()


def _off_diagonal(unit_columns: Tensor) -> Tensor:
    gram = unit_columns.mT @ unit_columns
    return (gram - torch.diag_embed(gram.diagonal(dim1=-2, dim2=-1))).square()


def _check_positive(name: str, value: float) -> None:
    expect(value > 0, name, value, "a positive number")
