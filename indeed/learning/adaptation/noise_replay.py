"""Whether a network can adapt to the noise that is estimated in an image, asked before anything is adapted."""

from collections.abc import Callable, Sequence

import torch

from indeed.images.noise import GREY_LEVEL
from indeed.images.noise_estimation import NoiseLaw, estimate_noise
from indeed.learning.loading import SampleSource
from indeed.learning.training.sources import matched_replay
from indeed.networks.inference_network import InDeed
from indeed.networks.whole_image import denoise
from indeed.types import Image

LEAST_CORRELATION = 0.2
"""Least correlation of neighbours. Noise with less is white, up to the error of the estimate, and so is known; what is
learned from other photographs is then learned in vain. Demosaicked noise has 0.5."""
LARGEST_REMOVAL = 2.0
"""Largest standard deviation of what the network takes away, over that of the law."""


class NoLawToReplayError(ValueError):
    """The noise of an image has no law, or none that a network could learn something from.

    Its ``law`` is that which was estimated, if there is one.
    """

    def __init__(self, reason: str, law: NoiseLaw | None = None) -> None:
        super().__init__(reason)
        self.law = law


def law_to_replay(model: InDeed, image: Image) -> NoiseLaw:
    """Law of the noise in an image, if it is one to adapt to.

    Parameters
    ----------
    model
        Network that is to adapt. If it removes more than the law explains, it already does better: the estimate
        does not see noise of another kind, such as impulses and speckle.
    image
        As for :func:`indeed.images.noise_estimation.estimate_noise`.

    Raises
    ------
    NoLawToReplayError
        If nothing can be estimated, there is nothing to adapt to, or the estimate is not reliable.
    """
    try:
        law = estimate_noise(image)
    except ValueError as error:
        raise NoLawToReplayError(str(error)) from error
    if law.neighbour_correlation < LEAST_CORRELATION:
        raise NoLawToReplayError("image: got white noise, which the network knows, expected noise with neighbours", law)
    if not law.reliable:
        raise NoLawToReplayError("image: got texture everywhere, expected places that show the noise alone", law)
    removed, level = (image - denoise(model, image)).std().item(), rms_noise_sd(law, image)
    if removed > LARGEST_REMOVAL * level:
        raise NoLawToReplayError(
            f"image: got noise of which {removed / GREY_LEVEL:.1f} grey levels are taken away as it is, expected no "
            f"more than the {level / GREY_LEVEL:.1f} that were estimated",
            law,
        )
    return law


def rms_noise_sd(law: NoiseLaw, image: Image) -> float:
    """Root mean square over an image of the standard deviation that a law gives its noise."""
    return law.sigma(image[None]).square().mean().sqrt().item()


def level_range(law: NoiseLaw) -> tuple[float, float]:
    """Factors of the level of a law between which it is replayed.

    The level is that of flat places. Weak noise with neighbours comes from a camera, and its noise reduction leaves
    least there: the law is then a lower bound.
    """
    return (1.0, 3.0) if law.weak else (0.8, 1.5)


def replay_of_laws(clean_patch: Callable[[torch.Generator], Image], laws: Sequence[NoiseLaw]) -> SampleSource:
    """Source of clean patches with noise of one of several laws, each as probable, at a level in its `level_range`."""
    sources = [matched_replay(clean_patch, law, level_range(law)) for law in laws]
    return lambda generator: sources[int(torch.randint(len(sources), (), generator=generator))](generator)
