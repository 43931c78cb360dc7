"""JPEG, BMP and WebP files, decoded by Pillow: 8 bit, grey or colour."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any, Literal

import numpy as np

from indeed.data.exif import without_orientation
from indeed.data.samples_of_files import Metadata, Samples, UnsupportedError, refuse_large

PillowFormat = Literal["JPEG", "BMP", "WEBP"]


def decode(data: bytes, kind: PillowFormat) -> Samples:
    """Decode a file to grey or RGB, with alpha if it has any.

    A JPEG file that holds further pictures, as of cameras that add previews, is its first one.

    Raises
    ------
    UnsupportedError
        If it holds several pictures (WebP), samples of other than 8 bits (JPEG), or is too large.
    Exception
        What Pillow raises on a damaged file.
    """
    from PIL import Image

    if kind == "JPEG" and (bits := _jpeg_bits(data)) not in (0, 8):
        raise UnsupportedError(f"holds JPEG samples of {bits} bits, expected 8")
    formats = ("JPEG", "MPO") if kind == "JPEG" else (kind,)
    with _any_size(), Image.open(BytesIO(data), formats=formats) as image:
        refuse_large(*image.size)
        if kind == "WEBP" and getattr(image, "n_frames", 1) > 1:
            raise UnsupportedError("holds several pictures, expected one")
        if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"):
            raise UnsupportedError(f"holds {image.mode} samples, expected 8 bit")
        profile, info, dropped = image.info.get("icc_profile"), image.info, []
        if image.mode == "CMYK" and profile:
            profile, dropped = None, ["the colour profile of its inks"]
        block = info.get("exif")
        exif, orientation, left = without_orientation(block) if block else (None, 1, ())
        dropped += [
            *left,
            *(
                word
                for name, word in (("xmp", "XMP"), ("photoshop", "Photoshop"), ("comment", "comment"))
                if info.get(name)
            ),
            *(["further pictures"] if image.format == "MPO" else []),
        ]
        transparent = image.mode.endswith("A") or "transparency" in info
        mode = ("L" if image.mode in ("1", "L", "LA") else "RGB") + ("A" if transparent else "")
        values = np.array(image.convert(mode))
        metadata = Metadata(profile, _resolution(info), exif, None, tuple(dropped))
    return Samples(values if values.ndim == 3 else values[..., None], transparent, None, orientation, metadata)


@contextmanager
def _any_size() -> Iterator[None]:
    """Let `refuse_large` alone decide what is too large."""
    from PIL import Image

    most, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = most


def _jpeg_bits(data: bytes) -> int:
    """Bits of a sample as the frame header says, 0 if none is found."""
    position = 2
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker, length = struct.unpack(">BH", data[position + 1 : position + 4])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return data[position + 4]
        position += 2 + length
    return 0


def _resolution(info: dict[str | tuple[int, int], Any]) -> tuple[float, float, float] | None:
    density, unit = info.get("jfif_density"), info.get("jfif_unit")
    if not density:
        density, unit = info.get("dpi"), 1
    if not isinstance(density, tuple) or not all(value > 0 for value in density):
        return None
    of_length = {1: 0.0254, 2: 0.01}.get(int(str(unit)), 0.0)
    if not of_length and density[0] == density[1]:  # the shape of a pixel, which is square, and no size
        return None
    return float(density[0]), float(density[1]), of_length
