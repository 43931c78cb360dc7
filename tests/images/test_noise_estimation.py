"""The law of the noise is recovered from one image, and what is drawn from a law has it."""

import math
import statistics

import pytest
import torch

from indeed.data.samples import sample_image
from indeed.images.noise import GREY_LEVEL, correlated_gaussian, gaussian, poisson_gaussian
from indeed.images.noise_estimation import RELIABLE_RISE, NoiseLaw, estimate_noise
from indeed.images.shifts import demosaicked_gaussian


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photograph(name: str) -> torch.Tensor:
    return sample_image(name)[None, :, :512, :512]


def rms(law: NoiseLaw, clean: torch.Tensor) -> float:
    return law.sigma(clean).square().mean().sqrt().item()


def correlation(noise: torch.Tensor) -> float:
    """Of vertical and horizontal neighbours."""
    products = (noise[..., 1:] * noise[..., :-1]).mean() + (noise[..., 1:, :] * noise[..., :-1, :]).mean()
    return (products / 2 / noise.square().mean()).item()


def lopsided() -> NoiseLaw:
    """Two colours, of which the second is in part a copy of the first, displaced by a row and two columns."""
    covariance = torch.zeros(2, 2, 5, 5)
    covariance[0, 0, 2, 2], covariance[1, 1, 2, 2] = 1.4, 0.6
    covariance[0, 1, 1, 0] = covariance[1, 0, 3, 4] = 0.5
    covariance[1, 1, 2, 3] = covariance[1, 1, 2, 1] = 0.2
    return NoiseLaw(covariance, (1e-3, 9e-3))


def autocovariance(noise: torch.Tensor, radius: int) -> torch.Tensor:
    """Over the pixels that have all neighbours, lag by lag."""
    inner = noise[..., radius:-radius, radius:-radius]
    height, width = inner.shape[2:]
    lags = [
        torch.einsum("nchw,ndhw->cd", inner, noise[..., y : y + height, x : x + width])
        for y in range(2 * radius + 1)
        for x in range(2 * radius + 1)
    ]
    return torch.stack(lags, 2).view(*lags[0].shape, 2 * radius + 1, -1) / inner[:, 0].numel()


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_noise_drawn_from_a_law_has_its_covariance_times_the_gain_and_is_not_clipped(level):
    law = lopsided()
    clean = torch.full((8, 2, 120, 90), level)
    noise = law.sample(clean, seeded()) - clean
    gain = 1e-3 + 9e-3 * level
    assert abs(noise.mean().item()) < 5 * math.sqrt(2.4 * gain / noise.numel())
    assert torch.allclose(autocovariance(noise, 2), gain * law.covariance, atol=5 * gain * 1.5 / math.sqrt(86_400))
    assert torch.allclose(law.sigma(clean)[0, :, 0, 0], torch.tensor([1.4 * gain, 0.6 * gain]).sqrt())
    assert (clean + noise < 0).any() == (level == 0)
    assert (clean + noise > 1).any() == (level == 1)


def test_opposite_borders_of_drawn_noise_are_independent():
    clean = torch.zeros(4000, 2, 6, 6)
    noise = lopsided().sample(clean, seeded())[:, 1]
    noise = noise / noise.std()
    assert abs((noise[:, :, 0] * noise[:, :, -1]).mean().item()) < 5 / math.sqrt(24_000)


def test_the_same_seed_gives_the_same_noise():
    clean = torch.full((1, 2, 9, 9), 0.5)
    law = lopsided()
    assert torch.equal(law.sample(clean, seeded(1)), law.sample(clean, seeded(1)))
    assert not torch.equal(law.sample(clean, seeded(1)), law.sample(clean, seeded(2)))


def test_a_law_sampled_on_a_flat_image_is_recovered_but_for_the_displacement_between_colours():
    law = lopsided()
    for level in (0.3, 0.8):
        clean = torch.full((1, 2, 512, 512), level)
        found = estimate_noise(law.sample(clean, seeded())[0], radius=3)
        gain = (found.gain[0] + found.gain[1] * level) / (1e-3 + 9e-3 * level)
        exact = torch.nn.functional.pad(law.covariance + law.covariance.flip(2, 3), (1, 1, 1, 1)) / 2
        assert torch.allclose(gain * found.covariance, exact, atol=0.06)
        assert found.covariance.dtype == torch.float32


def test_choosing_the_quietest_blocks_does_not_lower_the_level():
    # each block would be some 20 % too quiet if it were measured where it is chosen for its own energy
    ratios = [estimate_noise(gaussian(torch.full((1, 1, 256, 256), 0.5), 0.1, seeded(s))[0]) for s in range(12)]
    levels = torch.tensor([rms(law, torch.full((1, 1, 1, 1), 0.5)) / 0.1 for law in ratios])
    assert abs(levels.mean().item() - 1) < 0.012
    assert levels.std().item() < 0.03


@pytest.mark.parametrize(("photons", "read"), [(200.0, 3 * GREY_LEVEL), (50.0, 0.0)])
def test_a_gain_in_proportion_to_the_intensity_is_recovered_on_a_ramp(photons, read):
    ramp = torch.linspace(0.02, 0.98, 512).expand(1, 3, 512, 512)
    law = estimate_noise(poisson_gaussian(ramp, photons, read, seeded())[0])
    for level in (0.1, 0.5, 0.9):
        exact = math.sqrt(level / photons + read**2)
        assert math.isclose(rms(law, torch.full((1, 3, 1, 1), level)), exact, rel_tol=0.06)


