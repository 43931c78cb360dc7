"""Section 4.5.1: moments of the low-rank part, of the residual, and the ranks, against sampling and loops."""

import itertools

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from indeed.bayes.conjugate_updates import update_gamma
from indeed.bayes.generative_model import Hyperpriors
from indeed.bayes.posterior_summaries import (
    effective_rank,
    expected_squared_residual,
    inverse_precision_tail,
    low_rank_moments,
    rank_index,
    sampled_squared_residual,
)
from indeed.bayes.variational_family import GammaFactor, GaussianFactor, MiddleLevel, RowGaussian

SAMPLES = 40_000
PROPERTY = settings(max_examples=40)


@pytest.fixture(scope="module")
def sampled(make_problem):
    """A single image, and many draws of its middle level in the place of the batch axis."""
    p = make_problem(seed=5, batch=1, channels=1, height=3, width=4, rank=2)
    many = MiddleLevel(*(GaussianFactor(*(x.expand(SAMPLES, -1, -1, -1) for x in q)) for q in p.middle))
    return p, many.rsample(p.generator)


def z_scores(samples, expected):
    return (samples.mean(0) - expected) / (samples.std(0) / len(samples) ** 0.5)


def test_exact_moments_of_the_low_rank_part_agree_with_monte_carlo(sampled):
    p, draws = sampled
    mean, variance = low_rank_moments(p.middle.A, p.middle.B)
    assert z_scores(draws.low_rank, mean[0]).abs().max() < 4.5
    assert z_scores((draws.low_rank - mean).square(), variance[0]).abs().max() < 4.5


def with_full_covariances(p, shared=()):
    """The problem's middle level with random row covariances of A and B; shared by the rows of those named."""

    def full(name):
        mean = getattr(p.middle, name).mean
        root = 0.5 * p.normal(*mean.shape, mean.shape[-1])[:, :, : 1 if name in shared else None]
        return RowGaussian(mean, root @ root.mT)

    return p.middle._replace(A=full("A"), B=full("B"))


@pytest.mark.parametrize("shared", ["", "A", "AB"])
def test_moments_with_full_covariances_by_loops(make_problem, shared):
    p = make_problem(seed=6)
    middle = with_full_covariances(p, shared)
    mean, variance = low_rank_moments(middle.A, middle.B)
    batch, channels, height, width, rank = p.sizes
    A, B = (q._replace(covariance=q.covariance.expand(*q.mean.shape, rank)) for q in middle[:2])
    expected = torch.zeros(p.y.shape, dtype=torch.float64)
    for b, c, j, n in itertools.product(range(batch), range(channels), range(height), range(width)):
        left, left_covariance = A.mean[b, c, j], A.covariance[b, c, j]
        right, right_covariance = B.mean[b, c, n], B.covariance[b, c, n]
        expected[b, c, j, n] = (
            left @ right_covariance @ left
            + right @ left_covariance @ right
            + torch.trace(left_covariance @ right_covariance)
        )
    torch.testing.assert_close(variance, expected)
    torch.testing.assert_close(mean, A.mean @ B.mean.mT)


@pytest.mark.parametrize("shared", ["", "AB"])
def test_expected_residual_with_full_covariances_agrees_with_monte_carlo(make_problem, shared):
    p = make_problem(seed=7, batch=1, channels=1, height=3, width=4, rank=3)
    middle = with_full_covariances(p, shared)
    many = MiddleLevel(*(type(q)(*(x.expand(SAMPLES, *x.shape[1:]) for x in q)) for q in middle))
    squared = sampled_squared_residual(p.y.expand(SAMPLES, -1, -1, -1), many.rsample(p.generator))
    assert z_scores(squared, expected_squared_residual(p.y, middle)[0]).abs().max() < 4.5


def test_the_papers_moments_of_the_low_rank_part_are_wrong(sampled):
    p, draws = sampled
    mean, variance = low_rank_moments(p.middle.A, p.middle.B, form="paper")
    assert z_scores(draws.low_rank, mean[0]).abs().median() > 50
    assert (variance < 0.7 * low_rank_moments(p.middle.A, p.middle.B)[1]).all()


