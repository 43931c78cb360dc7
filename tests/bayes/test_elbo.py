"""Eq. 3-5, 8-9, 24 and 31-34: every term, the sum of them, and what the sum bounds."""

import itertools
import math

import numpy as np
import pytest
import scipy.special
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Gamma, Normal

from indeed.bayes import generative_model as model
from indeed.bayes.conjugate_updates import solve_leaf_level
from indeed.bayes.elbo import (
    elbo,
    elbo_terms,
    fidelity_term,
    kl_to_prior,
    leaf_kl,
    negative_elbo,
    negative_expected_log_likelihood,
    rank_kl,
    rank_term,
    sparsity_kl,
    sparsity_term,
    sub_problem_2_terms,
)
from indeed.bayes.generative_model import Hyperpriors
from indeed.bayes.posterior_summaries import expected_squared_residual, sampled_squared_residual
from indeed.bayes.variational_family import GammaFactor, GaussianFactor, LeafLevel, MiddleLevel

PROPERTY = settings(max_examples=25)


def terms_of(p):
    return elbo_terms(p.y, p.middle, p.leaf, p.hyperpriors)


def expand(level, n):
    """Factor parameters of one sample, repeated over the batch axis."""
    return type(level)(*(type(q)(*(x.expand(n, *x.shape[1:]) for x in q)) for q in level))


# -- the whole bound -------------------------------------------------------------------------------------------------


def log_densities(p, n=40_000):
    """ln q(Z), ln p(Z) and ln p(Y | Z) at n draws of Z from q, factor by factor."""
    middle, leaf = expand(p.middle, n), expand(p.leaf, n)
    A, B, S = middle.rsample(p.generator)
    gamma, omega, lambda_ = (q.sample(p.generator) for q in leaf)
    log_q = sum(
        Normal(q.mean, q.std).log_prob(x).flatten(1).sum(1) for q, x in zip(middle, (A, B, S), strict=True)
    ) + sum(
        Gamma(q.shape, q.rate).log_prob(x).flatten(1).sum(1) for q, x in zip(leaf, (gamma, omega, lambda_), strict=True)
    )
    h = p.hyperpriors
    log_prior = (
        model.log_prior_left(A, gamma)
        + model.log_prior_right(B, gamma)
        + model.log_prior_sparse(S, omega)
        + model.log_prior_gamma(gamma, h)
        + model.log_prior_omega(omega, h)
        + model.log_prior_lambda(lambda_, h)
    )
    return log_q, log_prior, model.log_likelihood(p.y.expand(n, -1, -1, -1), model.low_rank(A, B), S, lambda_)


def assert_is_mean(value, samples):
    error = samples.std() / len(samples) ** 0.5
    assert abs(samples.mean() - value) < 4 * error
    assert error < 0.02 * value


@pytest.mark.equation("2", "4", "23", "24")
def test_free_energy_is_the_monte_carlo_mean_of_log_q_minus_log_p(make_problem):
    p = make_problem(seed=8, batch=1, channels=2, height=2, width=3, rank=2)
    log_q, log_prior, log_likelihood = log_densities(p)
    assert_is_mean(-elbo(terms_of(p)).item(), log_q - log_prior - log_likelihood)


@pytest.mark.equation("5")
def test_divergence_of_both_levels_is_the_monte_carlo_mean_of_log_q_minus_log_prior(make_problem):
    p = make_problem(seed=8, batch=1, channels=2, height=2, width=3, rank=2)
    log_q, log_prior, _ = log_densities(p)
    assert_is_mean(kl_to_prior(terms_of(p)).item(), log_q - log_prior)


