from dataclasses import replace

import pytest
import torch
from jaxtyping import TypeCheckError

from indeed.images.noise import correlated_gaussian, gaussian
from indeed.images.noise_estimation import estimate_noise
from indeed.learning.adaptation.config import AdaptationConfig
from indeed.learning.adaptation.engine import adapt
from indeed.learning.adaptation.noise_replay import NoLawToReplayError, replay_of_laws
from indeed.learning.adaptation.online import Online
from indeed.learning.adaptation.stopping import DriftCap
from indeed.learning.training.config import training_preset
from indeed.networks.inference_network import InDeed, network_preset
from indeed.networks.whole_image import denoise

FAST = AdaptationConfig(learning_rate=1e-3, steps=3, training=training_preset("tiny"))
REPLAY = replace(FAST, objective=None, replay_weight=1.0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def model() -> InDeed:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return InDeed(network_preset("tiny", 1))


def rough(seed: int = 0, correlation_length: float = 0.7) -> torch.Tensor:
    """Flat image with noise whose neighbours are alike."""
    return correlated_gaussian(torch.full((1, 1, 64, 64), 0.5), 20 / 255, correlation_length, seeded(seed))[0]


def white(side: int = 64) -> torch.Tensor:
    return gaussian(torch.full((1, 1, side, side), 0.5), 20 / 255, seeded())[0]


def flat(generator: torch.Generator) -> torch.Tensor:
    return torch.rand(1, 1, 1, generator=generator).expand(1, 16, 16)


@pytest.mark.parametrize("reset", ["image", "never"])
def test_each_image_starts_from_the_original_weights_or_those_of_the_image_before(model, reset):
    images, generator = [rough(seed) for seed in range(3)], seeded()
    online = Online(model, replace(FAST, stop=DriftCap(1e9)), reset=reset)
    results = [online([image], generator)[0].adapted for image in images]
    drifts = [result.monitors[0].drift for result in results]
    if reset == "image":
        assert drifts == [0, 0, 0]
    else:
        assert 0 == drifts[0] < drifts[1] < drifts[2]
        assert drifts[1:] == [result.monitors[-1].drift for result in results[:2]]
    for image, result in zip(images, results, strict=True):
        assert torch.equal(result.before[0], denoise(model, image))


def test_the_source_of_replayed_samples_follows_the_laws_of_the_images(model):
    asked = []

    def matched(laws):
        asked.append(laws)
        return replay_of_laws(flat, laws)

    online, images = Online(model, REPLAY, matched=matched), [rough(0, 0.5), rough(1, 1.0)]
    outcomes = [*online(images[:1], seeded()), *online(images, seeded())]
    assert [outcome.adapted.steps for outcome in outcomes] == [3, 6, 6]
    assert [len(laws) for laws in asked] == [1, 2]
    for outcome, image in zip(outcomes[1:], images, strict=True):
        assert torch.equal(outcome.law.covariance, estimate_noise(image).covariance)


@pytest.mark.parametrize(("image", "known"), [(white(), True), (white(30), False)])
def test_an_image_without_a_law_to_replay_leaves_the_network_of_the_moment_alone(model, image, known):
    online = Online(model, REPLAY, reset="never", matched=lambda laws: replay_of_laws(flat, laws))
    (first,) = online([rough()], seeded())
    (refused,) = online([image], seeded())
    assert (refused.adapted, refused.model) == (None, first.model)
    assert isinstance(refused.refusal, NoLawToReplayError)
    assert (refused.law is not None) == known
    left, out = online([rough(1), image], seeded(1))
    alone = adapt(first.model, [rough(1)], REPLAY, seeded(1), replay=replay_of_laws(flat, [estimate_noise(rough(1))]))
    for ours, theirs in zip(left.model.parameters(), alone.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert (out.adapted, out.model) == (None, first.model)


def test_replayed_are_all_laws_as_often_at_levels_around_their_own():
    smooth, rougher = (estimate_noise(rough(0, length)) for length in (1.0, 0.5))
    source, generator = replay_of_laws(lambda _: torch.full((1, 32, 32), 0.5), [smooth, rougher]), seeded()
    noise = torch.stack([sample.observed - sample.target for sample in (source(generator) for _ in range(200))])
    levels = 255 * noise.std((1, 2, 3))
    alike = (noise[..., 1:] * noise[..., :-1]).mean((1, 2, 3)) / noise.square().mean((1, 2, 3)) > 0.57
    assert 80 <= alike.sum() <= 120
    for some in (levels[alike], levels[~alike]):
        assert 0.6 * 20 < some.min() < 0.95 * 20
        assert 1.35 * 20 < some.max() < 1.85 * 20


def test_a_fault_leaves_the_network_of_the_moment_as_it_is(model):
    online = Online(model, FAST, reset="never")
    online([rough()], seeded())
    before = online.current
    with pytest.raises(ValueError, match="NaN"):
        online([torch.full((1, 64, 64), torch.nan)], seeded())
    assert online.current is before


def test_another_reset_is_refused_by_name(model):
    with pytest.raises((ValueError, TypeCheckError), match="reset"):
        Online(model, FAST, reset="often")
