"""Table 2, right column: moments, draws and divergences against torch.distributions, quadrature and Monte Carlo."""

import math

import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Gamma, MultivariateNormal, Normal, kl_divergence

from indeed.bayes.variational_family import (
    Draw,
    GammaFactor,
    GaussianFactor,
    MiddleLevel,
    RowGaussian,
    expected_gaussian_kl,
    gamma_kl,
)

PROPERTY = settings(max_examples=60)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def assert_within_monte_carlo_error(samples, expected, dim=0):
    error = samples.std(dim) / samples.shape[dim] ** 0.5
    assert ((samples.mean(dim) - expected).abs() < 5 * error).all()


# -- Gaussian factors ------------------------------------------------------------------------------------------------


def test_gaussian_moments_are_those_of_the_normal():
    q = GaussianFactor(tensor(0.5, -2.0), tensor(-3.0, 1.0))
    normal = Normal(q.mean, (q.log_variance / 2).exp())
    torch.testing.assert_close(q.variance, normal.variance)
    torch.testing.assert_close(q.std, normal.stddev)
    torch.testing.assert_close(q.second_moment, normal.variance + normal.mean**2)


def test_gaussian_draws_follow_the_normal():
    q = GaussianFactor(torch.full((20000,), 0.7, dtype=torch.float64), torch.full((20000,), -2.0, dtype=torch.float64))
    x = q.rsample(torch.Generator().manual_seed(0))
    assert scipy.stats.kstest(x.numpy(), scipy.stats.norm(0.7, math.exp(-1.0)).cdf).pvalue > 0.01


def test_pathwise_gradient_of_a_draw_is_the_gradient_of_the_expectation():
    # E[x²] = μ² + σ²: derivatives 2μ and, in ln σ², σ².
    n = 200_000
    mean = torch.full((n,), 0.4, dtype=torch.float64, requires_grad=True)
    log_variance = torch.full((n,), -1.0, dtype=torch.float64, requires_grad=True)
    x = GaussianFactor(mean, log_variance).rsample(torch.Generator().manual_seed(1))
    by_mean, by_log_variance = torch.autograd.grad(x.square().sum(), (mean, log_variance))
    assert_within_monte_carlo_error(by_mean, 0.8)
    assert_within_monte_carlo_error(by_log_variance, math.exp(-1.0))


@pytest.mark.equation("23")
def test_draws_of_a_b_and_s_are_independent():
    zero = torch.zeros(1, 1, 200, 200, dtype=torch.float64)
    middle = MiddleLevel(*(GaussianFactor(zero, zero) for _ in range(3)))
    noise = torch.stack([x.flatten() for x in middle.rsample(torch.Generator().manual_seed(2))])
    off_diagonal = torch.corrcoef(noise) - torch.eye(3, dtype=torch.float64)
    assert off_diagonal.abs().max() < 5 / 200


def test_a_draw_of_vanishing_variance_is_the_mean(make_problem):
    middle = make_problem().middle
    certain = MiddleLevel(*(GaussianFactor(q.mean, torch.full_like(q.mean, -80.0)) for q in middle))
    for drawn, mean in zip(certain.rsample(torch.Generator().manual_seed(0)), middle.means, strict=True):
        torch.testing.assert_close(drawn, mean)


def test_low_rank_of_a_draw_is_a_times_b_transposed(make_problem):
    draw = make_problem().draw
    assert isinstance(draw, Draw)
    torch.testing.assert_close(draw.low_rank, torch.einsum("bchr,bcwr->bchw", draw.A, draw.B))


# -- full row covariances ---------------------------------------------------------------------------------------------


def row_gaussian(seed=0, rows=3, rank=4, shared=False):
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(1 if shared else rows, rank, rank, dtype=torch.float64, generator=generator)
    covariance = root @ root.mT + 0.1 * torch.eye(rank, dtype=torch.float64)
    return RowGaussian(torch.randn(rows, rank, dtype=torch.float64, generator=generator), covariance)


@pytest.mark.parametrize("shared", [False, True])
def test_rows_with_full_covariances_are_multivariate_normals(shared):
    q = row_gaussian(shared=shared)
    reference = MultivariateNormal(q.mean, q.covariance)
    torch.testing.assert_close(q.variance, reference.variance)
    torch.testing.assert_close(q.log_variance.exp(), reference.variance)
    torch.testing.assert_close(q.std, reference.stddev)
    torch.testing.assert_close(q.second_moment, reference.variance + q.mean**2)
    torch.testing.assert_close(q.conditional_log_variance.sum(-1), torch.logdet(q.covariance).expand(3))
    draws = RowGaussian(q.mean.expand(40_000, 3, 4), q.covariance.expand(40_000, *q.covariance.shape)).rsample(
        torch.Generator().manual_seed(1)
    )
    deviation = draws - q.mean
    products = (deviation.unsqueeze(-1) * deviation.unsqueeze(-2)).flatten(-2)
    assert_within_monte_carlo_error(products, q.covariances)
    assert_within_monte_carlo_error(
        (draws.unsqueeze(-1) * draws.unsqueeze(-2)).flatten(-2), q.mean_products + q.covariances
    )


