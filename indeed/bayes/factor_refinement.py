r"""Refinement of the low-rank part after a network: the network's noise is kept, its L is not.

In Eq. 23 the posterior of S depends on A and B, and in :class:`indeed.networks.inference_network.SparseNetwork` it does
so through the residual: whatever L is, S is what the noise leaves of :math:`Y - L`. Holding fixed what the network says
of S given L, that is

.. math:: q(S \mid A, B) = \mathcal N(D - A B^\top, \sigma_S^2), \qquad D = \mu_L + \mu_S ,

with :math:`D` and :math:`\sigma_S^2` as the network gave them, the free energy depends on A and B in two terms only,
rank and sparsity. It asks for the low-rank part of the denoised image D whose remainder is sparsest: a robust PCA of D,
under the priors of the model.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from indeed.bayes.conjugate_updates import update_gamma, update_lambda, update_omega
from indeed.bayes.coordinate_ascent import check_problem
from indeed.bayes.elbo import elbo_terms, fidelity_term, negative_elbo
from indeed.bayes.generative_model import Hyperpriors
from indeed.bayes.middle_updates import update_columns
from indeed.bayes.posterior_summaries import low_rank_moments
from indeed.bayes.variational_family import GaussianFactor, LeafLevel, MiddleLevel
from indeed.checks import at_least
from indeed.types import Images, PerSample


class Refinement(NamedTuple):
    """Refined posterior of the middle level, the leaf level that goes with it, and what was gained.

    The mean of ``middle.S`` is that of S given the mean of L, so that the means of L and S still sum to D.
    ``free_energy`` is the negative ELBO of every image in nats, as the network left it (leaf level solved) and after
    each sweep.
    """

    middle: MiddleLevel
    leaf: LeafLevel
    free_energy: Float[Tensor, "sweep batch"]


@torch.no_grad()
def refine(y: Images, middle: MiddleLevel, hyperpriors: Hyperpriors | None = None, *, sweeps: int = 10) -> Refinement:
    r"""Refined factors of L: minimises the free energy in A and B with :math:`q(S \mid A, B)` held fixed.

    A sweep sets A, B, :math:`\gamma` and :math:`\Omega` one after the other to their optimum given the rest, so that
    nothing raises the free energy. In A and B the problem is that of :func:`~indeed.bayes.coordinate_ascent.fit`, with
    D in the place of the observation and S in that of the noise: :math:`E[s^2]` is :math:`(D - \mu_L)^2 + \sigma_L^2 +
    \sigma_S^2`. The denoised image, the noise and :math:`\Lambda` do not change.

    Parameters
    ----------
    y
        Observed images; only the value of the free energy depends on them.
    middle
        Posterior as a network gives it, with diagonal covariances. Double precision is advised: columns that resemble
        each other make the systems of :func:`~indeed.bayes.middle_updates.update_columns` nearly singular.
    hyperpriors
        Shapes and rates of the priors; the paper's by default.
    sweeps
        At least one. The free energy falls fast at first and then slowly; the L of more sweeps has a higher rank.

    Raises
    ------
    TypeError, ValueError
        If an image or factor is not finite or does not fit the others, A and B have full covariances, or ``sweeps`` is
        below one.
    """
    check_problem(y, middle, "pixel")
    A, B = middle.A, middle.B
    if not (isinstance(A, GaussianFactor) and isinstance(B, GaussianFactor)):
        raise TypeError(f"middle: got {type(A).__name__}, expected diagonal covariances of A and B")
    at_least(1, sweeps=sweeps)
    hyperpriors = hyperpriors or Hyperpriors()
    denoised = middle.means.low_rank + middle.S.mean
    squared_noise = (y - denoised).square() + middle.S.variance
    lambda_ = update_lambda(squared_noise, hyperpriors)

    def solved(A: GaussianFactor, B: GaussianFactor) -> tuple[MiddleLevel, LeafLevel, PerSample]:
        mean, variance = low_rank_moments(A, B)
        now = MiddleLevel(A, B, GaussianFactor(denoised - mean, middle.S.log_variance))
        marginal = GaussianFactor(now.S.mean, (variance + now.S.variance).log())
        leaf = LeafLevel(update_gamma(A, B, hyperpriors), update_omega(marginal, hyperpriors), lambda_)
        terms = elbo_terms(y, now, leaf, hyperpriors, squared_residual=squared_noise)
        # What E[s^2] has beyond the moments of S given the mean of L: the variance of L.
        return now, leaf, negative_elbo(terms) + fidelity_term(variance, leaf.omega.mean)

    now, leaf, energy = solved(A, B)
    trace = [energy]
    for _ in range(sweeps):
        A = update_columns(denoised, B, leaf.gamma.mean, leaf.omega.mean)
        B = update_columns(denoised.mT, A, leaf.gamma.mean, leaf.omega.mean.mT)
        now, leaf, energy = solved(A, B)
        trace.append(energy)
    return Refinement(now, leaf, torch.stack(trace))
