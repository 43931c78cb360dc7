"""Low-rank approximation by the singular values: truncation, and the shrinkage that suits Gaussian noise."""

import math
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from indeed.checks import expect, finite
from indeed.types import Matrices


def truncated_svd(y: Matrices, rank: int) -> Matrices:
    """Best approximation of a rank in the Frobenius norm, and in the spectral norm (Eckart and Young, 1936).

    Parameters
    ----------
    y
        Matrices in the last two axes.
    rank
        Singular values to keep.

    Raises
    ------
    TypeError
        If ``y`` is not of a floating-point type.
    ValueError
        Unless ``1 <= rank <= min(height, width)`` and ``y`` is finite.

    Examples
    --------
    The error is what was cut off:

    >>> y = torch.rand(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> error = (y - truncated_svd(y, 3)).norm()
    >>> torch.isclose(error, torch.linalg.svdvals(y)[3])
    tensor(True)
    """
    check_matrices(y)
    height, width = y.shape[-2:]
    largest = min(height, width)
    expect(1 <= rank <= largest, "rank", rank, f"1 to {largest} for {height} x {width} pixels")
    U, s, Vh = torch.linalg.svd(y, full_matrices=False)
    best: Tensor = (U[..., :rank] * s[..., None, :rank]) @ Vh[..., :rank, :]
    return best


def optimal_shrinkage(y: Matrices, sigma: float | None = None) -> Matrices:
    r"""Low-rank estimate with the singular value shrinkage of least squared error (Gavish and Donoho, 2017).

    For a low-rank matrix plus independent noise of standard deviation :math:`\sigma`, with :math:`n` the longer side,
    :math:`\beta \le 1` the ratio of the sides and :math:`s` in units of :math:`\sigma\sqrt n`,

    .. math:: \eta(s) = \frac{1}{s} \sqrt{(s^2 - \beta - 1)^2 - 4\beta} \quad\text{for } s > 1 + \sqrt\beta,
              \text{ else } 0 .

    Noise lengthens the singular values and turns the vectors; this is the best that can be done with the vectors as
    they are, for large matrices of fixed rank. No rank has to be chosen.

    Parameters
    ----------
    y
        Matrices in the last two axes.
    sigma
        Standard deviation of the noise; None: `estimated_noise_sd` of each matrix.

    Raises
    ------
    TypeError
        If ``y`` is not of a floating-point type.
    ValueError
        If ``y`` is not finite or ``sigma`` is negative.

    Examples
    --------
    Nothing is left of noise alone:

    >>> noise = torch.randn(60, 40, generator=torch.Generator().manual_seed(0))
    >>> optimal_shrinkage(noise, sigma=1.05).count_nonzero()
    tensor(0)
    """
    check_matrices(y)
    expect(sigma is None or 0 <= sigma < math.inf, "sigma", sigma, "a finite standard deviation >= 0")
    U, s, Vh = torch.linalg.svd(y, full_matrices=False)
    level = _median_level(s, y.shape[-2:]) if sigma is None else y.new_tensor(sigma)
    short, long = sorted(y.shape[-2:])
    beta, noise = short / long, (long * level.square()).unsqueeze(-1)
    radicand = (s.square() - (1 + beta) * noise).square() - 4 * beta * noise.square()
    kept = (s > (1 + beta**0.5) * noise.sqrt()) & (s > 0)
    shrunk = torch.where(kept, radicand.clamp(min=0).sqrt() / s, 0)
    estimate: Tensor = (U * shrunk.unsqueeze(-2)) @ Vh
    return estimate


def estimated_noise_sd(y: Matrices) -> Float[Tensor, "*batch"]:
    """Estimate the standard deviation of the noise by the median singular value (Gavish and Donoho, 2014).

    The singular values of noise follow the Marchenko-Pastur law, and a few large ones of a low-rank part hardly move
    their median. For a photograph, whose singular values are all its own, the estimate is too large when the noise is
    weak.

    Raises
    ------
    TypeError, ValueError
        If ``y`` is not of a floating-point type, or not finite.
    """
    check_matrices(y)
    return _median_level(torch.linalg.svdvals(y), y.shape[-2:])


def _median_level(s: Float[Tensor, "*batch values"], shape: torch.Size) -> Float[Tensor, "*batch"]:
    short, long = sorted(shape)
    return s.quantile(0.5, dim=-1) / math.sqrt(long * marchenko_pastur_median(short / long))


@cache
def marchenko_pastur_median(beta: float) -> float:
    r"""Median of the Marchenko-Pastur law of ratio :math:`0 < \beta \le 1` and unit variance, by quadrature.

    With :math:`x = 1 + \beta - 2\sqrt\beta \cos\theta` its density on :math:`0 < \theta < \pi` is
    :math:`2 \sin^2\theta / (\pi x)`, which is smooth.

    Examples
    --------
    For a square matrix the singular values follow a quarter circle of radius 2:

    >>> x = marchenko_pastur_median(1.0) ** 0.5
    >>> round((x * (1 - x**2 / 4) ** 0.5 + 2 * math.asin(x / 2)) / math.pi, 6)
    0.5
    """
    expect(0 < beta <= 1, "beta", beta, "0 < beta <= 1")
    cells = 100_000
    edges = torch.linspace(0, math.pi, cells + 1, dtype=torch.float64)
    theta = (edges[1:] + edges[:-1]) / 2
    x = 1 + beta - 2 * beta**0.5 * theta.cos()
    mass = 2 * theta.sin().square() / (cells * x)
    below = int((mass.cumsum(0) < 0.5).sum())
    share = (0.5 - mass[:below].sum()) / mass[below]
    return float(1 + beta - 2 * beta**0.5 * torch.cos(edges[below] + share * math.pi / cells))


def check_matrices(y: Matrices) -> None:
    """Reject what no decomposition can take.

    Raises
    ------
    TypeError
        If ``y`` is not of a floating-point type.
    ValueError
        If ``y`` has no pixels or is not finite.
    """
    if not y.is_floating_point():
        raise TypeError(f"y: got {y.dtype}, expected a floating-point type")
    if y.ndim < 2 or 0 in y.shape[-2:]:
        raise ValueError(f"y: got shape {tuple(y.shape)}, expected (..., height, width) with at least one pixel")
    finite(y=y)