CORRELATED = {
    "white 15": lambda x: gaussian(x, 15 * GREY_LEVEL, seeded()),
    "length 0.7": lambda x: correlated_gaussian(x, 10 * GREY_LEVEL, 0.7, seeded()),
    "length 1": lambda x: correlated_gaussian(x, 10 * GREY_LEVEL, 1.0, seeded()),
    "demosaicked": lambda x: demosaicked_gaussian(x, 20 * GREY_LEVEL, seeded()),
    "Poisson": lambda x: poisson_gaussian(x, 200, 3 * GREY_LEVEL, seeded()),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(CORRELATED))
@pytest.mark.parametrize("name", ["astronaut", "brick", "camera", "coffee", "moon", "rocket"])
def test_on_photographs_level_and_correlation_are_found(name, kind):
    clean = photograph(name)
    noisy = CORRELATED[kind](clean)
    law, noise = estimate_noise(noisy[0]), noisy - clean
    assert law.reliable
    assert -0.03 < rms(law, clean) / noise.std().item() - 1 < 0.08
    assert abs(law.neighbour_correlation - correlation(noise)) < 0.09


@pytest.mark.slow
@pytest.mark.parametrize("level", [3, 5])
@pytest.mark.parametrize("name", ["astronaut", "brick", "camera", "chelsea", "moon", "rocket"])
def test_weak_noise_is_found_on_top_of_what_the_photograph_has(name, level):
    clean = photograph(name)
    own = rms(estimate_noise(clean[0]), clean) / GREY_LEVEL
    found = rms(estimate_noise(gaussian(clean, level * GREY_LEVEL, seeded())[0]), clean) / GREY_LEVEL
    assert 0.98 * level < found < 1.07 * math.hypot(level, own)


def test_for_white_noise_the_wavelet_estimate_agrees():
    from skimage.restoration import estimate_sigma

    for name in ("camera", "rocket", "astronaut"):
        noisy = gaussian(photograph(name), 15 * GREY_LEVEL, seeded())[0]
        wavelet = estimate_sigma(noisy.numpy(), channel_axis=0, average_sigmas=True)
        assert math.isclose(rms(estimate_noise(noisy), photograph(name)), wavelet, rel_tol=0.06)


@pytest.mark.parametrize("kind", list(CORRELATED))
@pytest.mark.parametrize("name", ["grass", "gravel"])
def test_a_texture_that_fills_the_image_is_taken_for_noise_and_the_estimate_says_that_it_is_not_reliable(name, kind):
    clean = photograph(name)
    law = estimate_noise(CORRELATED[kind](clean)[0])
    assert rms(law, clean) > 20 * GREY_LEVEL
    assert law.neighbour_correlation > 0.4
    assert not law.reliable


@pytest.mark.slow
def test_noise_alone_has_a_floor_at_zero():
    rises = []
    for seed in range(20):
        noise = 0.5 + correlated_gaussian(torch.zeros(1, 3, 192, 192), 0.05, 1.0, torch.Generator().manual_seed(seed))
        rises.append(estimate_noise(noise[0]).floor_rise)
    assert abs(statistics.fmean(rises)) < 3 * statistics.stdev(rises) / math.sqrt(len(rises)) + 1e-3
    assert max(rises) < RELIABLE_RISE


def test_the_spectrum_has_no_negative_eigenvalue_to_speak_of():
    law = estimate_noise(correlated_gaussian(photograph("camera"), 0.05, 1.2, seeded())[0])
    spectrum = torch.fft.fft2(torch.nn.functional.pad(law.covariance, (0, 31, 0, 31)).roll((-4, -4), (2, 3)))
    values = torch.linalg.eigvalsh(spectrum.permute(2, 3, 0, 1))
    assert values.min() > -0.03 * values.max()


def test_an_image_without_noise_has_none():
    law = estimate_noise(torch.linspace(0.1, 0.9, 128).expand(3, 128, 128))
    clean = torch.full((1, 3, 20, 20), 0.5)
    assert law.gain == (0, 0)
    assert torch.equal(law.sample(clean, seeded()), clean)


def test_saturated_blocks_are_left_out():
    clean = photograph("camera").clone()
    clean[..., :160] = -0.5
    clean[..., 400:] = 1.5
    clipped = gaussian(clean, 10 * GREY_LEVEL, seeded()).clamp(0, 1)
    assert math.isclose(rms(estimate_noise(clipped[0]), clean), 10 * GREY_LEVEL, rel_tol=0.1)
    with pytest.raises(ValueError, match=r"^image: got 64x64 pixels with 0 blocks .* not saturated"):
        estimate_noise(torch.ones(1, 64, 64))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: estimate_noise(torch.full((1, 64, 64), math.nan)), "image"),
        (lambda: estimate_noise(torch.full((1, 12, 400), 0.5)), "image"),
        (lambda: estimate_noise(torch.rand(1, 64, 64), radius=8), "radius"),
        (lambda: NoiseLaw(torch.ones(1, 1, 2, 2), (1.0, 0.0)), "covariance"),
        (lambda: NoiseLaw(torch.zeros(1, 1, 3, 3), (1.0, 0.0)), "covariance"),
        (lambda: NoiseLaw(torch.arange(9.0).view(1, 1, 3, 3), (1.0, 0.0)), "covariance"),
        (lambda: NoiseLaw(torch.ones(1, 1, 1, 1), (1.0, -2.0)), "gain"),
        (lambda: lopsided().sample(torch.zeros(1, 3, 8, 8), seeded()), "clean"),
    ],
)
def test_bad_arguments_are_named(call, name):
    with pytest.raises(ValueError, match=f"^{name}: "):
        call()
