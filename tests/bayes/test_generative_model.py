"""Eq. 1 and 16-22: densities against torch.distributions, samples against the distributions they claim."""

import math
from dataclasses import fields

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from torch.distributions import Gamma, Normal

from indeed.bayes import generative_model as model
from indeed.bayes.generative_model import Hyperpriors


def leaf(x):
    return x.detach().clone().requires_grad_()


def assert_same_value_and_gradient(ours, reference, *inputs):
    """Two functions of the same tensors agree per sample, and so do the gradients of a weighted sum."""
    mine, theirs = [leaf(x) for x in inputs], [leaf(x) for x in inputs]
    value, expected = ours(*mine), reference(*theirs)
    torch.testing.assert_close(value, expected, rtol=1e-11, atol=1e-11)
    weights = torch.arange(1.0, len(value) + 1, dtype=torch.float64)
    for ours_grad, their_grad in zip(
        torch.autograd.grad(value @ weights, mine), torch.autograd.grad(expected @ weights, theirs), strict=True
    ):
        torch.testing.assert_close(ours_grad, their_grad, rtol=1e-10, atol=1e-10)


@pytest.mark.equation("16")
def test_low_rank_is_the_sum_of_outer_products(make_problem):
    A, B, _ = make_problem().draw
    loops = torch.zeros(2, 3, 4, 5, dtype=torch.float64)
    for b in range(2):
        for c in range(3):
            for i in range(2):
                loops[b, c] += torch.outer(A[b, c, :, i], B[b, c, :, i])
    torch.testing.assert_close(model.low_rank(A, B), loops)


@pytest.mark.equation("1")
@pytest.mark.parametrize("noise_mean", [0.0, 0.3])
def test_log_likelihood_is_a_normal_around_low_rank_plus_sparse(make_problem, noise_mean):
    p = make_problem()
    assert_same_value_and_gradient(
        lambda y, L, S, precision: model.log_likelihood(y, L, S, precision, noise_mean),
        lambda y, L, S, precision: Normal(L + S + noise_mean, precision**-0.5).log_prob(y).sum((1, 2, 3)),
        p.y,
        p.draw.low_rank,
        p.draw.S,
        p.leaf.lambda_.mean,
    )


@pytest.mark.equation("17", "18")
def test_factor_priors_are_normals_whose_precision_is_that_of_the_column(make_problem):
    p = make_problem()

    def columns(x, gamma):
        total = []
        for b in range(2):
            terms = [
                Normal(torch.zeros_like(gamma[b, c, i]), gamma[b, c, i] ** -0.5).log_prob(x[b, c, :, i]).sum()
                for c in range(3)
                for i in range(2)
            ]
            total.append(sum(terms))
        return torch.stack(total)

    gamma = p.leaf.gamma.mean
    assert_same_value_and_gradient(model.log_prior_left, columns, p.draw.A, gamma)
    assert_same_value_and_gradient(model.log_prior_right, columns, p.draw.B, gamma)


@pytest.mark.equation("20")
def test_sparse_prior_is_a_pixelwise_normal(make_problem):
    p = make_problem()
    assert_same_value_and_gradient(
        model.log_prior_sparse,
        lambda S, omega: Normal(torch.zeros_like(S), omega**-0.5).log_prob(S).sum((1, 2, 3)),
        p.draw.S,
        p.leaf.omega.mean,
    )


@pytest.mark.equation("19", "21", "22")
@pytest.mark.parametrize(
    ("name", "log_prior"),
    [("gamma", model.log_prior_gamma), ("omega", model.log_prior_omega), ("lambda", model.log_prior_lambda)],
    ids=["gamma", "omega", "lambda"],
)
def test_precision_priors_are_gammas_of_shape_and_rate(make_problem, name, log_prior):
    p = make_problem()
    hyperpriors = p.hyperpriors
    prior = Gamma(
        torch.tensor(getattr(hyperpriors, f"{name}_shape"), dtype=torch.float64),
        torch.tensor(getattr(hyperpriors, f"{name}_rate"), dtype=torch.float64),
    )
    x = {"gamma": p.leaf.gamma, "omega": p.leaf.omega, "lambda": p.leaf.lambda_}[name].mean
    assert_same_value_and_gradient(
        lambda x: log_prior(x, hyperpriors), lambda x: prior.log_prob(x).flatten(1).sum(1), x
    )


