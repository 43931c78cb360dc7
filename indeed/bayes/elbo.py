r"""The evidence lower bound and every term of it: Eq. 3-5, 8-9, 24 and 31-34.

Signs are part of the names. Terms come back per sample, in nats, summed over channels and pixels, in the paper's order.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from indeed.bayes.generative_model import Hyperpriors
from indeed.bayes.posterior_summaries import expected_squared_residual
from indeed.bayes.variational_family import (
    Factor,
    GammaFactor,
    GaussianFactor,
    Generators,
    LeafLevel,
    MiddleLevel,
    expected_gaussian_kl,
    gamma_kl,
)
from indeed.types import ColumnPrecision, Images, NoisePrecision, PerSample


class ElboTerms(NamedTuple):
    """The seven terms of the negative ELBO, Eq. 24, each of shape (batch,) in nats."""

    fidelity: PerSample
    supervision: PerSample
    rank: PerSample
    sparsity: PerSample
    gamma_prior: PerSample
    omega_prior: PerSample
    lambda_prior: PerSample


class MiddleTerms(NamedTuple):
    """The terms that sub-problem 2 minimises, Eq. 31, each of shape (batch,), constants dropped."""

    fidelity: PerSample
    supervision: PerSample
    rank: PerSample
    sparsity: PerSample


def per_sample_sum(x: Tensor) -> PerSample:
    """Sum over all axes but the first."""
    return x.flatten(1).sum(1)


# -- the exact negative ELBO, term by term ---------------------------------------------------------------------------


def negative_expected_log_likelihood(squared_residual: Images, lambda_: GammaFactor) -> PerSample:
    r"""Fidelity term :math:`-E_q[\log p(Y \mid \mathcal Z)]` in full (Eq. 24a).

    :math:`\tfrac12\sum\{E[\lambda]\,r^2 - E[\ln\lambda] + \ln 2\pi\}`, where ``squared_residual`` is the expected or
    a sampled :math:`r^2`.
    """
    return 0.5 * per_sample_sum(lambda_.mean * squared_residual - lambda_.mean_log + math.log(2 * math.pi))


def rank_kl(A: Factor, B: Factor, gamma: GammaFactor) -> PerSample:
    r"""Rank term :math:`E_{q(\gamma)}[\mathrm{KL}(q(A)q(B)\,\|\,p(A\mid\gamma)p(B\mid\gamma))]` in full (Eq. 24c)."""
    columns = GammaFactor(gamma.shape.unsqueeze(-2), gamma.rate.unsqueeze(-2))
    return per_sample_sum(expected_gaussian_kl(A, columns)) + per_sample_sum(expected_gaussian_kl(B, columns))


def sparsity_kl(S: GaussianFactor, omega: GammaFactor) -> PerSample:
    r"""Sparsity term :math:`E_{q(\Omega)}[\mathrm{KL}(q(S\mid A,B)\,\|\,p(S\mid\Omega))]` in full (Eq. 24d)."""
    return per_sample_sum(expected_gaussian_kl(S, omega))


def leaf_kl(leaf: LeafLevel, hyperpriors: Hyperpriors) -> tuple[PerSample, PerSample, PerSample]:
    r"""Prior terms :math:`\ell_\gamma, \ell_\Omega, \ell_\Lambda` of the leaf level (Eq. 24e-24g)."""
    return (
        per_sample_sum(gamma_kl(leaf.gamma, hyperpriors.gamma_shape, hyperpriors.gamma_rate)),
        per_sample_sum(gamma_kl(leaf.omega, hyperpriors.omega_shape, hyperpriors.omega_rate)),
        per_sample_sum(gamma_kl(leaf.lambda_, hyperpriors.lambda_shape, hyperpriors.lambda_rate)),
    )


def elbo_terms(
    y: Images,
    middle: MiddleLevel,
    leaf: LeafLevel,
    hyperpriors: Hyperpriors,
    *,
    squared_residual: Images | None = None,
    supervision: PerSample | None = None,
) -> ElboTerms:
    r"""All terms of :math:`-\mathrm{ELBO}(q(\mathcal Z); Y, U)` for given variational parameters (Eq. 24).

    Parameters
    ----------
    y
        Observed images.
    middle, leaf
        Variational parameters of the two levels.
    squared_residual
        What stands for :math:`E_q[(Y - L - S)^2]` in 24a: by default the exact expectation under independent A, B, S;
        pass a sampled one for the paper's one-draw estimate.
    supervision
        :math:`\ell_{sup}` (24b) of the task, (batch,); zero without a target.
    """
    if squared_residual is None:
        squared_residual = expected_squared_residual(y, middle)
    fidelity = negative_expected_log_likelihood(squared_residual, leaf.lambda_)
    return ElboTerms(
        fidelity,
        torch.zeros_like(fidelity) if supervision is None else supervision,
        rank_kl(middle.A, middle.B, leaf.gamma),
        sparsity_kl(middle.S, leaf.omega),
        *leaf_kl(leaf, hyperpriors),
    )


def elbo(terms: ElboTerms) -> PerSample:
    r"""Evidence lower bound :math:`E_q[\log p(Y\mid\mathcal Z)] - \mathrm{KL}(q(\mathcal Z)\|p(\mathcal Z))` (Eq. 4).

    With zero supervision it never exceeds :math:`\log p(Y)`.
    """
    return -(terms.fidelity + terms.supervision) - kl_to_prior(terms)


def negative_elbo(terms: ElboTerms) -> PerSample:
    r"""Variational free energy :math:`-\mathrm{ELBO}`, all seven terms: what every algorithm here lowers (Eq. 3)."""
    return -elbo(terms)


def kl_to_prior(terms: ElboTerms) -> PerSample:
    r"""Divergence :math:`\mathrm{KL}(q(\mathcal Z)\,\|\,p(\mathcal Z))` of the two levels together (Eq. 5)."""
    middle = terms.rank + terms.sparsity
    leaf = terms.gamma_prior + terms.omega_prior + terms.lambda_prior
    return middle + leaf


# -- sub-problem 2: the same terms as functions of the middle level only ----------------------------------------------


def fidelity_term(squared_residual: Images, mean_lambda: NoisePrecision) -> PerSample:
    r"""Fidelity :math:`\ell_{fid} = \tfrac12\|\sqrt{\mu_\Lambda}\odot(Y - \hat A\hat B^\top - \hat S)\|_F^2` (Eq. 32).

    Eq. 24a without :math:`\tfrac12\sum(\ln 2\pi - E[\ln\lambda])`, which does not depend on the middle level. Each of
    A, B and S has its own noise in the draw (the paper's text writes one symbol for all three).
    """
    return 0.5 * per_sample_sum(mean_lambda * squared_residual)


def rank_term(A: Factor, B: Factor, mean_gamma: ColumnPrecision) -> PerSample:
    r"""Rank term :math:`\ell_{rank}` as a function of the factors, given :math:`\mu_\gamma` (Eq. 33).

    .. math::
        \tfrac12\sum_i\Big\{\mu_{\gamma_i}\big(\|\mu_{a_i}\|^2+\|\sigma_{a_i}\|^2+\|\mu_{b_i}\|^2+\|\sigma_{b_i}\|^2\big)
        - \sum\ln\sigma_{a_i}^2 - \sum\ln\sigma_{b_i}^2\Big\}

    Equals Eq. 24c plus :math:`\tfrac12(h+w)\sum_i (1 + E[\ln\gamma_i])`.
    """
    energy = (mean_gamma * (A.second_moment.sum(-2) + B.second_moment.sum(-2))).flatten(1).sum(1)
    log_variances = per_sample_sum(A.conditional_log_variance) + per_sample_sum(B.conditional_log_variance)
    return 0.5 * (energy - log_variances)


def sparsity_term(S: GaussianFactor, mean_omega: Images) -> PerSample:
    r"""Sparsity term :math:`\ell_{sparse}` as a function of the sparse part, given :math:`\mu_\Omega` (Eq. 34).

    :math:`\tfrac12\sum\{\mu_\omega(\mu_s^2 + \sigma_s^2) - \ln\sigma_s^2\}`, which equals Eq. 24d plus
    :math:`\tfrac12\sum (1 + E[\ln\omega])`.
    """
    return 0.5 * per_sample_sum(mean_omega * S.second_moment - S.log_variance)


def sub_problem_2_terms(
    middle: MiddleLevel,
    leaf: LeafLevel,
    squared_residual: Images,
    supervision: PerSample | None = None,
    *,
    generator: Generators | None = None,
) -> MiddleTerms:
    r"""Terms of :math:`\ell_m`, the objective of sub-problem 2 (Eq. 9, 31).

    Their sum :math:`\ell_m(\phi_{\mathcal Z_m}; \phi_{\mathcal Z_l}, Y, U)` differs from Eq. 24 by what depends on
    the leaf level alone. The leaf level is used as given: detach it when the middle level comes from a network that
    also produced it. (Eq. 9 as printed lacks the log in front of :math:`p(Y|\mathcal Z)`.)

    The terms are linear in the precisions, whose means stand for the expectation over the leaf level. With a generator
    precisions are drawn instead: the expectation stays, disturbed (*stochastic regularisation*, section 3.1.4).
    """
    precisions = leaf.means if generator is None else leaf.sample(generator)
    fidelity = fidelity_term(squared_residual, precisions.lambda_)
    return MiddleTerms(
        fidelity,
        torch.zeros_like(fidelity) if supervision is None else supervision,
        rank_term(middle.A, middle.B, precisions.gamma),
        sparsity_term(middle.S, precisions.omega),
    )
