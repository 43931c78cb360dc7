"""Anomaly maps against densities, quadrature and loops, and how they depend on each other."""

import itertools
import math

import pytest
import scipy.integrate
import scipy.ndimage
import scipy.stats
import torch

from indeed.bayes.anomaly_maps import ANOMALY_MAPS, magnitude, prior_scale, share, smoothed, standardised
from indeed.bayes.conjugate_updates import update_omega
from indeed.bayes.generative_model import Hyperpriors, low_rank
from indeed.bayes.variational_family import GaussianFactor
from indeed.images.noise import GREY_LEVEL


def pixels(p):
    return itertools.product(range(p.sizes[0]), range(p.sizes[2]), range(p.sizes[3]))


def test_magnitude_sums_the_colours(make_problem):
    p = make_problem()
    ours = magnitude(p.y, p.middle, p.leaf)
    for b, j, k in pixels(p):
        assert ours[b, j, k].item() == pytest.approx(sum(abs(x) for x in p.middle.S.mean[b, :, j, k].tolist()))


def test_half_the_squared_standardised_map_is_the_log_ratio_of_the_posterior_at_its_mean_and_at_zero(make_problem):
    p = make_problem()
    law = torch.distributions.Normal(p.middle.S.mean, p.middle.S.std)
    ratio = (law.log_prob(p.middle.S.mean) - law.log_prob(torch.zeros(p.y.shape, dtype=p.y.dtype))).sum(1)
    torch.testing.assert_close(0.5 * standardised(p.y, p.middle, p.leaf).square(), ratio)


def test_standardised_map_of_one_colour_is_the_mean_over_the_deviation(make_problem):
    p = make_problem(channels=1)
    S = p.middle.S
    torch.testing.assert_close(standardised(p.y, p.middle, p.leaf), (S.mean.abs() / S.variance.sqrt())[:, 0])


def test_prior_scale_is_the_mean_of_the_inverse_square_root_of_omega_by_quadrature(make_problem, gamma_expectation):
    p = make_problem()
    shape, rate = p.leaf.omega
    expected = gamma_expectation(lambda omega: omega.rsqrt(), shape, rate).sum(1)
    torch.testing.assert_close(prior_scale(p.y, p.middle, p.leaf), expected, rtol=1e-9, atol=0)
    law = scipy.stats.gamma(shape[0, 0, 0, 0].item(), scale=1 / rate[0, 0, 0, 0].item())
    assert gamma_expectation(lambda omega: omega.rsqrt(), shape, rate)[0, 0, 0, 0].item() == pytest.approx(
        scipy.integrate.quad(lambda omega: law.pdf(omega) / math.sqrt(omega), 0, math.inf)[0], rel=1e-6
    )


def test_in_closed_form_the_prior_scale_of_one_colour_orders_pixels_by_their_second_moment(make_problem):
    p = make_problem(channels=1, height=20, width=30)
    leaf = p.leaf._replace(omega=update_omega(p.middle.S, p.hyperpriors))
    order = prior_scale(p.y, p.middle, leaf).flatten().argsort()
    assert torch.equal(order, p.middle.S.second_moment.flatten().argsort())
    assert not torch.equal(order, magnitude(p.y, p.middle, leaf).flatten().argsort())


def test_where_the_sparsity_term_sets_the_variance_every_map_orders_pixels_as_the_magnitude_does(make_problem):
    p = make_problem(channels=1, height=20, width=30)
    mean, hyperpriors = 1e-2 * p.middle.S.mean, Hyperpriors()
    S = GaussianFactor(mean, torch.zeros_like(mean))
    for _ in range(60):  # 1 / sigma^2 = E[omega] is the stationary point of the sparsity term; the step contracts by 5
        S = S._replace(log_variance=-update_omega(S, hyperpriors).mean.log())
    torch.testing.assert_close(S.variance, (2 * hyperpriors.omega_rate + mean.square()) / 4)
    middle, leaf = p.middle._replace(S=S), p.leaf._replace(omega=update_omega(S, hyperpriors))
    order = magnitude(p.y, middle, leaf).flatten().argsort()
    for anomaly_map in (magnitude, standardised, prior_scale):
        assert torch.equal(anomaly_map(p.y, middle, leaf).flatten().argsort(), order)
    assert 1.9 < standardised(p.y, middle, leaf).max() < 2


def test_share_of_a_shrunk_residual_is_the_shrinkage_however_faint_the_defect_and_a_grey_level_counts_half(
    make_problem,
):
    p = make_problem(channels=1)
    L = low_rank(p.middle.A.mean, p.middle.B.mean)
    for residual, expected in ((1e3, 0.8), (1e5, 0.8), (0.0, 0.0), (GREY_LEVEL, 0.4)):
        S = p.middle.S._replace(mean=torch.full_like(p.y, 0.8 * residual))
        ours = share(L + residual, p.middle._replace(S=S), p.leaf)
        torch.testing.assert_close(ours, torch.full_like(ours, expected), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("name", ANOMALY_MAPS)
def test_a_defect_stands_out_in_every_map_and_no_value_is_negative(make_problem, name):
    p = make_problem(channels=3, height=8, width=9)
    mean = 1e-4 * p.middle.S.mean
    mean[0, :, 2, 3] -= 0.5
    S = GaussianFactor(mean, torch.full_like(mean, -8.0))
    leaf = p.leaf._replace(omega=update_omega(S, Hyperpriors()))
    y = low_rank(p.middle.A.mean, p.middle.B.mean) + mean + 0.1
    values = ANOMALY_MAPS[name](y, p.middle._replace(S=S), leaf)
    assert values.shape == (2, 8, 9)
    assert values.argmax().item() == 2 * 9 + 3
    assert bool((values >= 0).all())


@pytest.mark.parametrize("sigma", [0.8, 2.0])
def test_smoothing_within_the_image_is_that_of_scipy(make_problem, sigma):
    image = make_problem().normal(2, 50, 44)
    expected = scipy.ndimage.gaussian_filter(image.numpy(), (0, sigma, sigma), truncate=8)
    inner = (slice(None), slice(17, -17), slice(17, -17))
    torch.testing.assert_close(smoothed(image, sigma)[inner], torch.from_numpy(expected)[inner])


def test_smoothing_keeps_a_constant_up_to_the_border():
    torch.testing.assert_close(smoothed(torch.full((1, 20, 33), 0.3)), torch.full((1, 20, 33), 0.3))


@pytest.mark.parametrize("sigma", [0, -1, math.nan, math.inf])
def test_a_bad_width_is_refused(sigma):
    with pytest.raises(ValueError, match=r"^sigma: got"):
        smoothed(torch.zeros(1, 8, 8), sigma)
