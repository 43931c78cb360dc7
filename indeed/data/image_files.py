"""Image files: PNG, JPEG, TIFF, BMP and WebP; 8 and 16 bit (TIFF also float), grey and colour, with alpha kept aside.

A picture is upright: the orientation that a camera notes is applied on reading and not written again. Palettes become
colour, packed bits are brought to the full range of 8 or 16, a transparent value becomes an alpha channel. A faulty
file raises `ImageFileError` with one line that names the file and the fault.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np

from indeed.data import exif, photographs, png, tiff, tiff_directories, tiff_writer
from indeed.data.microscopy import is_ome
from indeed.data.picture import Picture, largest
from indeed.data.samples_of_files import Metadata, Samples, UnsupportedError
from indeed.files import atomic_write

Format = Literal["PNG", "JPEG", "TIFF", "BMP", "WEBP"]

FORMATS: dict[str, Format] = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".webp": "WEBP",
}
"""File name endings and the formats they stand for; BMP and WebP are read, not written."""
_WRITTEN = ("PNG", "JPEG", "TIFF")

_MAGIC: dict[bytes, Format] = {
    png.SIGNATURE: "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"BM": "BMP",
    b"RIFF": "WEBP",
}


class ImageFileError(ValueError):
    """A file that cannot be read or written as an image; the message is one line naming the file and the fault."""


def read_image(path: str | Path, *, white: int | None = None, channels: tuple[int, ...] | None = None) -> Picture:
    """Picture in an image file, recognised by its content, not its name.

    Parameters
    ----------
    path
        The file.
    white
        Value of white of integer samples whose type holds it; None: as the file says, else the largest of the type.
    channels
        Places, from 1 on, of the one or three channels of a TIFF file to read; None: its colours.

    Raises
    ------
    ImageFileError
        If the file is missing, a folder, empty, unreadable, of another kind, truncated or damaged, holds several
        pictures, too many pixels, values above ``white``, or other values than 8 bit, 16 bit or finite floats of unit
        scale.
    """
    path = Path(path)
    kind = format_of_content(path)
    if channels is not None and kind != "TIFF":
        raise ImageFileError(f"{path}: is a {kind} file, expected TIFF where channels are chosen")
    with named_faults(path):
        if kind == "TIFF":
            with tiff_directories.opened_tiff(path) as pictures:
                if len(pictures) > 1:
                    raise UnsupportedError(f"holds several pictures ({len(pictures)}), expected one")
                samples = tiff.read_page(pictures.pages[0], channels=channels)
                return picture_of(
                    samples._replace(metadata=tiff.metadata_of(pictures, chosen=channels is not None)), white
                )
        data = path.read_bytes()
        return picture_of(png.decode(data) if kind == "PNG" else photographs.decode(data, kind), white)


@contextmanager
def named_faults(what: object) -> Iterator[None]:
    """Make what a decoder raises on a damaged file, which is no part of its contract, an `ImageFileError` on ``what``.

    Its warnings are not for the screen.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (MemoryError, ImageFileError):
        raise
    except Exception as error:
        raise ImageFileError(f"{what}: {reason(error)}") from error


def format_of_content(path: Path) -> Format:
    """Format of a file by its first bytes.

    Raises
    ------
    ImageFileError
        If it is missing, no regular file, empty, unreadable, a pointer of Git LFS, or of another kind.
    """
    try:
        if path.is_dir():
            raise ImageFileError(f"{path}: is a folder, expected an image file")
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise ImageFileError(f"{path}: is no regular file, expected an image")
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise ImageFileError(f"{path}: {reason(error)}") from error
    if not head:
        raise ImageFileError(f"{path}: is empty")
    if head.startswith(b"version https://git-lfs"):
        raise ImageFileError(f"{path}: is a pointer of Git LFS, expected the image: run git lfs pull")
    kind = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)
    if kind is None or (kind == "WEBP" and head[8:12] != b"WEBP"):
        raise ImageFileError(f"{path}: is not a PNG, JPEG, TIFF, BMP or WebP image")
    return kind


def picture_of(samples: Samples, white: int | None = None) -> Picture:
    """Upright picture of decoded samples.

    Raises
    ------
    UnsupportedError
        If it has other than 1 or 3 colours, a value above ``white``, or floats that are not finite or not of unit
        scale.
    """
    values = samples.values
    if values.dtype.kind == "f":
        values = _checked_floats(values)
    if samples.orientation >= 5:
        values = values.transpose(1, 0, 2)
    if samples.orientation in (3, 4, 7, 8):
        values = values[::-1]
    if samples.orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    colours = values.shape[2] - samples.alpha
    if colours not in (1, 3):
        raise UnsupportedError(f"has {colours} channels, expected 1 or 3")
    # Decoders may lend their memory read-only, and torch wants it writeable.
    pixels = np.require(values[..., :colours], requirements=("C", "W"))
    alpha = np.require(values[..., colours], requirements=("C", "W")) if samples.alpha else None
    chosen = 0
    if values.dtype.kind == "u":  # a white of 16-bit data says nothing of 8-bit ones
        chosen = white if white and white <= np.iinfo(values.dtype).max else samples.white or 0
    if chosen and (most := int(pixels.max())) > chosen:
        raise UnsupportedError(f"holds the value {most}, expected at most {chosen}, that of white")
    metadata = samples.metadata
    if samples.orientation >= 5 and metadata.resolution:
        x, y, unit = metadata.resolution
        metadata = metadata._replace(resolution=(y, x, unit))
    if samples.orientation != 1 and metadata.description:
        metadata = metadata._replace(description=None, dropped=(*metadata.dropped, "the description"))
    return Picture(pixels, alpha, metadata, chosen)


