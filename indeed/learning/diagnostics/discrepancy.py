r"""How far two sets of images are apart: the place of :math:`d(\hat p_D, p)` in Theorem 1.

The law p of images is known by samples only, in as many dimensions as an image has pixels; no sample of any practical
size says how far an empirical law is from p there. The functions here compare two *samples*, mostly in a few features
of an image. These are proxies: useful for telling sets apart, and no values of d.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from indeed.bayes.elbo import rank_term, sparsity_term
from indeed.bayes.variational_family import LeafLevel, MiddleLevel
from indeed.checks import at_least, expect
from indeed.types import Images

FeatureTable = Float[Tensor, "_ _"]
"""Features of samples, (sample, feature)."""

# -- features ---------------------------------------------------------------------------------------------------------


def patch_statistics(y: Images) -> FeatureTable:
    """Statistics of each image: mean, and logarithms of its contrast and of its differences of neighbours.

    Returns
    -------
    Mean; logarithm of the standard deviation, of the root mean square of horizontal, vertical and mixed differences,
    over pixels and channels. Noise raises the last most, whose expectation over a smooth image is near zero.
    """
    down, across = y.diff(dim=-2), y.diff(dim=-1)
    parts = (y - y.mean((1, 2, 3), keepdim=True), across, down, across.diff(dim=-2))
    logs = [0.5 * part.square().mean((1, 2, 3)).clamp_min(1e-12).log() for part in parts]
    return torch.stack([y.mean((1, 2, 3)), *logs], dim=1)


def loss_coordinates(middle: MiddleLevel, leaf: LeafLevel) -> FeatureTable:
    r"""Coordinates :math:`(\ell_{rank}, \ell_{sparse})` of each image, in nats per pixel and channel (Fig. 6)."""
    precisions = leaf.means
    terms = rank_term(middle.A, middle.B, precisions.gamma), sparsity_term(middle.S, precisions.omega)
    return torch.stack(terms, dim=1) / middle.S.mean[0].numel()


def standardised_features(first: FeatureTable, second: FeatureTable) -> tuple[FeatureTable, FeatureTable]:
    """Both sets with each feature shifted and scaled to mean zero and variance one over their union.

    A feature that never varies becomes zero.
    """
    together = torch.cat([first, second])
    scale = together.std(0, correction=0)
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return (first - together.mean(0)) / scale, (second - together.mean(0)) / scale


# -- distances --------------------------------------------------------------------------------------------------------


def mean_distance(first: FeatureTable, second: FeatureTable) -> float:
    r"""Mean Euclidean distance between a sample of one set and a sample of the other.

    For whole images as features it estimates, without bias, the distance :math:`\tfrac1n \sum_i E_Y\|Y - Y^{(i)}\|`
    that the proof of Theorem 1 needs. It is no discrepancy: between two sets from the same law it is
    positive, and it does not fall with their sizes.
    """
    _check(first, second, 1)
    return torch.cdist(first, second).mean().item()


def sliced_wasserstein(
    first: FeatureTable, second: FeatureTable, *, directions: int = 64, generator: torch.Generator
) -> float:
    """Proxy: Wasserstein-1 distance of the projections on random directions, averaged over these.

    Not larger than the Wasserstein-1 distance of the two sets of features.

    Examples
    --------
    In one dimension there is one direction, and the distance is the shift:

    >>> x = torch.tensor([[0.0], [1.0], [5.0]])
    >>> sliced_wasserstein(x, x + 2, generator=torch.Generator().manual_seed(0))
    2.0

    Raises
    ------
    ValueError
        If the sets differ in features, one is empty, or ``directions`` is smaller than one.
    """
    from scipy.stats import wasserstein_distance

    _check(first, second, 1)
    at_least(1, directions=directions)
    normals = torch.randn(directions, first.shape[1], dtype=torch.float64, generator=generator)
    units = (normals / normals.norm(dim=1, keepdim=True)).T
    projected = ((x.double().cpu() @ units).T.numpy() for x in (first, second))
    return sum(float(wasserstein_distance(a, b)) for a, b in zip(*projected, strict=True)) / directions


def squared_mmd(first: FeatureTable, second: FeatureTable, *, bandwidth: float | None = None) -> float:
    r"""Proxy: unbiased estimate of the squared maximum mean discrepancy with a Gaussian kernel.

    The U-statistic :math:`\overline{k(x, x')} + \overline{k(y, y')} - 2\,\overline{k(x, y)}` over pairs of different
    samples, with :math:`k(x, y) = \exp(-\|x - y\|^2 / 2b^2)`. It has mean zero, and so either sign, for two sets from
    one law.

    Parameters
    ----------
    first, second
        Features of at least two samples each.
    bandwidth
        The number b; None: the median distance between different samples of both sets.

    Raises
    ------
    ValueError
        If the sets differ in features or one has fewer than two samples, or ``bandwidth`` is not positive.
    """
    _check(first, second, 2)
    together = torch.cat([first, second]).double()
    squared = torch.cdist(together, together).square()
    if bandwidth is None:
        rows, columns = torch.triu_indices(len(together), len(together), 1)
        bandwidth = squared[rows, columns].sqrt().median().item() or 1.0  # all samples alike: any will do
    expect(0 < bandwidth < math.inf, "bandwidth", bandwidth, "a positive and finite number")
    kernel = torch.exp(-squared / (2 * bandwidth**2))
    m, n = len(first), len(second)
    within = [(part.sum() - part.trace()) / (k * (k - 1)) for part, k in ((kernel[:m, :m], m), (kernel[m:, m:], n))]
    return (within[0] + within[1] - 2 * kernel[:m, m:].mean()).item()


def permutation_p_value(
    first: FeatureTable,
    second: FeatureTable,
    distance: Callable[[FeatureTable, FeatureTable], float],
    *,
    permutations: int = 199,
    generator: torch.Generator,
) -> float:
    """Probability, if both sets are from one law, of a distance as large as theirs: a test of two samples.

    The samples are shared out among the two sets at random, ``permutations`` times. The sets as they are count as one
    more, so that the test is exact and the smallest value is 1 / (permutations + 1). The samples must be independent:
    patches of one photograph are not.

    Raises
    ------
    ValueError
        If the sets differ in features, one is empty, or ``permutations`` is smaller than one.
    """
    _check(first, second, 1)
    at_least(1, permutations=permutations)
    together, observed = torch.cat([first, second]), distance(first, second)
    as_large = 1
    for _ in range(permutations):
        order = torch.randperm(len(together), generator=generator)
        as_large += distance(together[order[: len(first)]], together[order[len(first) :]]) >= observed
    return as_large / (permutations + 1)


def _check(first: Tensor, second: Tensor, least: int) -> None:
    expect(first.shape[1] == second.shape[1], "second", f"{second.shape[1]} features", f"{first.shape[1]} as in first")
    if min(len(first), len(second)) < least:
        raise ValueError(f"first, second: got {len(first)} and {len(second)} samples, expected at least {least} each")
