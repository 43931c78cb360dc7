"""Image sets for anomaly detection: good images to train on, good and defective ones with masks to test on.

Readers for the sets on disk (`anomaly_set`), for any folder of the common layout (`folder_set`) and for textures that
ship with scikit-image (`texture_set`) all give an `AnomalySet`; `load` turns an item of one into tensors. Names and
pairs are checked when a set is read, pixels when an item is loaded: what cannot be trusted raises a `DataError` (an
image that cannot be decoded an `ImageFileError`) that names the file.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor
from torch.nn.functional import interpolate

from indeed.checks import expect
from indeed.data.benchmarks import DataError
from indeed.data.samples import sample_image, sample_path
from indeed.images.pixels import as_channels
from indeed.types import AnySizeImage, Image, Mask

GOOD = "good"
"""Class of the images without a defect."""
TEXTURES = ("brick", "grass", "gravel")
"""Surfaces of `indeed.data.samples` that are alike from one half of the image to the other."""
MakeDefect = Callable[[Image, str, torch.Generator], tuple[Tensor, Tensor]]
"""Image, category and generator to the image with a defect and its mask, (height, width) or (1, height, width)."""


@dataclass(frozen=True, eq=False)
class AnomalyItem:
    """One image of a set, read when `load` is called; it can be sent to another process."""

    file: Path
    """The image, or the volume or photograph that it is a part of."""
    category: str
    """Kind of object or surface."""
    defect: str
    """`GOOD`, or the class of its defect."""
    read: Callable[[], tuple[Image, Bool[Tensor, "_ _"] | None]]
    """Gives image and mask as they are in the files; the mask is None if and only if the image is good."""
    mask_file: Path | None = None
    """Where its mask is written; None if it is good, or its defect was made here."""
    part: int | None = None
    """Number of the slice of a volume or tile of a photograph; None if it is the whole."""


@dataclass(frozen=True, eq=False)
class AnomalySet:
    """Good images to train on, and images to test on.

    Raises
    ------
    DataError
        If a category lacks good images to train on, good images to test on, or defective ones.
    """

    name: str
    train: tuple[AnomalyItem, ...]
    test: tuple[AnomalyItem, ...]

    def __post_init__(self) -> None:
        """Refuse what cannot be trained on or scored."""
        if not self.train + self.test:
            raise DataError(f"{self.name}: holds no image, expected some")
        for item in self.train:
            if item.defect != GOOD:
                raise DataError(f"{item.file}: has the defect {item.defect!r}, expected only good images to train on")
        for category in sorted({item.category for item in self.train + self.test}):
            defects = [item.defect for item in self.test if item.category == category]
            for what, there in (
                ("good image to train on", any(item.category == category for item in self.train)),
                ("good image to test on", GOOD in defects),
                ("image with a defect", any(defect != GOOD for defect in defects)),
            ):
                if not there:
                    beside = next(item.file for item in self.train + self.test if item.category == category)
                    raise DataError(f"{self.name}: {category} has no {what} (but {beside}), expected at least one")

    @property
    def categories(self) -> tuple[str, ...]:
        """Kinds of objects or surfaces, sorted."""
        return tuple(sorted({item.category for item in self.train}))

    @property
    def classes(self) -> tuple[tuple[str, str], ...]:
        """Pairs of category and class of defect, sorted."""
        return tuple(sorted({(item.category, item.defect) for item in self.test if item.defect != GOOD}))

    def scored(self, category: str, defect: str) -> tuple[AnomalyItem, ...]:
        """Images that a class of defect is scored on: its own and all good ones of its category.

        Raises
        ------
        ValueError
            If there is no such class.
        """
        expect((category, defect) in self.classes, "category, defect", (category, defect), f"one of {self.classes}")
        return tuple(item for item in self.test if item.category == category and item.defect in (GOOD, defect))


class LoadedItem(NamedTuple):
    """Pixels of one image and which of them are defective."""

    image: Image
    mask: Mask


def load(
    item: AnomalyItem, size: int | tuple[int, int] | None = None, *, channels: Literal[1, 3] | None = None
) -> LoadedItem:
    """Image in [0, 1] and mask of an item, brought to a size.

    Parameters
    ----------
    item
        Of an `AnomalySet`.
    size
        Height and width, or the side of a square; None for the image as it is. The image is scaled by antialiased
        bilinear, the mask by nearest neighbour, which may lose a small defect: whether an image is good is said by
        ``item.defect``, not by its mask.
    channels
        As in :func:`indeed.images.pixels.as_channels`; None for the image as it is.

    Raises
    ------
    ValueError
        If ``size`` is not positive.
    DataError
        If the mask has another size than the image, or marks no pixel or all of them.
    ImageFileError
        If an image cannot be read.
    """
    image, mask = item.read()
    if mask is None:
        mask = torch.zeros(image.shape[1:], dtype=torch.bool)
    else:
        _check_mask(mask, image, item)
    if channels is not None:
        image = as_channels(image, channels)
    if size is not None:
        target = (size, size) if isinstance(size, int) else size
        expect(min(target) >= 1, "size", size, "at least 1 pixel")
        if target != image.shape[1:]:
            image = interpolate(image[None], target, mode="bilinear", antialias=True)[0]
            mask = interpolate(mask[None, None].float(), target, mode="nearest-exact")[0, 0] > 0.5
        image = image.clamp(0, 1)
    return LoadedItem(image.contiguous(), mask)


def _check_mask(mask: Bool[Tensor, "_ _"], image: AnySizeImage, item: AnomalyItem) -> None:
    where = item.mask_file or item.file
    if mask.shape != image.shape[1:]:
        (height, width), (rows, columns) = mask.shape, image.shape[1:]
        raise DataError(f"{where}: mask of {width}x{height} pixels, expected {columns}x{rows} as {item.file}")
    if not mask.any():
        raise DataError(f"{where}: marks no pixel of {item.file}, expected a defect")
    if mask.all():
        raise DataError(f"{where}: marks every pixel of {item.file}, expected good ones too")


def texture_set(defects: Mapping[str, MakeDefect], generator: torch.Generator, *, tile: int = 128) -> AnomalySet:
    """Embedded default, with no data on disk: textures that ship with scikit-image, and defects made on them.

    The left half of each of `TEXTURES` is for training, whole; the right half is cut into tiles that do not overlap.
    Each tile is tested as it is, and once with each defect.

    Parameters
    ----------
    defects
        What makes a defect, by the name of its class; at least one.
    generator
        Handed to each of them for all random choices.
    tile
        Side of the tiles of testing, at most 256 pixels.

    Raises
    ------
    ValueError
        If there is no defect, ``tile`` is not in range, or what a defect gives is no image and mask of the tile's size.
    """
    expect(defects, "defects", "none", "at least one")
    expect(1 <= tile <= 256, "tile", tile, "1 to 256 pixels")
    train, test = [], []
    for name in TEXTURES:
        path, image = sample_path(name), sample_image(name)
        middle = image.shape[2] // 2
        train.append(AnomalyItem(path, name, GOOD, partial(_held, image[..., :middle].contiguous(), None)))
        corners = product(range(0, image.shape[1] - tile + 1, tile), range(middle, image.shape[2] - tile + 1, tile))
        for part, (top, left) in enumerate(corners):
            clean = image[:, top : top + tile, left : left + tile].contiguous()
            test.append(AnomalyItem(path, name, GOOD, partial(_held, clean, None), part=part))
            for defect, make in defects.items():
                observed, mask = _made(defect, make, clean, name, generator)
                test.append(AnomalyItem(path, name, defect, partial(_held, observed, mask), part=part))
    return AnomalySet("textures", tuple(train), tuple(test))


def _held(image: AnySizeImage, mask: Bool[Tensor, "_ _"] | None) -> tuple[AnySizeImage, Bool[Tensor, "_ _"] | None]:
    return image, mask


def _made(
    defect: str, make: MakeDefect, clean: AnySizeImage, name: str, generator: torch.Generator
) -> tuple[AnySizeImage, Bool[Tensor, "_ _"]]:
    observed, mask = make(clean.clone(), name, generator)
    if observed.shape != clean.shape or mask.shape not in (clean.shape[1:], (1, *clean.shape[1:])):
        raise ValueError(
            f"defects[{defect!r}]: got shapes {tuple(observed.shape)} and {tuple(mask.shape)}, expected "
            f"{tuple(clean.shape)} and {tuple(clean.shape[1:])}"
        )
    marked = mask.reshape(clean.shape[1:]) > 0.5
    if not marked.any() or marked.all() or observed.min() < 0 or observed.max() > 1:
        raise ValueError(
            f"defects[{defect!r}]: got {int(marked.sum())} of {marked.numel()} pixels marked, of an image from "
            f"{float(observed.min()):.3g} to {float(observed.max()):.3g}, expected some but not all, and [0, 1]"
        )
    return observed, marked
