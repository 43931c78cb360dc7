"""Eq. 36 and 37: the terms of Theorem 1 that posteriors determine, and the one that is infinite."""

import math

import pytest
import torch
from torch.distributions import Gamma, Normal

from indeed.bayes import generative_model as model
from indeed.bayes.conjugate_updates import solve_leaf_level
from indeed.bayes.elbo import elbo_terms, leaf_kl, negative_elbo, sub_problem_2_terms
from indeed.bayes.generative_model import Hyperpriors
from indeed.bayes.pac_bayes import empirical_loss, empirical_terms, log_exponential_moment, right_hand_side
from indeed.bayes.posterior_summaries import sampled_squared_residual


def terms_of(p, **options):
    return empirical_terms(p.y, p.middle, p.leaf, p.hyperpriors, **options)


@pytest.mark.equation("37")
def test_the_empirical_loss_is_the_full_free_energy_without_supervision(make_problem):
    p = make_problem()
    expected = negative_elbo(elbo_terms(p.y, p.middle, p.leaf, p.hyperpriors)).mean()
    torch.testing.assert_close(empirical_loss(terms_of(p)), expected)


def test_risk_and_divergence_are_the_expectations_that_define_them(make_problem):
    p = make_problem(batch=1, channels=1, height=2, width=2, rank=1)
    n = 200_000
    many = [type(q)(*(x.expand(n, *x.shape[1:]) for x in q)) for q in (*p.middle, *p.leaf)]
    draws = [q.rsample(p.generator) for q in many[:3]] + [q.sample(p.generator) for q in many[3:]]
    A, B, S, gamma, omega, lambda_ = draws
    risk = -model.log_likelihood(p.y.expand(n, -1, -1, -1), model.low_rank(A, B), S, lambda_)
    laws = [Normal(q.mean, q.std) for q in many[:3]] + [Gamma(q.shape, q.rate) for q in many[3:]]
    log_q = sum(law.log_prob(x).flatten(1).sum(1) for law, x in zip(laws, draws, strict=True))
    log_prior = (
        model.log_prior_left(A, gamma)
        + model.log_prior_right(B, gamma)
        + model.log_prior_sparse(S, omega)
        + model.log_prior_gamma(gamma, p.hyperpriors)
        + model.log_prior_omega(omega, p.hyperpriors)
        + model.log_prior_lambda(lambda_, p.hyperpriors)
    )
    terms = terms_of(p)
    for sampled, exact in ((risk, terms.risk), (log_q - log_prior, terms.kl)):
        assert abs(sampled.mean() - exact[0]) < 5 * sampled.std() / n**0.5


def test_a_draw_replaces_the_residual_of_the_risk_and_nothing_else(make_problem):
    p = make_problem()
    expected, sampled = terms_of(p), terms_of(p, draw=p.draw)
    assert all(torch.equal(a, b) for a, b in zip(expected[1:], sampled[1:], strict=True))
    squared = sampled_squared_residual(p.y, p.draw)
    difference = expected.risk - sampled.risk
    naive = elbo_terms(p.y, p.middle, p.leaf, p.hyperpriors).fidelity - (
        0.5 * (p.leaf.lambda_.mean * squared - p.leaf.lambda_.mean_log + math.log(2 * math.pi)).sum((1, 2, 3))
    )
    torch.testing.assert_close(difference, naive)


def test_what_eq_35_drops_changes_from_posterior_to_posterior(make_problem):
    p, q = make_problem(0), make_problem(1)
    differences = []
    for one in (p, q):
        leaf = solve_leaf_level(one.y, one.middle, one.hyperpriors)
        terms = empirical_terms(one.y, one.middle, leaf, one.hyperpriors)
        torch.testing.assert_close(terms.leaf_kl, sum(leaf_kl(leaf, one.hyperpriors)))
        torch.testing.assert_close(terms.kl, terms.middle_kl + terms.leaf_kl)
        printed = sum(sub_problem_2_terms(one.middle, leaf, sampled_squared_residual(one.y, one.draw)))
        differences.append(terms.risk + terms.kl - printed)
    assert (differences[0] - differences[1]).abs().min() > 1


@pytest.mark.equation("36")
def test_the_right_hand_side_is_the_sum_and_no_smaller_than_the_computable_part(make_problem):
    loss = empirical_loss(terms_of(make_problem())).item()
    assert right_hand_side(loss, 2.0, 0.25, 1.5) == loss + 2.0
    assert right_hand_side(loss, math.inf, 0.0, 0.0) == loss
    assert right_hand_side(loss, 1.0, 1.0, math.inf) == math.inf


@pytest.mark.parametrize(
    ("numbers", "name"),
    [
        ((0.0, -1.0, 1.0, 0.0), "lipschitz_factor"),
        ((0.0, 1.0, -1.0, 0.0), "discrepancy"),
        ((0.0, 1.0, math.nan, 0.0), "discrepancy"),
        ((math.nan, 1.0, 1.0, 0.0), "loss"),
        ((0.0, 1.0, 1.0, math.nan), "constant"),
    ],
)
def test_what_cannot_be_a_term_of_the_theorem_is_refused(numbers, name):
    with pytest.raises(ValueError, match=name):
        right_hand_side(*numbers)


def test_the_exponential_moment_is_that_of_the_prior(gamma_expectation):
    h = Hyperpriors(lambda_shape=3.0, lambda_rate=0.5)
    t = torch.tensor([-2.0, -0.1, 0.0, 0.2], dtype=torch.float64)
    shape, rate = (torch.full_like(t, value) for value in (h.lambda_shape, h.lambda_rate))
    by_quadrature = gamma_expectation(lambda x: (t[:, None] * x).exp(), shape, rate).log()
    torch.testing.assert_close(log_exponential_moment(t, h), by_quadrature, rtol=1e-6, atol=1e-6)


def test_the_exponential_moment_diverges_from_the_rate_on():
    h = Hyperpriors(lambda_shape=3.0, lambda_rate=0.5)
    below, at, above = log_exponential_moment(torch.tensor([0.4999, 0.5, 0.6], dtype=torch.float64), h)
    assert math.isfinite(below)
    assert at == above == math.inf
    # The integral up to a growing limit, at t above the rate, grows without end.
    x = torch.linspace(0.01, 800, 80_000, dtype=torch.float64)
    log_integrand = Gamma(h.lambda_shape, h.lambda_rate).log_prob(x) + 0.6 * x
    partial = [log_integrand[: count + 1].logsumexp(0) for count in (20_000, 40_000, 79_999)]
    assert partial[1] - partial[0] > 15
    assert partial[2] - partial[1] > 30
