r"""Families of synthetic anomalies: ways to change a normal image in one place.

``perlin``: a texture blended in where Perlin noise exceeds a threshold (DRAEM, Zavrtanik et al. 2021). ``cutpaste`` and
``scar``: a rectangle, or a thin rotated one, of the image itself put elsewhere (CutPaste, Li et al. 2021). ``poisson``:
a rectangle of a texture pasted by its gradients, so that no seam shows (Pérez et al. 2003; NSA, Schlüter et al. 2022).
``blemish``: our own, a stain or a crack of one grey with a soft edge. The textures are made of normal images: neither a
real defect nor another set of images is used.

Images are in [0, 1] and so is what is made of them. Numbers are drawn on the generator's device and moved to the
image's, so that a CPU generator gives the same anomalies everywhere, up to rounding.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from indeed.checks import expect
from indeed.images.noise import GREY_LEVEL
from indeed.types import AnySizeImage, Image, Mask

Shares = tuple[float, float]
VISIBLE = 0.5 * GREY_LEVEL
"""Least change of a pixel of an anomaly, in its most changed channel: a change that rounding to 8 bits keeps."""
CONTRAST = 8 * GREY_LEVEL
"""Least mean absolute change over the pixels of an anomaly and their channels, unless another one is asked for."""
SMALLEST_SIDE = 16
"""Pixels: a smaller image has too few of them for the thinnest scar."""
DRAWS = 400
"""How often a mask or an anomaly is drawn before its bounds are refused as impossible."""


def perlin_noise(
    gradients: Float[Tensor, "rows columns 2"], y: Float[Tensor, "*shape"], x: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    r"""Perlin noise at points (y, x) of a lattice of unit gradients: in [-1, 1], zero at the lattice points.

    At each corner of a cell stands a plane through zero with the corner's gradient. The four are interpolated with the
    weights :math:`6t^5 - 15t^4 + 10t^3` and scaled by :math:`\sqrt 2`, which makes the largest possible value one.

    Parameters
    ----------
    gradients
        Unit vectors (along y, along x).
    y, x
        From 0 to, not including, ``rows - 1`` and ``columns - 1``.

    Examples
    --------
    >>> gradients = torch.nn.functional.normalize(torch.ones(3, 3, 2), dim=2)
    >>> perlin_noise(gradients, torch.tensor([0.0, 1.0, 0.5]), torch.tensor([1.0, 0.0, 0.5])).abs()
    tensor([0., 0., 0.])
    """
    rows, columns = y.floor(), x.floor()
    v, u = y - rows, x - columns
    i, j = rows.long(), columns.long()

    def plane(down: int, right: int) -> Tensor:
        gradient = gradients[i + down, j + right]
        return gradient[..., 0] * (v - down) + gradient[..., 1] * (u - right)

    top = torch.lerp(plane(0, 0), plane(0, 1), _fade(u))
    bottom = torch.lerp(plane(1, 0), plane(1, 1), _fade(u))
    return math.sqrt(2) * torch.lerp(top, bottom, _fade(v))


def perlin_mask(
    height: int, width: int, generator: torch.Generator, area: Shares = (0.002, 0.3)
) -> Bool[Tensor, "{height} {width}"]:
    """Where Perlin noise of random frequency, direction and place exceeds 1/2, on the generator's device.

    The cells along each axis are a power of two, drawn uniformly from 1 to the last with 8 pixels in a cell but at most
    32; the lattice is turned by up to a quarter turn either way. A mask that covers less or more of the image than
    ``area`` is drawn again: none is empty, none is everything.

    Raises
    ------
    ValueError
        If the image is smaller than `SMALLEST_SIDE`, not 0 < low < high < 1, or no draw is within ``area``.

    Examples
    --------
    >>> mask = perlin_mask(64, 48, torch.Generator().manual_seed(0), area=(0.01, 0.05))
    >>> 0.01 <= mask.double().mean().item() <= 0.05
    True
    """
    check_size(height, width)
    check_area(area)
    for _ in range(DRAWS):
        mask = perlin_field(height, width, generator) > 0.5
        if area[0] <= mask.double().mean() <= area[1]:
            return mask
    raise ValueError(f"area: got {area}, expected shares that one of {DRAWS} Perlin masks has")


def blend(normal: Image, texture: Image, mask: Mask, opacity: float) -> Image:
    r"""Texture A laid over an image within a mask M, :math:`Y = U_N + o\,M (A - U_N)`: the blend of DRAEM.

    Raises
    ------
    ValueError
        Unless ``0 < opacity <= 1``.
    """
    expect(0 < opacity <= 1, "opacity", opacity, "0 < opacity <= 1")
    return torch.where(mask, torch.lerp(normal, texture, opacity), normal)


def perlin(normal: Image, source: AnySizeImage, generator: torch.Generator, area: Shares = (0.002, 0.3)) -> Image:
    """Blend a texture made of the source into a `perlin_mask`, with an opacity uniform on (0.2, 1].

    The texture is a crop at a random zoom between a half and two, under one of the eight symmetries of the square, its
    contrast scaled by 0.5 to 1.5, inverted in half of the cases, its channels shifted by up to 0.3.
    """
    _, height, width = normal.shape
    mask = perlin_mask(height, width, generator, area).to(normal.device)
    texture = _texture(source, height, width, generator)
    return blend(normal, texture, mask, 1 - 0.8 * uniform_draws(1, generator)[0])


def cutpaste(normal: Image, source: AnySizeImage, generator: torch.Generator, area: Shares = (0.02, 0.15)) -> Image:
    """Put a rectangle of the source, its contrast and channels shifted by up to a tenth, at another place.

    Its share of the image is log-uniform within ``area``, its height over its width log-uniform from 0.3 to 3.3.
    CutPaste takes the image itself as the source.
    """
    return _paste(normal, source, torch.ones(_rectangle(normal, generator, area), dtype=torch.bool), generator)


def scar(normal: Image, source: AnySizeImage, generator: torch.Generator, area: Shares = (0.002, 0.02)) -> Image:
    """Put a thin rectangle in any direction over the image, filled from the source as in `cutpaste`.

    Its share of the image is log-uniform within ``area``, its length 2 to 10 widths, log-uniform; at least a pixel
    wide.
    """
    check_area(area)
    share, shape, turn = uniform_draws(3, generator)
    elongation = _log_uniform(shape, 2, 10)
    width = max(1.0, math.sqrt(_log_uniform(share, *area) * normal[0].numel() / elongation))
    sine, cosine = math.sin(math.pi * turn), math.cos(math.pi * turn)
    extents = (abs(long) * width * elongation + abs(short) * width for long, short in ((sine, cosine), (cosine, sine)))
    rows, columns = (min(math.ceil(extent), side) for extent, side in zip(extents, normal.shape[1:], strict=True))
    y = torch.arange(rows)[:, None] - (rows - 1) / 2
    x = torch.arange(columns) - (columns - 1) / 2
    along, across = sine * y + cosine * x, cosine * y - sine * x
    return _paste(normal, source, (along.abs() <= width * elongation / 2) & (across.abs() <= width / 2), generator)


def poisson_paste(background: Image, source: AnySizeImage) -> Image:
    r"""Image with the Laplacian of the source in its interior and the values of the background at its border.

    The solution f of :math:`\Delta f = \Delta s` for the five-point Laplacian with the boundary values of the
    background (Pérez et al. 2003). What is added to the source is harmonic; it is found by the discrete sine transform,
    in which the Laplacian is diagonal. Not clipped.

    Raises
    ------
    ValueError
        If the shapes differ or there is no interior.

    Examples
    --------
    Only the gradients of the source matter, not its mean:

    >>> background, source = torch.rand(2, 1, 9, 7, dtype=torch.float64)
    >>> torch.allclose(poisson_paste(background, source + 0.3), poisson_paste(background, source))
    True
    """
    if background.shape != source.shape or min(source.shape[1:]) < 3:
        got = f"{tuple(background.shape)}, {tuple(source.shape)}"
        raise ValueError(f"background, source: got {got}, expected equal shapes with an interior")
    border = background - source
    known = torch.zeros_like(border[:, 1:-1, 1:-1])
    known[:, 0] += border[:, 0, 1:-1]
    known[:, -1] += border[:, -1, 1:-1]
    known[:, :, 0] += border[:, 1:-1, 0]
    known[:, :, -1] += border[:, 1:-1, -1]
    (rows, vertical), (columns, horizontal) = (_sine_transform(size, known) for size in known.shape[1:])
    spectrum = (rows @ known @ columns) / (vertical[:, None] + horizontal)
    pasted = background.clone()
    pasted[:, 1:-1, 1:-1] = source[:, 1:-1, 1:-1] + rows @ spectrum @ columns
    return pasted


def poisson(normal: Image, source: AnySizeImage, generator: torch.Generator, area: Shares = (0.01, 0.15)) -> Image:
    """Paste the gradients of a texture, made of the source as in `perlin`, into a rectangle as in `cutpaste`, clipped.

    See `poisson_paste`. The change fades towards the border of the rectangle, so that it may cover less than ``area``.
    """
    height, width = _rectangle(normal[:, 1:-1, 1:-1], generator, area)
    top, left = _place(normal, height + 2, width + 2, generator)
    window = (slice(None), slice(top, top + height + 2), slice(left, left + width + 2))
    pasted = normal.clone()
    pasted[window] = poisson_paste(normal[window], _texture(source, height + 2, width + 2, generator)).clamp(0, 1)
    return pasted


def blemish(normal: Image, source: AnySizeImage, generator: torch.Generator, area: Shares = (0.0005, 0.03)) -> Image:
    r"""Stain the image: a spot, or a crack, of one grey, with a soft and rough edge. Nothing is taken from the source.

    An ellipse in any direction, its share of the image log-uniform within ``area``, its length 1 to 12 widths,
    log-uniform, bent by up to half its length. With r the distance from its centre in units of its radius, times
    :math:`1 + P/2` for Perlin noise P, its opacity is :math:`o\,\min(1, (1 - r)/s)` within r = 1, with o uniform on
    (0.2, 1] and the softness s on (0.1, 1]. Its grey is uniform, its channels shifted by up to a tenth.
    """
    check_area(area)
    channels, height, width = normal.shape
    share, shape, turn, bend, softness, opacity, grey, top, left = uniform_draws(9, generator)
    elongation = _log_uniform(shape, 1, 12)
    short = math.sqrt(_log_uniform(share, *area) * height * width / (math.pi * elongation))
    y = (torch.arange(height) - top * height)[:, None]
    x = torch.arange(width) - left * width
    sine, cosine = math.sin(math.pi * turn), math.cos(math.pi * turn)
    along, across = (sine * y + cosine * x) / (short * elongation), (cosine * y - sine * x) / short
    bent = across + (bend - 0.5) * elongation * (along.square() - 0.5)
    distance = torch.hypot(along, bent) * (1 + perlin_field(height, width, generator).cpu() / 2)
    profile = ((1 - distance) / (1 - 0.9 * softness)).clamp(0, 1)
    flat = _recoloured(torch.full((channels, 1, 1), grey), 1.0, 0.1, generator)
    return torch.lerp(normal, flat.to(normal), (1 - 0.8 * opacity) * profile.to(normal))


class Family(NamedTuple):
    """A way to make an anomaly: ``draw(normal, source, generator, area)``."""

    draw: Callable[[Image, AnySizeImage, torch.Generator, Shares], Image]
    area: Shares
    """Least and largest share of the pixels that change."""
    of_itself: bool
    """Whether its source is the image itself, not another one."""


FAMILIES = {
    "perlin": Family(perlin, (0.002, 0.3), of_itself=False),
    "cutpaste": Family(cutpaste, (0.02, 0.15), of_itself=True),
    "scar": Family(scar, (0.002, 0.02), of_itself=True),
    "poisson": Family(poisson, (0.01, 0.15), of_itself=False),
    "blemish": Family(blemish, (0.0005, 0.03), of_itself=False),
}


def perlin_field(height: int, width: int, generator: torch.Generator) -> Float[Tensor, "{height} {width}"]:
    """Perlin noise over an image, its frequencies, direction and place drawn as `perlin_mask` says."""
    frequency_y, frequency_x, turn, shift_y, shift_x = uniform_draws(5, generator)
    cells_y, cells_x = (
        2 ** int(draw * (1 + min(5, int(math.log2(side / 8)))))
        for draw, side in ((frequency_y, height), (frequency_x, width))
    )
    sine, cosine = math.sin(math.pi * (turn - 0.5)), math.cos(math.pi * (turn - 0.5))
    rows = (torch.arange(height) - height / 2)[:, None]
    columns = torch.arange(width) - width / 2
    y = (cosine * rows - sine * columns) * (cells_y / height) + shift_y
    x = (sine * rows + cosine * columns) * (cells_x / width) + shift_x
    y, x = y - y.min().floor(), x - x.min().floor()  # the lattice covers the image and no more
    lattice = (int(y.max()) + 2, int(x.max()) + 2)
    angles = 2 * math.pi * torch.rand(lattice, generator=generator, device=generator.device)
    gradients = torch.stack((angles.sin(), angles.cos()), -1)
    return perlin_noise(gradients, y.to(gradients), x.to(gradients))


def _fade(t: Tensor) -> Tensor:
    return t**3 * (t * (6 * t - 15) + 10)


def _sine_transform(size: int, like: Tensor) -> tuple[Float[Tensor, "{size} {size}"], Float[Tensor, " {size}"]]:
    """Orthonormal and symmetric eigenvectors of the negative second difference with zeros at both ends; eigenvalues."""
    frequencies = math.pi / (size + 1) * torch.arange(1, size + 1, dtype=like.dtype, device=like.device)
    points = torch.arange(1, size + 1, dtype=like.dtype, device=like.device)
    return math.sqrt(2 / (size + 1)) * torch.sin(points[:, None] * frequencies), 2 - 2 * frequencies.cos()


def _rectangle(normal: AnySizeImage, generator: torch.Generator, area: Shares) -> tuple[int, int]:
    """Height and width of a rectangle within the image."""
    check_area(area)
    share, shape = uniform_draws(2, generator)
    pixels, aspect = _log_uniform(share, *area) * normal[0].numel(), _log_uniform(shape, 0.3, 3.3)
    sides = math.sqrt(pixels * aspect), math.sqrt(pixels / aspect)
    height, width = (min(max(1, round(side)), limit) for side, limit in zip(sides, normal.shape[1:], strict=True))
    return height, width


def _place(image: AnySizeImage, height: int, width: int, generator: torch.Generator) -> tuple[int, int]:
    """Top and left of a window at a uniformly drawn place of the image."""
    top, left = uniform_draws(2, generator)
    return int(top * (image.shape[1] - height + 1)), int(left * (image.shape[2] - width + 1))


def _paste(
    normal: Image, source: AnySizeImage, shape: Bool[Tensor, "rows columns"], generator: torch.Generator
) -> Image:
    """Fill a shape, at a random place, with what is at another random place of the source, slightly recoloured."""
    height, width = shape.shape
    if source.shape[1] < height or source.shape[2] < width:
        raise ValueError(f"source: got {tuple(source.shape[1:])} pixels, expected at least {height} x {width}")
    top, left = _place(source, height, width, generator)
    patch = source[:, top : top + height, left : left + width]
    patch = _recoloured(patch, 1 + 0.1 * (2 * uniform_draws(1, generator)[0] - 1), 0.1, generator)
    top, left = _place(normal, height, width, generator)
    window = (slice(None), slice(top, top + height), slice(left, left + width))
    pasted = normal.clone()
    pasted[window] = torch.where(shape.to(normal.device), patch, normal[window])
    return pasted


def _texture(
    source: AnySizeImage, height: int, width: int, generator: torch.Generator
) -> Float[Tensor, "channel {height} {width}"]:
    """Texture of the given size made of an image, as `perlin` says."""
    zoom, symmetry, gain, inverted = uniform_draws(4, generator)
    quarter_turns, mirrored = divmod(int(symmetry * 8), 2)
    source = torch.rot90(source, quarter_turns, (1, 2))
    source = source.flip(2) if mirrored else source
    scale = _log_uniform(zoom, 0.5, 2)
    rows, columns = (
        min(max(1, round(scale * side)), limit) for side, limit in zip((height, width), source.shape[1:], strict=True)
    )
    top, left = _place(source, rows, columns, generator)
    crop = source[None, :, top : top + rows, left : left + columns]
    texture = nn.functional.interpolate(crop, (height, width), mode="bilinear", antialias=True)[0]
    return _recoloured(texture, (0.5 + gain) * (-1 if inverted < 0.5 else 1), 0.3, generator)


def _recoloured(image: Image, gain: float, shift: float, generator: torch.Generator) -> Image:
    """Contrast about the mean scaled by a gain, each channel shifted by at most so much either way; clipped."""
    mean = image.mean((1, 2), keepdim=True)
    shifts = image.new_tensor([2 * draw - 1 for draw in uniform_draws(len(image), generator)])[:, None, None]
    return (mean + gain * (image - mean) + shift * shifts).clamp(0, 1)


def uniform_draws(count: int, generator: torch.Generator) -> list[float]:
    """Draw numbers that are uniform on [0, 1), in double precision."""
    draws: list[float] = torch.rand(count, generator=generator, device=generator.device, dtype=torch.float64).tolist()
    return draws


def _log_uniform(draw: float, low: float, high: float) -> float:
    return low * math.exp(draw * math.log(high / low))


def check_size(height: int, width: int) -> None:
    """Refuse an image with a side below `SMALLEST_SIDE`."""
    if min(height, width) < SMALLEST_SIDE:
        raise ValueError(f"height, width: got {height} x {width}, expected at least {SMALLEST_SIDE} pixels a side")


def check_area(area: Shares) -> None:
    """Refuse what is not a range of shares of an image, within (0, 1)."""
    expect(0 < area[0] < area[1] < 1, "area", area, "0 < low < high < 1")
