r"""Synthetic anomalies: what turns a normal image :math:`U_N` into an observed one, :math:`Y = U_N + U_A`.

An anomaly of one of the families of :mod:`indeed.images.anomaly_families` is drawn until it is large enough, visible
enough and not too large.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from indeed.checks import expect
from indeed.images.anomaly_families import (
    CONTRAST,
    DRAWS,
    FAMILIES,
    VISIBLE,
    Shares,
    check_area,
    check_size,
    perlin_field,
    uniform_draws,
)
from indeed.types import Image, Images

DRAWS_OF_IMAGES = 100
"""After so many draws from images the source is Perlin noise."""
TextureSource = Callable[[torch.Generator], Tensor]
"""Draws an image (channel, any height, any width) in [0, 1] of the normal set; all randomness is the generator's."""


class AnomalySample(NamedTuple):
    """An observed image, its parts, and where and how it is anomalous.

    ``anomaly`` is the floating-point difference ``observed - normal``, and exactly zero outside ``mask``; ``mask`` is
    where any channel of it is not zero. ``family`` has one name for each image, ``"clean"`` for one that is normal.
    """

    observed: Float[Tensor, "*batch channel height width"]
    normal: Float[Tensor, "*batch channel height width"]
    anomaly: Float[Tensor, "*batch channel height width"]
    mask: Bool[Tensor, "*batch height width"]
    family: tuple[str, ...]


class Synthesis(NamedTuple):
    """How synthetic anomalies are drawn, in the words of `anomalous_sample`."""

    families: tuple[str, ...] = ("perlin", "perlin", "cutpaste")
    contrast: float = CONTRAST
    foreign: bool = False
    area: Shares | None = None
    camouflage: float = 0.0


def anomalous_sample(
    normal: Image,
    textures: TextureSource,
    generator: torch.Generator,
    *,
    families: Sequence[str] = ("perlin", "perlin", "cutpaste"),
    clean: float = 0.25,
    area: Shares | None = None,
    contrast: float = CONTRAST,
    foreign: bool = False,
    camouflage: float = 0.0,
) -> AnomalySample:
    """One image with a synthetic anomaly, or unchanged with probability ``clean``.

    Changes below `VISIBLE` are undone, so that every pixel of the mask has changed visibly and every other one not at
    all. An anomaly whose mask or contrast is out of bounds is drawn again. After a hundred draws the source is Perlin
    noise instead of an image: images of one colour alone would never give an anomaly.

    Parameters
    ----------
    normal
        In [0, 1].
    textures
        Draws another image of the normal set, such as `indeed.data.patches.PatchSampler`.
    generator
        Source of all randomness.
    families
        Names from `FAMILIES`, equally probable; one that is repeated is drawn more often.
    clean
        Probability that the image stays normal.
    area
        Least and largest share of the pixels that change; None: those of the family.
    contrast
        Least mean absolute change over the pixels of the mask and their channels.
    foreign
        Whether CutPaste and scars, too, are filled from a texture, and not from the image itself.
    camouflage
        Probability that an anomaly is brought to the mean of what it hides: then its texture alone gives it away.

    Raises
    ------
    ValueError
        If an argument is out of its range, an image is not in [0, 1] or too small, a texture differs in channels, or no
        anomaly was found within ``area`` and ``contrast``.

    Examples
    --------
    >>> flat = torch.full((1, 32, 32), 0.5)
    >>> sample = anomalous_sample(flat, lambda _: flat, torch.Generator().manual_seed(0), clean=0)
    >>> torch.equal(sample.observed - sample.normal, sample.anomaly)
    True
    >>> torch.equal(sample.mask, (sample.anomaly != 0).any(0)), sample.family
    (True, ('cutpaste',))
    """
    _check_arguments(normal, families, clean, area, contrast, camouflage)
    clean_draw, family_draw = uniform_draws(2, generator)
    if clean_draw < clean:
        nowhere = torch.zeros_like(normal[0], dtype=torch.bool)
        return AnomalySample(normal.clone(), normal, torch.zeros_like(normal), nowhere, ("clean",))
    name = families[int(family_draw * len(families))]
    family = FAMILIES[name]
    low, high = area or family.area
    _, height, width = normal.shape
    hidden = camouflage > 0 and uniform_draws(1, generator)[0] < camouflage
    for draw in range(DRAWS):
        if draw >= DRAWS_OF_IMAGES:
            source = ((1 + perlin_field(height, width, generator)) / 2).to(normal).expand_as(normal)
        else:
            source = normal if family.of_itself and not foreign else textures(generator).to(normal)
        expect(len(source) == len(normal), "textures", f"an image of {len(source)} channels", f"{len(normal)}")
        candidate = family.draw(normal, source, generator, (low, high))
        if hidden:
            candidate = _camouflaged(candidate, normal)
        mask = (candidate - normal).abs().amax(0) >= VISIBLE
        observed = torch.where(mask, candidate, normal)
        anomaly = observed - normal
        if low <= mask.double().mean() <= high and anomaly[:, mask].abs().mean() >= contrast:
            return AnomalySample(observed, normal, anomaly, mask, (name,))
    raise ValueError(
        f"area, contrast: got {(low, high)}, {contrast}, expected bounds that one of {DRAWS} anomalies of the family "
        f"{name!r} is within"
    )


