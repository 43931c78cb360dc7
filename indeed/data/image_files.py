"""Image files: PNG, JPEG and TIFF, 8 and 16 bit (TIFF also float), grey and colour, alpha kept aside and put back.

A picture is upright: the orientation that a camera notes is applied on reading and not written again. Palettes become
colour, one bit becomes eight, a transparent palette entry or colour key becomes an alpha channel. A faulty file raises
`ImageFileError` with one line that names the file and the fault.
"""

import io
import struct
import sys
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float, Float32, UInt16

from indeed.files import atomic_write

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile
from indeed.data.picture import Picture, Pixels

Format = Literal["PNG", "JPEG", "TIFF"]

FORMATS: dict[str, Format] = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF"}
"""File name endings and the formats they stand for."""

_MAGIC: dict[bytes, Format] = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
}

_TIFFFILE_DECODES = (1, 8, 32946)  # none and deflate; the rest would need one more package, and Pillow decodes it


class ImageFileError(ValueError):
    """A file that cannot be read or written as an image; the message is one line naming the file and the fault."""


def read_image(path: str | Path) -> Picture:
    """Picture in a PNG, JPEG or TIFF file, recognised by its content, not its name.

    Raises
    ------
    ImageFileError
        If the file is missing, a folder, empty, unreadable, of another kind, truncated or damaged, holds several
        pictures, more than 89 million pixels or values other than 8 bit, 16 bit or finite floats of unit scale.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise ImageFileError(f"{path}: is a folder, expected an image file")
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise ImageFileError(f"{path}: {_reason(error)}") from error
    if not head:
        raise ImageFileError(f"{path}: is empty")
    kind = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)
    if kind is None:
        raise ImageFileError(f"{path}: is not a PNG, JPEG or TIFF image")
    try:
        with _quiet():
            return _read_tiff(path) if kind == "TIFF" else _read_pillow(path, kind)
    except MemoryError:
        raise
    except Exception as error:  # no decoder documents what it raises on a damaged file
        raise ImageFileError(f"{path}: {_reason(error)}") from error


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
        raise ImageFileError(f"{path}: cannot be written: {_reason(error)}") from error


def check_writable(path: Path, picture: Picture) -> None:
    """Find out before a long computation whether a file of that name can hold such a picture.

    Raises
    ------
    ImageFileError
        As `write_image`, as far as it can be known without writing.
    """
    kind, pixels = format_of(path), picture.pixels
    if not path.parent.is_dir():
        raise ImageFileError(f"{path}: its folder does not exist")
    if kind != "TIFF" and pixels.dtype.kind == "f":
        raise ImageFileError(f"{path}: {kind} holds no float values, expected a name ending in .tif")
    if kind == "JPEG" and (picture.alpha is not None or pixels.dtype != np.uint8):
        what = "alpha channel" if picture.alpha is not None else "16-bit values"
        raise ImageFileError(f"{path}: JPEG holds no {what}, expected a name ending in .png or .tif")


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


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[0].lower() + error.strerror[1:]
    if isinstance(error, _UnsupportedError):
        return str(error)
    text = " ".join(str(error).split()) or type(error).__name__
    return f"is damaged or of an unsupported kind ({text[:160]})"


class _UnsupportedError(Exception):
    """A sound file with content that has no place here."""


@contextmanager
def _quiet() -> Iterator[None]:
    """Ignore what decoders warn about, except too many pixels, which are an error."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            yield
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise _UnsupportedError(f"has more than {Image.MAX_IMAGE_PIXELS} pixels") from error


