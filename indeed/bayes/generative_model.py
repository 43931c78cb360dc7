r"""The hierarchical Bayesian model: Eq. 1 and 16-22, left column of Table 2.

.. math::
    Y = A B^\top + S + N, \qquad
    a_i \mid \gamma_i \sim \mathcal N(0, \gamma_i^{-1} I), \quad
    b_i \mid \gamma_i \sim \mathcal N(0, \gamma_i^{-1} I), \quad
    s_{jk} \mid \omega_{jk} \sim \mathcal N(0, \omega_{jk}^{-1}), \quad
    n_{jk} \mid \lambda_{jk} \sim \mathcal N(0, \lambda_{jk}^{-1})

with Gamma priors (shape, rate) on every precision.
"""

import math
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from indeed.checks import at_least, expect
from indeed.types import ColumnPrecision, Images, LeftFactor, PerSample, RightFactor


@dataclass(frozen=True)
class Hyperpriors:
    r"""Shapes :math:`\alpha^0` and rates :math:`\beta^0` of the Gamma priors in Eq. 19, 21 and 22.

    A rate has the unit of one over its precision: intensity² for Omega and Lambda, intensity for gamma (A and B each
    carry the root of an intensity). Images are in [0, 1]. The defaults are those of section 4.1, whose ``1 x e^-6``
    is read as 1e-6.

    Raises
    ------
    ValueError
        If a value is not a positive finite number.
    """

    gamma_shape: float = 2.0
    gamma_rate: float = 1e-6
    omega_shape: float = 2.0
    omega_rate: float = 1e-6
    lambda_shape: float = 2.0
    lambda_rate: float = 1e-8

    def __post_init__(self) -> None:
        """Reject what is not a Gamma distribution."""
        for field in fields(self):
            value = getattr(self, field.name)
            expect(math.isfinite(value) and value > 0, field.name, value, "a positive finite number")


class PriorSample(NamedTuple):
    """One ancestral sample of every variable of the model, and the image they make."""

    gamma: ColumnPrecision
    omega: Images
    lambda_: Images
    A: LeftFactor
    B: RightFactor
    S: Images
    N: Images
    Y: Images


def low_rank(A: LeftFactor, B: RightFactor) -> Images:
    r"""Low-rank image :math:`L = A B^\top = \sum_i a_i b_i^\top` (Eq. 16).

    >>> A, B = torch.ones(1, 1, 4, 2), torch.ones(1, 1, 3, 2)
    >>> low_rank(A, B).shape, low_rank(A, B)[0, 0, 0, 0].item()
    (torch.Size([1, 1, 4, 3]), 2.0)
    """
    return A @ B.mT


def log_likelihood(
    y: Images, low_rank_image: Images, sparse: Images, precision: Images, noise_mean: float = 0.0
) -> PerSample:
    r"""Log-likelihood :math:`\log p(Y \mid L, S) = \log\mathcal N(Y - L - S \mid \Upsilon, \Lambda^{-1})` (Eq. 1).

    Summed over channels and pixels, in nats per sample. ``noise_mean`` is the paper's Upsilon, which section 3.2 sets
    to 0.
    """
    return _gaussian_log_density(y - low_rank_image - sparse - noise_mean, precision)


def log_prior_left(A: LeftFactor, gamma: ColumnPrecision) -> PerSample:
    r"""Log-density :math:`\log p(A \mid \gamma) = \sum_i \log\mathcal N(a_i \mid 0, \gamma_i^{-1} I_h)` (Eq. 17)."""
    return _gaussian_log_density(A, gamma.unsqueeze(-2))


def log_prior_right(B: RightFactor, gamma: ColumnPrecision) -> PerSample:
    r"""Log-density :math:`\log p(B \mid \gamma) = \sum_i \log\mathcal N(b_i \mid 0, \gamma_i^{-1} I_w)` (Eq. 18)."""
    return _gaussian_log_density(B, gamma.unsqueeze(-2))


def log_prior_gamma(gamma: ColumnPrecision, hyperpriors: Hyperpriors) -> PerSample:
    r"""Log-density of the column precisions, :math:`\log p(\gamma \mid \alpha^0_\gamma, \beta^0_\gamma)` (Eq. 19)."""
    return _gamma_log_density(gamma, hyperpriors.gamma_shape, hyperpriors.gamma_rate)