def log_evidence(y, h):
    """ln p(y) of a 1 x 1 image with one column, by quadrature of characteristic functions.

    Given the precisions, s and n are Gaussian and E[exp(itab)] = (1 + t²/gamma²)^(-1/2); each is averaged over its
    Gamma prior, and y = ab + s + n has the product as its characteristic function.
    """
    t = np.linspace(0, 60, 6001)
    log_x = np.linspace(-25, 6, 1551)

    def averaged(f, shape, rate):
        log_density = shape * np.log(rate) - scipy.special.gammaln(shape) + shape * log_x - rate * np.exp(log_x)
        weights = np.exp(log_density) * (log_x[1] - log_x[0])
        return np.concatenate([f(chunk[:, None], np.exp(log_x)) @ weights for chunk in np.array_split(t, 6)])

    phi = averaged(lambda t, x: (1 + (t / x) ** 2) ** -0.5, h.gamma_shape, h.gamma_rate)
    phi *= averaged(lambda t, x: np.exp(-(t**2) / (2 * x)), h.omega_shape, h.omega_rate)
    phi *= averaged(lambda t, x: np.exp(-(t**2) / (2 * x)), h.lambda_shape, h.lambda_rate)
    return math.log(np.trapezoid(phi * np.cos(t * y), t) / math.pi)


def exact_updates(y, middle, leaf):
    """Sub-problem 2, one block of independent variables at a time, each set to its exact conditional optimum.

    One image, one channel, loops over the columns. Yields the middle level after each block.
    """
    image, precision = y[0, 0], leaf.lambda_.mean[0, 0]
    A, B, S = middle

    def column(this, other, k, target, weight):
        mean, variance = this.mean.clone(), this.variance.clone()
        rest = target - mean[0, 0] @ other.mean[0, 0].mT + torch.outer(mean[0, 0, :, k], other.mean[0, 0, :, k])
        total = leaf.gamma.mean[0, 0, k] + weight @ (other.mean[0, 0, :, k] ** 2 + other.variance[0, 0, :, k])
        mean[0, 0, :, k] = (weight * rest) @ other.mean[0, 0, :, k] / total
        variance[0, 0, :, k] = 1 / total
        return GaussianFactor(mean, variance.log())

    for k in range(A.mean.shape[-1]):
        A = column(A, B, k, image - S.mean[0, 0], precision)
        yield MiddleLevel(A, B, S)
        B = column(B, A, k, (image - S.mean[0, 0]).mT, precision.mT)
        yield MiddleLevel(A, B, S)
    total = leaf.omega.mean + leaf.lambda_.mean
    S = GaussianFactor(leaf.lambda_.mean * (y - A.mean @ B.mean.mT) / total, -total.log())
    yield MiddleLevel(A, B, S)


def descend(y, middle, h, steps):
    """Free energies along the alternation of sub-problems 1 and 2, and where it ends."""
    free_energies = []
    for _ in range(steps):
        leaf = solve_leaf_level(y, middle, h)
        free_energies.append(negative_elbo(elbo_terms(y, middle, leaf, h)).item())
        for updated in exact_updates(y, middle, leaf):
            middle = updated
            free_energies.append(negative_elbo(elbo_terms(y, middle, leaf, h)).item())
    return np.array(free_energies), middle, leaf


# The gap is the divergence from the true posterior: independent factors cannot follow a posterior with several modes.
@pytest.mark.slow
@pytest.mark.equation("3")
@pytest.mark.parametrize(("y", "gap"), [(0.0, 0.8), (0.8, 1.0), (4.0, 3.5)])
def test_elbo_never_exceeds_the_log_evidence_and_comes_close(make_problem, y, gap):
    evidence = log_evidence(y, make_problem().hyperpriors)
    image = torch.full((1, 1, 1, 1), y, dtype=torch.float64)
    best = -math.inf
    for seed in range(8):
        p = make_problem(seed=seed, batch=1, channels=1, height=1, width=1, rank=1)
        free_energies, _, _ = descend(image, p.middle, p.hyperpriors, 12)
        assert (-free_energies <= evidence).all()
        best = max(best, -free_energies.min())
    assert evidence - best < gap


