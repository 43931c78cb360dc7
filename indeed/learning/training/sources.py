"""Sources of training samples: clean images are handed in, noise and anomalies are added here."""

import math
from collections.abc import Callable, Sequence

import torch

from indeed.checks import expect
from indeed.images.anomaly_synthesis import Synthesis, TextureSource, anomalous_sample, foreign_to
from indeed.images.noise import gaussian
from indeed.images.noise_estimation import NoiseLaw
from indeed.images.pixels import as_file
from indeed.learning.loading import Sample, SampleSource
from indeed.learning.training.config import TrainingConfig
from indeed.types import Image


def denoising_samples(clean_patch: Callable[[torch.Generator], Image], config: TrainingConfig) -> SampleSource:
    """Make a source for the denoising task: a clean patch, and the same with Gaussian noise.

    The noise is unclipped but for the share ``config.clipped`` of the samples, which are as 8-bit files have them.
    """

    def draw(generator: torch.Generator) -> Sample:
        clean = clean_patch(generator)
        noisy = gaussian(clean[None], (config.noise_low, config.noise_high), generator)[0]
        if config.clipped and torch.rand((), generator=generator).item() < config.clipped:
            noisy = as_file(noisy)
        return Sample(noisy, clean)

    return draw


def matched_replay(
    clean_patch: Callable[[torch.Generator], Image], law: NoiseLaw, spread: tuple[float, float] = (1.0, 1.0)
) -> SampleSource:
    """Make a source for the denoising task: a clean patch, and the same with noise of a law, unclipped.

    The noise is scaled by a factor that is uniform on ``spread``: a network that has seen levels around the law's can
    tell the level by itself.

    Raises
    ------
    ValueError
        Unless ``0 < low <= high < inf``; on a draw, if the patches have another number of channels than the law.
    """
    low, high = spread
    expect(0 < low <= high < math.inf, "spread", spread, "0 < low <= high < inf")

    def draw(generator: torch.Generator) -> Sample:
        clean = clean_patch(generator)
        scale = low + (high - low) * torch.rand((), generator=generator).item()
        return Sample(clean + scale * (law.sample(clean[None], generator)[0] - clean), clean)

    return draw


def anomaly_samples(
    surfaces: Sequence[TextureSource], config: TrainingConfig, synthesis: Synthesis, law: NoiseLaw | None = None
) -> SampleSource:
    """Make a source for anomaly detection: a good patch, and the same with a synthetic anomaly (one in four without).

    Each of the surfaces gives good patches of itself, and is equally probable. The textures of an anomaly are those
    that are foreign to its surface (:func:`indeed.images.anomaly_synthesis.foreign_to`).

    Both have the same noise, of a random level or, to adapt a network to test images, of their law: it belongs to
    neither L nor S, and their difference is the anomaly.
    """

    def draw(generator: torch.Generator) -> Sample:
        which = int(torch.randint(len(surfaces), (), generator=generator))
        textures = foreign_to(surfaces, which)
        sample = anomalous_sample(surfaces[which](generator), textures, generator, **synthesis._asdict())
        normal = sample.normal[None]
        if law is None:
            noise = gaussian(torch.zeros_like(normal), (config.noise_low, config.noise_high), generator)[0]
        else:
            noise = (law.sample(normal, generator) - normal)[0]
        return Sample(sample.observed + noise, sample.normal + noise)

    return draw
