r"""Robust principal component analysis: a matrix as low-rank plus sparse, by principal component pursuit.

.. math:: \min_{L, S}\; \|L\|_* + \lambda \|S\|_1 \quad\text{subject to}\quad L + S = Y

is convex (Candes, Li, Ma and Wright, 2011). A matrix Z proves that L and S are optimal if it is a subgradient of both
terms. With the singular vectors U and V of L: :math:`U^\top Z = V^\top`, :math:`Z V = U` and :math:`\|Z\|_2 \le 1`.
With the signs of S: :math:`Z_{jk} = \lambda \operatorname{sign} S_{jk}` where S is not zero, and
:math:`|Z_{jk}| \le \lambda` elsewhere.

`inexact_augmented_lagrangian` keeps to the constraint; `accelerated_proximal_gradient` relaxes it, which
`stable_pursuit` uses to leave noise over. They compute in double precision, on the device of ``y``. Their time goes
into thresholding singular values. Only those above the threshold are needed, and their vectors change little from step
to step: subspace iteration, started from the last ones, replaces most decompositions.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from indeed.baselines.low_rank import check_matrices
from indeed.baselines.thresholding import PerMatrix, Stack, random_basis, threshold_entries, threshold_singular_values
from indeed.checks import at_least, expect
from indeed.types import Matrices

State = tuple[Tensor, ...]
"""What a step takes and gives: L, S, dual and residual, and then what its method needs; a matrix a row."""


class NotConvergedError(RuntimeError):
    """An iteration did not reach its tolerance; the message says what it reached, and in how many steps."""


class Pursuit(NamedTuple):
    """Low-rank and sparse part, and measures of how good they are."""

    L: Matrices
    S: Matrices
    dual: Matrices
    """The certificate Z of optimality, as exact as the solver got."""
    residual: Float[Tensor, "*batch"]
    """``||Y - L - S|| / ||Y||`` in the Frobenius norm, for each matrix (0 for a zero matrix)."""
    iterations: Int[Tensor, "*batch"]


def inexact_augmented_lagrangian(
    y: Matrices,
    sparsity_weight: float | None = None,
    *,
    tolerance: float = 1e-7,
    max_iterations: int = 1000,
    growth: float = 1.5,
) -> Pursuit:
    r"""Principal component pursuit by the inexact augmented Lagrangian method of Lin, Chen and Ma (2010).

    Each step thresholds the entries (S) and the singular values (L) and moves the dual, with a penalty that grows. It
    stops by feasibility, ``||Y - L - S|| <= tolerance ||Y||``, for each matrix of a batch by itself, as in a
    call of its own. Feasibility says nothing about optimality. Where the two parts can be separated exactly, the
    default growth finds them; where they cannot, as in a photograph, the objective ends some 10^-4 of itself above its
    minimum, and a slower growth comes closer in more steps.

    Parameters
    ----------
    y
        Matrices in the last two axes, with any axes before.
    sparsity_weight
        :math:`\lambda`; None: ``1 / sqrt(max(height, width))``, for which Candes et al. (2011) prove exact recovery.
    tolerance
        Relative residual at which to stop.
    max_iterations
        Steps after which to give up.
    growth
        Factor of the penalty at each step.

    Raises
    ------
    TypeError
        If ``y`` is not of a floating-point type.
    ValueError
        If ``y`` has no pixels or is not finite, or an option is out of range.
    NotConvergedError
        If a matrix has not reached the tolerance.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> a, b = torch.randn(2, 40, 1, generator=generator, dtype=torch.float64)
    >>> L, S = a @ b.mT, 5 * torch.eye(40, dtype=torch.float64)
    >>> found = inexact_augmented_lagrangian(L + S)
    >>> torch.allclose(found.L, L, atol=1e-5), torch.allclose(found.S, S, atol=1e-5)
    (True, True)
    """
    stack, weight = _checked(y, sparsity_weight, tolerance, max_iterations)
    expect(1 < growth < math.inf, "growth", growth, "a finite factor above 1")
    norm, spectral = _norms(stack)
    zeros = torch.zeros_like(stack)
    dual = stack / _column(torch.maximum(spectral, stack.abs().amax((1, 2)) / weight))
    penalty = 1.25 / spectral

    def step(state: State) -> tuple[State, PerMatrix]:
        L, S, dual, residual, y, norm, penalty, highest, rank, basis = state
        shifted = torch.addcmul(y, dual, 1 / _column(penalty))
        # S first, as in the authors' code: the rank of L then grows from zero, and few singular vectors are needed
        S = threshold_entries(shifted - L, _column(weight / penalty))
        L, rank, basis = threshold_singular_values(shifted - S, 1 / penalty, 0.1 * tolerance * norm, rank, basis)
        gap = (y - L).sub_(S)
        dual = torch.addcmul(dual, _column(penalty), gap)
        residual = gap.norm(dim=(1, 2)) / norm
        penalty = torch.minimum(growth * penalty, highest)
        return (L, S, dual, residual, y, norm, penalty, highest, rank, basis), residual

    state = (zeros, zeros, dual, norm, stack, norm, penalty, 1e7 * penalty, *random_basis(stack))
    return _pursuit(y, step, state, tolerance, max_iterations, "relative residual ||Y - L - S|| / ||Y||")


def accelerated_proximal_gradient(
    y: Matrices,
    sparsity_weight: float | None = None,
    *,
    relaxation: float | None = None,
    tolerance: float = 1e-3,
    max_iterations: int = 2000,
) -> Pursuit:
    r"""Relaxed principal component pursuit by accelerated proximal gradient steps (Lin, Ganesh et al., 2009).

    The problem solved is another one, without a constraint:

    .. math:: \min_{L, S}\; \mu \|L\|_* + \mu\lambda \|S\|_1 + \tfrac12 \|Y - L - S\|_F^2 .

    At its optimum :math:`Z = (Y - L - S) / \mu` is the certificate, so that
    :math:`\|Y - L - S\|_F \le \mu \sqrt{\min(h, w)}`. A small :math:`\mu` approaches the constraint.

    The iteration starts with a large :math:`\mu`, lowers it by a tenth a step to its final value, and then stops by
    optimality: when zero is within ``tolerance * ||Y - L - S||`` of a subgradient, which is when Z is that close to a
    certificate. With a tiny :math:`\mu` this takes few hundred steps where the two parts can be separated, but
    thousands on a photograph.

    Parameters
    ----------
    y, sparsity_weight
        As in `inexact_augmented_lagrangian`.
    relaxation
        :math:`\mu`, in the unit of ``y``; None: ``1e-7 ||Y|| / sqrt(min(height, width))`` for each matrix, so that the
        relative residual is at most 1e-7.
    tolerance
        Relative error of the certificate at which to stop.
    max_iterations
        Steps after which to give up.

    Raises
    ------
    TypeError, ValueError, NotConvergedError
        As `inexact_augmented_lagrangian`.
    """
    stack, weight = _checked(y, sparsity_weight, tolerance, max_iterations)
    norm, spectral = _norms(stack)
    if relaxation is None:
        final = 1e-7 * norm / min(stack.shape[1:]) ** 0.5
    elif 0 < relaxation < math.inf:
        final = torch.full_like(norm, relaxation)
    else:
        raise ValueError(f"relaxation: got {relaxation}, expected a finite positive number")
    zeros = torch.zeros_like(stack)

    def step(state: State) -> tuple[State, PerMatrix]:
        L, S, dual, residual, y, norm, ahead_L, ahead_S, momentum, mu, final, rank, basis = state
        last_L, last_S, last_momentum = L, S, momentum
        gap = (y - ahead_L - ahead_S) / 2  # half a step: the smooth term has Lipschitz constant two
        L, rank, basis = threshold_singular_values(ahead_L + gap, mu / 2, 1e-3 * tolerance * final, rank, basis)
        S = threshold_entries(ahead_S + gap, _column(weight * mu / 2))
        dual = (y - L - S) / _column(mu)
        # subgradients of the two parts: what the thresholds took off, plus how far the gradient has moved meanwhile
        moved = (L - ahead_L) + (S - ahead_S)
        error = torch.hypot((moved - 2 * (L - ahead_L)).norm(dim=(1, 2)), (moved - 2 * (S - ahead_S)).norm(dim=(1, 2)))
        gap_norm = (y - L - S).norm(dim=(1, 2))
        measure = torch.where(mu > final, math.inf, error / gap_norm.clamp(min=torch.finfo(y.dtype).tiny))
        momentum = (1 + (1 + 4 * momentum**2).sqrt()) / 2
        inertia = _column((last_momentum - 1) / momentum)
        ahead_L, ahead_S = L + inertia * (L - last_L), S + inertia * (S - last_S)
        mu = torch.maximum(0.9 * mu, final)
        residual = gap_norm / norm
        return (L, S, dual, residual, y, norm, ahead_L, ahead_S, momentum, mu, final, rank, basis), measure

    ones, mu = torch.ones_like(norm), torch.maximum(spectral, final)
    state = (zeros, zeros, zeros, norm, stack, norm, zeros, zeros, ones, mu, final, *random_basis(stack))
    return _pursuit(y, step, state, tolerance, max_iterations, "relative error of the certificate")


def stable_pursuit(y: Matrices, sigma: float, sparsity_weight: float | None = None, **options: Any) -> Pursuit:
    r"""Principal component pursuit that leaves Gaussian noise over in Y - L - S (Zhou, Li, Wright, Candes, Ma, 2010).

    The problem of `accelerated_proximal_gradient` with the relaxation :math:`\mu = \sigma\sqrt{2 \max(h, w)}`, our
    choice: of the order of the spectral norm of the noise, :math:`\sigma(\sqrt h + \sqrt w)`. Pixels are then
    thresholded at :math:`\mu\lambda = \sqrt 2\,\sigma`: N has most of the noise, S its outliers.

    Parameters
    ----------
    y, sparsity_weight, options
        As in `accelerated_proximal_gradient`.
    sigma
        Standard deviation of the noise, in the unit of ``y``.

    Raises
    ------
    TypeError, ValueError, NotConvergedError
        As `accelerated_proximal_gradient`; ValueError also for ``sigma <= 0``.
    """
    expect(0 < sigma < math.inf, "sigma", sigma, "a finite positive standard deviation")
    relaxation = sigma * math.sqrt(2 * max(y.shape[-2:]))
    return accelerated_proximal_gradient(y, sparsity_weight, relaxation=relaxation, **options)


def _pursuit(
    y: Matrices,
    step: Callable[[State], tuple[State, PerMatrix]],
    state: State,
    tolerance: float,
    max_iterations: int,
    quantity: str,
) -> Pursuit:
    """Repeat a step; a matrix whose measure has reached the tolerance leaves the stack."""
    count = len(state[0])
    left = torch.arange(count, device=y.device)
    finished = [torch.empty_like(part) for part in state[:4]]  # L, S, dual, residual
    iterations = torch.zeros_like(left)
    measure = torch.zeros(0)
    for iteration in range(1, max_iterations + 1):
        if not len(left):
            break
        state, measure = step(state)
        done = measure <= tolerance
        if done.any():
            for whole, part in zip(finished, state[:4], strict=True):
                whole[left[done]] = part[done]
            iterations[left[done]] = iteration
            left, measure = left[~done], measure[~done]
            state = tuple(part[~done] for part in state)
    if len(left):
        raise NotConvergedError(
            f"{len(left)} of {count} matrices not converged after {max_iterations} iterations: "
            f"{quantity} up to {measure.max().item():.2g}, tolerance {tolerance:g}"
        )
    L, S, dual = (part.reshape(y.shape).to(y.dtype) for part in finished[:3])
    return Pursuit(L, S, dual, finished[3].reshape(y.shape[:-2]), iterations.reshape(y.shape[:-2]))


def _checked(y: Matrices, sparsity_weight: float | None, tolerance: float, max_iterations: int) -> tuple[Stack, float]:
    check_matrices(y)
    weight = max(y.shape[-2:]) ** -0.5 if sparsity_weight is None else sparsity_weight
    for name, value in (("sparsity_weight", weight), ("tolerance", tolerance)):
        expect(0 < value < math.inf, name, value, "a finite positive number")
    at_least(1, max_iterations=max_iterations)
    return y.detach().double().reshape(-1, *y.shape[-2:]), weight


def _norms(stack: Stack) -> tuple[PerMatrix, PerMatrix]:
    """Frobenius and spectral norm; for a zero matrix 1, as its parts are zero whatever they are divided by."""
    frobenius, spectral = stack.norm(dim=(1, 2)), torch.linalg.matrix_norm(stack, 2)
    return torch.where(frobenius > 0, frobenius, 1.0), torch.where(spectral > 0, spectral, 1.0)


def _column(x: PerMatrix) -> Float[Tensor, "stack 1 1"]:
    return x[:, None, None]