def test_log_evidence_of_the_test_above_agrees_with_samples_of_the_prior(make_problem):
    h = make_problem().hyperpriors
    generator = torch.Generator().manual_seed(9)
    z = model.sample_prior(batch=200_000, height=1, width=1, rank=1, hyperpriors=h, generator=generator)
    density = Normal(z.A @ z.B.mT, (1 / z.omega + 1 / z.lambda_).sqrt()).log_prob(torch.tensor(0.8)).exp().flatten()
    assert abs(density.mean() - math.exp(log_evidence(0.8, h))) < 4 * density.std() / len(density) ** 0.5


@pytest.mark.slow
def test_free_energy_never_rises_under_exact_alternating_updates(make_problem):
    for seed in range(3):
        p = make_problem(seed=seed, batch=1, channels=1, height=4, width=3, rank=2)
        free_energies, middle, leaf = descend(p.y, p.middle, p.hyperpriors, 100)
        assert (np.diff(free_energies) <= 1e-10).all()
        assert free_energies[0] - free_energies[-1] > 1  # it did something
        # and ends where autograd finds no slope, in either level
        free = [x.clone().requires_grad_() for q in (*middle, *leaf) for x in q]
        levels = [q(*free[2 * i : 2 * i + 2]) for i, q in enumerate([GaussianFactor] * 3 + [GammaFactor] * 3)]
        end = negative_elbo(elbo_terms(p.y, MiddleLevel(*levels[:3]), LeafLevel(*levels[3:]), p.hyperpriors))
        assert max(g.abs().max() for g in torch.autograd.grad(end, free)) < 0.05


def test_free_energy_never_rises_under_gradient_steps_between_closed_forms(make_problem):
    p = make_problem(batch=1, channels=1, height=4, width=3, rank=2)
    parameters = [x.clone().requires_grad_() for q in p.middle for x in q]
    free_energies = []
    for _ in range(60):
        middle = MiddleLevel(*(GaussianFactor(*parameters[i : i + 2]) for i in (0, 2, 4)))
        with torch.no_grad():
            leaf = solve_leaf_level(p.y, middle, p.hyperpriors)
        free_energies.append(negative_elbo(elbo_terms(p.y, middle, leaf, p.hyperpriors)).item())
        objective = sum(sub_problem_2_terms(middle, leaf, expected_squared_residual(p.y, middle)))
        gradients = torch.autograd.grad(objective, parameters)
        parameters = [(x - 1e-3 * g).detach().requires_grad_() for x, g in zip(parameters, gradients, strict=True)]
    assert (np.diff(free_energies) < 0).all()
    assert free_energies[0] - free_energies[-1] > 0.5


# -- term by term ----------------------------------------------------------------------------------------------------


def expected_log(q):
    """E[ln x] of a Gamma factor, by scipy."""
    return torch.from_numpy(scipy.special.digamma(q.shape.numpy())) - q.rate.log()


@pytest.mark.equation("24a")
def test_fidelity_is_minus_the_expected_log_likelihood(make_problem, gamma_expectation):
    p = make_problem()
    draw = sampled_squared_residual(p.y, p.draw)

    def log_density(precision):
        return Normal(p.draw.low_rank[..., None] + p.draw.S[..., None], precision**-0.5).log_prob(p.y[..., None])

    by_quadrature = -gamma_expectation(log_density, p.leaf.lambda_.shape, p.leaf.lambda_.rate).sum((1, 2, 3))
    torch.testing.assert_close(
        negative_expected_log_likelihood(draw, p.leaf.lambda_), by_quadrature, rtol=1e-8, atol=1e-8
    )
    torch.testing.assert_close(
        elbo_terms(p.y, p.middle, p.leaf, p.hyperpriors, squared_residual=draw).fidelity, by_quadrature
    )
    expected = expected_squared_residual(p.y, p.middle)
    torch.testing.assert_close(terms_of(p).fidelity, negative_expected_log_likelihood(expected, p.leaf.lambda_))


