"""Truncation and optimal shrinkage of singular values."""

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import torch
from jaxtyping import TypeCheckError

from indeed.baselines.low_rank import estimated_noise_sd, marchenko_pastur_median, optimal_shrinkage, truncated_svd


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


class TestTruncatedSvd:
    @pytest.mark.parametrize("rank", [1, 3, 6])
    def test_no_competitor_of_the_same_rank_is_closer(self, rank):
        y = normal(9, 6)
        best = truncated_svd(y, rank)
        assert torch.linalg.matrix_rank(best) == rank
        error = (y - best).norm()
        for seed in range(1, 50):
            # the best matrix with a random column space, and a perturbation of the optimum
            basis = torch.linalg.qr(normal(9, rank, seed=seed)).Q
            assert (y - basis @ (basis.mT @ y)).norm() >= error - 1e-12
            U, s, Vh = torch.linalg.svd(best + 0.1 * normal(9, 6, seed=seed), full_matrices=False)
            assert (y - (U[:, :rank] * s[:rank]) @ Vh[:rank]).norm() >= error - 1e-12

    def test_full_rank_gives_the_matrix_back(self):
        y = normal(2, 3, 5, 4)
        torch.testing.assert_close(truncated_svd(y, 4), y)

    def test_each_matrix_of_a_batch_is_its_own(self):
        y = normal(2, 3, 5, 4)
        torch.testing.assert_close(truncated_svd(y, 2)[1, 2], truncated_svd(y[1, 2], 2))

    @pytest.mark.parametrize("rank", [0, -1, 5])
    def test_a_rank_that_does_not_exist_is_refused(self, rank):
        with pytest.raises(ValueError, match=rf"rank: got {rank}, expected 1 to 4 for 5 x 4"):
            truncated_svd(normal(5, 4), rank)


class TestOptimalShrinkage:
    @pytest.mark.parametrize("beta", [0.3, 1.0])
    @pytest.mark.parametrize("spike", [1.2, 2.0, 5.0])
    def test_a_singular_value_shrinks_to_the_minimiser_of_the_asymptotic_loss(self, beta, spike):
        # A spike x of the spiked model is seen at y, with vectors turned by c and d; the loss of the estimate e is
        # x^2 + e^2 - 2 x e c d (Benaych-Georges and Nadakuditi, 2012).
        seen = math.sqrt((spike + 1 / spike) * (spike + beta / spike))
        c2 = (spike**4 - beta) / (spike**4 + beta * spike**2)
        d2 = (spike**4 - beta) / (spike**4 + spike**2)
        loss = lambda e: spike**2 + e**2 - 2 * spike * e * math.sqrt(c2 * d2)  # noqa: E731
        best = scipy.optimize.minimize_scalar(loss, bounds=(0, 10), options={"xatol": 1e-10}, method="bounded").x
        n = 100
        y = torch.zeros(round(beta * n), n, dtype=torch.float64)
        y[0, 0] = seen * math.sqrt(n) * 0.2
        assert optimal_shrinkage(y, sigma=0.2)[0, 0].item() == pytest.approx(0.2 * math.sqrt(n) * best, rel=1e-6)

    def test_values_at_the_edge_of_the_noise_vanish(self):
        y = torch.zeros(50, 100, dtype=torch.float64)
        edge = math.sqrt(100) + math.sqrt(50)
        y[0, 0], y[1, 1] = edge * 1.0001, edge * 0.9999
        kept = optimal_shrinkage(y, sigma=1.0)
        assert kept[0, 0] > 0
        assert kept[1, 1] == 0

    @pytest.mark.parametrize("sigma", [0.05, None])
    def test_it_beats_every_truncation(self, sigma):
        truth = normal(120, 4) @ normal(4, 80, seed=1) / 10
        y = truth + 0.05 * normal(120, 80, seed=2)
        errors = [(truncated_svd(y, rank) - truth).norm() for rank in range(1, 20)]
        assert (optimal_shrinkage(y, sigma) - truth).norm() < min(errors)

    def test_the_transposed_matrix_has_the_transposed_estimate(self):
        y = normal(30, 3) @ normal(3, 20, seed=1) + normal(30, 20, seed=2)
        torch.testing.assert_close(optimal_shrinkage(y.mT), optimal_shrinkage(y).mT)

    def test_without_noise_nothing_changes(self):
        y = normal(2, 6, 5)
        torch.testing.assert_close(optimal_shrinkage(y, sigma=0.0), y)

    def test_zero_stays_zero(self):
        assert not optimal_shrinkage(torch.zeros(2, 4, 3)).any()

    def test_a_constant_image_is_kept(self):
        torch.testing.assert_close(optimal_shrinkage(torch.full((1, 1, 6, 5), 0.5)), torch.full((1, 1, 6, 5), 0.5))

    def test_each_matrix_of_a_batch_has_its_own_noise(self):
        y = torch.stack([normal(20, 15), 10 * normal(20, 15, seed=1)])
        y[:, 0, 0] += 500
        torch.testing.assert_close(optimal_shrinkage(y)[1], optimal_shrinkage(y[1]))

    @pytest.mark.parametrize("sigma", [-1.0, math.nan, math.inf])
    def test_a_bad_noise_level_is_refused(self, sigma):
        with pytest.raises(ValueError, match="sigma: got"):
            optimal_shrinkage(normal(3, 3), sigma)


