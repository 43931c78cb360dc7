"""The factors after a network: what is held fixed stays, and the free energy falls."""

import pytest
import torch

from indeed.bayes.conjugate_updates import update_gamma
from indeed.bayes.elbo import per_sample_sum
from indeed.bayes.factor_refinement import refine
from indeed.bayes.generative_model import Hyperpriors
from indeed.bayes.middle_updates import update_columns, update_factor
from indeed.bayes.variational_family import GaussianFactor, MiddleLevel, RowGaussian, expected_gaussian_kl, gamma_kl


def test_the_denoised_image_does_not_change(make_problem):
    p = make_problem()
    refined = refine(p.y, p.middle, p.hyperpriors, sweeps=3).middle
    before, after = (m.means.low_rank + m.S.mean for m in (p.middle, refined))
    torch.testing.assert_close(after, before)
    assert (refined.means.low_rank - p.middle.means.low_rank).abs().max() > 0.1
    assert torch.equal(refined.S.log_variance, p.middle.S.log_variance)


def test_no_sweep_raises_the_free_energy_of_any_image(make_problem):
    for seed in range(5):
        p = make_problem(seed=seed, rank=3)
        for hyperpriors in (p.hyperpriors, Hyperpriors()):
            trace = refine(p.y, p.middle, hyperpriors, sweeps=20).free_energy
            assert trace.shape == (21, 2)
            assert (trace.diff(dim=0) <= 1e-9).all()
            assert (trace[-1] < trace[0] - 1).all()


def test_sweeps_add_up(make_problem):
    p = make_problem()
    once = refine(p.y, p.middle, p.hyperpriors, sweeps=5)
    first = refine(p.y, p.middle, p.hyperpriors, sweeps=2)
    then = refine(p.y, first.middle, p.hyperpriors, sweeps=3)
    torch.testing.assert_close(then.middle.A.mean, once.middle.A.mean)
    torch.testing.assert_close(then.free_energy[-1], once.free_energy[-1])


def test_free_energy_is_that_of_draws_of_S_given_A_and_B(make_problem):
    """Monte Carlo over A, B and S given both, with the divergences of the leaf level in closed form."""
    p = make_problem(batch=1, channels=1)
    result = refine(p.y, p.middle, p.hyperpriors, sweeps=1)
    (A, B, S), leaf, draws = result.middle, result.leaf, 50_000
    denoised = p.middle.means.low_rank + p.middle.S.mean
    a, b = (GaussianFactor(*(x.expand(draws, *x.shape[1:]) for x in q)).rsample(p.generator) for q in (A, B))
    s = denoised - a @ b.mT + S.std * p.normal(draws, *S.mean.shape[1:])
    normal = torch.distributions.Normal

    def prior(x, precision):  # E[ln p(x | precision)] over q(precision)
        log_density = precision.mean_log - precision.mean * x.square() - torch.log(torch.tensor(2 * torch.pi))
        return 0.5 * per_sample_sum(log_density)

    columns = type(leaf.gamma)(*(x.unsqueeze(-2) for x in leaf.gamma))
    log_joint = prior(p.y - a @ b.mT - s, leaf.lambda_) + prior(s, leaf.omega) + prior(a, columns) + prior(b, columns)
    log_q = sum(per_sample_sum(normal(q.mean, q.std).log_prob(x)) for q, x in ((A, a), (B, b)))
    log_q = log_q + per_sample_sum(normal(denoised - a @ b.mT, S.std).log_prob(s))
    h = p.hyperpriors
    leaf_kl = (
        gamma_kl(leaf.gamma, h.gamma_shape, h.gamma_rate).sum()
        + gamma_kl(leaf.omega, h.omega_shape, h.omega_rate).sum()
        + gamma_kl(leaf.lambda_, h.lambda_shape, h.lambda_rate).sum()
    )
    sample = log_q - log_joint + leaf_kl
    standard_error = (sample.std() / draws**0.5).item()
    assert abs(sample.mean().item() - result.free_energy[-1].item()) < 5 * standard_error
    assert standard_error < 0.1


