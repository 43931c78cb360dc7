"""What every decoder of image files gives: samples as they are in the file, what they mean, and what else it says."""

import os
from typing import NamedTuple

import numpy as np

MAX_PIXELS = 89_478_485
"""Pixels of the largest picture that is read, unless the environment variable INDEED_MAX_PIXELS says otherwise."""


class UnsupportedError(Exception):
    """A file that is not read, with the reason; the message goes on after the name of the file."""


class Metadata(NamedTuple):
    """What a file says besides its pixels: what is put back into a processed copy, and what is not."""

    icc_profile: bytes | None = None
    """Description of the colours."""
    resolution: tuple[float, float, float] | None = None
    """Pixels per unit of length along x and y, and that unit in metres, 0 where it is unknown."""
    exif: bytes | None = None
    """EXIF block without orientation and thumbnail, which would be wrong in the copy."""
    description: str | None = None
    """Description of a TIFF file that ImageJ or OME wrote, with the size of a pixel."""
    dropped: tuple[str, ...] = ()
    """Names of what the file holds and a copy will not."""
    software: str | None = None
    """Program that a PNG file is said to be made by: our marker of pictures for the eye."""


class Samples(NamedTuple):
    """Samples of a picture as they are in its file."""

    values: np.ndarray
    """(row, column, sample): uint8, uint16 or float32; 1 or 3 colours, then alpha if there is one."""
    alpha: bool
    """Whether the last sample is alpha."""
    white: int | None = None
    """Value of white that the file states, where it is not the largest one of the type."""
    orientation: int = 1
    """EXIF orientation: where the first row and column of the file are in the scene."""
    metadata: Metadata = Metadata()


def max_pixels() -> int:
    """Pixels of the largest picture that is read.

    Raises
    ------
    ValueError
        If INDEED_MAX_PIXELS is not a positive number.
    """
    text = os.environ.get("INDEED_MAX_PIXELS", "")
    if not text:
        return MAX_PIXELS
    if not text.isdecimal() or not int(text):
        raise ValueError(f"INDEED_MAX_PIXELS: got {text!r}, expected a positive number of pixels")
    return int(text)


def refuse_large(width: int, height: int, samples: int = 1) -> None:
    """Refuse a picture that is too large before it is decoded, in every format alike.

    Raises
    ------
    UnsupportedError
        If it has more pixels than `max_pixels`, or more than 64 samples a pixel.
    """
    most = max_pixels()
    if width * height > most:
        raise UnsupportedError(
            f"has {width * height} pixels, more than {most}; the environment variable INDEED_MAX_PIXELS sets the limit"
        )
    if samples > 64:
        raise UnsupportedError(f"has {samples} channels, expected 1 to 4")