@pytest.mark.equation("24c", "24d")
def test_rank_and_sparsity_terms_are_sums_of_scalar_divergences(make_problem):
    """Eq. 24c and 24d by loops over E[KL(N(m, v) || N(0, 1/x))] = (E[x](m² + v) - E[ln x] - ln v - 1)/2."""
    p = make_problem()
    batch, channels, height, width, rank = p.sizes
    log_gamma, log_omega = expected_log(p.leaf.gamma), expected_log(p.leaf.omega)

    def scalar(mean, log_variance, precision, log_precision):
        return (precision * (mean**2 + log_variance.exp()) - log_precision - log_variance - 1) / 2

    rank_by_loops, sparsity_by_loops = torch.zeros(2, batch, dtype=torch.float64)
    for b, c in itertools.product(range(batch), range(channels)):
        for i in range(rank):
            mean = p.leaf.gamma.shape[b, c, i] / p.leaf.gamma.rate[b, c, i]
            for q, size in ((p.middle.A, height), (p.middle.B, width)):
                for j in range(size):
                    where = (b, c, j, i)
                    rank_by_loops[b] += scalar(q.mean[where], q.log_variance[where], mean, log_gamma[b, c, i])
        for j, k in itertools.product(range(height), range(width)):
            where = (b, c, j, k)
            mean = p.leaf.omega.shape[where] / p.leaf.omega.rate[where]
            sparsity_by_loops[b] += scalar(
                p.middle.S.mean[where], p.middle.S.log_variance[where], mean, log_omega[where]
            )
    torch.testing.assert_close(rank_kl(p.middle.A, p.middle.B, p.leaf.gamma), rank_by_loops)
    torch.testing.assert_close(sparsity_kl(p.middle.S, p.leaf.omega), sparsity_by_loops)
    torch.testing.assert_close(terms_of(p).rank, rank_by_loops)
    torch.testing.assert_close(terms_of(p).sparsity, sparsity_by_loops)


@pytest.mark.equation("24e-24g")
def test_prior_terms_are_the_gamma_divergences_of_torch(make_problem):
    p = make_problem()
    h = p.hyperpriors
    gamma, omega, lambda_ = leaf_kl(p.leaf, h)
    assert_terms_close(terms_of(p)[4:], (gamma, omega, lambda_))
    for ours, q, shape, rate in [
        (gamma, p.leaf.gamma, h.gamma_shape, h.gamma_rate),
        (omega, p.leaf.omega, h.omega_shape, h.omega_rate),
        (lambda_, p.leaf.lambda_, h.lambda_shape, h.lambda_rate),
    ]:
        prior = Gamma(*torch.tensor([shape, rate], dtype=torch.float64))
        divergence = torch.distributions.kl_divergence(Gamma(q.shape, q.rate), prior)
        torch.testing.assert_close(ours, divergence.flatten(1).sum(1))


def test_the_bound_is_minus_the_sum_of_the_seven_terms(make_problem):
    p = make_problem()
    supervision = torch.tensor([3.0, 5.0], dtype=torch.float64)
    terms = elbo_terms(p.y, p.middle, p.leaf, p.hyperpriors, supervision=supervision)
    torch.testing.assert_close(negative_elbo(terms), torch.stack(list(terms)).sum(0))
    torch.testing.assert_close(elbo(terms), -torch.stack(list(terms)).sum(0))
    torch.testing.assert_close(kl_to_prior(terms), negative_elbo(terms) - terms.fidelity - supervision)
    assert torch.equal(terms.supervision, supervision)
    assert not terms_of(p).supervision.any()


# -- sub-problem 2 ---------------------------------------------------------------------------------------------------


@pytest.mark.equation("33")
def test_eq_33_is_eq_24c_up_to_its_stated_constant_with_equal_gradients(make_problem):
    p = make_problem()
    height, width = p.sizes[2:4]
    flat = [x.clone().requires_grad_() for q in p.middle[:2] for x in q]
    A, B = GaussianFactor(*flat[:2]), GaussianFactor(*flat[2:])
    ours, full = rank_term(A, B, p.leaf.gamma.mean), rank_kl(A, B, p.leaf.gamma)
    constant = (height + width) / 2 * (1 + expected_log(p.leaf.gamma)).sum((1, 2))
    torch.testing.assert_close(ours, full + constant)
    torch.testing.assert_close(torch.autograd.grad(ours.sum(), flat), torch.autograd.grad(full.sum(), flat))


