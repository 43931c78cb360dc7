r"""Sub-problem 1: the leaf level in closed form, given the middle level (Eq. 6-7 and 25-30).

The Gamma prior is conjugate to the Gaussian precision, so the minimiser of Eq. 7 is again a Gamma. If :math:`n`
Gaussian variables share a precision and :math:`e` is their expected sum of squares, it is :math:`\mathcal G(\alpha^0 +
n/2,\ \beta^0 + e/2)`: the default, ``form="exact"``. The paper prints twice both parameters (``form="paper"``): the
same mean, half the variance.
"""

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from indeed.bayes.elbo import negative_expected_log_likelihood, per_sample_sum, rank_kl, sparsity_kl
from indeed.bayes.generative_model import Hyperpriors
from indeed.bayes.posterior_summaries import expected_squared_residual, sampled_squared_residual
from indeed.bayes.variational_family import Draw, Factor, GammaFactor, GaussianFactor, LeafLevel, MiddleLevel, gamma_kl
from indeed.checks import expect, one_of
from indeed.types import Images, PerSample

UpdateForm = Literal["exact", "paper"]
NoiseForm = Literal["pixel", "scalar"]
"""Pixels that share a noise precision: none, as in the paper, or all of a channel of an image."""
LocalNoiseForm = Literal[NoiseForm, "neighbourhood"]
"""As `NoiseForm`, or those of a window around each pixel: then the solution minimises no free energy."""


def _posterior(prior_shape: float, prior_rate: float, count: int, energy: Tensor, form: UpdateForm) -> GammaFactor:
    """Gamma posterior of a precision shared by ``count`` variables whose expected squares sum to ``energy``."""
    one_of(("exact", "paper"), form=form)
    scale = 1.0 if form == "exact" else 2.0
    shape = torch.full_like(energy, scale * (prior_shape + 0.5 * count))
    return GammaFactor(shape, scale * (prior_rate + 0.5 * energy))


def update_gamma(A: Factor, B: Factor, hyperpriors: Hyperpriors, form: UpdateForm = "exact") -> GammaFactor:
    r"""Posterior of the column precisions given q(A), q(B) (Eq. 26).

    .. math::
        \alpha_{\gamma_i} = \alpha^0_\gamma + \tfrac12(h + w), \qquad
        \beta_{\gamma_i} = \beta^0_\gamma
        + \tfrac12\big(\|\mu_{a_i}\|^2+\|\sigma_{a_i}\|^2+\|\mu_{b_i}\|^2+\|\sigma_{b_i}\|^2\big)

    >>> one = GaussianFactor(torch.ones(1, 1, 4, 2), torch.zeros(1, 1, 4, 2))
    >>> exact, paper = (update_gamma(one, one, Hyperpriors(), form) for form in ("exact", "paper"))
    >>> bool((exact.mean == paper.mean).all()), bool((exact.variance == 2 * paper.variance).all())
    (True, True)

    Returns
    -------
    GammaFactor
        Shape and rate, (batch, channel, rank).
    """
    energy = A.second_moment.sum(-2) + B.second_moment.sum(-2)
    count = A.mean.shape[-2] + B.mean.shape[-2]
    return _posterior(hyperpriors.gamma_shape, hyperpriors.gamma_rate, count, energy, form)


def update_omega(S: GaussianFactor, hyperpriors: Hyperpriors, form: UpdateForm = "exact") -> GammaFactor:
    r"""Posterior of the sparsity precisions given q(S) (Eq. 28).

    :math:`\alpha_\omega = \alpha^0_\omega + \tfrac12,\ \beta_\omega = \beta^0_\omega + \tfrac12(\mu_s^2 +
    \sigma_s^2)`, pixel-wise.
    """
    return _posterior(hyperpriors.omega_shape, hyperpriors.omega_rate, 1, S.second_moment, form)


