"""Shifts: ways in which an observed image differs from the white Gaussian noise that a denoiser was trained on.

Each takes clean images in [0, 1] and gives observed ones whose reference is still the clean image: nothing is blurred
or displaced. All but JPEG and the camera have an exact mean and variance, stated in their docstrings and tested.
`SHIFTS` holds them by name, at strengths near that of white noise of 15 grey levels. That noise is among them as the
reference, which is no shift; the noise of the camera is a third as strong.
"""

import io
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, pad

from indeed.checks import expect
from indeed.images.noise import GREY_LEVEL, gaussian, poisson_gaussian
from indeed.images.pixels import as_channels, quantised
from indeed.types import Images


def demosaicked_gaussian(image: Images, sigma: float, generator: torch.Generator) -> Images:
    r"""Image plus sensor noise interpolated from a Bayer pattern: correlated over space, within each colour; unclipped.

    White noise of standard deviation `sigma` is drawn once per pixel, for the colour that the pattern (red, green in
    even rows, green, blue in odd ones) samples there; bilinear interpolation gives the colours that are not sampled.
    Only the noise is interpolated. Interpolation is linear: of a noisy image it would give the interpolated image plus
    this noise, and the blur of that image would be one more degradation, without a clean image to compare with.

    The mean is the image. The variance is ``sigma**2`` at a sampled pixel, half or a quarter of it at an interpolated
    one: 5/8 on average in green and 9/16 in red and blue. Noise is drawn beyond the border, which is no exception. A
    grey image counts as that of a colour camera: it has the luma of the three noises.

    Raises
    ------
    ValueError
        If `sigma` is negative or not finite, or the image has neither 1 nor 3 channels.
    """
    batch, channel, height, width = image.shape
    raw = gaussian(image.new_zeros(batch, 1, height + 2, width + 2), sigma, generator)
    row = torch.arange(-1, height + 1, device=image.device)[:, None] % 2
    column = torch.arange(-1, width + 1, device=image.device) % 2
    mosaic = torch.stack([(row == 0) & (column == 0), row != column, (row == 1) & (column == 1)])
    square = image.new_tensor([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 4
    cross = image.new_tensor([[0, 1, 0], [1, 4, 1], [0, 1, 0]]) / 4
    noise = conv2d(raw * mosaic, torch.stack([square, cross, square])[:, None], groups=3)
    return image + torch.stack([as_channels(each, channel) for each in noise])


def speckle(image: Images, sigma: float, generator: torch.Generator) -> Images:
    """Image times independent Gaussian factors of mean 1: mean ``image``, variance ``(sigma * image)**2``; unclipped.

    Raises
    ------
    ValueError
        If `sigma` is negative or not finite.
    """
    return image * gaussian(torch.ones_like(image), sigma, generator)


def salt_and_pepper(image: Images, fraction: float, generator: torch.Generator) -> Images:
    """Image whose values are replaced independently with probability p, by 0 or 1 with equal probability.

    Mean ``(1 - p) * image + p / 2`` and mean square ``(1 - p) * image**2 + p / 2``; stays in [0, 1] without clipping.

    Raises
    ------
    ValueError
        Unless ``0 <= fraction <= 1``.
    """
    expect(0 <= fraction <= 1, "fraction", fraction, "a number in [0, 1]")
    chance = torch.rand(image.shape, generator=generator, dtype=image.dtype, device=generator.device).to(image.device)
    return torch.where(chance < fraction, (chance < fraction / 2).to(image.dtype), image)


def jpeg(image: Images, quality: int) -> Images:
    """Image as it comes back from a JPEG file by Pillow, colours at half resolution; clipped, rounded to 8 bits.

    Deterministic, and not differentiable.

    Raises
    ------
    ValueError
        Unless ``1 <= quality <= 95``, the range of Pillow, and the image has 1 or 3 channels.
    """
    from PIL import Image

    expect(1 <= quality <= 95, "quality", quality, "1 to 95")
    expect(image.shape[1] in (1, 3), "image", f"{image.shape[1]} channels", "1 or 3")
    decoded = []
    for pixels in quantised(image.detach(), torch.uint8).cpu().movedim(1, 3).numpy():
        file = io.BytesIO()
        picture = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
        picture.save(file, "JPEG", quality=quality, subsampling="4:2:0")
        with Image.open(file) as again:
            decoded.append(torch.from_numpy(np.array(again).reshape(pixels.shape)))
    return torch.stack(decoded).movedim(3, 1).to(image) / 255


def camera(
    image: Images, photons: float, generator: torch.Generator, reduction: float = 0.8, quality: int = 95
) -> Images:
    r"""Image as a camera would deliver it: sensor noise, demosaicking, tone curve, noise reduction and a JPEG file.

    In linear light, :math:`\ell = x^{2.2}`, the noise has the variance :math:`\ell / p + (1/512)^2` for p ``photons``
    at white, and is interpolated as by `demosaicked_gaussian`. The reduction is the filter of Lee (1980) on 5 x 5
    pixels with the variance that the sensor is known to have: it takes the noise from flat places and leaves it in
    detail. Sum and curve are clipped to [0, 1]; the file is that of `jpeg`. The reference is the image.

    Parameters
    ----------
    image, generator, quality
        As for the other shifts.
    photons
        Number at white.
    reduction
        Share of the way to the filtered image, in [0, 1].

    Raises
    ------
    ValueError
        If `photons` is not finite and positive or `reduction` not in [0, 1], or as `jpeg`.
    """
    expect(0 < photons < math.inf, "photons", photons, "a finite positive number")
    expect(0 <= reduction <= 1, "reduction", reduction, "a number in [0, 1]")

    def variance(linear: Tensor) -> Tensor:
        return linear / photons + (1 / 512) ** 2

    linear = image.clamp(0, 1) ** 2.2
    unit = demosaicked_gaussian(torch.zeros_like(image), 1.0, generator)
    taken = (linear + variance(linear).sqrt() * unit).clamp(0, 1) ** (1 / 2.2)
    mean = _local_mean(taken)
    power = (_local_mean(taken.square()) - mean.square()).clamp(min=1e-12)
    # Slope of the tone curve, finite in the dark, and 9/16, the share of the variance that interpolation leaves.
    slope = (mean.clamp(min=0.05) ** 2.2) ** (1 / 2.2 - 1) / 2.2
    noise = 9 / 16 * slope.square() * variance(mean.clamp(0, 1) ** 2.2)
    filtered = mean + (1 - noise / power).clamp(min=0) * (taken - mean)
    return jpeg(torch.lerp(taken, filtered, reduction), quality)


def _local_mean(image: Images) -> Images:
    return avg_pool2d(pad(image, (2, 2, 2, 2), mode="reflect"), 5, 1)


class Shift(NamedTuple):
    """One shift at a fixed strength."""

    title: str
    apply: Callable[[Images, torch.Generator], Images]
    """Clean images in [0, 1] and the source of randomness to observed images."""
    clipped: bool
    """Whether the observed images stay in [0, 1]."""


SHIFTS: dict[str, Shift] = {
    "white": Shift("white, sigma 15", lambda x, g: gaussian(x, 15 * GREY_LEVEL, g), False),
    "poisson_gaussian": Shift(
        "Poisson-Gaussian, 200 photons", lambda x, g: poisson_gaussian(x, 200, 3 * GREY_LEVEL, g), False
    ),
    "demosaicked": Shift("demosaicked, raw sigma 20", lambda x, g: demosaicked_gaussian(x, 20 * GREY_LEVEL, g), False),
    "camera": Shift("camera, 300 photons", lambda x, g: camera(x, 300, g), True),
    "jpeg": Shift("JPEG, quality 20", lambda x, _: jpeg(x, 20), True),
    "salt_and_pepper": Shift("salt and pepper, 2 %", lambda x, g: salt_and_pepper(x, 0.02, g), True),
    "speckle": Shift("speckle, 0.15", lambda x, g: speckle(x, 0.15, g), False),
}
"""Shifts by name. ``white`` is the noise that a denoiser knows from its training: the in-distribution reference."""
