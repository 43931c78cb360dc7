"""What the posterior says of an image: moments of the low-rank part and the residual, ranks (section 4.5.1, Fig. 8)."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from indeed.bayes.variational_family import Draw, Factor, GammaFactor, MiddleLevel
from indeed.checks import expect
from indeed.types import Images


def low_rank_moments(A: Factor, B: Factor, form: Literal["exact", "paper"] = "exact") -> tuple[Images, Images]:
    r"""Mean and variance of each pixel of :math:`L = A B^\top` (section 4.5.1).

    ``exact``: products of independent Gaussians summed over the rank,

    .. math::
        \mu_L = \mu_A \mu_B^\top, \qquad
        \sigma_L^2 = \mu_A^2 (\sigma_B^2)^\top + \sigma_A^2 (\mu_B^2)^\top + \sigma_A^2 (\sigma_B^2)^\top .

    With full row covariances the variance of pixel jl is
    :math:`m_j^\top C^B_l m_j + m_l^\top C^A_j m_l + \operatorname{tr}(C^A_j C^B_l)`: the same sums, over all pairs of
    columns.

    ``paper``: the formula of the paper, which is that of a normalised product of two Gaussian *densities*, not of a
    product of variables; kept to show the difference.

    Returns
    -------
    mean, variance
        Both (batch, channel, height, width).
    """
    if form == "exact":
        mean = A.mean @ B.mean.mT
        variance = A.mean_products @ B.covariances.mT + A.covariances @ (B.mean_products + B.covariances).mT
        return mean, variance.expand_as(mean)
    if form == "paper":
        ones_A, ones_B = torch.ones_like(A.mean), torch.ones_like(B.mean)
        total = A.variance @ ones_B.mT + ones_A @ B.variance.mT
        return (A.mean @ B.variance.mT + A.variance @ B.mean.mT) / total, A.variance @ B.variance.mT / total
    raise ValueError(f"form: got {form!r}, expected 'exact' or 'paper'")


def sampled_squared_residual(y: Images, draw: Draw) -> Images:
    r"""Squared residual of one draw, :math:`(Y - \hat A\hat B^\top - \hat S)^2`, as in Eq. 30 and 32."""
    return (y - draw.low_rank - draw.S).square()


def expected_squared_residual(y: Images, middle: MiddleLevel) -> Images:
    r"""Mean of the squared residual under independent A, B and S.

    :math:`E_q[(Y - A B^\top - S)^2] = (Y - \mu_L - \mu_S)^2 + \sigma_L^2 + \sigma_S^2`.
    """
    mean, variance = low_rank_moments(middle.A, middle.B)
    return (y - mean - middle.S.mean).square() + variance + middle.S.variance


def inverse_precision_tail(precision: GammaFactor, threshold: float) -> Float[Tensor, "*shape"]:
    r"""Posterior probability :math:`P(\tau^{-1} > t) = P(\tau < 1/t)` that a variance exceeds a threshold.

    The regularised lower incomplete Gamma function at :math:`\beta/t` (unit of ``threshold``: that of the variance).

    Raises
    ------
    ValueError
        If ``threshold`` is not positive.
    """
    expect(threshold > 0, "threshold", threshold, "a positive number")
    tail: Tensor = torch.special.gammainc(precision.shape, precision.rate / threshold)
    return tail


def rank_index(gamma: GammaFactor, threshold: float, probability: float = 0.95) -> Int[Tensor, "batch channel"]:
    r"""Rank index :math:`n = |\{i : P(\gamma_i^{-1} > t) > p\}|` (section 4.5.1): columns that are surely alive.

    The paper states ``probability`` 0.95 and no threshold. Its doubled Gamma posterior (see
    :func:`indeed.bayes.conjugate_updates.update_gamma`) has half the variance and so counts more columns.

    Raises
    ------
    ValueError
        If ``threshold`` is not positive or ``probability`` not in (0, 1).
    """
    expect(0 < probability < 1, "probability", probability, "a number in (0, 1)")
    return (inverse_precision_tail(gamma, threshold) > probability).sum(-1)


def effective_rank(image: Images, relative_threshold: float = 0.003) -> Int[Tensor, "batch channel"]:
    r"""Count the singular values above ``relative_threshold`` times the largest.

    At 0.003 the mean over natural 128-pixel patches is 73, the value section 4.2 quotes without its threshold.

    >>> effective_rank(torch.diag_embed(torch.tensor([[[1.0, 0.5, 0.001]]]))).item()
    2
    """
    expect(0 <= relative_threshold < 1, "relative_threshold", relative_threshold, "a number in [0, 1)")
    singular_values: Tensor = torch.linalg.svdvals(image)
    return (singular_values > relative_threshold * singular_values[..., :1]).sum(-1)
