"""Stacks: TIFF files that hold several pictures of one size, read and written plane by plane.

Memory is that of one plane, however many there are. The order of the planes, the resolution and what ImageJ or OME say
of the size of a voxel go from the file that is read into the one that is written.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from indeed.data import tiff
from indeed.data.files import ImageFileError, format_of_content, picture_of, reason
from indeed.data.picture import Picture
from indeed.data.samples_of_files import UnsupportedError
from indeed.data.tiff_directories import TiffPictures, opened
from indeed.files import atomic_write


@dataclass(frozen=True, eq=False)
class Stack:
    """An open stack: its planes in the order of the file."""

    path: Path
    pictures: TiffPictures
    white: int | None = None
    """Value of white that was chosen; None: as the file says."""

    def __len__(self) -> int:
        """Count the planes."""
        return len(self.pictures)

    def __getitem__(self, index: int) -> Picture:
        """Read a plane, from 0 on.

        Raises
        ------
        ImageFileError
            As :func:`indeed.data.files.read_image`.
        IndexError
            If there is no such plane.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        pages = self.pictures.pages
        try:
            if len(pages) == len(self):
                samples = tiff.read_page(pages[index])
            else:
                samples = tiff.read_plane(pages[0], index)
            return picture_of(samples, self.white)
        except MemoryError:
            raise
        except Exception as error:  # what a decoder raises on a damaged file is no part of its contract
            raise ImageFileError(f"{self.path}: plane {index + 1}: {reason(error)}") from error


@contextmanager
def opened_stack(path: Path, *, white: int | None = None) -> Iterator[Stack | None]:
    """Open a stack; None if the file holds one picture or is no TIFF.

    Raises
    ------
    ImageFileError
        If it cannot be read, or holds several pictures that are no stack: of different sizes or kinds.
    """
    if format_of_content(path) != "TIFF":
        yield None
        return
    with ExitStack() as held:
        try:
            pictures = held.enter_context(opened(path))
            alike = {(page.shape, page.dtype, page.photometric, page.axes) for page in pictures.pages}
            if len(alike) > 1:
                raise UnsupportedError("holds pictures of different sizes or kinds, expected a stack of one kind")
        except MemoryError:
            raise
        except Exception as error:  # what a decoder raises on a damaged file is no part of its contract
            raise ImageFileError(f"{path}: {reason(error)}") from error
        yield Stack(path, pictures, white) if len(pictures) > 1 else None


def write_stack(path: Path, like: Stack, planes: Iterator[Picture]) -> None:
    """Write planes as they come, as a stack like another one; the file is whole or not there.

    Raises
    ------
    ImageFileError
        If the name does not end in .tif, the planes differ from each other, or the file cannot be written.
    """
    import tifffile

    if path.suffix.lower() not in (".tif", ".tiff"):
        raise ImageFileError(f"{path}: a stack is written as TIFF, expected a name ending in .tif")
    first = next(planes)
    coloured = first.channels > 1
    shape = (*like.pictures.shape, *first.pixels.shape[: 3 if coloured else 2])

    def arrays() -> Iterator[np.ndarray]:
        yield from map(_plane, _followed(first, planes))

    description: dict[str, Any] = {"axes": like.pictures.axes + ("YXS" if coloured else "YX")}
    written: dict[str, Any] = {"photometric": "rgb" if first.channels == 3 else "minisblack"}
    if like.pictures.file.is_imagej and first.pixels.dtype.name in ("uint8", "uint16", "float32"):
        kept = like.pictures.file.imagej_metadata or {}
        names = ("unit", "spacing", "finterval", "fps", "min", "max", "mode", "loop")
        description |= {name: kept[name] for name in names if name in kept}
        written |= {"imagej": True}
    elif like.pictures.file.is_ome:
        description |= _ome(like.pictures.file.ome_metadata or "")
        written |= {"ome": True, "compression": "zlib"}
    else:
        written |= {"compression": "zlib"}
    if first.metadata.resolution:
        x, y, unit = first.metadata.resolution
        written |= {"resolution": (x, y), "resolutionunit": {0.0254: 2, 0.01: 3}.get(unit, 1)}
    with atomic_write(path) as temporary:
        tifffile.imwrite(
            temporary, arrays(), shape=shape, dtype=first.pixels.dtype, metadata=description, bigtiff=None, **written
        )


def _followed(first: Picture, rest: Iterator[Picture]) -> Iterator[Picture]:
    yield first
    for picture in rest:
        if (picture.pixels.shape, picture.pixels.dtype) != (first.pixels.shape, first.pixels.dtype):
            raise ImageFileError("planes: got another size or type than that of the first, expected the same")
        yield picture


def _plane(picture: Picture) -> np.ndarray:
    return picture.pixels if picture.channels > 1 else picture.pixels[..., 0]


def _ome(text: str) -> dict[str, Any]:
    """Sizes of a voxel and names of channels in OME-XML, as tifffile writes them."""
    from xml.etree import ElementTree

    pixels = next((x for x in ElementTree.fromstring(text).iter() if x.tag.endswith("}Pixels")), None)
    if pixels is None:
        return {}
    kept = {name: value for name, value in pixels.attrib.items() if name.startswith(("PhysicalSize", "TimeIncrement"))}
    names = [x.attrib["Name"] for x in pixels.iter() if x.tag.endswith("}Channel") and "Name" in x.attrib]
    return kept | ({"Channel": {"Name": names}} if names else {})