def anomalous(
    normal: Images, generator: torch.Generator, *, textures: Sequence[Tensor] | Tensor | None = None, **options: Any
) -> AnomalySample:
    """Images with synthetic anomalies: one `anomalous_sample` of each, in turn, from one generator.

    Parameters
    ----------
    normal
        In [0, 1].
    textures
        Images of the normal set, of any size, of which textures are made; None: the other images of the batch (of a
        batch of one, the image itself).
    options
        Of `anomalous_sample`, by name.

    Raises
    ------
    ValueError
        As `anomalous_sample`, or if there is no image or no texture.

    Examples
    --------
    >>> normal = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    >>> sample = anomalous(normal, torch.Generator().manual_seed(1))
    >>> sample.family
    ('clean', 'clean', 'perlin', 'perlin', 'clean', 'cutpaste')
    """
    for argument, images in (("normal", normal), ("textures", textures)):
        expect(images is None or len(images), argument, "no image", "at least one")
    samples = []
    for index, image in enumerate(normal):
        others = textures if textures is not None else [*normal[:index], *normal[index + 1 :]] or [image]
        samples.append(anomalous_sample(image, _one_of(others), generator, **options))
    observed, normals, anomaly, mask, names = zip(*samples, strict=True)
    return AnomalySample(
        torch.stack(observed), torch.stack(normals), torch.stack(anomaly), torch.stack(mask), sum(names, ())
    )


def foreign_to(surfaces: Sequence[TextureSource], index: int) -> TextureSource:
    """Make a source of images of any of the surfaces but one; of that one if there is no other.

    Examples
    --------
    >>> surfaces = [lambda _, grey=grey: torch.full((1, 2, 2), grey) for grey in (0.0, 1.0)]
    >>> foreign_to(surfaces, 0)(torch.Generator()).unique(), foreign_to(surfaces[:1], 0)(torch.Generator()).unique()
    (tensor([1.]), tensor([0.]))
    """
    others = [*surfaces[:index], *surfaces[index + 1 :]] or surfaces
    return lambda generator: others[int(uniform_draws(1, generator)[0] * len(others))](generator)


def _one_of(images: Sequence[Tensor] | Tensor) -> TextureSource:
    return lambda generator: images[int(uniform_draws(1, generator)[0] * len(images))]


def _camouflaged(candidate: Image, normal: Image) -> Image:
    """Shift what has changed visibly to the mean of what was there, in each channel; clipped."""
    changed = (candidate - normal).abs().amax(0) >= VISIBLE
    shift = (normal - candidate)[:, changed].mean(1)[:, None, None]
    return torch.where(changed, (candidate + shift).clamp(0, 1), normal)


def _check_arguments(
    normal: Image, families: Sequence[str], clean: float, area: Shares | None, contrast: float, camouflage: float
) -> None:
    check_size(*normal.shape[1:])
    if not bool(((normal >= 0) & (normal <= 1)).all()):
        raise ValueError("normal: got values outside [0, 1] or not finite, expected an image in [0, 1]")
    if not families or not set(families) <= set(FAMILIES):
        raise ValueError(f"families: got {tuple(families)}, expected at least one of {', '.join(FAMILIES)}")
    for name, value in (("clean", clean), ("camouflage", camouflage)):
        expect(0 <= value <= 1, name, value, "a probability")
    if area is not None:
        check_area(area)
    expect(0 <= contrast < 1, "contrast", contrast, "0 <= contrast < 1")