def log_prior_sparse(S: Images, omega: Images) -> PerSample:
    r"""Log-density :math:`\log p(S\mid\Omega) = \sum_{ij}\log\mathcal N(s_{ij}\mid 0, \omega_{ij}^{-1})` (Eq. 20)."""
    return _gaussian_log_density(S, omega)


def log_prior_omega(omega: Images, hyperpriors: Hyperpriors) -> PerSample:
    r"""Log-density of the sparsity precisions, :math:`\log p(\Omega \mid \alpha^0_\omega, \beta^0_\omega)` (Eq. 21)."""
    return _gamma_log_density(omega, hyperpriors.omega_shape, hyperpriors.omega_rate)


def log_prior_lambda(lambda_: Images, hyperpriors: Hyperpriors) -> PerSample:
    r"""Log-density of the noise precisions, :math:`\log p(\Lambda \mid \alpha^0_\lambda, \beta^0_\lambda)` (Eq. 22)."""
    return _gamma_log_density(lambda_, hyperpriors.lambda_shape, hyperpriors.lambda_rate)


def sparse_marginal_log_density(s: Float[Tensor, "*shape"], hyperpriors: Hyperpriors) -> Float[Tensor, "*shape"]:
    r"""Element-wise log-density of S with its precision integrated out: a Student-t (text after Eq. 21).

    :math:`\int \mathcal N(s \mid 0, \omega^{-1})\,\mathcal G(\omega \mid \alpha, \beta)\,d\omega` has :math:`2\alpha`
    degrees of freedom and scale :math:`\sqrt{\beta/\alpha}`.
    """
    shape, rate = hyperpriors.omega_shape, hyperpriors.omega_rate
    constant = math.lgamma(shape + 0.5) - math.lgamma(shape) - 0.5 * math.log(2 * math.pi * rate)
    return constant - (shape + 0.5) * torch.log1p(s.square() / (2 * rate))


def sample_prior(
    *,
    batch: int = 1,
    channels: int = 1,
    height: int,
    width: int,
    rank: int,
    hyperpriors: Hyperpriors,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float64,
) -> PriorSample:
    """Ancestral sample: the leaves by Eq. 19, 21, 22, then A, B and S by Eq. 17, 18, 20, then the image by Eq. 1, 16.

    Parameters
    ----------
    batch, channels, height, width, rank
        Sizes; ``rank`` is the upper bound r0.
    hyperpriors
        Shapes and rates of the Gamma priors.
    generator
        Source of randomness; its device is the device of the sample.

    Raises
    ------
    ValueError
        If a size is smaller than one.
    """
    at_least(1, batch=batch, channels=channels, height=height, width=width, rank=rank)
    device = generator.device

    def gamma_draw(shape: float, rate: float, *size: int) -> Tensor:
        # torch.distributions takes no generator; this is the sampler underneath it.
        return torch._standard_gamma(torch.full(size, shape, dtype=dtype, device=device), generator=generator) / rate

    def normal_draw(precision: Tensor, *size: int) -> Tensor:
        return torch.randn(size, dtype=dtype, device=device, generator=generator) / precision.sqrt()

    image = (batch, channels, height, width)
    gamma = gamma_draw(hyperpriors.gamma_shape, hyperpriors.gamma_rate, batch, channels, rank)
    omega = gamma_draw(hyperpriors.omega_shape, hyperpriors.omega_rate, *image)
    lambda_ = gamma_draw(hyperpriors.lambda_shape, hyperpriors.lambda_rate, *image)
    A = normal_draw(gamma.unsqueeze(-2), batch, channels, height, rank)
    B = normal_draw(gamma.unsqueeze(-2), batch, channels, width, rank)
    S = normal_draw(omega, *image)
    N = normal_draw(lambda_, *image)
    return PriorSample(gamma, omega, lambda_, A, B, S, N, low_rank(A, B) + S + N)


def _gaussian_log_density(x: Tensor, precision: Tensor) -> Tensor:
    """Sum over all but the batch axis of log N(x | 0, 1/precision)."""
    return 0.5 * (precision.log() - math.log(2 * math.pi) - precision * x.square()).flatten(1).sum(1)


def _gamma_log_density(x: Tensor, shape: float, rate: float) -> Tensor:
    """Sum over all but the batch axis of log Gamma(x | shape, rate)."""
    constant = shape * math.log(rate) - math.lgamma(shape)
    return (constant + (shape - 1) * x.log() - rate * x).flatten(1).sum(1)
