"""Sub-problem 2 in closed form: each update is where the free energy is lowest along its variables."""

import itertools

import pytest
import torch

from indeed.bayes.conjugate_updates import solve_leaf_level, update_gamma, update_lambda
from indeed.bayes.elbo import elbo_terms, negative_elbo
from indeed.bayes.generative_model import Hyperpriors
from indeed.bayes.middle_updates import update_factor, update_rows, update_sparse
from indeed.bayes.posterior_summaries import expected_squared_residual
from indeed.bayes.variational_family import GaussianFactor, RowGaussian


def free_energy_given_leaf(p, middle):
    return negative_elbo(elbo_terms(p.y, middle, p.leaf, p.hyperpriors))


def updates(y, middle, leaf):
    """The three updates in turn; yields the name of the factor and the middle level after each."""
    gamma, omega, lambda_ = (q.mean for q in leaf)
    middle = middle._replace(A=update_factor(y - middle.S.mean, middle.A, middle.B, gamma, lambda_))
    yield "A", middle
    middle = middle._replace(B=update_factor((y - middle.S.mean).mT, middle.B, middle.A, gamma, lambda_.mT))
    yield "B", middle
    yield "S", middle._replace(S=update_sparse(y - middle.means.low_rank, omega, lambda_))


def test_updates_by_loops(make_problem):
    p = make_problem(batch=1, channels=2)
    target, gamma, lambda_ = p.y - p.middle.S.mean, p.leaf.gamma.mean, p.leaf.lambda_.mean
    batch, channels, height, width, rank = p.sizes
    mean, other = p.middle.A.mean.clone(), p.middle.B
    variance = torch.zeros_like(mean)
    for b, c, k, j in itertools.product(range(batch), range(channels), range(rank), range(height)):
        precision, linear = gamma[b, c, k].item(), 0.0
        for n in range(width):
            weight, partner = lambda_[b, c, j, n].item(), other.mean[b, c, n, k].item()
            precision += weight * (partner**2 + other.log_variance[b, c, n, k].exp().item())
            rest = sum(mean[b, c, j, i].item() * other.mean[b, c, n, i].item() for i in range(rank) if i != k)
            linear += weight * partner * (target[b, c, j, n].item() - rest)
        mean[b, c, j, k], variance[b, c, j, k] = linear / precision, 1 / precision
    ours = update_factor(target, p.middle.A, other, gamma, lambda_)
    torch.testing.assert_close(ours.mean, mean)
    torch.testing.assert_close(ours.variance, variance)


@pytest.mark.parametrize("name", ["A", "B", "S"])
def test_free_energy_is_stationary_in_what_was_updated_last(make_problem, name):
    p = make_problem()
    middle = dict(updates(p.y, p.middle, p.leaf))[name]
    free = GaussianFactor(*(x.clone().requires_grad_() for x in getattr(middle, name)))
    objective = free_energy_given_leaf(p, middle._replace(**{name: free})).sum()
    for gradient in torch.autograd.grad(objective, free):
        last = gradient if name == "S" else gradient[..., -1]  # the earlier columns were optimal for an older last one
        assert last.abs().max() < 1e-10
    # It is a minimum, and the start was none.
    for step in (-0.1, 0.1):
        moved = middle._replace(**{name: GaussianFactor(free.mean + step, free.log_variance - step)})
        assert (
            free_energy_given_leaf(p, moved) > objective.new_tensor(free_energy_given_leaf(p, middle).tolist())
        ).all()


def test_free_energy_never_rises_for_any_sample_of_a_batch(make_problem):
    p = make_problem()
    middle, before = p.middle, free_energy_given_leaf(p, p.middle)
    start = before
    for _ in range(10):
        p.leaf = solve_leaf_level(p.y, middle, p.hyperpriors)
        for _, updated in updates(p.y, middle, p.leaf):
            middle, after = updated, free_energy_given_leaf(p, updated)
            assert (after <= before + 1e-10).all()
            before = after
    assert (before < start - 1).all()