@pytest.mark.slow
def test_free_energy_is_stationary_in_A_and_B_where_it_ends(make_problem):
    p = make_problem(batch=1, channels=1)
    result = refine(p.y, p.middle, p.hyperpriors, sweeps=300)
    denoised = p.middle.means.low_rank + p.middle.S.mean
    A, B = (GaussianFactor(*(x.clone().requires_grad_() for x in q)) for q in result.middle[:2])
    # Written out once more: E[s^2] is the square of its mean, the variance of L, and that of S given L.
    variance = A.mean.square() @ B.variance.mT + A.variance @ B.mean.square().mT + A.variance @ B.variance.mT
    second_moment = (denoised - A.mean @ B.mean.mT).square() + variance + p.middle.S.variance
    gamma, omega = result.leaf.gamma, result.leaf.omega
    columns = type(gamma)(*(x.unsqueeze(-2) for x in gamma))
    objective = 0.5 * (omega.mean * second_moment).sum()
    objective = objective + expected_gaussian_kl(A, columns).sum() + expected_gaussian_kl(B, columns).sum()
    for gradient in torch.autograd.grad(objective, (*A, *B)):
        assert gradient.abs().max() < 1e-4


def test_a_low_rank_image_under_a_few_outliers_is_found_again(make_problem):
    """A network whose factors are a tenth off puts the rest into S; the refinement leaves only outliers there."""
    p = make_problem(batch=1, channels=1, height=24, width=20, rank=3)
    truth = p.middle.means.low_rank
    outliers = torch.zeros_like(truth)
    outliers[..., ::7, ::5] = 2.0
    A, B = (GaussianFactor(q.mean + 0.1 * p.normal(*q.mean.shape), torch.full_like(q.mean, -10)) for q in p.middle[:2])
    S = GaussianFactor(truth + outliers - A.mean @ B.mean.mT, torch.full_like(truth, -10))
    refined = refine(truth + outliers, MiddleLevel(A, B, S), sweeps=30).middle
    assert (A.mean @ B.mean.mT - truth).abs().max() > 0.3
    assert (refined.means.low_rank - truth).abs().max() < 0.01
    assert (refined.S.mean - outliers).abs().max() < 0.01


def test_all_columns_at_once_are_better_than_one_after_the_other_and_optimal(make_problem):
    p = make_problem(rank=3)
    gamma, lambda_ = p.leaf.gamma.mean, p.leaf.lambda_.mean

    def objective(A):
        residual = (p.y - A.mean @ p.middle.B.mean.mT).square()
        variance = A.mean.square() @ p.middle.B.variance.mT + A.variance @ p.middle.B.second_moment.mT
        energy = (lambda_ * (residual + variance)).sum() + (gamma.unsqueeze(-2) * A.second_moment).sum()
        return 0.5 * (energy - A.log_variance.sum())

    jointly = update_columns(p.y, p.middle.B, gamma, lambda_)
    in_turn = update_factor(p.y, p.middle.A, p.middle.B, gamma, lambda_)
    torch.testing.assert_close(jointly.log_variance, in_turn.log_variance)
    assert objective(jointly) < objective(in_turn) - 1e-3
    for _ in range(200):
        in_turn = update_factor(p.y, in_turn, p.middle.B, gamma, lambda_)
    torch.testing.assert_close(jointly.mean, in_turn.mean)
    free = GaussianFactor(*(x.clone().requires_grad_() for x in jointly))
    for gradient in torch.autograd.grad(objective(free), free):
        assert gradient.abs().max() < 1e-10


def test_one_precision_for_all_pixels_is_the_same_as_many_equal_ones(make_problem):
    p = make_problem(rank=3)
    gamma, one = update_gamma(p.middle.A, p.middle.B, p.hyperpriors).mean, torch.full((2, 3, 1, 1), 2.0).double()
    shared, many = (update_columns(p.y, p.middle.B, gamma, x) for x in (one, one.expand_as(p.y)))
    torch.testing.assert_close(shared, many)


def test_what_cannot_be_refined_is_named(make_problem):
    p = make_problem()
    with pytest.raises(ValueError, match="sweeps: got 0, expected at least 1"):
        refine(p.y, p.middle, sweeps=0)
    full = p.middle._replace(
        A=RowGaussian(p.middle.A.mean, torch.diag_embed(p.middle.A.variance)),
        B=RowGaussian(p.middle.B.mean, torch.diag_embed(p.middle.B.variance)),
    )
    with pytest.raises(TypeError, match="middle: got RowGaussian, expected diagonal covariances"):
        refine(p.y, full)
    with pytest.raises(ValueError, match=r"S: got .*, expected finite"):
        refine(p.y, p.middle._replace(S=GaussianFactor(p.middle.S.mean * float("nan"), p.middle.S.log_variance)))
