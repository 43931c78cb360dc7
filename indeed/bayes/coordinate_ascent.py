r"""Sub-problem 2 for one image without a network: exact updates of the middle level, given the leaf level (Eq. 8).

Every factor of :math:`q(A)\,q(B)\,q(S)` has a Gaussian optimum when the others are held fixed. Alternated with
:mod:`indeed.bayes.conjugate_updates`, these updates never raise the free energy.
"""

import torch

from indeed.bayes.generative_model import ColumnPrecision, Image
from indeed.bayes.variational_family import GaussianFactor


def update_factor(
    target: Image, this: GaussianFactor, other: GaussianFactor, mean_gamma: ColumnPrecision, mean_lambda: Image
) -> GaussianFactor:
    r"""Optimum of one factor of :math:`L = A B^\top`, column after column, given the other factor.

    The minimiser of Eq. 31 over :math:`q(a_{jk})` has

    .. math::
        \sigma_{a_{jk}}^{-2} = \mu_{\gamma_k} + \sum_l \mu_{\lambda_{jl}} E[b_{lk}^2], \qquad
        \mu_{a_{jk}} = \sigma_{a_{jk}}^2 \sum_l \mu_{\lambda_{jl}} \mu_{b_{lk}}
        \Big(t_{jl} - \sum_{m \neq k} \mu_{a_{jm}} \mu_{b_{lm}}\Big) .

    Parameters
    ----------
    target
        What the product should explain, :math:`Y - \mu_S`; transposed to update B.
    this, other
        The factor to update and the one held fixed: A and B, or B and A.
    mean_gamma, mean_lambda
        Expected column precisions, and noise precisions in the orientation of ``target``.
    """
    precision = mean_gamma.unsqueeze(-2) + mean_lambda @ other.second_moment
    columns = list(this.mean.unbind(-1))
    residual = target - this.mean @ other.mean.mT
    for k, (old, partner) in enumerate(zip(this.mean.unbind(-1), other.mean.unbind(-1), strict=True)):
        residual = residual + old.unsqueeze(-1) * partner.unsqueeze(-2)
        columns[k] = (mean_lambda * residual * partner.unsqueeze(-2)).sum(-1) / precision[..., k]
        residual = residual - columns[k].unsqueeze(-1) * partner.unsqueeze(-2)
    return GaussianFactor(torch.stack(columns, -1), -precision.log())


def update_sparse(target: Image, mean_omega: Image, mean_lambda: Image) -> GaussianFactor:
    r"""Optimum of q(S) given the low-rank part: a shrunken residual.

    :math:`\sigma_s^{-2} = \mu_\omega + \mu_\lambda` and :math:`\mu_s = \sigma_s^2\,\mu_\lambda\,t` with the target
    :math:`t = Y - \mu_A \mu_B^\top`.
    """
    precision = mean_omega + mean_lambda
    return GaussianFactor(mean_lambda * target / precision, -precision.log())