def _read_pillow(path: Path, kind: Format) -> Picture:
    from PIL import Image, ImageOps

    with Image.open(path, formats=(kind, "MPO") if kind == "JPEG" else (kind,)) as image:
        if kind == "TIFF" and getattr(image, "n_frames", 1) > 1:
            raise _UnsupportedError("holds several pictures, expected one")
        icc_profile = image.info.get("icc_profile") if image.mode != "CMYK" else None
        if any(_rawmode(tile).partition(";")[2].startswith("16") for tile in image.tile):
            return _upright(_sixteen_bits(image, path), image.getexif().get(0x0112, 1), icc_profile)
        if image.mode in ("I", "F") or image.mode.startswith("I;"):
            raise _UnsupportedError(f"holds {image.mode} samples, expected 8 or 16 bit")
        ImageOps.exif_transpose(image, in_place=True)
        transparent = image.mode.endswith(("A", "a")) or "transparency" in image.info
        grey = image.mode in ("1", "L", "LA", "La")
        mode = ("L" if grey else "RGB") + ("A" if transparent else "")
        samples = np.asarray(image.convert(mode))
    return _upright(samples if samples.ndim == 3 else samples[..., None], 1, icc_profile)


def _rawmode(tile: Any) -> str:
    return tile.args if isinstance(tile.args, str) else str((tile.args or ("",))[0])


def _set_rawmode(image: "ImageFile", rawmode: str) -> None:
    image.tile = [t._replace(args=(rawmode, *t.args[1:]) if isinstance(t.args, tuple) else rawmode) for t in image.tile]


def _sixteen_bits(image: "ImageFile", path: Path) -> UInt16[np.ndarray, "height width samples"]:
    """All bits of 16-bit samples: Pillow keeps only the high byte of each when a pixel has several.

    The last letter of the raw mode is the order of the bytes, and decides which of the two Pillow keeps: a second pass
    with the other order gives the low bytes.
    """
    from PIL import Image

    rawmode = _rawmode(image.tile[0])
    if image.mode.startswith("I"):
        samples = np.asarray(image).astype(np.uint16)[..., None]
    elif rawmode == "LA;16B":  # four bytes a pixel, read as if they were four channels
        _set_rawmode(image, "RGBA")
        samples = np.asarray(image).view(">u2").astype(np.uint16)
    else:
        big_endian = rawmode.endswith("B") or (rawmode.endswith("N") and sys.byteorder == "big")
        with Image.open(path, formats=(str(image.format),)) as again:
            _set_rawmode(again, rawmode[:-1] + ("L" if big_endian else "B"))
            low = np.asarray(again)
        samples = np.asarray(image).astype(np.uint16) << 8 | low
    key = image.info.get("transparency")
    if key is not None:
        opaque = (samples != np.atleast_1d(np.asarray(key, dtype=np.uint16))).any(axis=2, keepdims=True)
        samples = np.concatenate([samples, opaque * np.uint16(65535)], axis=2)
    return samples


def _read_tiff(path: Path) -> Picture:
    import logging

    import tifffile

    logging.getLogger("tifffile").addHandler(logging.NullHandler())  # otherwise its log goes to the screen
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        if sum(not getattr(other, "is_reduced", False) for other in tiff.pages) > 1:
            raise _UnsupportedError("holds several pictures, expected one")
        if page.dtype is None or page.dtype.name not in ("bool", "uint8", "uint16", "float16", "float32", "float64"):
            raise _UnsupportedError(f"holds {page.dtype} samples, expected 8 bit, 16 bit or float")
        orientation = int(page.tags.valueof("Orientation", 1))
        plain = page.photometric in (0, 1, 2)  # white is zero, black is zero, RGB
        if page.dtype.kind != "f" and not (plain and page.compression in _TIFFFILE_DECODES):
            if page.compression == 1 and orientation >= 5:  # Pillow 13 takes the rows of such a file for columns
                raise _UnsupportedError("is turned, uncompressed and neither grey nor RGB, a combination not supported")
            return _read_pillow(path, "TIFF")
        samples = page.asarray()
        if page.axes == "SYX":
            samples = samples.transpose(1, 2, 0)
        elif page.axes == "YX":
            samples = samples[..., None]
        elif page.axes != "YXS":
            raise _UnsupportedError(f"has axes {page.axes}, expected a flat image")
        if not plain:
            raise _UnsupportedError("holds neither grey nor RGB colours")
        if 1 in page.extrasamples:
            raise _UnsupportedError("has colours multiplied by alpha, expected unassociated alpha")
        icc_profile = page.iccprofile
        if page.dtype.kind == "f":
            samples = _checked_floats(samples)
        elif page.dtype.kind == "b":
            samples = samples * np.uint8(255)
        if page.photometric == 0:
            samples[..., 0] = (1 if page.dtype.kind == "f" else np.iinfo(samples.dtype).max) - samples[..., 0]
    return _upright(samples, orientation, icc_profile)


