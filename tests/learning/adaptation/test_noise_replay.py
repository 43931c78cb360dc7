"""A network adapts to a law of noise that the image shows, and not to texture, nor to what it knows."""

import math

import pytest
import torch

from indeed.data.samples import sample_image
from indeed.images.noise import GREY_LEVEL, correlated_gaussian, gaussian
from indeed.images.noise_estimation import NoiseLaw, estimate_noise
from indeed.images.shifts import SHIFTS
from indeed.learning.adaptation.noise_replay import NoLawToReplayError, law_to_replay, level_range, rms_noise_sd
from indeed.networks.checkpoint import load_checkpoint, shipped_checkpoint


@pytest.fixture(scope="module")
def model():
    return load_checkpoint(shipped_checkpoint("denoise_grey"))[0]


def shifted(name: str, shift: str) -> torch.Tensor:
    clean = sample_image(name)[None, :, :256, :256]
    return SHIFTS[shift].apply(clean, torch.Generator().manual_seed(0))[0]


@pytest.mark.shipped
@pytest.mark.parametrize("shift", ["demosaicked", "camera"])
def test_the_law_of_a_photograph_is_that_which_is_estimated(model, shift):
    image = shifted("moon", shift)
    law = law_to_replay(model, image)
    assert torch.equal(law.covariance, estimate_noise(image).covariance)


@pytest.mark.shipped
@pytest.mark.parametrize(
    ("name", "shift", "reason"),
    [
        ("grass", "demosaicked", "texture everywhere"),
        ("moon", "white", "white noise"),
    ],
)
def test_texture_and_white_noise_are_no_law_to_adapt_to(model, name, shift, reason):
    image = shifted(name, shift)
    with pytest.raises(NoLawToReplayError, match=f"^image: got .*{reason}") as refused:
        law_to_replay(model, image)
    assert torch.equal(refused.value.law.covariance, estimate_noise(image).covariance)


@pytest.mark.shipped
def test_an_image_too_small_to_tell_its_noise_has_no_law(model):
    with pytest.raises(NoLawToReplayError, match=r"^image: got 30x30 pixels") as refused:
        law_to_replay(model, shifted("moon", "white")[:, :30, :30])
    assert refused.value.law is None


@pytest.mark.shipped
def test_there_is_nothing_to_learn_where_more_is_taken_away_than_the_quiet_places_explain(model):
    generator, half = torch.Generator().manual_seed(0), torch.full((1, 1, 256, 128), 0.5)
    quiet, loud = correlated_gaussian(half, 3 * GREY_LEVEL, 1.0, generator), gaussian(half, 20 * GREY_LEVEL, generator)
    assert estimate_noise(quiet[0]).neighbour_correlation > 0.5
    with pytest.raises(NoLawToReplayError, match=r"^image: got .*taken away as it is"):
        law_to_replay(model, torch.cat([quiet, loud], 3)[0])


def test_the_level_is_the_root_mean_square_over_the_image():
    flat = gaussian(torch.full((1, 3, 128, 128), 0.5), 10 * GREY_LEVEL, torch.Generator().manual_seed(0))[0]
    law = estimate_noise(flat)
    assert rms_noise_sd(law, flat) == pytest.approx(10 * GREY_LEVEL, rel=0.05)
    variances = law.gain[0] + law.gain[1] * flat.clamp(0, 1).double()
    assert math.isclose(rms_noise_sd(law, flat), variances.mean().sqrt().item(), rel_tol=0.01)


@pytest.mark.parametrize(("level", "low", "high"), [(2, 1.0, 3.0), (20, 0.8, 1.5)])
def test_the_level_of_weak_noise_is_a_lower_bound(level, low, high):
    law = NoiseLaw(torch.ones(1, 1, 1, 1), ((level * GREY_LEVEL) ** 2, 0.0))
    assert level_range(law) == (low, high)
    assert law.weak == (level == 2)