@pytest.mark.equation("33")
def test_eq_33_is_the_printed_sum_of_norms_and_inner_products(make_problem):
    p = make_problem()
    batch, channels, height, width, _ = p.sizes
    by_matrices = torch.zeros(batch, dtype=torch.float64)
    for b, c in itertools.product(range(batch), range(channels)):
        gamma = p.leaf.gamma.mean[b, c]
        for q, size in ((p.middle.A, height), (p.middle.B, width)):
            mean, variance = q.mean[b, c], q.log_variance[b, c].exp()
            ones = torch.ones(size, 1, dtype=torch.float64)
            by_matrices[b] += 0.5 * (
                torch.linalg.matrix_norm(mean * (ones @ gamma.sqrt()[None])) ** 2
                + torch.trace((ones @ gamma[None]).mT @ variance)
                - variance.log().sum()
            )
    torch.testing.assert_close(rank_term(p.middle.A, p.middle.B, p.leaf.gamma.mean), by_matrices)


@pytest.mark.equation("34")
def test_eq_34_is_eq_24d_up_to_its_stated_constant_with_equal_gradients(make_problem):
    p = make_problem()
    flat = [x.clone().requires_grad_() for x in p.middle.S]
    S = GaussianFactor(*flat)
    ours, full = sparsity_term(S, p.leaf.omega.mean), sparsity_kl(S, p.leaf.omega)
    constant = (1 + expected_log(p.leaf.omega)).sum((1, 2, 3)) / 2
    torch.testing.assert_close(ours, full + constant)
    torch.testing.assert_close(torch.autograd.grad(ours.sum(), flat), torch.autograd.grad(full.sum(), flat))


@pytest.mark.equation("32")
def test_eq_32_is_eq_24a_up_to_its_stated_constant_with_equal_gradients(make_problem):
    p = make_problem()
    draw = [x.clone().requires_grad_() for x in p.draw]
    residual = sampled_squared_residual(p.y, type(p.draw)(*draw))
    ours = fidelity_term(residual, p.leaf.lambda_.mean)
    full = negative_expected_log_likelihood(residual, p.leaf.lambda_)
    constant = (math.log(2 * math.pi) - expected_log(p.leaf.lambda_)).sum((1, 2, 3)) / 2
    torch.testing.assert_close(ours, full - constant)
    by_norm = [
        0.5 * torch.linalg.norm((p.leaf.lambda_.mean[b] ** 0.5 * (p.y - p.draw.low_rank - p.draw.S)[b]).flatten()) ** 2
        for b in range(2)
    ]
    torch.testing.assert_close(ours, torch.stack(by_norm))
    torch.testing.assert_close(
        torch.autograd.grad(ours.sum(), draw, retain_graph=True), torch.autograd.grad(full.sum(), draw)
    )


@pytest.mark.equation("9", "31")
def test_eq_31_differs_from_eq_24_by_what_the_leaf_level_alone_decides(make_problem):
    p, other = make_problem(seed=0), make_problem(seed=1)
    supervision = torch.tensor([1.0, 2.0], dtype=torch.float64)
    gaps = []
    for middle in (p.middle, other.middle):
        residual = expected_squared_residual(p.y, middle)
        part = sub_problem_2_terms(middle, p.leaf, residual, supervision)
        full = elbo_terms(p.y, middle, p.leaf, p.hyperpriors, supervision=supervision)
        gaps.append(negative_elbo(full) - sum(part))
    torch.testing.assert_close(gaps[0], gaps[1])
    assert not sub_problem_2_terms(p.middle, p.leaf, residual).supervision.any()


# -- symmetries ------------------------------------------------------------------------------------------------------


def assert_terms_close(ours, reference):
    for a, b in zip(ours, reference, strict=True):
        torch.testing.assert_close(a, b)