@pytest.mark.parametrize("shared", [False, True])
def test_divergence_of_a_row_is_that_of_the_multivariate_normal(shared):
    q = row_gaussian(2, shared=shared)
    precision = torch.tensor([0.5, 1.0, 2.0, 8.0], dtype=torch.float64)
    sure = GammaFactor(torch.full((4,), 1e12, dtype=torch.float64), 1e12 / precision)
    prior = MultivariateNormal(torch.zeros_like(q.mean), precision_matrix=torch.diag(precision))
    reference = kl_divergence(MultivariateNormal(q.mean, q.covariance), prior)
    torch.testing.assert_close(expected_gaussian_kl(q, sure).sum(-1), reference)


def test_diagonal_covariances_make_the_full_family_the_diagonal_one():
    log_variance = torch.tensor([[-1.0, 0.3], [0.2, -4.0]], dtype=torch.float64)
    diagonal = GaussianFactor(torch.ones_like(log_variance), log_variance)
    full = RowGaussian(diagonal.mean, torch.diag_embed(diagonal.variance))
    for name in ("variance", "std", "second_moment", "log_variance", "conditional_log_variance"):
        torch.testing.assert_close(getattr(full, name), getattr(diagonal, name))
    generators = (torch.Generator().manual_seed(0) for _ in range(2))
    torch.testing.assert_close(*(q.rsample(g) for q, g in zip((full, diagonal), generators, strict=True)))


# -- Gamma factors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "rate"), [(0.6, 3.0), (2.0, 1e-6), (66.0, 0.02)])
def test_gamma_moments_are_those_of_the_distribution(shape, rate, gamma_expectation):
    q = GammaFactor(tensor(shape), tensor(rate))
    reference = Gamma(q.shape, q.rate)
    torch.testing.assert_close(q.mean, reference.mean)
    torch.testing.assert_close(q.variance, reference.variance)
    torch.testing.assert_close(q.mean_log, gamma_expectation(torch.log, q.shape, q.rate), rtol=1e-6, atol=1e-6)
    for ours, theirs in [(q.mean, reference.mean), (q.mean_log, gamma_expectation(torch.log, q.shape, q.rate))]:
        torch.testing.assert_close(
            torch.autograd.grad(ours.sum(), (q.shape, q.rate)),
            torch.autograd.grad(theirs.sum(), (q.shape, q.rate)),
            rtol=1e-5,
            atol=0,
        )


def test_gamma_draws_follow_the_distribution_at_the_broadcast_shape():
    shape, rate = torch.tensor([[0.7], [4.0]], dtype=torch.float64), torch.full((1, 20000), 5.0, dtype=torch.float64)
    x = GammaFactor(shape, rate).sample(torch.Generator().manual_seed(3))
    assert x.shape == (2, 20000)
    for row, alpha in zip(x, (0.7, 4.0), strict=True):
        assert scipy.stats.kstest(row.numpy(), scipy.stats.gamma(alpha, scale=1 / 5).cdf).pvalue > 0.01


def test_gamma_samples_repeat_with_the_seed():
    q = GammaFactor(torch.full((5,), 2.0), torch.full((5,), 3.0))
    one, same, other = (q.sample(torch.Generator().manual_seed(seed)) for seed in (4, 4, 5))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


# -- divergences -----------------------------------------------------------------------------------------------------


@PROPERTY
@given(
    mean=st.floats(-3, 3),
    log_variance=st.floats(-12, 3),
    shape=st.floats(1.0, 100),
    log_rate=st.floats(-8, 3),
)
def test_expected_gaussian_kl_is_the_kl_averaged_over_the_precision(
    gamma_expectation, mean, log_variance, shape, log_rate
):
    mean, log_variance, shape, rate = tensor(mean), tensor(log_variance), tensor(shape), tensor(math.exp(log_rate))

    def divergence(precision):
        return kl_divergence(Normal(mean[:, None], (log_variance[:, None] / 2).exp()), Normal(0.0, precision**-0.5))

    ours = expected_gaussian_kl(GaussianFactor(mean, log_variance), GammaFactor(shape, rate))
    reference = gamma_expectation(divergence, shape, rate)
    torch.testing.assert_close(ours, reference, rtol=1e-8, atol=1e-8)
    inputs = (mean, log_variance, shape, rate)
    torch.testing.assert_close(
        torch.autograd.grad(ours, inputs), torch.autograd.grad(reference, inputs), rtol=1e-6, atol=1e-6
    )


