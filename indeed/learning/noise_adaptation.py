"""Whether a network can adapt to the noise of an image by what is estimated of it, before anything is adapted."""

from jaxtyping import Float
from torch import Tensor

from indeed.images.noise import GREY_LEVEL
from indeed.images.noise_estimation import NoiseLaw, estimate_noise
from indeed.networks.inference_network import InDeed
from indeed.networks.whole_image import denoise

LEAST_CORRELATION = 0.2
"""Least correlation of neighbours. Noise with less is white, up to the error of the estimate, and so is known; what is
learned from other photographs is then learned in vain. Demosaicked noise has 0.5."""
LARGEST_REMOVAL = 2.0
"""Largest standard deviation of what the network takes away, over that of the law."""


def law_to_replay(model: InDeed, image: Float[Tensor, "channel height width"]) -> NoiseLaw:
    """Law of the noise in an image, if it is one to adapt to.

    Parameters
    ----------
    model
        Network that is to adapt. Where it takes away more than the law explains, it knows better already: noise that is
        not of such a law, as impulses and speckle, is no noise to the estimate.
    image
        As for :func:`indeed.images.noise_estimation.estimate_noise`.

    Raises
    ------
    ValueError
        If nothing can be estimated, there is nothing to adapt to, or no relying on the estimate.
    """
    law = estimate_noise(image)
    if law.neighbour_correlation < LEAST_CORRELATION:
        raise ValueError("image: got white noise, which the network knows, expected noise with neighbours")
    if not law.reliable:
        raise ValueError("image: got texture everywhere, expected places that show the noise alone")
    removed = (image - denoise(model, image)).std().item()
    if removed > LARGEST_REMOVAL * noise_level(law, image):
        raise ValueError(
            f"image: got noise of which {removed / GREY_LEVEL:.1f} grey levels are taken away as it is, expected no "
            f"more than the {noise_level(law, image) / GREY_LEVEL:.1f} that were estimated"
        )
    return law


def level_range(law: NoiseLaw) -> tuple[float, float]:
    """Factors of the level of a law between which it is replayed.

    The level is that of flat places. Weak noise with neighbours comes from a camera, and its noise reduction leaves
    least there: the law is then a lower bound.
    """
    return (1.0, 3.0) if law.weak else (0.8, 1.5)


def noise_level(law: NoiseLaw, image: Float[Tensor, "channel height width"]) -> float:
    """Root mean square of the standard deviation of the noise over an image."""
    return law.sigma(image[None]).square().mean().sqrt().item()
