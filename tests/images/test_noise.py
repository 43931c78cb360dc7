"""The noises have the distributions they state: moments, normality, correlation, and nothing is clipped."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from indeed.images import noise


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def flat(level: float, batch: int = 1, side: int = 256) -> torch.Tensor:
    return torch.full((batch, 1, side, side), level, dtype=torch.float64)


@given(st.floats(0, 0.3), st.floats(1e-3, 0.5), st.integers(0, 2**32))
def test_uniform_sigma_excludes_low_and_never_exceeds_high(low, width, seed):
    sigma = noise.uniform_sigma(64, low, low + width, seeded(seed))
    assert bool((sigma > low).all() | torch.isclose(sigma, torch.tensor(low)).any())
    assert bool((sigma <= torch.tensor(low + width)).all())


def test_uniform_sigma_is_uniform():
    from scipy.stats import kstest

    sigma = noise.uniform_sigma(20_000, 0.1, 0.3, seeded())
    assert kstest(sigma.double().numpy(), "uniform", args=(0.1, 0.2)).pvalue > 0.01


def test_uniform_sigma_takes_the_closed_end(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda *size, **_: torch.tensor([0.0, 1 - 2**-24]))
    sigma = noise.uniform_sigma(2, 0.0, 0.25, seeded())
    assert sigma[0] == 0.25
    assert sigma[1] > 0


def test_gaussian_is_normal_with_the_stated_sigma():
    from scipy.stats import kstest

    drawn = (noise.gaussian(flat(0.5), 0.1, seeded()) - 0.5).numpy().ravel()
    assert kstest(drawn, "norm", args=(0, 0.1)).pvalue > 0.01


def test_gaussian_is_not_clipped():
    noisy = noise.gaussian(flat(1.0), 0.1, seeded())
    assert math.isclose((noisy > 1).double().mean().item(), 0.5, abs_tol=0.01)


def test_noise_depends_on_the_seed_and_the_size_of_the_image_only():
    clean = torch.rand(3, 20, 24, generator=torch.Generator().manual_seed(1))
    drawn = noise.seeded_gaussian(clean, 50, seed=0) - clean
    torch.testing.assert_close(noise.seeded_gaussian(torch.zeros_like(clean), 50, seed=0), drawn)
    assert not torch.allclose(noise.seeded_gaussian(clean, 50, seed=1) - clean, drawn)
    assert bool((noise.seeded_gaussian(clean, 50, seed=0) < 0).any())  # unclipped


def test_gaussian_range_draws_one_level_per_image():
    noisy = noise.gaussian(flat(0.5, batch=32, side=64), (0.0, 0.3), seeded())
    levels = noisy.std(dim=(1, 2, 3))
    expected = noise.uniform_sigma(32, 0.0, 0.3, seeded()).double()
    assert torch.allclose(levels, expected, rtol=0.05)


def test_gaussian_takes_one_level_per_image():
    sigma = torch.tensor([0.0, 0.1, 0.2], dtype=torch.float64)
    noisy = noise.gaussian(flat(0.5, batch=3), sigma, seeded())
    assert torch.equal(noisy[0], flat(0.5)[0])
    assert torch.allclose(noisy.std(dim=(1, 2, 3)), sigma, rtol=0.02)


@given(st.floats(0.05, 1), st.floats(5, 500), st.floats(0, 0.1))
def test_poisson_gaussian_mean_is_the_image_and_variance_is_affine_in_it(level, photons, read_noise):
    noisy = noise.poisson_gaussian(flat(level, side=128), photons, read_noise, seeded())
    variance = level / photons + read_noise**2
    n = noisy.numel()
    excess = level / photons**3 / variance**2  # fourth cumulant over squared variance, for the error of the variance
    assert abs(noisy.mean().item() - level) < 5 * math.sqrt(variance / n)
    assert abs(noisy.var().item() / variance - 1) < 5 * math.sqrt((2 + excess) / n)


def test_poisson_gaussian_without_read_noise_counts_photons():
    counts = 20 * noise.poisson_gaussian(flat(0.3, side=32), 20.0, 0.0, seeded())
    assert torch.allclose(counts, counts.round(), atol=1e-9)
    assert not bool(noise.poisson_gaussian(flat(0.0, side=8), 20.0, 0.0, seeded()).any())


@pytest.mark.parametrize("length", [0.5, 1.0, 2.5])
def test_correlated_gaussian_has_the_stated_sigma_and_correlation(length):
    drawn = noise.correlated_gaussian(flat(0.0, batch=16), 0.2, length, seeded())
    # effective number of independent samples: pixels over the correlation area, 4 pi l^2
    tolerance = 5 * math.sqrt(2 * max(4 * math.pi * length**2, 1) / drawn.numel())
    assert abs(drawn.var().item() / 0.04 - 1) < tolerance
    for lag in (1, 2, 4):
        measured = (drawn[..., lag:] * drawn[..., :-lag]).mean().item() / 0.04
        offsets = np.arange(-40, 41)
        kernel = np.exp(-((offsets / length) ** 2) / 2)
        exact = (kernel[lag:] * kernel[:-lag]).sum() / (kernel**2).sum()
        assert abs(measured - exact) < tolerance
        if length >= 1:
            assert math.isclose(exact, math.exp(-(lag**2) / (4 * length**2)), abs_tol=1e-3)


def test_correlated_gaussian_is_stationary_up_to_the_border():
    drawn = noise.correlated_gaussian(flat(0.0, batch=4000, side=6), 0.2, 2.0, seeded())
    spread = drawn.std(dim=(0, 1))
    assert torch.allclose(spread, torch.full_like(spread, 0.2), rtol=5 / math.sqrt(2 * 4000))


def test_correlated_gaussian_with_a_vanishing_length_is_white():
    drawn = noise.correlated_gaussian(flat(0.0), 0.1, 1e-3, seeded())
    assert abs((drawn[..., 1:] * drawn[..., :-1]).mean().item()) < 5 * 0.01 / 256


def test_colours_carry_independent_noise():
    image = torch.zeros(1, 3, 200, 200, dtype=torch.float64)
    for drawn in (
        noise.gaussian(image, 0.1, seeded()),
        noise.correlated_gaussian(image, 0.1, 1.0, seeded()),
        noise.poisson_gaussian(image + 0.5, 50.0, 0.01, seeded()),
    ):
        correlation = torch.corrcoef(drawn[0].flatten(1))
        assert torch.allclose(correlation, torch.eye(3, dtype=torch.float64), atol=0.05)


@pytest.mark.parametrize(
    "draw",
    [
        lambda x, g: noise.gaussian(x, (0.0, 0.3), g),
        lambda x, g: noise.poisson_gaussian(x, 30.0, 0.02, g),
        lambda x, g: noise.correlated_gaussian(x, 0.1, 1.5, g),
    ],
)
def test_the_same_seed_gives_the_same_noise_and_another_seed_another(draw):
    image = torch.rand(2, 3, 17, 13, generator=seeded())
    assert torch.equal(draw(image, seeded(1)), draw(image, seeded(1)))
    assert not torch.equal(draw(image, seeded(1)), draw(image, seeded(2)))
    assert draw(image, seeded(1)).dtype == torch.float32


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda x, g: noise.gaussian(x, -0.1, g), "sigma"),
        (lambda x, g: noise.gaussian(x, math.nan, g), "sigma"),
        (lambda x, g: noise.gaussian(x, (0.3, 0.1), g), "low, high"),
        (lambda x, g: noise.uniform_sigma(0, 0.0, 0.1, g), "batch"),
        (lambda x, g: noise.poisson_gaussian(x, 0.0, 0.1, g), "photons"),
        (lambda x, g: noise.poisson_gaussian(x, 10.0, -0.1, g), "read_noise"),
        (lambda x, g: noise.poisson_gaussian(x - 1, 10.0, 0.1, g), "image"),
        (lambda x, g: noise.correlated_gaussian(x, 0.1, 0.0, g), "correlation_length"),
    ],
)
def test_bad_arguments_are_named(call, name):
    with pytest.raises(ValueError, match=f"^{name}: got"):
        call(torch.full((1, 1, 4, 4), 0.5), seeded())