def test_the_papers_moments_at_rank_one_are_those_of_a_product_of_densities(make_problem):
    p = make_problem(batch=1, channels=1, rank=1)
    mean, variance = low_rank_moments(p.middle.A, p.middle.B, form="paper")
    x = np.linspace(-12, 12, 20001)
    for j, k in itertools.product(range(4), range(5)):
        a, b = (
            scipy.stats.norm(q.mean[0, 0, n, 0].item(), q.std[0, 0, n, 0].item()).pdf(x)
            for q, n in zip(p.middle[:2], (j, k), strict=True)
        )
        product = a * b / (a * b).sum()
        assert mean[0, 0, j, k].item() == pytest.approx(product @ x, abs=1e-9)
        assert variance[0, 0, j, k].item() == pytest.approx(product @ x**2 - (product @ x) ** 2, abs=1e-9)


def test_the_papers_moments_follow_the_printed_fraction(make_problem):
    """mu_L = (mu_A sigma_B²' + sigma_A² mu_B') / (sigma_A² 1' + 1 sigma_B²'), products of matrices, by loops."""
    p = make_problem()
    mean, variance = low_rank_moments(p.middle.A, p.middle.B, form="paper")
    (mA, vA), (mB, vB) = ((q.mean, q.log_variance.exp()) for q in p.middle[:2])
    batch, channels, height, width, rank = p.sizes
    for b, c, j, k in itertools.product(range(batch), range(channels), range(height), range(width)):
        terms = [
            (mA[b, c, j, i] * vB[b, c, k, i] + vA[b, c, j, i] * mB[b, c, k, i], vA[b, c, j, i] * vB[b, c, k, i],
             vA[b, c, j, i] + vB[b, c, k, i])
            for i in range(rank)
        ]  # fmt: skip
        numerator, product, total = (sum(t) for t in zip(*terms, strict=True))
        torch.testing.assert_close(mean[b, c, j, k], numerator / total)
        torch.testing.assert_close(variance[b, c, j, k], product / total)


def test_expected_squared_residual_agrees_with_monte_carlo(sampled):
    p, draws = sampled
    squares = sampled_squared_residual(p.y.expand(SAMPLES, -1, -1, -1), draws)
    assert z_scores(squares, expected_squared_residual(p.y, p.middle)[0]).abs().max() < 4.5


def test_sampled_squared_residual_is_that_of_the_draw(make_problem):
    p = make_problem()
    ours = sampled_squared_residual(p.y, p.draw)
    for b, c, j, k in itertools.product(*(range(n) for n in p.sizes[:4])):
        low_rank = sum(p.draw.A[b, c, j, i] * p.draw.B[b, c, k, i] for i in range(p.sizes[4]))
        torch.testing.assert_close(ours[b, c, j, k], (p.y[b, c, j, k] - low_rank - p.draw.S[b, c, j, k]) ** 2)


def test_residuals_coincide_when_nothing_is_uncertain(make_problem):
    p = make_problem()
    certain = MiddleLevel(*(GaussianFactor(q.mean, torch.full_like(q.mean, -200.0)) for q in p.middle))
    torch.testing.assert_close(expected_squared_residual(p.y, certain), sampled_squared_residual(p.y, p.middle.means))


def test_moments_pass_gradcheck(make_problem):
    p = make_problem(batch=1, channels=1, height=2, width=3)
    flat = [x.clone().requires_grad_() for q in p.middle for x in q]

    def moments(form):
        return lambda am, av, bm, bv, *_: low_rank_moments(GaussianFactor(am, av), GaussianFactor(bm, bv), form)

    def residual(am, av, bm, bv, sm, sv):
        middle = MiddleLevel(GaussianFactor(am, av), GaussianFactor(bm, bv), GaussianFactor(sm, sv))
        return expected_squared_residual(p.y, middle)

    assert torch.autograd.gradcheck(moments("exact"), flat)
    assert torch.autograd.gradcheck(moments("paper"), flat)
    assert torch.autograd.gradcheck(residual, flat)


@PROPERTY
@given(seed=st.integers(0, 100), log_scale=st.floats(-3, 3))
def test_rescaling_a_against_b_leaves_the_law_of_the_low_rank_part(make_problem, seed, log_scale):
    A, B, _ = make_problem(seed=seed).middle
    shifted = (
        GaussianFactor(A.mean * np.exp(log_scale), A.log_variance + 2 * log_scale),
        GaussianFactor(B.mean * np.exp(-log_scale), B.log_variance - 2 * log_scale),
    )
    for ours, reference in zip(low_rank_moments(*shifted), low_rank_moments(A, B), strict=True):
        torch.testing.assert_close(ours, reference)


