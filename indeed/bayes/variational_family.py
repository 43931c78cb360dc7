r"""The variational family: Eq. 2 and 23, right column of Table 2.

.. math::
    q(\mathcal Z) = \underbrace{q(A)\,q(B)\,q(S \mid A, B)}_{\text{middle level, Gaussian}}\;
                    \underbrace{q(\gamma)\,q(\Omega)\,q(\Lambda)}_{\text{leaf level, Gamma}}
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from indeed.bayes.generative_model import low_rank

AnyShape = Float[Tensor, "*shape"]


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

    def rsample(self, generator: torch.Generator) -> Tensor:
        r"""Reparameterised draw :math:`\mu + \sigma\odot\eta,\ \eta\sim\mathcal N(0, I)` (text under Eq. 32).

        Each call draws its own noise: the paper writes one symbol for the noise of A, B and S, but they are
        independent.
        """
        # Drawn where the generator is and moved, so that a CPU generator gives the same draw on every device.
        noise = torch.randn(self.mean.shape, dtype=self.mean.dtype, device=generator.device, generator=generator)
        return self.mean + self.std * noise.to(self.mean.device)


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

    def sample(self, generator: torch.Generator) -> Tensor:
        """Draw of the broadcast shape of ``shape`` and ``rate``."""
        shape = self.shape + torch.zeros_like(self.rate)
        # torch.distributions takes no generator; this is the sampler underneath it.
        standard: Tensor = torch._standard_gamma(shape, generator=generator)
        return standard / self.rate


class MiddleLevel(NamedTuple):
    r"""The Gaussian part :math:`q(\mathcal Z_m) = q(A)\,q(B)\,q(S \mid A, B)` of the mean field (Eq. 2, 23).

    ``A.mean`` is (batch, channel, height, rank), ``B.mean`` (batch, channel, width, rank),
    ``S.mean`` (batch, channel, height, width).
    """

    A: GaussianFactor
    B: GaussianFactor
    S: GaussianFactor

    @property
    def means(self) -> "Draw":
        """The posterior means, in the place of a draw."""
        return Draw(self.A.mean, self.B.mean, self.S.mean)

    def rsample(self, generator: torch.Generator) -> "Draw":
        """Independent reparameterised draws of A, B and S."""
        return Draw(self.A.rsample(generator), self.B.rsample(generator), self.S.rsample(generator))


class Draw(NamedTuple):
    """Values of A, B and S: one sample of the middle level, or its means."""

    A: Float[Tensor, "batch channel height rank"]
    B: Float[Tensor, "batch channel width rank"]
    S: Float[Tensor, "batch channel height width"]

    def cpu(self) -> "Draw":
        """Return the same values in main memory."""
        return Draw(self.A.cpu(), self.B.cpu(), self.S.cpu())

    @property
    def low_rank(self) -> Tensor:
        r"""Low-rank image :math:`\hat A \hat B^\top` of this draw."""
        return low_rank(self.A, self.B)


class LeafLevel(NamedTuple):
    r"""The Gamma part :math:`q(\mathcal Z_l) = q(\gamma)\,q(\Omega)\,q(\Lambda)` of the mean field (Eq. 2, 23).

    ``gamma`` is (batch, channel, rank), shared by the columns of A and B; ``omega`` and ``lambda_`` are
    (batch, channel, height, width).
    """

    gamma: GammaFactor
    omega: GammaFactor
    lambda_: GammaFactor


def expected_gaussian_kl(q: GaussianFactor, precision: GammaFactor) -> AnyShape:
    r"""Element-wise :math:`E_{q(\tau)}[\mathrm{KL}(\mathcal N(\mu, \sigma^2)\,\|\,\mathcal N(0, \tau^{-1}))]`.

    Equals :math:`\tfrac12\{E[\tau](\mu^2+\sigma^2) - E[\ln\tau] - \ln\sigma^2 - 1\}`; ``precision`` broadcasts
    against ``q``. Building block of Eq. 24c and 24d.
    """
    return 0.5 * (precision.mean * q.second_moment - precision.mean_log - q.log_variance - 1)


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