def test_expected_gaussian_kl_agrees_with_monte_carlo():
    q, precision = GaussianFactor(tensor(0.6), tensor(-1.5)), GammaFactor(tensor(3.0), tensor(0.8))
    n, generator = 200_000, torch.Generator().manual_seed(6)
    tau = GammaFactor(precision.shape.expand(n), precision.rate.expand(n)).sample(generator).detach()
    x = GaussianFactor(q.mean.expand(n), q.log_variance.expand(n)).rsample(generator).detach()
    log_ratio = Normal(q.mean, q.std).log_prob(x) - Normal(0.0, tau**-0.5).log_prob(x)
    assert_within_monte_carlo_error(log_ratio.detach(), expected_gaussian_kl(q, precision).item())


POSITIVE = st.floats(-6, 6).map(math.exp)


@PROPERTY
@given(shape=POSITIVE, rate=POSITIVE, prior_shape=POSITIVE, prior_rate=st.floats(-18, 6).map(math.exp))
def test_gamma_kl_is_that_of_torch_distributions(shape, rate, prior_shape, prior_rate):
    q = GammaFactor(tensor(shape), tensor(rate))
    ours = gamma_kl(q, prior_shape, prior_rate)
    reference = kl_divergence(Gamma(q.shape, q.rate), Gamma(*tensor(prior_shape, prior_rate)))
    # The terms cancel: compare relative to their size.
    tolerance = 1e-13 * (1 + shape) * (1 + prior_shape) * (1 + prior_rate / rate) * 20
    torch.testing.assert_close(ours, reference, rtol=1e-9, atol=tolerance)
    torch.testing.assert_close(
        torch.autograd.grad(ours, q), torch.autograd.grad(reference, q), rtol=1e-8, atol=tolerance * (1 + 1 / rate)
    )
    assert ours > -tolerance


def test_gamma_kl_agrees_with_monte_carlo_at_the_papers_hyperparameters():
    # A typical exact posterior of gamma: h = w = 128 and a column energy of 5, against G(2, 1e-6).
    q = GammaFactor(tensor(130.0), tensor(2.5))
    n = 100_000
    x = GammaFactor(q.shape.expand(n), q.rate.expand(n)).sample(torch.Generator().manual_seed(7)).detach()
    log_ratio = Gamma(q.shape, q.rate).log_prob(x) - Gamma(*tensor(2.0, 1e-6)).log_prob(x)
    assert_within_monte_carlo_error(log_ratio.detach(), gamma_kl(q, 2.0, 1e-6).item())


def test_gamma_kl_vanishes_with_its_gradient_only_at_the_prior():
    q = GammaFactor(tensor(2.0), tensor(0.3))
    divergence = gamma_kl(q, 2.0, 0.3)
    assert divergence.item() == pytest.approx(0, abs=1e-14)
    assert all(abs(g.item()) < 1e-12 for g in torch.autograd.grad(divergence, q))
    assert gamma_kl(GammaFactor(tensor(2.1), tensor(0.3)), 2.0, 0.3).item() > 1e-4
    assert gamma_kl(GammaFactor(tensor(2.0), tensor(0.31)), 2.0, 0.3).item() > 1e-4


def test_divergences_pass_gradcheck():
    mean, log_variance, shape, rate = tensor(0.3, -1.0), tensor(-1.0, 0.5), tensor(2.0, 5.0), tensor(0.7, 3.0)
    assert torch.autograd.gradcheck(
        lambda m, v, a, b: expected_gaussian_kl(GaussianFactor(m, v), GammaFactor(a, b)),
        (mean, log_variance, shape, rate),
    )
    assert torch.autograd.gradcheck(lambda a, b: gamma_kl(GammaFactor(a, b), 2.0, 0.4), (shape, rate))


@pytest.mark.parametrize("factor", ["gaussian", "rows", "gamma"])
def test_with_a_generator_for_each_sample_a_draw_does_not_depend_on_the_other_samples(make_problem, factor):
    p = make_problem(batch=3)
    q = {"gaussian": p.middle.A, "gamma": p.leaf.omega}.get(factor)
    if q is None:
        q = RowGaussian(p.middle.A.mean, torch.diag_embed(p.middle.A.variance))

    def draw(part, seeds):
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return part.sample(generators) if factor == "gamma" else part.rsample(generators)

    together = draw(q, (1, 2, 3))
    assert torch.equal(together[1:2], draw(type(q)(*(x[1:2] for x in q)), (2,)))
    assert not torch.equal(together[0], draw(q, (4, 2, 3))[0])
    with pytest.raises(ValueError, match="got 2 for 3 samples"):
        draw(q, (1, 2))
