"""The value of white in data of 10, 12 or 14 bits that are stored in 16: given, told from the data, or missed."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from indeed.checks import expect
from indeed.data.folders import notice
from indeed.data.image_files import ImageFileError, read_image
from indeed.data.picture import Picture
from indeed.data.stacks import opened_stack

White = int | Literal["auto"] | None
"""A number, for every file whose type holds it; ``auto``, told from the data; None: as each file says."""


class Reader:
    """Reads the images of a run with one value of white, and tells if that looks wrong.

    A file that states its white is taken at its word, unless a number is given. 8-bit files keep theirs, 255, where the
    number is above.
    """

    def __init__(
        self,
        white: White = None,
        images: Iterable[Path] = (),
        *,
        channels: tuple[int, ...] | None = None,
        usual: int | None = None,
    ) -> None:
        """Find out the value of white.

        Parameters
        ----------
        white
            As it is asked for.
        images
            All images of the run, from which ``auto`` tells the value: the smallest 2^n - 1, with n from 8 on, that
            holds the largest sample of all 16-bit files that do not state their white.
        channels
            Places, from 1 on, of the one or three channels of TIFF files to read.
        usual
            Value for 16-bit files that do not state theirs, where ``white`` is None.

        Raises
        ------
        ValueError
            If a number is below 1 or above 65535.
        """
        if isinstance(white, int):
            expect(1 <= white <= 65535, "white", white, "a number from 1 to 65535, or auto")
        self.channels = channels
        self.asked = white
        self.number = white if isinstance(white, int) else None
        self.usual = _told_from(images, channels) if white == "auto" else usual
        self.largest, self.count = 0, 0
        self.whites: set[int] = set()

    def __call__(self, path: Path) -> Picture:
        """Read a picture.

        Raises
        ------
        ImageFileError
            As :func:`indeed.data.image_files.read_image`.
        """
        return self.noted(read_image(path, white=self.number, channels=self.channels))

    def noted(self, picture: Picture) -> Picture:
        """Picture with the value of white of the run."""
        if picture.pixels.dtype != np.uint16:
            return picture
        if self.number is None and self.usual and picture.white == 65535:
            if picture.pixels.max() > self.usual:
                most = picture.pixels.max()
                raise ValueError(
                    f"white: got {self.usual}, expected at least {most}, which the image holds; see --white"
                )
            picture = replace(picture, white=self.usual)
        self.whites.add(picture.white)
        self.largest, self.count = max(self.largest, int(picture.pixels.max())), self.count + 1
        return picture

    @property
    def told(self) -> int | None:
        """Value of white for files of 16 bit that state none; None: the largest one of their type."""
        return self.number or self.usual

    @property
    def settings(self) -> dict[str, object]:
        """What a report says of the reading: a result of other settings is another one."""
        return {"white_asked": self.told, "channels": self.channels and ",".join(map(str, self.channels))}

    @property
    def white(self) -> int | None:
        """Value of white that the images of 16 bit have been read with, or will be; None where it is not one."""
        if self.told:
            return self.told
        return next(iter(self.whites)) if len(self.whites) == 1 else None

    def tell(self) -> None:
        """Say so if no sample of the images comes near to white, and nobody has told the value.

        A quarter of it is the limit: data of 14 bits in 16 are below, an underexposed photograph rarely is.
        """
        if self.asked is None and self.whites and 4 * self.largest < max(self.whites):
            images = "the 16-bit image" if self.count == 1 else f"{self.count} 16-bit images"
            notice(
                f"the largest value of {images} is {self.largest}, far below white, {max(self.whites)};"
                f" is it --white {_smallest(self.largest)}?"
            )


def _told_from(images: Iterable[Path], channels: tuple[int, ...] | None) -> int | None:
    largest = -1
    for path in images:
        with suppress(ImageFileError):  # told of when it is its turn
            for picture in _pictures(path, channels):
                if picture.pixels.dtype == np.uint16 and picture.white == 65535:
                    largest = max(largest, int(picture.pixels.max()))
    return _smallest(largest) if largest >= 0 else None


def _pictures(path: Path, channels: tuple[int, ...] | None) -> Iterator[Picture]:
    with opened_stack(path) as stack:
        if stack is None:
            yield read_image(path, channels=channels)
        else:
            yield from (stack[index] for index in range(len(stack)))


def _smallest(largest: int) -> int:
    """Smallest 2^n - 1, with n at least 8, that holds a value."""
    return int(2 ** max(8, largest.bit_length()) - 1)