@PROPERTY
@given(seed=st.integers(0, 1000), order=st.permutations(range(4)))
def test_permuting_the_columns_changes_no_term(make_problem, seed, order):
    p = make_problem(seed=seed, rank=4)
    A, B = (GaussianFactor(*(x[..., order] for x in q)) for q in p.middle[:2])
    gamma = GammaFactor(*(x[..., order] for x in p.leaf.gamma))
    assert_terms_close(
        elbo_terms(p.y, p.middle._replace(A=A, B=B), p.leaf._replace(gamma=gamma), p.hyperpriors), terms_of(p)
    )


def test_flipping_the_sign_of_a_pair_of_columns_changes_no_term(make_problem):
    p = make_problem()
    sign = torch.tensor([1.0, -1.0], dtype=torch.float64)
    A, B = (q._replace(mean=sign * q.mean) for q in p.middle[:2])
    assert_terms_close(elbo_terms(p.y, MiddleLevel(A, B, p.middle.S), p.leaf, p.hyperpriors), terms_of(p))


def test_transposing_the_image_swaps_a_and_b_and_changes_no_term(make_problem):
    p = make_problem()
    A, B, S = p.middle
    turned = MiddleLevel(B, A, GaussianFactor(*(x.mT for x in S)))
    leaf = LeafLevel(p.leaf.gamma, *(GammaFactor(*(x.mT for x in q)) for q in p.leaf[1:]))
    assert_terms_close(elbo_terms(p.y.mT, turned, leaf, p.hyperpriors), terms_of(p))


@PROPERTY
@given(seed=st.integers(0, 1000), log_scale=st.floats(-4, 4))
def test_scaling_the_intensity_shifts_the_fidelity_by_its_jacobian_only(make_problem, seed, log_scale):
    """Y, S times c and A, B times sqrt(c), with the rates in the matching units: -ELBO grows by ln c per pixel."""
    p, c = make_problem(seed=seed), math.exp(log_scale)
    h = p.hyperpriors
    scaled = Hyperpriors(
        h.gamma_shape, h.gamma_rate * c, h.omega_shape, h.omega_rate * c**2, h.lambda_shape, h.lambda_rate * c**2
    )
    middle = MiddleLevel(
        *(
            GaussianFactor(q.mean * c**power, q.log_variance + 2 * power * log_scale)
            for q, power in zip(p.middle, (0.5, 0.5, 1), strict=True)
        )
    )
    leaf, reference_leaf = solve_leaf_level(c * p.y, middle, scaled), solve_leaf_level(p.y, p.middle, h)
    ours = elbo_terms(c * p.y, middle, leaf, scaled)
    reference = elbo_terms(p.y, p.middle, reference_leaf, h)
    pixels = p.y[0].numel()
    assert_terms_close(ours, reference._replace(fidelity=reference.fidelity + pixels * log_scale))


def test_samples_of_a_batch_do_not_see_each_other(make_problem):
    p = make_problem()
    together = terms_of(p)
    for b in range(2):
        keep = slice(b, b + 1)
        middle = MiddleLevel(*(GaussianFactor(*(x[keep] for x in q)) for q in p.middle))
        leaf = LeafLevel(*(GammaFactor(*(x[keep] for x in q)) for q in p.leaf))
        assert_terms_close(elbo_terms(p.y[keep], middle, leaf, p.hyperpriors), [t[keep] for t in together])


def test_gradients_of_every_term_pass_gradcheck(make_problem):
    p = make_problem(batch=1, channels=1, height=2, width=3)
    flat = [x.clone().requires_grad_() for q in (*p.middle, *p.leaf) for x in q]

    def terms(*flat):
        pairs = [flat[i : i + 2] for i in range(0, 12, 2)]
        middle = MiddleLevel(*(GaussianFactor(*q) for q in pairs[:3]))
        leaf = LeafLevel(*(GammaFactor(*q) for q in pairs[3:]))
        full = elbo_terms(p.y, middle, leaf, p.hyperpriors)
        part = sub_problem_2_terms(middle, leaf, expected_squared_residual(p.y, middle))
        return *full[:1], *full[2:], part.fidelity, part.rank, part.sparsity

    assert torch.autograd.gradcheck(terms, flat)
