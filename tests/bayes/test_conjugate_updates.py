"""Eq. 6-7 and 25-30: the closed forms are the minimisers of sub-problem 1, found again without them."""

import itertools

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Gamma, Normal, kl_divergence

from indeed.bayes.conjugate_updates import (
    gamma_objective,
    lambda_objective,
    leaf_objective,
    omega_objective,
    solve_leaf_level,
    update_gamma,
    update_lambda,
    update_omega,
)
from indeed.bayes.elbo import elbo_terms, negative_elbo
from indeed.bayes.posterior_summaries import expected_squared_residual, sampled_squared_residual
from indeed.bayes.variational_family import GammaFactor, LeafLevel

PROPERTY = settings(max_examples=40)


def scalar(value):
    return torch.tensor([float(value)], dtype=torch.float64)


def centred(precision):
    """Normal of mean zero; torch.distributions turns Python numbers into float32."""
    return Normal(torch.zeros_like(precision), precision**-0.5)


def minimise(objective):
    """Shape and rate that minimise a function of two scalars, by BFGS over their logarithms; and the minimum."""

    def value_and_gradient(x):
        log = torch.tensor(x, requires_grad=True)
        value = objective(log[0].exp()[None], log[1].exp()[None])
        return value.item(), torch.autograd.grad(value.sum(), log)[0].numpy()

    found = scipy.optimize.minimize(value_and_gradient, np.zeros(2), jac=True, method="BFGS", options={"gtol": 1e-9})
    return (*np.exp(found.x), found.fun)


def sub_problem(gamma_expectation, conditional, prior_shape, prior_rate):
    """E_q(x)[conditional(x)] + KL(q(x) || G(prior)) from log densities alone, as a function of q's shape and rate."""

    def objective(shape, rate):
        def integrand(x):
            log_q = Gamma(shape[:, None], rate[:, None]).log_prob(x)
            return conditional(x) + log_q - Gamma(x.new_tensor(prior_shape), x.new_tensor(prior_rate)).log_prob(x)

        return gamma_expectation(integrand, shape, rate)

    return objective


def assert_minimises(objective, exact, paper):
    """The exact posterior is the numerical minimiser; the paper's: same mean, half the variance, a higher objective."""
    shape, rate, minimum = minimise(objective)
    assert exact.shape.item() == pytest.approx(shape, rel=1e-5)
    assert exact.rate.item() == pytest.approx(rate, rel=1e-5)
    at_exact, at_paper = (objective(q.shape.reshape(1), q.rate.reshape(1)).item() for q in (exact, paper))
    assert at_exact == pytest.approx(minimum, rel=1e-10, abs=1e-10)
    assert at_paper > at_exact + 1e-3
    torch.testing.assert_close(paper.mean, exact.mean)
    torch.testing.assert_close(paper.variance, exact.variance / 2)


@pytest.mark.equation("26")
def test_eq_26_minimises_eq_25(make_problem, gamma_expectation):
    p = make_problem(seed=1, batch=1, channels=1, height=3, width=2, rank=1)
    A, B, _ = p.middle

    def divergence(gamma):
        total = 0
        for q in (A, B):
            for mean, log_variance in zip(q.mean.flatten(), q.log_variance.flatten(), strict=True):
                total = total + kl_divergence(Normal(mean, (log_variance / 2).exp()), centred(gamma))
        return total

    h = p.hyperpriors
    objective = sub_problem(gamma_expectation, divergence, h.gamma_shape, h.gamma_rate)
    assert_minimises(objective, *(update_gamma(A, B, h, form) for form in ("exact", "paper")))


@pytest.mark.equation("28")
def test_eq_28_minimises_eq_27(make_problem, gamma_expectation):
    p = make_problem(seed=2, batch=1, channels=1, height=1, width=1)
    S, h = p.middle.S, p.hyperpriors

    def divergence(omega):
        return kl_divergence(Normal(S.mean.reshape(1), S.std.reshape(1)), centred(omega))

    objective = sub_problem(gamma_expectation, divergence, h.omega_shape, h.omega_rate)
    assert_minimises(objective, *(update_omega(S, h, form) for form in ("exact", "paper")))


