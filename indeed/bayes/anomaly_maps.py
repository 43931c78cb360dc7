r"""Where the posterior sees an anomaly: maps from the sparse part, one value a pixel, larger where more anomalous.

The paper does not say which map it scores. Each map here is computed from the observation and its posterior, summed
over the colours. They are not independent: where the sparsity term alone decides, its stationary point (see
:func:`indeed.bayes.conjugate_updates.update_omega`) is :math:`\sigma_S^2 = (2\beta^0_\omega + \mu_S^2)/4` for
:math:`\alpha^0_\omega = 2`, and then `magnitude`, `standardised` and `prior_scale` all rise with :math:`|\mu_S|`. What
they tell beyond it comes from the data and the supervision.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from indeed.bayes.variational_family import LeafLevel, MiddleLevel
from indeed.checks import expect
from indeed.images.noise import GREY_LEVEL
from indeed.types import Images, Maps


def magnitude(y: Images, middle: MiddleLevel, leaf: LeafLevel) -> Maps:
    r"""Magnitude of the sparse part, :math:`\sum_c |\mu_S|`, in intensities: the default.

    Supervision (Eq. 45) makes S equal to the defect itself. So a value is the change of intensity that the defect
    makes, and values of different images can be compared.
    """
    return middle.S.mean.abs().sum(1)


def standardised(y: Images, middle: MiddleLevel, leaf: LeafLevel) -> Maps:
    r"""Distance of the sparse part from zero in posterior deviations, :math:`(\sum_c \mu_S^2/\sigma_S^2)^{1/2}`.

    For one colour it is :math:`|\mu_S|/\sigma_S`. Half its square is :math:`\ln q(S{=}\mu_S) - \ln q(S{=}0)` of a
    pixel: how much better the posterior finds its mean than no defect. Use it where S is unsure of some parts, such as
    edges and rough texture, which it discounts, or where defects are faint. It saturates at 2 a colour where the
    sparsity term alone sets :math:`\sigma_S`, and is only as good as the variances, which supervision trains less
    directly than the means.
    """
    distance: Tensor = torch.linalg.vector_norm(middle.S.mean / middle.S.std, dim=1)
    return distance


def prior_scale(y: Images, middle: MiddleLevel, leaf: LeafLevel) -> Maps:
    r"""Scale that the prior needs to allow for the sparse part, :math:`\sum_c E_q[\omega^{-1/2}]`, in intensities.

    For a Gamma posterior the mean is :math:`\sqrt{\beta_\omega}\,\Gamma(\alpha_\omega - \tfrac12)/
    \Gamma(\alpha_\omega)`; :math:`\alpha_\omega = \alpha^0_\omega + \tfrac12` makes it finite. In closed form (Eq. 28)
    it rises with :math:`\mu_S^2 + \sigma_S^2`, not :math:`|\mu_S|`: use it where a pixel of which S is unsure
    should count as suspect; `standardised` discounts such a pixel.
    """
    shape, rate = leaf.omega
    return (rate.sqrt() * (torch.lgamma(shape - 0.5) - torch.lgamma(shape)).exp()).sum(1)


def share(y: Images, middle: MiddleLevel, leaf: LeafLevel) -> Maps:
    r"""Share of the sparse part in what the low-rank part leaves, in [0, 1).

    :math:`\sum_c |\mu_S| \,/ \sum_c (|\mu_S| + |Y - \mu_L - \mu_S| + \delta)` with one grey level for :math:`\delta`,
    below which no pixel counts. It judges a faint defect like a strong one. A pixel in which a defect happens
    to have the grey of the surface is judged like its neighbours. If f_S puts out a shrinkage, the map shows it.
    """
    sparse, noise = sparse_and_noise(y, middle)
    return sparse.sum(1) / (sparse + noise + GREY_LEVEL).sum(1)


def sparse_and_noise(y: Images, middle: MiddleLevel) -> tuple[Images, Images]:
    r"""Magnitudes :math:`|\mu_S|` and :math:`|Y - \mu_L - \mu_S|`: what S takes of a pixel, and what L and S leave."""
    return middle.S.mean.abs(), (y - middle.means.low_rank - middle.S.mean).abs()


ANOMALY_MAPS: dict[str, Callable[[Images, MiddleLevel, LeafLevel], Maps]] = {
    "magnitude": magnitude,
    "standardised": standardised,
    "prior_scale": prior_scale,
    "share": share,
}
"""The maps by name."""


def smoothed(anomaly_map: Maps, sigma: float = 4.0) -> Maps:
    """Gaussian mean of the neighbours of each pixel, weighted by those within the image: a constant stays as it is.

    Defects have an extent, and noise of the map has none; 4 pixels is customary at a side of 256. The mean blurs
    what is smaller, which lowers the average precision of thin scratches.

    Raises
    ------
    ValueError
        Unless `sigma`, in pixels, is finite and positive.
    """
    expect(0 < sigma < math.inf, "sigma", sigma, "a finite positive number of pixels")
    rows, columns = (_gaussian_rows(side, sigma).to(anomaly_map) for side in anomaly_map.shape[-2:])
    return rows @ anomaly_map @ columns.mT


def _gaussian_rows(length: int, sigma: float) -> Float[Tensor, "{length} {length}"]:
    pixels = torch.arange(length, dtype=torch.float64)
    weights = torch.exp(-((pixels[:, None] - pixels).square()) / (2 * sigma**2))
    return weights / weights.sum(1, keepdim=True)