class TestNoiseLevel:
    @pytest.mark.parametrize("shape", [(200, 200), (100, 300), (300, 40)])
    def test_of_noise_and_a_low_rank_part_it_is_that_of_the_noise(self, shape):
        y = 0.3 * normal(*shape) + 10 * normal(shape[0], 2, seed=1) @ normal(2, shape[1], seed=2)
        assert estimated_noise_sd(y).item() == pytest.approx(0.3, rel=0.05)

    @pytest.mark.parametrize("beta", [0.1, 0.5, 1.0])
    def test_half_of_the_marchenko_pastur_law_lies_below_the_median(self, beta):
        low, high = (1 - math.sqrt(beta)) ** 2, (1 + math.sqrt(beta)) ** 2

        def density(x):
            return math.sqrt(max((high - x) * (x - low), 0)) / (2 * math.pi * beta * x)

        median = marchenko_pastur_median(beta)
        assert scipy.integrate.quad(density, median, high)[0] == pytest.approx(0.5, abs=1e-6)

    @pytest.mark.parametrize("beta", [0.0, 1.5])
    def test_an_impossible_ratio_is_refused(self, beta):
        with pytest.raises(ValueError, match="beta: got"):
            marchenko_pastur_median(beta)


@pytest.mark.parametrize("call", [lambda y: truncated_svd(y, 1), optimal_shrinkage, estimated_noise_sd])
class TestBadInput:
    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_values_that_are_not_finite_are_refused(self, call, value):
        with pytest.raises(ValueError, match="y: got NaN or infinite values"):
            call(torch.full((3, 3), value))

    def test_integers_are_refused(self, call):
        with pytest.raises((TypeError, TypeCheckError)):
            call(torch.ones(3, 3, dtype=torch.long))

    def test_an_image_without_pixels_is_refused(self, call):
        with pytest.raises(ValueError, match="at least one pixel"):
            call(torch.zeros(0, 3))


def test_a_single_pixel_is_its_own_approximation():
    pixel = torch.full((1, 1), 0.5)
    assert truncated_svd(pixel, 1).item() == pytest.approx(0.5)


def test_single_precision_stays_single():
    y = torch.rand(2, 5, 4, generator=generator())
    assert truncated_svd(y, 2).dtype == optimal_shrinkage(y).dtype == estimated_noise_sd(y).dtype == torch.float32
    np.testing.assert_allclose(truncated_svd(y, 2), truncated_svd(y.double(), 2), atol=1e-5)