@pytest.mark.equation("30")
def test_eq_30_with_the_expected_residual_minimises_eq_29(make_problem, gamma_expectation):
    p = make_problem(seed=3, batch=1, channels=1, height=1, width=1, rank=1)
    h = p.hyperpriors
    # Three Gauss-Hermite nodes per variable integrate the log-likelihood, quadratic in each of a, b and s, exactly.
    nodes, weights = np.polynomial.hermite_e.hermegauss(3)
    weights = weights / weights.sum()

    def negative_log_likelihood(precision):
        total = 0
        for i, j, k in itertools.product(range(3), repeat=3):
            a, b, s = (q.mean + q.std * nodes[n] for q, n in zip(p.middle, (i, j, k), strict=True))
            log_density = centred(precision).log_prob((p.y - a * b - s).reshape(1, 1))
            total = total - weights[i] * weights[j] * weights[k] * log_density
        return total

    objective = sub_problem(gamma_expectation, negative_log_likelihood, h.lambda_shape, h.lambda_rate)
    residual = expected_squared_residual(p.y, p.middle)
    assert_minimises(objective, *(update_lambda(residual, h, form) for form in ("exact", "paper")))


@pytest.mark.equation("25", "27", "29")
def test_objectives_are_those_of_the_sub_problems(make_problem, gamma_expectation):
    """Eq. 25, 27 and 29 as the library writes them, against the same integrals from log densities, with gradients."""
    p = make_problem(seed=4, batch=1, channels=1, height=1, width=1, rank=1)
    h, r2 = p.hyperpriors, scalar(0.37).reshape(1, 1, 1, 1)
    factors = [Normal(q.mean.reshape(1), q.std.reshape(1)) for q in p.middle]

    def from_prior(q):
        return lambda x: kl_divergence(q, centred(x))

    cases = [
        (lambda q: gamma_objective(q, *p.middle[:2], h), lambda x: sum(from_prior(q)(x) for q in factors[:2]),
         h.gamma_shape, h.gamma_rate, (1, 1, 1)),
        (lambda q: omega_objective(q, p.middle.S, h), from_prior(factors[2]),
         h.omega_shape, h.omega_rate, (1, 1, 1, 1)),
        (lambda q: lambda_objective(q, r2, h), lambda x: -centred(x).log_prob(r2.sqrt().reshape(1, 1)),
         h.lambda_shape, h.lambda_rate, (1, 1, 1, 1)),
    ]  # fmt: skip
    for ours, conditional, prior_shape, prior_rate, size in cases:
        shape, rate = scalar(3.3).requires_grad_(), scalar(1.7).requires_grad_()
        value = ours(GammaFactor(shape.reshape(size), rate.reshape(size)))
        reference = sub_problem(gamma_expectation, conditional, prior_shape, prior_rate)(shape, rate)
        torch.testing.assert_close(value, reference, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(
            torch.autograd.grad(value.sum(), (shape, rate)), torch.autograd.grad(reference.sum(), (shape, rate)),
            rtol=1e-8, atol=1e-8,
        )  # fmt: skip


def test_closed_forms_are_those_of_the_paper_halved(make_problem):
    """Eq. 26, 28 and 30 as printed, by loops."""
    p = make_problem()
    batch, channels, height, width, rank = p.sizes
    h = p.hyperpriors
    paper = solve_leaf_level(p.y, p.middle, h, draw=p.draw, form="paper")
    exact = solve_leaf_level(p.y, p.middle, h, draw=p.draw)
    for b, c in itertools.product(range(batch), range(channels)):
        for i in range(rank):
            energy = 0.0
            for q in (p.middle.A, p.middle.B):
                mean, std = q.mean[b, c, :, i], q.log_variance[b, c, :, i].div(2).exp()
                energy += mean.norm().item() ** 2 + std.norm().item() ** 2
            assert paper.gamma.shape[b, c, i].item() == pytest.approx(2 * h.gamma_shape + height + width)
            assert paper.gamma.rate[b, c, i].item() == pytest.approx(2 * h.gamma_rate + energy)
        for j, k in itertools.product(range(height), range(width)):
            s = p.middle.S.mean[b, c, j, k] ** 2 + p.middle.S.log_variance[b, c, j, k].exp()
            residual = p.y[b, c, j, k] - p.draw.A[b, c, j] @ p.draw.B[b, c, k] - p.draw.S[b, c, j, k]
            assert paper.omega.shape[b, c, j, k].item() == pytest.approx(2 * h.omega_shape + 1)
            assert paper.omega.rate[b, c, j, k].item() == pytest.approx(2 * h.omega_rate + s.item())
            assert paper.lambda_.shape[b, c, j, k].item() == pytest.approx(2 * h.lambda_shape + 1)
            assert paper.lambda_.rate[b, c, j, k].item() == pytest.approx(2 * h.lambda_rate + residual.item() ** 2)
    for ours, doubled in zip(exact, paper, strict=True):
        torch.testing.assert_close(2 * ours.shape, doubled.shape)
        torch.testing.assert_close(2 * ours.rate, doubled.rate)


def test_one_precision_for_all_pixels_minimises_eq_29_among_all_that_are_shared(make_problem):
    p = make_problem()
    residual = expected_squared_residual(p.y, p.middle)
    shared = update_lambda(residual, p.hyperpriors, noise="scalar")
    assert shared.shape.shape == shared.rate.shape == (2, 3, 1, 1)
    free = GammaFactor(*(x.clone().requires_grad_() for x in shared))
    for gradient in torch.autograd.grad(lambda_objective(free, residual, p.hyperpriors).sum(), free):
        assert gradient.abs().max() < 1e-12
    # It is the posterior of a precision seen through every pixel of its channel, and of one pixel Eq. 30 itself.
    torch.testing.assert_close(shared.shape, torch.full_like(shared.shape, p.hyperpriors.lambda_shape + 4 * 5 / 2))
    one = residual[..., :1, :1]
    for shared_by_one, own in zip(
        update_lambda(one, p.hyperpriors, noise="scalar"), update_lambda(one, p.hyperpriors), strict=True
    ):
        assert torch.equal(shared_by_one, own)
    leaf = solve_leaf_level(p.y, p.middle, p.hyperpriors, noise="scalar")
    assert torch.equal(leaf.lambda_.rate, shared.rate)


def test_the_precision_of_a_neighbourhood_is_the_conjugate_update_over_its_window(make_problem):
    p = make_problem(height=16, width=17)
    squared = sampled_squared_residual(p.y, p.draw)
    leaf = solve_leaf_level(p.y, p.middle, p.hyperpriors, draw=p.draw, noise="neighbourhood", neighbourhood=5)
    shape, rate = p.hyperpriors.lambda_shape, p.hyperpriors.lambda_rate
    for row, column in ((0, 0), (0, 9), (7, 16), (8, 8)):
        window = squared[..., max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3]
        assert (leaf.lambda_.shape[..., row, column] == shape + 25 / 2).all()
        torch.testing.assert_close(leaf.lambda_.rate[..., row, column], rate + 12.5 * window.mean((-2, -1)))
    inner, own = squared[..., 6:11, 6:11].clone(), leaf.lambda_.rate[..., 8, 8]
    # Away from the border it is the posterior of a precision seen through the pixels of the window alone.
    torch.testing.assert_close(own, update_lambda(inner, p.hyperpriors, noise="scalar").rate[..., 0, 0])
    pixel = solve_leaf_level(p.y, p.middle, p.hyperpriors, draw=p.draw, noise="neighbourhood", neighbourhood=1)
    for ours, exact in zip(pixel, solve_leaf_level(p.y, p.middle, p.hyperpriors, draw=p.draw), strict=True):
        torch.testing.assert_close(ours, exact)
    for side in (0, 4):
        with pytest.raises(ValueError, match=f"neighbourhood: got {side}, expected an odd number"):
            update_lambda(squared, p.hyperpriors, noise="neighbourhood", neighbourhood=side)


@pytest.mark.equation("6", "7")
def test_gradient_of_eq_7_vanishes_at_the_closed_forms_only(make_problem):
    p = make_problem()
    residual = expected_squared_residual(p.y, p.middle)

    def gradients(leaf):
        free = LeafLevel(*(GammaFactor(*(x.clone().requires_grad_() for x in q)) for q in leaf))
        objective = leaf_objective(free, p.middle, residual, p.hyperpriors).sum()
        return torch.autograd.grad(objective, [x for q in free for x in q])

    for gradient in gradients(solve_leaf_level(p.y, p.middle, p.hyperpriors)):
        assert gradient.abs().max() < 1e-12
    # The paper's mean is right, so its rates are stationary given its shapes; the shapes are not.
    for gradient in gradients(solve_leaf_level(p.y, p.middle, p.hyperpriors, form="paper"))[::2]:
        assert gradient.abs().min() > 1e-3


@pytest.mark.slow
@pytest.mark.equation("6")
@PROPERTY
@given(seed=st.integers(0, 1000), form=st.sampled_from(["exact", "paper"]), scale=st.floats(-2, 2))
def test_no_other_leaf_level_has_a_lower_free_energy(make_problem, seed, form, scale):
    p = make_problem(seed=seed, batch=1, channels=1)
    best = solve_leaf_level(p.y, p.middle, p.hyperpriors)
    other = LeafLevel(
        *(
            GammaFactor(*(x * (scale * p.normal(*x.shape)).exp() for x in q))
            for q in solve_leaf_level(p.y, p.middle, p.hyperpriors, form=form)
        )
    )

    def free_energy(leaf):
        return negative_elbo(elbo_terms(p.y, p.middle, leaf, p.hyperpriors)).item()

    assert free_energy(best) <= free_energy(other) + 1e-9


def test_the_residual_of_one_draw_costs_free_energy(make_problem):
    p = make_problem()
    expected, sampled = (solve_leaf_level(p.y, p.middle, p.hyperpriors, draw=draw) for draw in (None, p.draw))
    free_energy = [negative_elbo(elbo_terms(p.y, p.middle, leaf, p.hyperpriors)) for leaf in (expected, sampled)]
    assert (free_energy[1] > free_energy[0] + 0.1).all()
    assert torch.equal(sampled.lambda_.rate, update_lambda(sampled_squared_residual(p.y, p.draw), p.hyperpriors).rate)
    assert torch.equal(expected.gamma.rate, sampled.gamma.rate)


@pytest.mark.equation("7")
def test_eq_7_is_the_free_energy_as_a_function_of_the_leaf_level(make_problem):
    p = make_problem()
    residual = expected_squared_residual(p.y, p.middle)
    other = LeafLevel(*(p.gamma(*q.shape.shape) for q in p.leaf))
    objective = [leaf_objective(leaf, p.middle, residual, p.hyperpriors) for leaf in (p.leaf, other)]
    free_energy = [negative_elbo(elbo_terms(p.y, p.middle, leaf, p.hyperpriors)) for leaf in (p.leaf, other)]
    torch.testing.assert_close(objective[0] - objective[1], free_energy[0] - free_energy[1])


def test_updates_pass_gradcheck(make_problem):
    p = make_problem(batch=1, channels=1)
    flat = [x.clone().requires_grad_() for q in p.middle for x in q]

    def rates(am, av, bm, bv, sm, sv):
        middle = p.middle._replace(A=type(p.middle.A)(am, av), B=type(p.middle.A)(bm, bv), S=type(p.middle.A)(sm, sv))
        leaf = solve_leaf_level(p.y, middle, p.hyperpriors)
        return leaf.gamma.mean, leaf.omega.mean, leaf.lambda_.mean

    assert torch.autograd.gradcheck(rates, flat)


@pytest.mark.usefixtures("unchecked_annotations")
def test_an_unknown_form_is_refused_by_name(make_problem):
    p = make_problem()
    calls = [
        lambda: update_gamma(p.middle.A, p.middle.B, p.hyperpriors, "doubled"),
        lambda: update_omega(p.middle.S, p.hyperpriors, "doubled"),
        lambda: update_lambda(p.y.square(), p.hyperpriors, "doubled"),
        lambda: solve_leaf_level(p.y, p.middle, p.hyperpriors, form="doubled"),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="form: got 'doubled', expected one of exact, paper"):
            call()
    with pytest.raises(ValueError, match="noise: got 'row', expected one of"):
        update_lambda(p.y.square(), p.hyperpriors, noise="row")
