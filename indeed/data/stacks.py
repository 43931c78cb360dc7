"""Stacks: TIFF files that hold several pictures of one size, read and written plane by plane.

Memory is that of one plane, however many there are. The order of the planes, the resolution and what ImageJ or OME say
of the size of a voxel go from the file that is read into the one that is written.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np

from indeed.data import tiff, tiff_writer
from indeed.data.exif import put_into_tiff
from indeed.data.image_files import (
    ImageFileError,
    format_of,
    format_of_content,
    named_faults,
    noted_white,
    picture_of,
    reason,
)
from indeed.data.picture import Picture
from indeed.data.samples_of_files import Metadata, UnsupportedError
from indeed.data.tiff_directories import TiffPictures, opened_tiff
from indeed.files import atomic_write


@dataclass(frozen=True, eq=False)
class TiffStack:
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
            As :func:`indeed.data.image_files.read_image`.
        IndexError
            If there is no such plane.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        pages = self.pictures.pages
        with named_faults(f"{self.path}: plane {index + 1}"):
            if len(pages) == len(self):
                samples = tiff.read_page(pages[index])
            else:
                samples = tiff.read_plane(pages[0], index)
            return picture_of(samples._replace(metadata=self.metadata), self.white)

    @cached_property
    def metadata(self) -> Metadata:
        """What the file says besides its pixels."""
        return tiff.metadata_of(self.pictures)


@contextmanager
def opened_stack(path: Path, *, white: int | None = None) -> Iterator[TiffStack | None]:
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
        with named_faults(path):
            pictures = held.enter_context(opened_tiff(path))
            alike = {(page.shape, page.dtype, page.photometric, page.axes) for page in pictures.pages}
            if len(alike) > 1:
                raise UnsupportedError("holds pictures of different sizes or kinds, expected a stack of one kind")
        yield TiffStack(path, pictures, white) if len(pictures) > 1 else None


def write_stack(path: Path, like: TiffStack, planes: Iterator[Picture]) -> None:
    """Write planes as they come, as a stack like another one; the file is whole or not there.

    Raises
    ------
    ImageFileError
        If the name does not end in .tif, the planes differ from each other, or the file cannot be written.
    """
    import tifffile

    if format_of(path) != "TIFF":
        raise ImageFileError(f"{path}: a stack is written as TIFF, expected a name ending in .tif")
    first = next(planes)
    samples = first.samples()
    shape = (*like.pictures.shape, *samples.shape[: 3 if samples.shape[2] > 1 else 2])
    options = tiff_writer.options_of_writer(
        first.metadata,
        samples.dtype,
        samples.shape[2],
        alpha=first.alpha is not None,
        white=noted_white(first),
        axes=like.pictures.axes,
    )

    def arrays() -> Iterator[np.ndarray]:
        for picture in chain([first], planes):
            array = picture.samples()
            if (array.shape, array.dtype) != (samples.shape, samples.dtype):
                raise ImageFileError(f"{path}: got planes of different sizes or types, expected the same")
            yield array if array.shape[2] > 1 else array[..., 0]

    try:
        with atomic_write(path) as temporary:
            tifffile.imwrite(temporary, arrays(), shape=shape, dtype=samples.dtype, **options)
            if first.metadata.exif:
                put_into_tiff(temporary, first.metadata.exif)
    except OSError as error:
        raise ImageFileError(f"{path}: cannot be written: {reason(error)}") from error
