"""Good images that detectors learn from, and the embedded textures with the defects that they are tested on."""

from functools import cache, partial
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from indeed.data.anomaly_readers import READERS, anomaly_set
from indeed.data.anomaly_sets import GOOD, TEXTURES, AnomalyItem, AnomalySet, MakeDefect, load, texture_set
from indeed.data.benchmarks import DataError, DataMissingError, evenly
from indeed.data.folders import gathered, pictures_in
from indeed.data.samples import sample_image
from indeed.data.white import Reader
from indeed.images.anomaly_synthesis import TextureSource, anomalous_sample, foreign_to
from indeed.images.noise import GREY_LEVEL
from indeed.images.pixels import eight_bit

SIDE = 256
"""Side to which the images of a set are brought, as DRAEM does; textures keep their size."""
TEXTURE_CONTRAST = 32 * GREY_LEVEL
"""Least mean absolute change of a pixel of a defect on the embedded textures. Grass on grass, or a faint veil of it, is
no visible defect: the pixels of gravel and grass themselves differ by more."""
UNSEEN_FAMILIES = ("scar", "poisson")
SEED = 7
"""Seed of the synthetic anomalies that settings are chosen on."""


class GoodImages(NamedTuple):
    """Good images, 8-bit (channel, height, width), to train on and held out."""

    name: str
    train: list[Tensor]
    held_out: list[Tensor]
    side: int | None
    """Side to which images are brought in front of the network; None: they are taken as they are."""


def good_images(data: str, channels: Literal[1, 3], patch_size: int, reader: Reader | None = None) -> GoodImages:
    """Good images to train a detector on, a tenth of them held out.

    Parameters
    ----------
    data
        ``textures``: the left halves of textures that ship with scikit-image, of which the last quarter is held out;
        names from :data:`indeed.data.anomaly_readers.READERS`, joined by ``+``: the sets under ``INDEED_DATA``, for one
        model of all their categories; else a folder: of photographs of good parts, or with them in ``train/good`` or
        ``<category>/train/good``.
    channels
        1 (grey) or 3 (colour).
    patch_size
        Least side to which images are brought.
    reader
        Of the images in a folder.

    Raises
    ------
    DataError, DataMissingError
        If there are not at least two good images, or a category has none.
    ValueError, OSError, ExceptionGroup
        If images cannot be read: all are named.
    """
    if data == "textures":
        images = [eight_bit(load(item).image, channels) for item in texture_set_for_tests(1).train]
        cut = [image.shape[1] * 3 // 4 for image in images]
        upper = [image[:, :rows].contiguous() for image, rows in zip(images, cut, strict=True)]
        lower = [image[:, rows:].contiguous() for image, rows in zip(images, cut, strict=True)]
        return GoodImages(data, upper, lower, None)
    side = max(SIDE, patch_size)
    names = data.split("+")
    if set(names) <= READERS.keys():
        items = [item for name in names for item in anomaly_set(name).train]
    else:
        folder = Path(data)
        if not folder.is_dir():
            raise DataMissingError(
                f"data: got {data!r}, expected 'textures', names from {', '.join(READERS)}, or a folder"
            )
        data = folder.resolve().name
        items = [
            AnomalyItem(path, data, GOOD, partial(_read_good, reader or Reader(), path)) for path in _good_files(folder)
        ]
    if len(items) < 2:
        raise DataError(f"{data}: {len(items)} good images, expected at least 2")
    apart = set(map(id, evenly(items, max(1, len(items) // 10))))
    images = gathered(items, lambda item: eight_bit(load(item, side, channels=channels).image, channels))
    parts: tuple[list[Tensor], list[Tensor]] = ([], [])
    for item, image in zip(items, images, strict=True):
        parts[id(item) in apart].append(image)
    return GoodImages(data, *parts, side)


def _read_good(reader: Reader, path: Path) -> tuple[Tensor, None]:
    return reader(path).tensor(), None


def _good_files(folder: Path) -> list[Path]:
    places = [root / "train" / "good" for root in (folder, *sorted(folder.iterdir())) if (root / "train").is_dir()]
    files = []
    for place in places or [folder]:
        found = pictures_in(place) if place.is_dir() else []
        if not found:
            raise DataError(f"{place}: holds no image, expected photographs of good parts")
        files += found
    return files


@cache
def texture_set_for_tests(seed: int = SEED) -> AnomalySet:
    """Embedded textures with defects of `UNSEEN_FAMILIES`: foreign matter, cut from the right halves of the others.

    The defects cover 1 to 5 % of a tile, change its pixels by `TEXTURE_CONTRAST` at least, and are drawn by the seed.
    """

    def right_half(name: str) -> TextureSource:
        image = sample_image(name)
        return lambda _: image[..., image.shape[2] // 2 :]

    surfaces = [right_half(name) for name in TEXTURES]

    def made_by(family: str) -> MakeDefect:
        def make(image: Tensor, name: str, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            source = foreign_to(surfaces, TEXTURES.index(name))
            sample = anomalous_sample(
                image,
                source,
                generator,
                families=(family,),
                clean=0,
                area=(0.01, 0.05),
                contrast=TEXTURE_CONTRAST,
                foreign=True,
            )
            return sample.observed, sample.mask

        return make

    return texture_set({family: made_by(family) for family in UNSEEN_FAMILIES}, torch.Generator().manual_seed(seed))