def _checked_floats(samples: Float[np.ndarray, "height width samples"]) -> Float32[np.ndarray, "height width samples"]:
    if not np.isfinite(samples).all():
        raise _UnsupportedError("holds NaN or infinite values")
    low, high = samples.min(), samples.max()
    if low < -1 or high > 2:
        raise _UnsupportedError(f"holds floats from {low:.4g} to {high:.4g}, expected units where white is 1")
    return samples.astype(np.float32)


def _upright(samples: Pixels, orientation: int, icc_profile: bytes | None) -> Picture:
    """Picture from samples of which the EXIF orientation says where the first row and column lie."""
    if orientation >= 5:
        samples = samples.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    count = samples.shape[2]
    if count > 4:
        raise _UnsupportedError(f"has {count} channels, expected 1 to 4")
    colours = 3 if count >= 3 else 1
    # Pillow lends its memory read-only, and torch wants it writeable
    pixels = np.require(samples[..., :colours], requirements=("C", "W"))
    alpha = np.require(samples[..., colours], requirements=("C", "W")) if count > colours else None
    return Picture(pixels, alpha, icc_profile)


def _encode(picture: Picture, kind: Format) -> bytes:
    pixels, alpha = picture.pixels, picture.alpha
    samples = pixels if alpha is None else np.concatenate([pixels, alpha[..., None]], axis=2)
    if kind == "TIFF":
        return _encode_tiff(samples, alpha is not None, picture.icc_profile)
    if samples.dtype == np.uint16:
        return _encode_png16(samples, picture.icc_profile)
    from PIL import Image

    image = Image.fromarray(samples.squeeze(2) if samples.shape[2] == 1 else samples)
    buffer = io.BytesIO()
    if kind == "JPEG":
        image.save(buffer, "JPEG", quality=95, subsampling=0, icc_profile=picture.icc_profile)
    else:
        image.save(buffer, "PNG", icc_profile=picture.icc_profile)
    return buffer.getvalue()


def _encode_tiff(samples: Pixels, transparent: bool, icc_profile: bytes | None) -> bytes:
    import tifffile

    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        samples if samples.shape[2] > 1 else samples[..., 0],
        photometric="rgb" if samples.shape[2] >= 3 else "minisblack",
        planarconfig="contig" if samples.shape[2] > 1 else None,
        extrasamples=["unassalpha"] if transparent else None,
        compression="zlib",
        iccprofile=icc_profile,
        metadata=None,
    )
    return buffer.getvalue()


def _encode_png16(samples: UInt16[np.ndarray, "height width samples"], icc_profile: bytes | None) -> bytes:
    """16-bit PNG, which Pillow writes for grey only (PNG specification, third edition, sections 5, 9 and 11)."""
    height, width, count = samples.shape
    rows = samples.astype(">u2").reshape(height, -1).view(np.uint8)
    scanlines = np.empty((height, 1 + rows.shape[1]), dtype=np.uint8)
    scanlines[:, 0] = 2  # filter "up": difference to the row above, modulo 256
    scanlines[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=scanlines[1:, 1:])

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[count]
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)),
            chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(icc_profile)) if icc_profile else b"",
            chunk(b"IDAT", zlib.compress(scanlines.data, 6)),
            chunk(b"IEND", b""),
        ]
    )
