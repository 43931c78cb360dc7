from dataclasses import replace

import pytest
import torch

from indeed.images.anomaly_synthesis import Synthesis, anomalous_sample, foreign_to
from indeed.images.noise import gaussian
from indeed.images.noise_estimation import NoiseLaw
from indeed.learning.loading import draw_batch
from indeed.learning.training.config import training_preset
from indeed.learning.training.sources import anomaly_samples, denoising_samples, matched_replay

TINY = training_preset("tiny")


def smooth_patch(generator: torch.Generator) -> torch.Tensor:
    """A plane wave with a random direction and phase."""
    fy, fx, phase = torch.rand(3, generator=generator) * 6
    grid = torch.linspace(0, 1, 32)
    return 0.5 + 0.4 * torch.cos(fy * grid[:, None] + fx * grid + phase)[None]


def test_a_share_of_the_denoising_samples_is_as_in_a_file_and_without_one_no_more_is_drawn():
    config = replace(TINY, noise_high=75 / 255, clipped=0.5)
    drawn = draw_batch(denoising_samples(smooth_patch, config), range(200)).observed
    rounded = (255 * drawn - (255 * drawn).round()).abs().amax((1, 2, 3)) < 1e-3
    assert 70 < rounded.sum() < 130
    assert drawn[rounded].min() >= 0
    assert drawn[rounded].max() <= 1
    assert drawn[~rounded].min() < 0
    generator, same = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    sample = denoising_samples(smooth_patch, replace(config, clipped=0.0))(generator)
    expected = gaussian(smooth_patch(same)[None], (config.noise_low, config.noise_high), same)[0]
    assert torch.equal(sample.observed, expected)
    assert torch.equal(torch.rand(1, generator=generator), torch.rand(1, generator=same))


FAMILIES = ("perlin", "cutpaste", "scar", "poisson", "blemish")


@pytest.mark.parametrize("family", FAMILIES)
def test_an_observed_patch_differs_from_its_target_by_the_anomaly_alone(family):
    config, sampler = replace(TINY, noise_high=20 / 255), smooth_patch
    source = anomaly_samples([sampler], config, Synthesis((family,)))
    clean = 0
    for seed in range(12):
        sample = source(torch.Generator().manual_seed(seed))
        # the same generator draws the same patch and anomaly first, the noise after them
        generator = torch.Generator().manual_seed(seed)
        torch.randint(1, (), generator=generator)  # the surface
        textures = foreign_to([sampler], 0)
        expected = anomalous_sample(sampler(generator), textures, generator, families=(family,))
        difference = sample.observed - sample.target
        assert (difference[:, ~expected.mask] == 0).all()
        torch.testing.assert_close(difference, expected.anomaly, rtol=0, atol=1e-6)
        assert not torch.equal(sample.target, expected.normal)
        clean += expected.family == ("clean",)
    assert 0 < clean < 12


def test_noise_of_anomaly_samples_is_gaussian_with_the_levels_of_the_run():
    config, flat = replace(TINY, noise_low=0.05, noise_high=0.1), torch.full((1, 32, 32), 0.5)
    source = anomaly_samples([lambda _: flat], config, Synthesis(("cutpaste",)))
    noise = torch.stack([source(torch.Generator().manual_seed(seed)).target for seed in range(40)]) - flat
    levels = noise.std((1, 2, 3))
    assert 0.045 < levels.min() < 0.06 < 0.09 < levels.max() < 0.11
    assert abs(noise.mean()) < 0.002


def test_anomaly_samples_of_a_law_have_its_noise_in_both_images():
    flat, law = torch.full((1, 32, 32), 0.5), NoiseLaw(torch.ones(1, 1, 1, 1), (0.01**2, 0.0))
    source = anomaly_samples([lambda _: flat], TINY, Synthesis(("cutpaste",)), law)
    drawn = [source(torch.Generator().manual_seed(seed)) for seed in range(40)]
    noise = torch.stack([sample.target for sample in drawn]) - flat
    assert noise.std() == pytest.approx(0.01, rel=0.03)  # 40,960 values: 8 deviations
    anomalies = torch.stack([sample.observed - sample.target for sample in drawn])
    assert 0.5 < (anomalies.abs() < 1e-6).float().mean() < 1


def test_what_is_pasted_on_a_surface_is_of_another_one():
    greys = [torch.full((1, 32, 32), grey) for grey in (0.2, 0.8)]
    surfaces = [lambda _, image=image: image for image in greys]
    source = anomaly_samples(surfaces, replace(TINY, noise_high=1e-6), Synthesis(("cutpaste",), foreign=True))
    found = set()
    for seed in range(12):
        observed, normal = source(torch.Generator().manual_seed(seed))
        grey = normal.mean().item()
        pasted = observed[(observed - normal).abs() > 1e-3]
        assert grey == pytest.approx(0.2, abs=1e-4) or grey == pytest.approx(0.8, abs=1e-4)
        # recoloured by a tenth at most
        assert not len(pasted) or (pasted - (1.0 - grey)).abs().max() <= 0.1 + 1e-4
        found.add((round(grey, 1), len(pasted) > 0))
    assert found == {(0.2, True), (0.8, True), (0.2, False), (0.8, False)}


def test_a_matched_replay_has_the_noise_of_the_law_at_levels_within_the_spread():
    covariance = torch.tensor([[0, 0, 0], [0.4, 1, 0.4], [0, 0, 0]])[None, None]
    law = NoiseLaw(covariance, (0.01, 0.0))
    flat = torch.full((1, 64, 64), 0.5)
    for spread in ((1.0, 1.0), (0.7, 1.3)):
        replay = matched_replay(lambda _: flat, law, spread)
        drawn = [replay(torch.Generator().manual_seed(seed)) for seed in range(60)]
        noise = torch.stack([sample.observed - sample.target for sample in drawn])
        levels = noise.std((1, 2, 3)) / 0.1
        assert all(torch.equal(sample.target, flat) for sample in drawn)
        assert spread[0] - 0.06 < levels.min() < spread[0] + 0.1
        assert spread[1] - 0.1 < levels.max() < spread[1] + 0.06
        across, down = noise[..., 1:] * noise[..., :-1], noise[..., 1:, :] * noise[..., :-1, :]
        assert abs((across.mean() / noise.square().mean()).item() - 0.4) < 0.02
        assert abs((down.mean() / noise.square().mean()).item()) < 0.02
    assert torch.equal(draw_batch(replay, [3]).observed, draw_batch(replay, range(5)).observed[3:4])


@pytest.mark.parametrize("spread", [(0.0, 1.0), (1.3, 0.7), (1.0, float("inf"))])
def test_a_matched_replay_refuses_an_impossible_spread(spread):
    with pytest.raises(ValueError, match=r"^spread: got"):
        matched_replay(lambda _: torch.zeros(1, 8, 8), NoiseLaw(torch.ones(1, 1, 1, 1), (0.01, 0.0)), spread)