def update_lambda(
    squared_residual: Images,
    hyperpriors: Hyperpriors,
    form: UpdateForm = "exact",
    noise: LocalNoiseForm = "pixel",
    neighbourhood: int = 7,
) -> GammaFactor:
    r"""Posterior of the noise precisions given the squared residual (Eq. 30).

    :math:`\alpha_\lambda = \alpha^0_\lambda + \tfrac12,\ \beta_\lambda = \beta^0_\lambda + \tfrac12 r^2`, pixel-wise.
    The minimiser of Eq. 29 needs the *expected* :math:`r^2`
    (:func:`~indeed.bayes.posterior_summaries.expected_squared_residual`); the paper plugs in that of one draw
    (:func:`~indeed.bayes.posterior_summaries.sampled_squared_residual`).

    With ``noise="scalar"`` all pixels of a channel share one precision, (batch, channel, 1, 1), and both parameters
    count them all: :math:`\alpha^0_\lambda + \tfrac12 hw` and :math:`\beta^0_\lambda + \tfrac12\sum r^2`.

    With ``noise="neighbourhood"`` the precision of a pixel is that of the n pixels of a window around it, in which the
    noise is taken to be stationary: :math:`\alpha^0_\lambda + \tfrac12 n` and :math:`\beta^0_\lambda + \tfrac12\sum
    r^2`. A precision for each pixel makes the fidelity a log penalty, whose gradient grows as the residual shrinks and
    pulls every residual to zero; with a window, a residual smaller than those around it is not pulled harder.
    At the border the mean over the part of the window inside the image is used for the whole. Not in the paper.

    Raises
    ------
    ValueError
        For another ``form`` or ``noise``, and for a side of the window, ``neighbourhood``, that is not odd.
    """
    one_of(get_args(LocalNoiseForm), noise=noise)
    count, energy = 1, squared_residual
    if noise == "scalar":
        count, energy = squared_residual[0, 0].numel(), squared_residual.sum((-2, -1), keepdim=True)
    elif noise == "neighbourhood":
        expect(neighbourhood >= 1 and neighbourhood % 2 != 0, "neighbourhood", neighbourhood, "an odd number of pixels")
        count, inside = neighbourhood**2, neighbourhood // 2
        energy = count * functional.avg_pool2d(
            squared_residual, neighbourhood, stride=1, padding=inside, count_include_pad=False
        )
    return _posterior(hyperpriors.lambda_shape, hyperpriors.lambda_rate, count, energy, form)


def solve_leaf_level(
    y: Images,
    middle: MiddleLevel,
    hyperpriors: Hyperpriors,
    *,
    draw: Draw | None = None,
    form: UpdateForm = "exact",
    noise: LocalNoiseForm = "pixel",
    neighbourhood: int = 7,
) -> LeafLevel:
    r"""Solution of sub-problem 1, :math:`\mathcal F(P^0_{\mathcal Z_l}, \phi_{\mathcal Z_m}, Y)` (Eq. 6).

    Parameters
    ----------
    y
        Observed images.
    middle
        Variational parameters of the middle level.
    hyperpriors
        Shapes and rates of the priors.
    draw
        With a draw, Eq. 30 uses its residual, as the paper does; without one, the expected residual, which
        gives the minimiser.
    form
        ``exact`` conjugate posterior, or the ``paper``'s doubled parameters.
    noise
        One noise precision per ``pixel``, as in the paper, one ``scalar`` per channel of an image, or one per
        ``neighbourhood`` of each pixel: :func:`update_lambda`.
    neighbourhood
        Side of that window in pixels, odd.
    """
    residual = expected_squared_residual(y, middle) if draw is None else sampled_squared_residual(y, draw)
    return LeafLevel(
        update_gamma(middle.A, middle.B, hyperpriors, form),
        update_omega(middle.S, hyperpriors, form),
        update_lambda(residual, hyperpriors, form, noise, neighbourhood),
    )


# -- what the closed forms minimise ----------------------------------------------------------------------------------


def gamma_objective(gamma: GammaFactor, A: Factor, B: Factor, hyperpriors: Hyperpriors) -> PerSample:
    r"""Objective :math:`\ell_{rank} + \ell_\gamma` that Eq. 26 minimises over q(gamma) (Eq. 25)."""
    prior = per_sample_sum(gamma_kl(gamma, hyperpriors.gamma_shape, hyperpriors.gamma_rate))
    return rank_kl(A, B, gamma) + prior


def omega_objective(omega: GammaFactor, S: GaussianFactor, hyperpriors: Hyperpriors) -> PerSample:
    r"""Objective :math:`\ell_{sparse} + \ell_\Omega` that Eq. 28 minimises over q(Omega) (Eq. 27)."""
    prior = per_sample_sum(gamma_kl(omega, hyperpriors.omega_shape, hyperpriors.omega_rate))
    return sparsity_kl(S, omega) + prior


def lambda_objective(lambda_: GammaFactor, squared_residual: Images, hyperpriors: Hyperpriors) -> PerSample:
    r"""Objective :math:`\ell_{fid} + \ell_\Lambda` that Eq. 30 minimises over q(Lambda) (Eq. 29)."""
    prior = per_sample_sum(gamma_kl(lambda_, hyperpriors.lambda_shape, hyperpriors.lambda_rate))
    return negative_expected_log_likelihood(squared_residual, lambda_) + prior


def leaf_objective(
    leaf: LeafLevel, middle: MiddleLevel, squared_residual: Images, hyperpriors: Hyperpriors
) -> PerSample:
    r"""Objective of sub-problem 1, :math:`\ell_l(\phi_{\mathcal Z_l}; \phi_{\mathcal Z_m}, Y)` (Eq. 7).

    The sum of Eq. 25, 27 and 29.
    """
    return (
        gamma_objective(leaf.gamma, middle.A, middle.B, hyperpriors)
        + omega_objective(leaf.omega, middle.S, hyperpriors)
        + lambda_objective(leaf.lambda_, squared_residual, hyperpriors)
    )
