r"""The middle level in closed form: the optimum of A, of B and of S when everything else is held fixed (Eq. 31).

Given the expected precisions of the leaf level and what the other factors explain, each is a Gaussian regression.
"""

import torch
from torch import Tensor

from indeed.bayes.variational_family import GaussianFactor, RowGaussian
from indeed.types import ColumnPrecision, Images, NoisePrecision


def update_factor(
    target: Images,
    this: GaussianFactor,
    other: GaussianFactor,
    mean_gamma: ColumnPrecision,
    mean_lambda: NoisePrecision,
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
    mean_lambda = mean_lambda.expand_as(target)
    precision = mean_gamma.unsqueeze(-2) + mean_lambda @ other.second_moment
    columns = list(this.mean.unbind(-1))
    residual = target - this.mean @ other.mean.mT
    for k, (old, partner) in enumerate(zip(this.mean.unbind(-1), other.mean.unbind(-1), strict=True)):
        residual = residual + old.unsqueeze(-1) * partner.unsqueeze(-2)
        columns[k] = (mean_lambda * residual * partner.unsqueeze(-2)).sum(-1) / precision[..., k]
        residual = residual - columns[k].unsqueeze(-1) * partner.unsqueeze(-2)
    mean = torch.stack(columns, -1) if columns else this.mean
    return GaussianFactor(mean, -precision.log())


def update_rows(
    target: Images, other: RowGaussian, mean_gamma: ColumnPrecision, mean_lambda: NoisePrecision
) -> RowGaussian:
    r"""Optimum of one factor of :math:`L = A B^\top` with full row covariances, given the other factor.

    .. math::
        C_j^{-1} = \operatorname{diag}(\mu_\gamma) + \sum_l \mu_{\lambda_{jl}} E[b_l b_l^\top], \qquad
        m_j = C_j \sum_l \mu_{\lambda_{jl}} t_{jl}\, \mu_{b_l} ,

    with :math:`b_l` the rows of B. One noise precision for all pixels gives all rows the same covariance.

    Parameters
    ----------
    target, other, mean_gamma, mean_lambda
        As for :func:`update_factor`.
    """
    precision, linear = _row_equations(target, other, mean_gamma, mean_lambda)
    covariance = torch.cholesky_inverse(torch.linalg.cholesky(precision))
    return RowGaussian((covariance @ linear.unsqueeze(-1)).squeeze(-1), covariance)


def update_columns(
    target: Images, other: GaussianFactor, mean_gamma: ColumnPrecision, mean_lambda: NoisePrecision
) -> GaussianFactor:
    r"""Optimum of one factor of :math:`L = A B^\top`, all columns at once, given the other factor.

    It has the variances of :func:`update_factor` and the means :math:`m_j` of :func:`update_rows`: the best that
    diagonal covariances allow. It costs a linear system for each row, where :func:`update_factor` goes from column to
    column; it needs far fewer sweeps where columns resemble each other, as those of a network do.

    Parameters
    ----------
    target, other, mean_gamma, mean_lambda
        As for :func:`update_factor`.
    """
    precision, linear = _row_equations(target, full_covariances(other), mean_gamma, mean_lambda)
    mean = torch.cholesky_solve(linear.unsqueeze(-1), torch.linalg.cholesky(precision)).squeeze(-1)
    return GaussianFactor(mean, -precision.diagonal(dim1=-2, dim2=-1).log().expand_as(mean))


def full_covariances(factor: GaussianFactor) -> RowGaussian:
    """Write the variances of a factor as diagonal covariance matrices of its rows."""
    return RowGaussian(factor.mean, torch.diag_embed(factor.variance))


def _row_equations(
    target: Images, other: RowGaussian, mean_gamma: ColumnPrecision, mean_lambda: NoisePrecision
) -> tuple[Tensor, Tensor]:
    """Matrix (batch, channel, row or 1, rank, rank) and right side (..., row, rank) of the rows' normal equations."""
    rank = mean_gamma.shape[-1]
    weights = mean_lambda.expand(*mean_lambda.shape[:-1], target.shape[-1])
    products = weights @ (other.mean_products + other.covariances)
    precision = torch.diag_embed(mean_gamma).unsqueeze(-3) + products.reshape(*products.shape[:-1], rank, rank)
    return precision, (mean_lambda * target) @ other.mean


def update_sparse(target: Images, mean_omega: Images, mean_lambda: NoisePrecision) -> GaussianFactor:
    r"""Optimum of q(S) given the low-rank part: a shrunken residual.

    :math:`\sigma_s^{-2} = \mu_\omega + \mu_\lambda` and :math:`\mu_s = \sigma_s^2\,\mu_\lambda\,t` with the target
    :math:`t = Y - \mu_A \mu_B^\top`.
    """
    precision = mean_omega + mean_lambda
    return GaussianFactor(mean_lambda * target / precision, -precision.log())
