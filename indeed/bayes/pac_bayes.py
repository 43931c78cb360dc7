r"""Theorem 1, the bound on the generalisation error, as far as posteriors determine it (Eq. 36, 37).

With the risk :math:`\mathcal R = E_Y E_{q(\mathcal Z \mid Y)}[-\log p(Y \mid \mathcal Z)]` of images from the law p(Y)
and a data set D of independent ones, the theorem says that with probability at least :math:`1 - \delta` over D

.. math::
    \mathcal R \le \hat{\mathcal R} + \widehat{\mathrm{KL}} + K\,d(\hat p_D, p) + C .

The first two terms are what variational inference computes anyway (:mod:`indeed.bayes.elbo`); their sum is the full
free energy, leaf level included.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from indeed.bayes.elbo import elbo_terms
from indeed.bayes.generative_model import Hyperpriors
from indeed.bayes.posterior_summaries import sampled_squared_residual
from indeed.bayes.variational_family import AnyShape, Draw, LeafLevel, MiddleLevel
from indeed.checks import at_least
from indeed.types import Images, PerSample, Scalar


class EmpiricalTerms(NamedTuple):
    r"""What each image adds to :math:`\hat{\mathcal R} + \widehat{\mathrm{KL}}`, each of shape (batch,) in nats.

    The last three are the divergences of the leaf level, which Eq. 35 drops as constant. They are constant
    within a step only: from one network or data set to another they change as the others do.
    """

    risk: PerSample
    """Expected negative log-likelihood with its normalising constants: that of a density, which may be negative."""
    rank: PerSample
    sparsity: PerSample
    gamma: PerSample
    omega: PerSample
    lambda_: PerSample

    @property
    def middle_kl(self) -> PerSample:
        """Divergence of q(A) q(B) q(S | A, B) from its prior, averaged over the leaf level."""
        return self.rank + self.sparsity

    @property
    def leaf_kl(self) -> PerSample:
        """Divergence of q(gamma) q(Omega) q(Lambda) from its prior."""
        return self.gamma + self.omega + self.lambda_

    @property
    def kl(self) -> PerSample:
        r"""Divergence :math:`\mathrm{KL}(q(\mathcal Z \mid Y)\,\|\,p(\mathcal Z))`."""
        return self.middle_kl + self.leaf_kl


def empirical_terms(
    y: Images, middle: MiddleLevel, leaf: LeafLevel, hyperpriors: Hyperpriors, *, draw: Draw | None = None
) -> EmpiricalTerms:
    """Terms of Theorem 1 that the posteriors of a batch determine.

    Parameters
    ----------
    y
        Observed images.
    middle, leaf
        Their posteriors.
    hyperpriors
        Shapes and rates of the priors.
    draw
        With a draw, the risk has its residual, as in training; without one, the expected residual.
    """
    squared = None if draw is None else sampled_squared_residual(y, draw)
    risk, _, *divergences = elbo_terms(y, middle, leaf, hyperpriors, squared_residual=squared)
    return EmpiricalTerms(risk, *divergences)


def empirical_loss(terms: EmpiricalTerms) -> Scalar:
    r"""Mean of risk plus divergence over a data set, :math:`\hat{\mathcal R} + \widehat{\mathrm{KL}}` (Eq. 37).

    The free energy without supervision, with the leaf level that Eq. 35 leaves out.
    """
    return (terms.risk + terms.kl).mean()


def right_hand_side(loss: float, lipschitz_factor: float, discrepancy: float, constant: float) -> float:
    r"""Right-hand side :math:`\hat{\mathcal R} + \widehat{\mathrm{KL}} + K\,d(\hat p_D, p) + C` of Theorem 1 (Eq. 36).

    It adds up what it is given. The sum is a bound only if every term is one; for this model no choice of numbers
    achieves that, see the list.

    Parameters
    ----------
    loss
        :math:`\hat{\mathcal R} + \widehat{\mathrm{KL}}` from `empirical_loss`: *computed*.
    lipschitz_factor
        :math:`K = c(K_\theta)`: *unknown*. :math:`K_\theta` is *bounded* from above and *estimated* from below by
        :mod:`indeed.networks.lipschitz`. The function c is not given: it depends on how fast the loss changes with q,
        and the log-likelihood of a Gaussian has no Lipschitz constant.
    discrepancy
        :math:`d(\hat p_D, p)`: *estimated* at best, since p is known by samples only
        (:mod:`indeed.learning.diagnostics.discrepancy`).
    constant
        C, which depends on the prior, on p and on :math:`\delta`: *unknown*, and infinite for the priors of Table 2:
        see `log_exponential_moment`.

    Raises
    ------
    ValueError
        If a number is NaN, or ``lipschitz_factor`` or ``discrepancy`` is negative.

    Examples
    --------
    >>> right_hand_side(-1.0, 2.0, 0.5, math.inf)
    inf
    """
    at_least(0, lipschitz_factor=lipschitz_factor, discrepancy=discrepancy)
    for name, value in (("loss", loss), ("constant", constant)):
        if math.isnan(value):
            raise ValueError(f"{name}: got {value}, expected a number")
    return loss + (lipschitz_factor * discrepancy if discrepancy else 0.0) + constant


def log_exponential_moment(advantage: AnyShape, hyperpriors: Hyperpriors) -> Tensor:
    r"""Logarithm of the moment over the noise precision that is a part of the constant C of Theorem 1.

    The proof needs :math:`\ln E_{p(\mathcal Z)} E_Y \exp\{E_{Y'} \ell(\mathcal Z, Y') - \ell(\mathcal Z, Y)\}` with
    :math:`\ell = -\log p(Y \mid \mathcal Z)`. For one pixel and given L and S the exponent is :math:`\lambda t`, where
    :math:`t = \tfrac12 (E_{Y'}[n'^2] - n^2)` says by how much this residual is better than the average one; over the
    prior of :math:`\lambda` its exponential has the mean :math:`(1 - t / \beta^0_\lambda)^{-\alpha^0_\lambda}`, and
    no mean for :math:`t \ge \beta^0_\lambda`.

    Parameters
    ----------
    advantage
        The number t, in intensity².
    hyperpriors
        Prior of the noise precision.

    Returns
    -------
    Logarithm of the mean, infinite where there is none.

    Examples
    --------
    With the rate of section 4.1 the square of a tenth of a grey level is too much:

    >>> t = torch.tensor([0.01, 0.1]).div(255).square()
    >>> log_exponential_moment(t, Hyperpriors())
    tensor([0.3340,    inf])
    """
    share = (advantage / hyperpriors.lambda_rate).clamp(max=1)
    return -hyperpriors.lambda_shape * torch.log1p(-share)