def write_image(path: str | Path, picture: Picture) -> None:
    """Write a picture in the format that the file name ends in; the file is whole or not there.

    Raises
    ------
    ImageFileError
        If the name ends in no known format, the format cannot hold the picture (JPEG: 16 bit, alpha; JPEG and PNG:
        float), or the file cannot be written.
    """
    path = Path(path)
    check_writable(path, picture)
    data = _encode(picture, format_of(path))
    try:
        with atomic_write(path) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise ImageFileError(f"{path}: cannot be written: {reason(error)}") from error


def check_writable(path: Path, picture: Picture) -> None:
    """Find out before a long computation whether a file of that name can hold such a picture.

    Raises
    ------
    ImageFileError
        As `write_image`, as far as it can be known without writing.
    """
    kind, pixels = format_of(path), picture.pixels
    if kind not in _WRITTEN:
        raise ImageFileError(f"{path}: {kind} is read only, expected a name ending in .png or .tif")
    if not path.parent.is_dir():
        raise ImageFileError(f"{path}: its folder does not exist")
    if kind != "TIFF" and pixels.dtype.kind == "f":
        raise ImageFileError(f"{path}: {kind} holds no float values, expected a name ending in .tif")
    if kind == "JPEG" and (picture.alpha is not None or pixels.dtype != np.uint8):
        what = "alpha channel" if picture.alpha is not None else "16-bit values"
        raise ImageFileError(f"{path}: JPEG holds no {what}, expected a name ending in .png or .tif")


def lost(path: Path, picture: Picture) -> tuple[str, ...]:
    """Names of what the file of a picture says and a copy of that name will not."""
    kind, metadata = format_of(path), picture.metadata
    left = list(metadata.dropped)
    if metadata.exif and kind == "TIFF":
        left += exif.for_tiff(metadata.exif)[2]
    if metadata.description and not (kind == "TIFF" and tiff_writer.holds_description(picture)):
        left.append("the description of OME" if is_ome(metadata.description) else "the description of ImageJ")
    if picture.pixels.dtype == np.uint8 and kind != "TIFF" and noted_white(picture):
        left.append("the value of white")
    if metadata.resolution and kind == "JPEG" and not _per_inch(metadata.resolution):
        left.append("resolution")
    return tuple(left)


def _per_inch(resolution: tuple[float, float, float]) -> tuple[int, int] | None:
    """Whole pixels an inch, where JPEG can hold them."""
    x, y, unit = resolution
    dots = (round(x * 0.0254 / unit), round(y * 0.0254 / unit)) if unit else (0, 0)
    return dots if 0 < min(dots) and max(dots) < 65536 else None


def format_of(path: Path) -> Format:
    """Format that a file name stands for.

    Raises
    ------
    ImageFileError
        If it ends in none of `FORMATS`.
    """
    if path.suffix.lower() not in FORMATS:
        raise ImageFileError(f"{path}: ends in {path.suffix!r}, expected one of {', '.join(FORMATS)}")
    return FORMATS[path.suffix.lower()]


def reason(error: BaseException) -> str:
    """Say in words that follow the name of a file why it cannot be read or written."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[0].lower() + error.strerror[1:]
    if isinstance(error, UnsupportedError):
        return str(error)
    if isinstance(error, ImportError):  # a missing part of imagecodecs has no name
        return f"needs the package {error.name or 'imagecodecs with all of its codecs'}, which is not installed"
    text = " ".join(str(error).split()) or type(error).__name__
    return f"is damaged ({text[:160]})"


def _checked_floats(samples: np.ndarray) -> np.ndarray:
    if not np.isfinite(samples).all():
        raise UnsupportedError("holds NaN or infinite values")
    low, high = samples.min(), samples.max()
    if low < -1 or high > 2:
        raise UnsupportedError(f"holds floats from {low:.4g} to {high:.4g}, expected units where white is 1")
    return samples


def _encode(picture: Picture, kind: Format) -> bytes:
    samples, white = picture.samples(), noted_white(picture)
    if kind == "TIFF":
        return tiff_writer.encode(samples, picture.metadata, alpha=picture.alpha is not None, white=white)
    if kind == "PNG":
        return png.encode(samples, picture.metadata, white=white)
    return _encode_jpeg(samples, picture.metadata)


def noted_white(picture: Picture) -> int | None:
    """White, where the file has to say it and can: below the largest value of the type, of the form 2^n - 1."""
    white = picture.white
    return white if 1 < white < largest(picture.pixels.dtype) and white & (white + 1) == 0 else None


def _encode_jpeg(samples: np.ndarray, metadata: Metadata) -> bytes:
    from PIL import Image

    options: dict[str, Any] = {"icc_profile": metadata.icc_profile}
    if metadata.exif:
        options["exif"] = metadata.exif
    if metadata.resolution and (dots := _per_inch(metadata.resolution)):
        options["dpi"] = dots
    buffer = BytesIO()
    image = Image.fromarray(samples.squeeze(2) if samples.shape[2] == 1 else samples)
    image.save(buffer, "JPEG", quality=95, subsampling=0, **options)
    return buffer.getvalue()
