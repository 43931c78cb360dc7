r"""The variational family: Eq. 2 and 23, right column of Table 2.

.. math::
    q(\mathcal Z) = \underbrace{q(A)\,q(B)\,q(S \mid A, B)}_{\text{middle level, Gaussian}}\;
                    \underbrace{q(\gamma)\,q(\Omega)\,q(\Lambda)}_{\text{leaf level, Gamma}}
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from indeed.bayes.generative_model import low_rank
from indeed.checks import expect
from indeed.types import ColumnPrecision, Images, LeftFactor, RightFactor

AnyShape = Float[Tensor, "*shape"]
Generators = torch.Generator | Sequence[torch.Generator]
"""Source of randomness: one for a whole batch, or one for each sample, which then does not depend on the others."""


def standard_normal(like: Tensor, generator: Generators) -> Tensor:
    """Draw standard normal values in the shape and type of ``like``.

    They are drawn on the generator's device and moved, so that a CPU generator gives the same values on every device.

    Raises
    ------
    ValueError
        If there is a sequence of generators, but not one for each sample.
    """
    if isinstance(generator, torch.Generator):
        noise = torch.randn(like.shape, dtype=like.dtype, device=generator.device, generator=generator)
    else:
        _check_one_each(generator, like)
        noise = torch.stack(
            [torch.randn(like.shape[1:], dtype=like.dtype, device=one.device, generator=one) for one in generator]
        )
    return noise.to(like.device)


def _check_one_each(generator: Sequence[torch.Generator], batch: Tensor) -> None:
    expect(len(generator) == len(batch), "generator", f"{len(generator)} for {len(batch)} samples", "one for each")


class GaussianFactor(NamedTuple):
    r"""Fully factorised Gaussian :math:`\prod_k \mathcal N(x_k \mid \mu_k, \sigma_k^2)` of Table 2.

    Parameterised by the log-variance :math:`\ln \sigma^2`, so that every real number is valid.
    """

    mean: AnyShape
    log_variance: AnyShape

    @property
    def variance(self) -> Tensor:
        r"""Variance :math:`\sigma^2`."""
        return self.log_variance.exp()

    @property
    def std(self) -> Tensor:
        r"""Standard deviation :math:`\sigma`."""
        return (0.5 * self.log_variance).exp()

    @property
    def second_moment(self) -> Tensor:
        r"""Second moment :math:`E[x^2] = \mu^2 + \sigma^2`."""
        return self.mean.square() + self.variance

    @property
    def conditional_log_variance(self) -> Tensor:
        """Log-variance of each entry given those before it in its row; here it does not depend on them."""
        return self.log_variance

    @property
    def mean_products(self) -> Tensor:
        """Products of means over the pairs of columns that may be correlated: here each column with itself."""
        return self.mean.square()

    @property
    def covariances(self) -> Tensor:
        """Covariances over the same pairs as `mean_products`."""
        return self.variance

    def rsample(self, generator: Generators) -> Tensor:
        r"""Reparameterised draw :math:`\mu + \sigma\odot\eta,\ \eta\sim\mathcal N(0, I)` (text under Eq. 32).

        Each call draws its own noise: the paper writes one symbol for the noise of A, B and S, but they are
        independent.
        """
        return self.mean + self.std * standard_normal(self.mean, generator)


class RowGaussian(NamedTuple):
    r"""Gaussian whose rows are independent, each with a full covariance: :math:`\prod_j \mathcal N(x_j \mid m_j, C_j)`.

    A wider family for A and B than Table 2, whose covariances are diagonal. It has the interface of `GaussianFactor`:
    moments, draws, and what the divergences need.

    Parameters
    ----------
    mean
        (..., row, rank).
    covariance
        (..., row, rank, rank), or (..., 1, rank, rank) where all rows share one.
    """

    mean: AnyShape
    covariance: AnyShape

    @property
    def variance(self) -> Tensor:
        """Marginal variance of each entry."""
        variance: Tensor = self.covariance.diagonal(dim1=-2, dim2=-1).expand_as(self.mean)
        return variance

    @property
    def log_variance(self) -> Tensor:
        """Logarithm of the marginal variance."""
        return self.variance.log()

    @property
    def std(self) -> Tensor:
        """Marginal standard deviation."""
        return self.variance.sqrt()

    @property
    def second_moment(self) -> Tensor:
        r"""Second moment :math:`E[x^2]` of each entry."""
        return self.mean.square() + self.variance

    @property
    def conditional_log_variance(self) -> Tensor:
        r"""Log-variance of each entry given those before it in its row; its sum over a row is :math:`\ln\det C_j`.

        >>> C = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
        >>> q = RowGaussian(torch.zeros(4, 2), C[None])
        >>> q.conditional_log_variance.sum(-1).exp()
        tensor([3.0000, 3.0000, 3.0000, 3.0000])
        """
        scale = torch.linalg.cholesky(self.covariance)
        log_variance: Tensor = 2 * scale.diagonal(dim1=-2, dim2=-1).log().expand_as(self.mean)
        return log_variance

    @property
    def mean_products(self) -> Tensor:
        """Products of means over all pairs of columns, (..., row, rank * rank)."""
        return (self.mean.unsqueeze(-1) * self.mean.unsqueeze(-2)).flatten(-2)

    @property
    def covariances(self) -> Tensor:
        """Covariances over all pairs of columns, (..., row or 1, rank * rank)."""
        return self.covariance.flatten(-2)

    def rsample(self, generator: Generators) -> Tensor:
        r"""Reparameterised draw :math:`m_j + T_j \eta_j` with :math:`T_j T_j^\top = C_j`."""
        scale = torch.linalg.cholesky(self.covariance)
        draw: Tensor = self.mean + (scale @ standard_normal(self.mean, generator).unsqueeze(-1)).squeeze(-1)
        return draw


Factor = GaussianFactor | RowGaussian


class GammaFactor(NamedTuple):
    r"""Factorised Gamma :math:`\prod_k \mathcal G(x_k \mid \alpha_k, \beta_k)` with shape and **rate**, as in Table 2.

    >>> q = GammaFactor(torch.tensor(2.0), torch.tensor(4.0))
    >>> q.mean.item(), q.variance.item()
    (0.5, 0.125)
    """

    shape: AnyShape
    rate: AnyShape

    @property
    def mean(self) -> Tensor:
        r"""Mean :math:`\alpha / \beta`."""
        return self.shape / self.rate

    @property
    def variance(self) -> Tensor:
        r"""Variance :math:`\alpha / \beta^2`."""
        return self.shape / self.rate.square()

    @property
    def mean_log(self) -> Tensor:
        r"""Mean of the logarithm, :math:`E[\ln x] = \psi(\alpha) - \ln\beta`."""
        return torch.digamma(self.shape) - self.rate.log()

    def sample(self, generator: Generators) -> Tensor:
        """Draw of the broadcast shape of ``shape`` and ``rate``, whose device must be that of the generators."""
        shape = self.shape + torch.zeros_like(self.rate)
        # torch.distributions takes no generator; this is the sampler underneath it.
        standard: Tensor
        if isinstance(generator, torch.Generator):
            standard = torch._standard_gamma(shape, generator=generator)
        else:
            _check_one_each(generator, shape)
            pairs = zip(shape, generator, strict=True)
            standard = torch.stack([torch._standard_gamma(one, generator=source) for one, source in pairs])
        return standard / self.rate


class MiddleLevel(NamedTuple):
    r"""The Gaussian factors :math:`q(\mathcal Z_m) = q(A)\,q(B)\,q(S \mid A, B)` of the mean field (Eq. 23).

    ``A.mean`` is (batch, channel, height, rank), ``B.mean`` (batch, channel, width, rank),
    ``S.mean`` (batch, channel, height, width). A and B are of one family; Table 2 and the network have the diagonal
    one, :class:`GaussianFactor`.
    """

    A: Factor
    B: Factor
    S: GaussianFactor

    @property
    def means(self) -> "Draw":
        """The posterior means, in the place of a draw."""
        return Draw(self.A.mean, self.B.mean, self.S.mean)

    def rsample(self, generator: Generators) -> "Draw":
        """Independent reparameterised draws of A, B and S."""
        return Draw(self.A.rsample(generator), self.B.rsample(generator), self.S.rsample(generator))


class Draw(NamedTuple):
    """Values of A, B and S: one sample of the middle level, or its means."""

    A: LeftFactor
    B: RightFactor
    S: Images

    def cpu(self) -> "Draw":
        """Return the same values in main memory."""
        return Draw(self.A.cpu(), self.B.cpu(), self.S.cpu())

    @property
    def low_rank(self) -> Tensor:
        r"""Low-rank image :math:`\hat A \hat B^\top` of this draw."""
        return low_rank(self.A, self.B)


class LeafLevel(NamedTuple):
    r"""The Gamma part of the mean field :math:`q(\mathcal Z) = q(\mathcal Z_m)\,q(\mathcal Z_l)` (Eq. 2).

    :math:`q(\mathcal Z_l) = q(\gamma)\,q(\Omega)\,q(\Lambda)`, the other factors of Eq. 23.

    ``gamma`` is (batch, channel, rank), shared by the columns of A and B; ``omega`` and ``lambda_`` are
    (batch, channel, height, width). Where one noise precision is shared by all pixels, ``lambda_`` is
    (batch, channel, 1, 1).
    """

    gamma: GammaFactor
    omega: GammaFactor
    lambda_: GammaFactor

    @property
    def means(self) -> "Precisions":
        """The posterior means, which are what the terms of sub-problem 2 need."""
        return Precisions(self.gamma.mean, self.omega.mean, self.lambda_.mean)

    def sample(self, generator: Generators) -> "Precisions":
        """Independent draws in the place of the means."""
        return Precisions(*(factor.sample(generator) for factor in self))


class Precisions(NamedTuple):
    """Values of gamma, Omega and Lambda: the means of the leaf level, or one sample of it."""

    gamma: ColumnPrecision
    omega: Images
    lambda_: Float[Tensor, "batch channel rows columns"]


def expected_gaussian_kl(q: Factor, precision: GammaFactor) -> AnyShape:
    r"""Element-wise :math:`E_{q(\tau)}[\mathrm{KL}(\mathcal N(\mu, \sigma^2)\,\|\,\mathcal N(0, \tau^{-1}))]`.

    Equals :math:`\tfrac12\{E[\tau](\mu^2+\sigma^2) - E[\ln\tau] - \ln\sigma^2 - 1\}`; ``precision`` broadcasts
    against ``q``. Building block of Eq. 24c and 24d. With full covariances :math:`\ln\sigma^2` is that of each entry
    given those before it, and the divergence is the sum over a row.
    """
    return 0.5 * (precision.mean * q.second_moment - precision.mean_log - q.conditional_log_variance - 1)


def gamma_kl(q: GammaFactor, prior_shape: float, prior_rate: float) -> AnyShape:
    r"""Element-wise :math:`\mathrm{KL}(\mathcal G(\alpha, \beta)\,\|\,\mathcal G(\alpha^0, \beta^0))`.

    :math:`(\alpha-\alpha^0)\psi(\alpha) - \ln\Gamma(\alpha) + \ln\Gamma(\alpha^0) + \alpha^0\ln(\beta/\beta^0)
    + \alpha(\beta^0-\beta)/\beta`. Building block of Eq. 24e-24g.

    >>> gamma_kl(GammaFactor(torch.tensor(2.0), torch.tensor(3.0)), 2.0, 3.0).item()
    0.0
    """
    shape0 = torch.as_tensor(prior_shape, dtype=q.shape.dtype, device=q.shape.device)
    rate0 = torch.as_tensor(prior_rate, dtype=q.rate.dtype, device=q.rate.device)
    return (
        (q.shape - shape0) * torch.digamma(q.shape)
        - torch.lgamma(q.shape)
        + torch.lgamma(shape0)
        + shape0 * (q.rate.log() - rate0.log())
        + q.shape * (rate0 - q.rate) / q.rate
    )
