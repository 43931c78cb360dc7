"""Noise models: Gaussian (one level or a range), Poisson-Gaussian, spatially correlated Gaussian.

Intensities and standard deviations are in the image's unit, [0, 1]; levels quoted on the 0..255 scale are multiplied by
`GREY_LEVEL`. Nothing is clipped: clipping would make the noise depend on the image and bias what is learned from it.
Numbers are drawn on the generator's device and moved to the image's, so that a CPU generator gives the same noise
everywhere.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from indeed.checks import at_least, expect
from indeed.types import Image, Images, PerSample

GREY_LEVEL = 1 / 255
"""One grey level of an 8-bit image in the unit [0, 1]: sigma 25 of the literature is ``25 * GREY_LEVEL``."""


def uniform_sigma(batch: int, low: float, high: float, generator: torch.Generator) -> PerSample:
    """Noise standard deviations of a batch, one per image, uniform on the half-open interval (low, high].

    Raises
    ------
    ValueError
        Unless ``batch >= 1`` and ``0 <= low < high < inf``.

    Examples
    --------
    >>> sigma = uniform_sigma(1000, 0.0, 75 * GREY_LEVEL, torch.Generator().manual_seed(0))
    >>> bool((sigma > 0).all() and (sigma <= 75 * GREY_LEVEL).all())
    True
    """
    at_least(1, batch=batch)
    expect(0 <= low < high < math.inf, "low, high", f"{low}, {high}", "0 <= low < high < inf")
    # torch.rand is on [0, 1): subtracted from high, it makes high possible and a noise-free sample impossible
    return high - (high - low) * torch.rand(batch, generator=generator, device=generator.device)


def gaussian(image: Images, sigma: float | tuple[float, float] | PerSample, generator: torch.Generator) -> Images:
    """Image plus independent Gaussian noise, unclipped.

    Parameters
    ----------
    image
        In [0, 1].
    sigma
        Standard deviation in the image's unit: one for all, one per image, or a range ``(low, high)`` from which
        `uniform_sigma` draws one per image.
    generator
        Source of randomness.

    Raises
    ------
    ValueError
        If a standard deviation is negative or not finite.

    Examples
    --------
    The same seed gives the same noise whatever the image:

    >>> flat, dark = torch.full((1, 1, 8, 8), 0.5), torch.zeros(1, 1, 8, 8)
    >>> noise = [gaussian(x, 0.1, torch.Generator().manual_seed(0)) - x for x in (flat, dark)]
    >>> torch.allclose(*noise, atol=1e-6)
    True
    """
    scale = _per_image(image, sigma, generator)
    return image + scale * _standard_normal(image, tuple(image.shape), generator)


def seeded_gaussian(image: Image, grey_levels: float, seed: int) -> Image:
    """Image plus Gaussian noise with a standard deviation in 8-bit grey levels, unclipped.

    The generator is made anew from the seed for each image, so that the noise of an image does not depend on others.
    """
    return gaussian(image[None], grey_levels * GREY_LEVEL, torch.Generator().manual_seed(seed))[0]


def poisson_gaussian(image: Images, photons: float, read_noise: float, generator: torch.Generator) -> Images:
    """Photon counting followed by Gaussian read noise: ``Poisson(photons * image) / photons + read_noise * normal``.

    Mean ``image``, variance ``image / photons + read_noise ** 2``; unclipped.

    Parameters
    ----------
    image
        In [0, 1]; negative intensities have no photon count.
    photons
        Expected count at intensity 1; the gain (intensity per photon) is its inverse.
    read_noise
        Standard deviation of the electronics, in the image's unit.
    generator
        Source of randomness.

    Raises
    ------
    ValueError
        If the image has a negative or non-finite value, ``photons <= 0`` or ``read_noise < 0``.
    """
    expect(0 < photons < math.inf, "photons", photons, "a finite positive number")
    expect(0 <= read_noise < math.inf, "read_noise", read_noise, "a finite number >= 0")
    if not bool(((image >= 0) & image.isfinite()).all()):
        raise ValueError("image: got negative or non-finite intensities, expected finite ones >= 0")
    counts = torch.poisson((photons * image).to(generator.device), generator=generator).to(image.device)
    return counts / photons + read_noise * _standard_normal(image, tuple(image.shape), generator)


def correlated_gaussian(
    image: Images, sigma: float | tuple[float, float] | PerSample, correlation_length: float, generator: torch.Generator
) -> Images:
    r"""Image plus stationary Gaussian noise, correlated as ``exp(-d^2 / (4 l^2))`` at d pixels, unclipped.

    White noise is filtered by a Gaussian kernel of standard deviation l = `correlation_length` pixels. The kernel is
    scaled to unit sum of squares, so the marginal standard deviation is `sigma` at every pixel, exactly; the white
    noise extends beyond the image by the kernel's radius, so the border is no exception. Channels are independent.

    Raises
    ------
    ValueError
        If a standard deviation is negative or not finite, or ``correlation_length <= 0``.
    """
    if not 0 < correlation_length < math.inf:
        raise ValueError(f"correlation_length: got {correlation_length}, expected a finite positive number of pixels")
    scale = _per_image(image, sigma, generator)
    radius = math.ceil(4 * correlation_length)
    offsets = torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device)
    kernel = torch.exp(-((offsets / correlation_length) ** 2) / 2)
    kernel = kernel / kernel.square().sum().sqrt()
    batch, channel, height, width = image.shape
    white = _standard_normal(image, (batch * channel, 1, height + 2 * radius, width + 2 * radius), generator)
    smooth = nn.functional.conv2d(nn.functional.conv2d(white, kernel[None, None, :, None]), kernel[None, None, None, :])
    return image + scale * smooth.view_as(image)


def _per_image(
    image: Images, sigma: float | tuple[float, float] | PerSample, generator: torch.Generator
) -> Float[Tensor, "count 1 1 1"]:
    if isinstance(sigma, tuple):
        sigma = uniform_sigma(len(image), *sigma, generator)
    level = torch.as_tensor(sigma, dtype=image.dtype, device=image.device).reshape(-1, 1, 1, 1)
    expect(bool(((level >= 0) & level.isfinite()).all()), "sigma", sigma, "finite standard deviations >= 0")
    if len(level) not in (1, len(image)):
        raise ValueError(f"sigma: got {len(level)} standard deviations, expected one or {len(image)}, one per image")
    return level


def _standard_normal(image: Images, shape: tuple[int, ...], generator: torch.Generator) -> Float[Tensor, "..."]:
    return torch.randn(shape, generator=generator, dtype=image.dtype, device=generator.device).to(image.device)
