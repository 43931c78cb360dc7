"""Which pictures a TIFF file holds: its chain of directories, those inside them, and what is described without one.

A file that holds one picture may have further directories: of thumbnails, levels of a pyramid and masks. And a single
directory may stand for many pictures, where ImageJ, MetaMorph or OME say so.
"""

import logging
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from indeed.data.samples_of_files import UnsupportedError

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

MAX_DIRECTORIES = 100_000
"""Directories of a file; more are taken for damage."""

_REDUCED, _MASK = 1, 4
logging.getLogger("tifffile").addHandler(logging.NullHandler())  # else what it logs goes to the screen


@dataclass(frozen=True, eq=False)
class TiffPictures:
    """Pictures of an open TIFF file."""

    file: "TiffFile"
    pages: "tuple[TiffPage, ...]"
    """Directories of the pictures; a single one where they lie behind each other without directories of their own."""
    axes: str
    """Axes of the pictures among themselves as tifffile names them, such as TZC; none for a single one."""
    shape: tuple[int, ...]
    """Lengths of these axes."""
    left: tuple[str, ...] = ()
    """Names of the other directories: "reduced pictures", "mask"."""

    def __len__(self) -> int:
        """Count the pictures."""
        return int(np.prod(self.shape, dtype=np.int64))


@contextmanager
def opened_tiff(path: Path) -> Iterator[TiffPictures]:
    """Open a TIFF file and find its pictures: the directories that are no thumbnail, level or mask, inner ones too.

    Raises
    ------
    UnsupportedError
        If there is none, or the directories refer to each other in a circle.
    Exception
        What tifffile raises on a damaged file.
    """
    import imagecodecs  # noqa: F401  # without it tifffile would take decoders of its own
    import tifffile

    with path.open("rb") as file:
        head = file.read(16)
        order, big = "<" if head[:2] == b"II" else ">", head[2:4] in (b"+\0", b"\0+")
        check_chain(path, order, big)
    with tifffile.TiffFile(path, _multifile=False) as tiff:
        chain = [page.aspage() for page in tiff.pages]
        every = [page for outer in chain for page in (outer, *_inner(outer))]
        pages = [page for page in every if not page.subfiletype & (_REDUCED | _MASK)]
        left = [
            word
            for bit, word in ((_REDUCED, "reduced pictures"), (_MASK, "mask"))
            if any(page.subfiletype & bit for page in every)
        ]
        if not pages:
            raise UnsupportedError("holds reduced pictures only" if every else "is damaged (it has no directory)")
        axes, shape, ordered = _arranged(tiff, pages)
        yield TiffPictures(tiff, ordered, axes, shape, tuple(left))


def check_chain(path: Path, order: str, big: bool) -> None:
    """Follow the chain of directories once, as tifffile would follow a circle for ever.

    Raises
    ------
    UnsupportedError
        If they refer to each other in a circle, or there are more than `MAX_DIRECTORIES`.
    struct.error
        If the file ends within one.
    """
    count_format, entry_size, value_format = ("Q", 20, "Q") if big else ("H", 12, "I")
    with path.open("rb") as file:

        def number(layout: str) -> int:
            (value,) = struct.unpack(order + layout, file.read(struct.calcsize(layout)))
            return int(value)

        file.seek(8 if big else 4)
        seen: set[int] = set()
        while offset := number(value_format):
            if offset in seen:
                raise UnsupportedError("is damaged (its directories refer to each other in a circle)")
            if len(seen) == MAX_DIRECTORIES:
                raise UnsupportedError(f"has more than {MAX_DIRECTORIES} directories")
            seen.add(offset)
            file.seek(offset)
            count = number(count_format)
            if count > 4096:
                raise UnsupportedError(f"is damaged (a directory of {count} tags)")
            file.seek(count * entry_size, 1)


def _inner(outer: "TiffPage") -> "list[TiffPage]":
    """Directories inside another one, without those that are smaller pictures of a picture, said or not."""
    found = [page.aspage() for page in outer.pages or ()]
    if outer.subfiletype & _REDUCED:
        return found
    return [
        page
        for page in found
        if page.subfiletype or page.imagewidth >= outer.imagewidth or page.imagelength >= outer.imagelength
    ]


def _arranged(tiff: "TiffFile", pages: "list[TiffPage]") -> "tuple[str, tuple[int, ...], tuple[TiffPage, ...]]":
    """Arrange pictures: their axes, the lengths of these, and the directories in that order."""
    series = tiff.series[0] if tiff.series else None
    axes = ""
    shape: tuple[int, ...] = ()
    if series is not None and series.axes.replace("S", "").endswith("YX") and series.keyframe.offset == pages[0].offset:
        lead = [(axis, side) for axis, side in zip(series.axes, series.shape, strict=True) if axis not in "YXS"]
        axes, shape = "".join(axis for axis, _ in lead), tuple(int(side) for _, side in lead)
    count = int(np.prod(shape, dtype=np.int64))
    if len(pages) == 1:
        said = _said(pages[0])
        return (axes, shape, (pages[0],)) if count >= said else ("I", (said,), (pages[0],))
    by_offset = {page.offset: page for page in pages}
    if series is not None and count == len(by_offset) and count == len(series):
        places = [page.offset if page is not None else None for page in series]
        if set(places) == set(by_offset):
            return axes, shape, tuple(by_offset[place] for place in places if place is not None)
    return "I", (len(pages),), tuple(pages)


def _said(page: "TiffPage") -> int:
    """Count the pictures that ImageJ says there are, even where the file ends before the last one."""
    text = page.imagej_description or ""
    images = next((line[7:] for line in text.splitlines() if line.startswith("images=")), "1")
    return max(int(images), 1) if images.isdecimal() else 1
