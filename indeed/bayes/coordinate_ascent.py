r"""Per-image inference without a network: sub-problems 1 and 2 solved in closed form, in turn, until they agree.

Every factor of :math:`q(A)\,q(B)\,q(S)\,q(\gamma)\,q(\Omega)\,q(\Lambda)` has a closed-form optimum when the others are
held fixed: Gaussian in the middle level, Gamma in the leaf level (:mod:`indeed.bayes.conjugate_updates`). No update
raises the free energy :math:`-\mathrm{ELBO}`.

Here q(S) does not depend on A and B. In Eq. 23 it does, :math:`q(S \mid A, B)`: a network can afford that, because it
is shown a draw of A and B before it predicts S; a factor with one mean and one variance per pixel cannot.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple, TypeVar, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from indeed.bayes.conjugate_updates import NoiseForm, solve_leaf_level, update_gamma, update_lambda, update_omega
from indeed.bayes.elbo import elbo_terms, negative_elbo
from indeed.bayes.generative_model import Hyperpriors
from indeed.bayes.middle_updates import full_covariances, update_factor, update_rows, update_sparse
from indeed.bayes.posterior_summaries import expected_squared_residual
from indeed.bayes.variational_family import Factor, GammaFactor, GaussianFactor, LeafLevel, MiddleLevel, RowGaussian
from indeed.checks import at_least, expect, one_of
from indeed.types import ColumnPrecision, Images, NoisePrecision, PerSample

FactorFamily = Literal["diagonal", "full"]

# Bayesian robust PCA (Babacan et al. 2012) is this model with flat priors, one noise precision and full covariances:
# fit(y, max_rank, FLAT, family="full", noise="scalar").
FLAT = Hyperpriors(1e-6, 1e-6, 1e-6, 1e-10, 1e-6, 1e-6)


class Fit(NamedTuple):
    """Posterior of one or more images, found without a network.

    ``rank`` counts the columns that are not switched off. ``free_energy`` is the negative ELBO of every channel in
    nats, at the start and after each sweep; the last one belongs to ``middle`` and ``leaf``. ``converged`` says where
    the last sweep changed it by less than the tolerance.
    """

    middle: MiddleLevel
    leaf: LeafLevel
    rank: Int[Tensor, "batch channel"]
    free_energy: Float[Tensor, "sweep batch channel"]
    converged: Bool[Tensor, "batch channel"]


def svd_start(y: Images, max_rank: int, hyperpriors: Hyperpriors | None = None) -> MiddleLevel:
    """Start from the first ``max_rank`` singular pairs of each channel, and S = 0 with room to move.

    The variances follow from that of the noise, which is estimated from the median singular value. A column of A or B
    gets the variance that the noise would leave it, given the other factor. A pixel of S gets twice that of the noise,
    so that the first sweeps decide what is sparse: with a very small variance S would stay at zero.

    Raises
    ------
    TypeError, ValueError
        If ``y`` is not a finite floating-point image, or ``max_rank`` is not in 1 to min(height, width).
    """
    _check_image(y)
    expect(1 <= max_rank <= min(y.shape[-2:]), "max_rank", max_rank, f"1 to min(height, width) = {min(y.shape[-2:])}")
    hyperpriors = hyperpriors or Hyperpriors()
    left, values, right = torch.linalg.svd(y, full_matrices=False)
    noise = values.median(-1).values.square() / max(y.shape[-2:])
    noise = noise.clamp_min(hyperpriors.omega_rate / hyperpriors.omega_shape)[..., None, None]
    values = values[..., None, :max_rank]
    A, B = (
        GaussianFactor(vectors[..., :max_rank] * values.sqrt(), (noise / (values + noise.sqrt())).log().expand(size))
        for vectors, size in ((left, (*y.shape[:3], max_rank)), (right.mT, (*y.shape[:2], y.shape[3], max_rank)))
    )
    return MiddleLevel(A, B, GaussianFactor(torch.zeros_like(y), (2 * noise).log().expand_as(y)))


def check_problem(y: Images, start: MiddleLevel, noise: NoiseForm) -> None:
    """Reject what no algorithm here can start from.

    Raises
    ------
    TypeError, ValueError
        If ``y`` is not a finite floating-point image, ``start`` does not fit it or is not finite, or ``noise`` is
        unknown.
    """
    _check_image(y)
    one_of(get_args(NoiseForm), noise=noise)
    batch, channels, height, width = y.shape
    rank = start.A.mean.shape[-1]
    shapes = ((batch, channels, height, rank), (batch, channels, width, rank), (batch, channels, height, width))
    for name, factor, shape in zip("ABS", start, shapes, strict=True):
        if factor.mean.shape != shape:
            raise ValueError(f"start.{name}: got shape {tuple(factor.mean.shape)}, expected {shape} for this image")
        if factor.variance.shape != shape:
            got = tuple(factor.variance.shape)
            raise ValueError(f"start.{name}: got variances of shape {got}, expected {shape} like its mean")
        if not (factor.mean.isfinite().all() and factor.variance.isfinite().all()):
            raise ValueError(f"start.{name}: got NaN or infinite values, expected finite means and variances")


def free_energy(y: Images, middle: MiddleLevel, hyperpriors: Hyperpriors, noise: NoiseForm = "pixel") -> PerSample:
    """Exact negative ELBO of a middle level with its leaf level solved: the number in which posteriors are compared.

    In nats per sample, summed over channels. Infinite for a posterior without S: ``fit(..., sparse=False)``
    itself reports the free energy without the two terms of S.
    """
    leaf = solve_leaf_level(y, middle, hyperpriors, noise=noise)
    return negative_elbo(elbo_terms(y, middle, leaf, hyperpriors))


@torch.no_grad()
def fit(
    y: Images,
    start: MiddleLevel,
    hyperpriors: Hyperpriors | None = None,
    *,
    family: FactorFamily = "diagonal",
    noise: NoiseForm = "pixel",
    sparse: bool = True,
    prune: bool = True,
    tolerance: float = 1e-6,
    max_sweeps: int = 1000,
    observer: Callable[[str, Float[Tensor, "batch channel"]], object] | None = None,
) -> Fit:
    r"""Posterior of the whole model for every channel of every image, by coordinate ascent on the ELBO (Eq. 11a).

    A sweep sets A, B, S, :math:`\gamma`, :math:`\Omega` and :math:`\Lambda`, one after the other, to their optimum
    given the rest. Then it tries to switch off one column. Nothing raises the free energy, up to rounding.

    Parameters
    ----------
    y
        Observed images; every channel is decomposed on its own.
    start
        Middle level to start from: :func:`svd_start`, or the output of a network.
    hyperpriors
        Shapes and rates of the priors; the paper's by default.
    family
        ``diagonal`` covariances of A and B, as in Table 2, or ``full`` row covariances.
    noise
        One noise precision per ``pixel``, as in the paper, or one ``scalar`` per channel.
    sparse
        If False, S is zero (its log-variance minus infinity), and its two terms are left out of the free energy.
    prune
        A column that the image does not need switches itself off, but slowly: each sweep leaves a share
        :math:`(h + w) / (2\alpha^0_\gamma + h + w)` of the way. With ``prune`` a sweep ends with a proposal: the column
        of the largest precision goes at once to where it would end, mean zero and variance (at most)
        :math:`\beta^0_\gamma/\alpha^0_\gamma`. It is accepted where that does not raise the free energy (leaf level
        solved again). Columns off in all channels of all images are removed. From then on the free energy is that of
        a model with fewer columns; it is lower by their divergence from the prior, a few nats each. A column off in
        one image but kept for another still counts in both: compare free energies of images fitted alone.
    tolerance
        Stop after a sweep that lowers no free energy by more than this, in nats per pixel, and switches nothing off.
    max_sweeps
        Stop after so many sweeps in any case.
    observer
        Called after every update with its name (``start``, ``A``, ``B``, ``S``, ``gamma``, ``omega``, ``lambda``,
        ``switch off``, ``remove``) and the free energy of every channel.

    Raises
    ------
    TypeError, ValueError
        If ``y`` is not a finite floating-point image, ``start`` does not fit it, or an option is unknown.
    """
    check_problem(y, start, noise)
    one_of(get_args(FactorFamily), family=family)
    at_least(1, max_sweeps=max_sweeps)
    hyperpriors = hyperpriors or Hyperpriors()
    sizes = y.shape[:2]

    def energy(middle: MiddleLevel, leaf: LeafLevel, squared_residual: Images | None = None) -> PerSample:
        terms = elbo_terms(y, middle, leaf, hyperpriors, squared_residual=squared_residual)
        if not sparse:
            terms = terms._replace(sparsity=torch.zeros_like(terms.rank), omega_prior=torch.zeros_like(terms.rank))
        return negative_elbo(terms)

    def report(update: str) -> None:
        if observer is not None:
            observer(update, energy(middle, leaf).reshape(sizes))

    # Every channel becomes a sample of its own, so that what is per sample below is per channel.
    y = y.flatten(0, 1).unsqueeze(1)
    middle = _map(lambda x: x.to(y).flatten(0, 1).unsqueeze(1), start)
    if not sparse:
        middle = middle._replace(S=GaussianFactor(torch.zeros_like(y), torch.full_like(y, -math.inf)))
    middle = middle._replace(A=_in_family(middle.A, family), B=_in_family(middle.B, family))
    leaf = solve_leaf_level(y, middle, hyperpriors, noise=noise)
    on = torch.ones_like(leaf.gamma.rate, dtype=torch.bool)
    trace = [energy(middle, leaf)]
    report("start")
    for _ in range(max_sweeps):
        target, mean_gamma, mean_lambda = y - middle.S.mean, leaf.gamma.mean, leaf.lambda_.mean
        middle = middle._replace(A=_update(target, middle.A, middle.B, mean_gamma, mean_lambda))
        report("A")
        middle = middle._replace(B=_update(target.mT, middle.B, middle.A, mean_gamma, mean_lambda.mT))
        report("B")
        if sparse:
            middle = middle._replace(S=update_sparse(y - middle.means.low_rank, leaf.omega.mean, mean_lambda))
            report("S")
        leaf = leaf._replace(gamma=update_gamma(middle.A, middle.B, hyperpriors))
        report("gamma")
        if sparse:
            leaf = leaf._replace(omega=update_omega(middle.S, hyperpriors))
            report("omega")
        squared_residual = expected_squared_residual(y, middle)
        leaf = leaf._replace(lambda_=update_lambda(squared_residual, hyperpriors, noise=noise))
        report("lambda")
        now = energy(middle, leaf, squared_residual)
        accepted = torch.zeros_like(now, dtype=torch.bool)
        if prune and on.any():
            weakest = torch.where(on, leaf.gamma.mean, 0).argmax(-1, keepdim=True)
            proposal = middle._replace(
                A=_switch_off(middle.A, weakest, _floor(hyperpriors)),
                B=_switch_off(middle.B, weakest, _floor(hyperpriors)),
            )
            leaf_there = solve_leaf_level(y, proposal, hyperpriors, noise=noise)
            there = energy(proposal, leaf_there)
            # Accepted if equal up to rounding: a column that is already zero must be switched off too.
            accepted = (there <= now + torch.finfo(y.dtype).eps * now.abs()) & on.any(-1).squeeze(1)
            middle, leaf = _choose(accepted, proposal, middle), _choose(accepted, leaf_there, leaf)
            now = torch.where(accepted, there, now)
            on = on.scatter(-1, weakest, on.gather(-1, weakest) & ~accepted[:, None, None])
            report("switch off")
            kept = int(on.sum(-1).max())
            if kept < on.shape[-1]:
                order = on.to(torch.int8).argsort(dim=-1, descending=True, stable=True)[..., :kept]
                middle = middle._replace(A=_take(middle.A, order), B=_take(middle.B, order))
                leaf = leaf._replace(gamma=GammaFactor(*(x.gather(-1, order) for x in leaf.gamma)))
                on = on.gather(-1, order)
                now = energy(middle, leaf)
                report("remove")
        converged = (trace[-1] - now <= tolerance * y[0].numel()) & ~accepted
        trace.append(now)
        if converged.all():
            break

    def unfold(x: Tensor) -> Tensor:
        return x.reshape(*sizes, *x.shape[2:])

    return Fit(
        _map(unfold, middle),
        _map(unfold, leaf),
        on.sum(-1).reshape(sizes),
        torch.stack(trace).reshape(-1, *sizes),
        converged.reshape(sizes),
    )


Level = TypeVar("Level", MiddleLevel, LeafLevel)


def _map(function: Callable[..., Tensor], *levels: Level) -> Level:
    """Apply a function to the tensors of a level, or to the corresponding ones of several."""
    factors = zip(*levels, strict=True)
    return type(levels[0])(*(type(q[0])(*(function(*x) for x in zip(*q, strict=True))) for q in factors))


def _choose(where: Tensor, this: Level, other: Level) -> Level:
    """Take ``this`` for the samples named by ``where``, ``other`` for the rest."""
    return _map(lambda a, b: torch.where(where.reshape(-1, *[1] * (a.ndim - 1)), a, b), this, other)


def _update(
    target: Images, this: Factor, other: Factor, mean_gamma: ColumnPrecision, mean_lambda: NoisePrecision
) -> Factor:
    if isinstance(this, GaussianFactor) and isinstance(other, GaussianFactor):
        return update_factor(target, this, other, mean_gamma, mean_lambda)
    assert isinstance(other, RowGaussian)
    return update_rows(target, other, mean_gamma, mean_lambda)


def _in_family(factor: Factor, family: FactorFamily) -> Factor:
    if family == "diagonal":
        return GaussianFactor(factor.mean, factor.log_variance)
    return factor if isinstance(factor, RowGaussian) else full_covariances(factor)


def _floor(hyperpriors: Hyperpriors) -> float:
    """Variance at which a column without content ends."""
    return hyperpriors.gamma_rate / hyperpriors.gamma_shape


def _switch_off(factor: Factor, column: Tensor, floor: float) -> Factor:
    """Put one column per sample, (batch, 1, 1), to mean zero and at most the floor variance, without covariances."""
    hit = torch.zeros_like(factor.mean[..., :1, :], dtype=torch.bool).scatter(-1, column.unsqueeze(-2), True)
    mean = factor.mean.masked_fill(hit, 0)
    if isinstance(factor, GaussianFactor):
        lower = factor.log_variance.clamp_max(math.log(floor))
        return GaussianFactor(mean, torch.where(hit, lower, factor.log_variance))
    variance = factor.covariance.diagonal(dim1=-2, dim2=-1).clamp_max(floor)
    covariance = factor.covariance.masked_fill(hit.unsqueeze(-1) | hit.unsqueeze(-2), 0)
    return RowGaussian(mean, covariance + torch.diag_embed(variance * hit))


def _take(factor: Factor, columns: Tensor) -> Factor:
    """Keep the given columns of each sample, (batch, 1, kept)."""
    mean = torch.take_along_dim(factor.mean, columns.unsqueeze(-2), -1)
    if isinstance(factor, GaussianFactor):
        return GaussianFactor(mean, torch.take_along_dim(factor.log_variance, columns.unsqueeze(-2), -1))
    rows = torch.take_along_dim(factor.covariance, columns[..., None, :, None], -2)
    return RowGaussian(mean, torch.take_along_dim(rows, columns[..., None, None, :], -1))


def _check_image(y: Tensor) -> None:
    if not y.is_floating_point():
        raise TypeError(f"y: got {y.dtype}, expected a floating-point image in [0, 1]")
    expect(y.isfinite().all(), "y", "NaN or infinite pixels", "finite ones")