# -- the Student-t marginal ------------------------------------------------------------------------------------------

HYPERPRIORS = [
    Hyperpriors(),
    Hyperpriors(omega_shape=0.5, omega_rate=0.5),
    Hyperpriors(omega_shape=3.0, omega_rate=0.02),
]


@pytest.mark.parametrize("hyperpriors", HYPERPRIORS)
def test_marginal_of_s_is_the_integral_over_its_precision(hyperpriors, gamma_expectation):
    scale = math.sqrt(hyperpriors.omega_rate / hyperpriors.omega_shape)
    s = scale * torch.tensor([0.0, 0.1, -1.0, 3.0, 30.0], dtype=torch.float64)
    shape, rate = (torch.full_like(s, value) for value in (hyperpriors.omega_shape, hyperpriors.omega_rate))
    integral = gamma_expectation(lambda omega: Normal(0.0, omega**-0.5).log_prob(s[:, None]).exp(), shape, rate)
    density = model.sparse_marginal_log_density(s, hyperpriors).exp()
    torch.testing.assert_close(density, integral, rtol=1e-9, atol=0)


@pytest.mark.parametrize("hyperpriors", HYPERPRIORS)
def test_marginal_of_s_is_the_student_t_of_scipy_in_value_and_gradient(hyperpriors):
    degrees = 2 * hyperpriors.omega_shape
    scale = math.sqrt(hyperpriors.omega_rate / hyperpriors.omega_shape)
    s = (scale * torch.linspace(-40, 40, 81, dtype=torch.float64)).requires_grad_()
    log_density = model.sparse_marginal_log_density(s, hyperpriors)
    expected = scipy.stats.t(df=degrees, scale=scale).logpdf(s.detach().numpy())
    np.testing.assert_allclose(log_density.detach().numpy(), expected, rtol=1e-12, atol=1e-12)
    (gradient,) = torch.autograd.grad(log_density.sum(), s)
    score = -(degrees + 1) * s / (degrees * scale**2 + s**2)  # derivative of the textbook form of Student's density
    torch.testing.assert_close(gradient, score.detach(), rtol=1e-12, atol=1e-12)


def test_marginal_of_s_integrates_to_one():
    def density(x):
        return model.sparse_marginal_log_density(torch.tensor(x, dtype=torch.float64), Hyperpriors()).exp().item()

    mass, _ = scipy.integrate.quad(density, 0, 0.001)
    tail, _ = scipy.integrate.quad(density, 0.001, math.inf)
    assert mass + tail == pytest.approx(0.5, rel=1e-6)


# -- ancestral samples -----------------------------------------------------------------------------------------------


def sample(hyperpriors, **sizes):
    generator = torch.Generator().manual_seed(11)
    return model.sample_prior(hyperpriors=hyperpriors, generator=generator, **sizes)


def p_value(values, distribution):
    return scipy.stats.kstest(values.flatten().numpy(), distribution.cdf).pvalue


def test_every_sampled_variable_follows_its_prior():
    hyperpriors = Hyperpriors()
    z = sample(hyperpriors, batch=200, channels=2, height=6, width=7, rank=5)
    for values, shape, rate in [
        (z.gamma, hyperpriors.gamma_shape, hyperpriors.gamma_rate),
        (z.omega, hyperpriors.omega_shape, hyperpriors.omega_rate),
        (z.lambda_, hyperpriors.lambda_shape, hyperpriors.lambda_rate),
    ]:
        assert p_value(values, scipy.stats.gamma(shape, scale=1 / rate)) > 0.01
    for standardised in [
        z.A * z.gamma[:, :, None].sqrt(),
        z.B * z.gamma[:, :, None].sqrt(),
        z.S * z.omega.sqrt(),
        z.N * z.lambda_.sqrt(),
    ]:
        assert p_value(standardised, scipy.stats.norm()) > 0.01


