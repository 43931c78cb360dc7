"""Proxies of the discrepancy: against SciPy, naive twins, and what they are between samples of one law."""

import numpy as np
import pytest
import scipy.stats
import torch

from indeed.bayes.conjugate_updates import solve_leaf_level
from indeed.bayes.elbo import sub_problem_2_terms
from indeed.bayes.generative_model import Hyperpriors
from indeed.bayes.variational_family import GaussianFactor, MiddleLevel
from indeed.learning.diagnostics.discrepancy import (
    loss_coordinates,
    mean_distance,
    patch_statistics,
    permutation_p_value,
    sliced_wasserstein,
    squared_mmd,
    standardised_features,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*size, seed=0, shift=0.0):
    return torch.randn(size, generator=generator(seed), dtype=torch.float64) + shift


def test_the_sliced_distance_in_one_dimension_is_that_of_scipy():
    x, y = normal(30, 1), 2 * normal(20, 1, seed=1) + 1
    expected = scipy.stats.wasserstein_distance(x[:, 0].numpy(), y[:, 0].numpy())
    assert sliced_wasserstein(x, y, directions=3, generator=generator()) == pytest.approx(expected)


def test_the_sliced_distance_is_below_the_distance_of_the_sets():
    x, y = normal(12, 3), normal(9, 3, seed=1, shift=0.5)
    whole = scipy.stats.wasserstein_distance_nd(x.numpy(), y.numpy())
    found = sliced_wasserstein(x, y, generator=generator())
    assert 0.2 * whole < found < whole


def test_the_sliced_distance_of_a_shift_is_its_length_times_the_mean_cosine():
    x, shift = normal(8, 2), torch.tensor([3.0, 4.0])
    found = sliced_wasserstein(x, x + shift, directions=4000, generator=generator())
    assert found == pytest.approx(5 * 2 / np.pi, rel=0.03)


def test_the_squared_discrepancy_is_the_mean_of_the_kernel_over_pairs():
    x, y, b = normal(5, 2), normal(4, 2, seed=1), 0.8

    def kernel(u, v):
        return np.exp(-float((u - v).square().sum()) / (2 * b**2))

    within = [np.mean([kernel(u, v) for i, u in enumerate(s) for j, v in enumerate(s) if i != j]) for s in (x, y)]
    across = np.mean([kernel(u, v) for u in x for v in y])
    assert squared_mmd(x, y, bandwidth=b) == pytest.approx(sum(within) - 2 * across)


def test_the_bandwidth_is_the_median_distance():
    x, y = normal(6, 2), normal(5, 2, seed=1)
    together = torch.cat([x, y])
    distances = torch.pdist(together)
    assert squared_mmd(x, y) == pytest.approx(squared_mmd(x, y, bandwidth=distances.median().item()))
    same = torch.ones(3, 2)
    assert squared_mmd(same, same) == 0


def test_the_squared_discrepancy_has_mean_zero_within_a_law_and_is_positive_across():
    same = [squared_mmd(normal(20, 2, seed=2 * i), normal(20, 2, seed=2 * i + 1), bandwidth=1.0) for i in range(200)]
    assert abs(np.mean(same)) < 4 * np.std(same) / len(same) ** 0.5
    assert min(same) < 0
    assert squared_mmd(normal(40, 2), normal(40, 2, seed=1, shift=1.0), bandwidth=1.0) > 5 * np.std(same)


def test_the_mean_distance_of_two_sets_of_one_law_does_not_fall_with_their_sizes():
    small, large = (mean_distance(normal(n, 4), normal(n, 4, seed=1)) for n in (50, 800))
    assert small == pytest.approx(large, rel=0.1)
    assert large == pytest.approx(np.sqrt(2) * scipy.stats.chi(4).mean(), rel=0.03)


def test_the_test_is_that_of_scipy():
    x, y = normal(8, 1), normal(7, 1, seed=1, shift=0.8)

    def distance(first, second):
        return abs(first.mean() - second.mean()).item()

    ours = permutation_p_value(x, y, distance, permutations=1999, generator=generator())
    theirs = scipy.stats.permutation_test(
        (x[:, 0].numpy(), y[:, 0].numpy()),
        lambda a, b: abs(a.mean() - b.mean()),
        n_resamples=np.inf,
        alternative="greater",
    ).pvalue
    assert ours == pytest.approx(theirs, abs=4 * (theirs * (1 - theirs) / 2000) ** 0.5)


def test_the_test_is_exact_within_a_law_and_sees_a_shift():
    values = [
        permutation_p_value(
            normal(8, 2, seed=2 * i), normal(8, 2, seed=2 * i + 1), squared_mmd, permutations=19, generator=generator(i)
        )
        for i in range(100)
    ]
    assert np.mean(np.array(values) <= 0.2) == pytest.approx(0.2, abs=0.12)
    shifted = normal(8, 2, seed=1, shift=3.0)
    assert permutation_p_value(normal(8, 2), shifted, squared_mmd, permutations=99, generator=generator()) == 0.01


def test_standardised_features_have_mean_zero_and_variance_one_together():
    x, y = normal(6, 3), normal(5, 3, seed=1)
    x[:, 2] = y[:, 2] = 7
    together = torch.cat(standardised_features(1000 * x + 5, 1000 * y + 5))
    torch.testing.assert_close(together.mean(0), torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(together.square().mean(0), torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64))


def test_the_statistics_of_a_patch_are_what_they_say():
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    found = patch_statistics(torch.cat([ramp, torch.full_like(ramp, 2)]))
    assert found.shape == (2, 5)
    assert found[0, 0] == 3.5
    torch.testing.assert_close(found[0, 1:3].exp(), torch.tensor([5.25**0.5, 1.0]))
    assert found[0, 3:].max() < -13  # no differences from row to row
    assert found[1, 1:].max() < -13


def test_noise_raises_the_mixed_difference_to_twice_its_deviation():
    noise = 0.1 * normal(4, 2, 64, 64)
    torch.testing.assert_close(patch_statistics(noise)[:, 4].exp(), torch.full((4,), 0.2).double(), rtol=0.05, atol=0)


def test_the_loss_coordinates_are_the_terms_of_the_loss_a_pixel():
    A, B, S = (GaussianFactor(normal(2, 1, *size), normal(2, 1, *size, seed=1)) for size in ((4, 2), (6, 2), (4, 6)))
    middle, y = MiddleLevel(A, B, S), normal(2, 1, 4, 6, seed=2)
    leaf = solve_leaf_level(y, middle, Hyperpriors())
    terms = sub_problem_2_terms(middle, leaf, y.square())
    torch.testing.assert_close(loss_coordinates(middle, leaf), torch.stack([terms.rank, terms.sparsity], 1) / 24)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: sliced_wasserstein(x, x[:, :1], generator=generator()), "second: got 1 features, expected 2"),
        (lambda x: squared_mmd(x[:1], x), "at least 2 each"),
        (lambda x: squared_mmd(x, x, bandwidth=0.0), "bandwidth: got 0.0, expected a positive"),
        (
            lambda x: sliced_wasserstein(x, x, directions=0, generator=generator()),
            "directions: got 0, expected at least 1",
        ),
        (lambda x: permutation_p_value(x, x, squared_mmd, permutations=0, generator=generator()), "permutations"),
        (lambda x: mean_distance(x[:0], x), "got 0 and 4 samples"),
    ],
)
def test_what_cannot_be_compared_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(normal(4, 2))