def test_moments_of_the_transposed_image_are_transposed(make_problem):
    A, B, _ = make_problem().middle
    for ours, reference in zip(low_rank_moments(B, A), low_rank_moments(A, B), strict=True):
        torch.testing.assert_close(ours, reference.mT)


# -- ranks -----------------------------------------------------------------------------------------------------------


def test_tail_of_an_inverse_precision_is_that_of_the_inverse_gamma():
    q = GammaFactor(torch.tensor([2.0, 66.0], dtype=torch.float64), torch.tensor([1e-3, 5.0], dtype=torch.float64))
    for threshold in (1e-4, 0.02, 0.075, 1.0):
        expected = [
            scipy.stats.invgamma(a, scale=b).sf(threshold) for a, b in zip(q.shape.numpy(), q.rate.numpy(), strict=True)
        ]
        np.testing.assert_allclose(inverse_precision_tail(q, threshold).numpy(), expected, rtol=1e-9)


def test_rank_index_counts_the_columns_that_are_surely_alive(make_problem):
    p = make_problem(rank=12)
    gamma = update_gamma(p.middle.A, p.middle.B, p.hyperpriors)
    for threshold, probability in [(0.2, 0.95), (0.6, 0.95), (0.6, 0.5), (2.0, 0.05)]:
        counts = torch.zeros(p.sizes[:2], dtype=torch.int64)
        for b, c, i in itertools.product(range(2), range(3), range(12)):
            law = scipy.stats.gamma(gamma.shape[b, c, i].item(), scale=1 / gamma.rate[b, c, i].item())
            counts[b, c] += int(law.cdf(1 / threshold) > probability)
        assert torch.equal(rank_index(gamma, threshold, probability), counts)
    # Thresholds that separate columns, so that a constant would not pass.
    assert 0 < rank_index(gamma, 0.6).sum() < 2 * 3 * 12


def test_at_128_pixels_a_column_counts_from_1_149_thresholds_on_and_1_104_in_the_papers_form():
    # With h = w = 128 and alpha0 = 2 the exact shape is 130; the boundary is the 95 % quantile of Gamma over its mean.
    threshold = 0.01
    for shape, boundary in [(130.0, 1.149), (260.0, 1.104)]:
        ratio = torch.tensor([[[boundary - 2e-3, boundary + 2e-3]]], dtype=torch.float64)
        gamma = GammaFactor(torch.full_like(ratio, shape), shape * threshold * ratio)
        assert (inverse_precision_tail(gamma, threshold) > 0.95).flatten().tolist() == [False, True]
        assert rank_index(gamma, threshold).item() == 1


def test_columns_that_vanish_do_not_count():
    mean = torch.ones(1, 1, 16, 5, dtype=torch.float64)
    mean[..., 3:] = 0
    factor = GaussianFactor(mean, torch.full_like(mean, -20.0))
    gamma = update_gamma(factor, factor, Hyperpriors())
    assert rank_index(gamma, threshold=1e-3).item() == 3


@PROPERTY
@given(seed=st.integers(0, 1000), rank=st.integers(1, 6), log_scale=st.floats(-8, 8))
def test_effective_rank_is_that_of_numpy_at_any_scale(make_problem, seed, rank, log_scale):
    p = make_problem(seed=seed, batch=1, channels=2, height=6, width=7, rank=rank)
    image = p.draw.low_rank
    expected = [np.linalg.matrix_rank(x, rtol=0.003) for x in image[0].numpy()]
    assert effective_rank(image * np.exp(log_scale))[0].tolist() == expected
    assert max(expected) <= rank


def test_effective_rank_of_an_empty_image_is_zero():
    assert effective_rank(torch.zeros(1, 1, 4, 4)).item() == 0


@pytest.mark.usefixtures("unchecked_annotations")
def test_bad_arguments_are_refused_by_name(make_problem):
    p = make_problem()
    for threshold in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=r"threshold: got .*, expected a positive number"):
            rank_index(p.leaf.gamma, threshold)
    for probability in (0.0, 1.0, 2.0):
        with pytest.raises(ValueError, match=r"probability: got .*, expected a number in \(0, 1\)"):
            rank_index(p.leaf.gamma, 0.1, probability)
    with pytest.raises(ValueError, match=r"relative_threshold: got .*, expected a number in \[0, 1\)"):
        effective_rank(p.y, 1.0)
    with pytest.raises(ValueError, match="form: got 'density', expected 'exact' or 'paper'"):
        low_rank_moments(p.middle.A, p.middle.B, "density")