def test_sampled_sparse_part_is_student_t():
    hyperpriors = Hyperpriors(omega_shape=1.5, omega_rate=0.3)
    s = sample(hyperpriors, batch=50, height=20, width=20, rank=1).S
    assert p_value(s, scipy.stats.t(df=3, scale=math.sqrt(0.2))) > 0.01
    # The test has power: a normal of the same central spread is rejected.
    assert p_value(s, scipy.stats.norm(scale=math.sqrt(0.2))) < 1e-6


def test_prior_moments_are_those_of_inverse_gamma_mixtures():
    # E[1/x] = rate/(shape-1) and E[1/x²] = rate²/((shape-1)(shape-2)) for x ~ Gamma(shape, rate).
    hyperpriors = Hyperpriors(9.0, 2.0, 9.0, 4.0, 9.0, 6.0)
    z = sample(hyperpriors, batch=4000, height=5, width=4, rank=3)

    def assert_mean(per_sample, expected):
        error = per_sample.std() / len(per_sample) ** 0.5
        assert abs(per_sample.mean() - expected) < 4 * error
        assert error < 0.03 * expected

    assert_mean(z.A.square().mean((1, 2, 3)), 2 / 8)
    assert_mean(z.B.square().mean((1, 2, 3)), 2 / 8)
    assert_mean(z.S.square().mean((1, 2, 3)), 4 / 8)
    assert_mean(z.N.square().mean((1, 2, 3)), 6 / 8)
    assert_mean(model.low_rank(z.A, z.B).square().mean((1, 2, 3)), 3 * 2**2 / (8 * 7))


def test_columns_of_both_factors_share_their_precision():
    z = sample(Hyperpriors(), batch=300, height=40, width=30, rank=2)
    energies = torch.stack([z.A.square().mean(2).log().flatten(), z.B.square().mean(2).log().flatten()])
    assert torch.corrcoef(energies)[0, 1] > 0.9
    other_column = torch.stack([energies[0], energies[1].reshape(-1, 2).flip(1).flatten()])
    assert abs(torch.corrcoef(other_column)[0, 1]) < 0.15


def test_sampled_image_is_the_sum_of_its_parts_and_a_seed_fixes_it():
    sizes = {"batch": 2, "channels": 3, "height": 4, "width": 5, "rank": 2}
    z = sample(Hyperpriors(), **sizes)
    torch.testing.assert_close(z.Y, z.A @ z.B.mT + z.S + z.N)
    assert [tuple(x.shape) for x in z] == [
        (2, 3, 2), (2, 3, 4, 5), (2, 3, 4, 5), (2, 3, 4, 2), (2, 3, 5, 2), (2, 3, 4, 5), (2, 3, 4, 5), (2, 3, 4, 5)
    ]  # fmt: skip
    assert all(torch.equal(a, b) for a, b in zip(z, sample(Hyperpriors(), **sizes), strict=True))


def test_scaling_the_intensity_scales_the_rates():
    # Intensity times c: gamma_rate times c (A and B carry the root of an intensity), the other rates times c².
    c, base = 7.0, Hyperpriors(2.0, 0.3, 2.0, 0.2, 2.0, 0.1)
    scaled = Hyperpriors(2.0, 0.3 * c, 2.0, 0.2 * c**2, 2.0, 0.1 * c**2)
    sizes = {"height": 4, "width": 5, "rank": 2}
    one, other = sample(base, **sizes), sample(scaled, **sizes)
    torch.testing.assert_close(other.Y, c * one.Y)
    torch.testing.assert_close(other.S, c * one.S)
    torch.testing.assert_close(other.A, c**0.5 * one.A)


@pytest.mark.parametrize("name", ["batch", "channels", "height", "width", "rank"])
def test_empty_sizes_are_refused_by_name(name):
    sizes = {"batch": 1, "channels": 1, "height": 2, "width": 2, "rank": 1, name: 0}
    with pytest.raises(ValueError, match=f"{name}: got 0, expected at least 1"):
        sample(Hyperpriors(), **sizes)


@pytest.mark.parametrize("name", [field.name for field in fields(Hyperpriors)])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_hyperpriors_that_are_no_gamma_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"{name}: got .*, expected a positive finite number"):
        Hyperpriors(**{name: value})