@pytest.mark.slow
def test_columns_that_the_image_does_not_need_are_switched_off(make_problem):
    p = make_problem(seed=3, batch=1, channels=1, height=20, width=16, rank=6)
    truth = p.normal(1, 1, 20, 3) @ p.normal(1, 1, 16, 3).mT
    y = truth + 0.1 * p.normal(1, 1, 20, 16)
    A, B = (GaussianFactor(q.mean, torch.full_like(q.mean, -6.0)) for q in p.middle[:2])
    hyperpriors, precision = Hyperpriors(), torch.full_like(y, 100.0)
    for _ in range(600):
        gamma = update_gamma(A, B, hyperpriors).mean
        A = update_factor(y, A, B, gamma, precision)
        B = update_factor(y.mT, B, A, gamma, precision.mT)
    variances = update_gamma(A, B, hyperpriors).mean.reciprocal().flatten().sort(descending=True).values
    assert variances[2] > 0.1
    # A column that carries nothing keeps the variance of its prior precision, rate / shape.
    torch.testing.assert_close(variances[3:], torch.full((3,), 1e-6 / 2, dtype=torch.float64), rtol=0.1, atol=0)
    assert (A.mean @ B.mean.mT - truth).square().mean() < 0.3 * (y - truth).square().mean()


# -- full row covariances ---------------------------------------------------------------------------------------------


def full_rows(p, noise):
    """A random problem with full row covariances, shared by the rows where the noise precision is."""
    rows = slice(None, 1 if noise == "scalar" else None)
    factors = []
    for q in p.middle[:2]:
        root = 0.5 * p.normal(*q.mean.shape, q.mean.shape[-1])[:, :, rows]
        factors.append(RowGaussian(q.mean, root @ root.mT))
    residual = expected_squared_residual(p.y, p.middle)
    p.leaf = p.leaf._replace(lambda_=update_lambda(residual, p.hyperpriors, noise=noise))
    return p.middle._replace(A=factors[0], B=factors[1])


def test_rows_by_loops(make_problem):
    p = make_problem(batch=1, channels=2, rank=3)
    middle = full_rows(p, "pixel")
    target, gamma, lambda_ = p.y - p.middle.S.mean, p.leaf.gamma.mean, p.leaf.lambda_.mean
    ours = update_rows(target, middle.B, gamma, lambda_)
    for b, c, j in itertools.product(range(1), range(2), range(4)):
        precision, linear = torch.diag(gamma[b, c]), torch.zeros(3, dtype=torch.float64)
        for n in range(5):
            row, weight = middle.B.mean[b, c, n], lambda_[b, c, j, n]
            precision = precision + weight * (torch.outer(row, row) + middle.B.covariance[b, c, n])
            linear = linear + weight * target[b, c, j, n] * row
        torch.testing.assert_close(ours.covariance[b, c, j], torch.linalg.inv(precision))
        torch.testing.assert_close(ours.mean[b, c, j], torch.linalg.solve(precision, linear))


@pytest.mark.parametrize("noise", ["pixel", "scalar"])
@pytest.mark.parametrize("name", ["A", "B"])
def test_free_energy_is_stationary_in_rows_that_were_updated(make_problem, name, noise):
    p = make_problem(rank=3)
    middle, gamma, lambda_ = full_rows(p, noise), p.leaf.gamma.mean, p.leaf.lambda_.mean
    before = free_energy_given_leaf(p, middle)
    target = p.y - middle.S.mean
    if name == "A":
        updated = update_rows(target, middle.B, gamma, lambda_)
    else:
        updated = update_rows(target.mT, middle.A, gamma, lambda_.mT)
    assert updated.covariance.shape[2] == (1 if noise == "scalar" else updated.mean.shape[2])
    mean = updated.mean.clone().requires_grad_()
    scale = torch.linalg.cholesky(updated.covariance).requires_grad_()
    objective = free_energy_given_leaf(p, middle._replace(**{name: RowGaussian(mean, scale @ scale.mT)})).sum()
    by_mean, by_scale = torch.autograd.grad(objective, (mean, scale))
    assert by_mean.abs().max() < 1e-10
    assert by_scale.tril().abs().max() < 1e-10
    assert objective < before.sum() - 1
    for step in (-0.05, 0.05):
        for moved in (RowGaussian(mean + step, updated.covariance), RowGaussian(mean, updated.covariance * (1 + step))):
            assert free_energy_given_leaf(p, middle._replace(**{name: moved})).sum() > objective
