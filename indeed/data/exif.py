"""EXIF: what a camera noted, kept for the copy without what would be wrong in it.

In JPEG, PNG and WebP files it is a block that is a small TIFF file itself. A TIFF file holds its texts as tags, and its
inner directories, of the exposure and of the place, as its own.
"""

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, cast

if TYPE_CHECKING:
    from PIL.Image import Exif
    from tifffile import TiffPage

ORIENTATION = 0x0112
_EXPOSURE, _PLACE, _INTEROPERABILITY = 0x8769, 0x8825, 0xA005
_SIZE = (0xA002, 0xA003)
_NOTED_ELSEWHERE = (0x011A, 0x011B, 0x0128)  # the resolution
_TEXTS = (0x010F, 0x0110, 0x0132, 0x013B, 0x8298)  # camera, its model, date, artist, copyright
_OF_THE_FILE = (0x0131, 0x0213)  # the program that wrote it, and how its colours are stored


def without_orientation(block: bytes) -> tuple[bytes | None, int, tuple[str, ...]]:
    """EXIF block without orientation and thumbnail, the orientation, and the names of what was left out.

    The resolution is not in it either, as formats note it in a place of their own. A block that cannot be read is left
    out, with the orientation 1.
    """
    from PIL import Image
    from PIL.ExifTags import IFD

    exif, other, orientation = Image.Exif(), Image.Exif(), 1
    try:
        exif.load(block)
        orientation = int(exif.pop(ORIENTATION, 1))
        other.load(block)  # Pillow before 13 would write the directory that it was asked for
        left = ["thumbnail"] if other.get_ifd(IFD.IFD1) else []
        for code in _NOTED_ELSEWHERE:
            exif.pop(code, None)
        left += _copy(exif, exif.keys(), exif)
        if orientation in range(5, 9) and _EXPOSURE in exif:  # width is height now
            for code in _SIZE:
                exif[_EXPOSURE].pop(code, None)
        again = exif.tobytes() if len(exif) else None
        if again:
            for_tiff(again)  # what is kept can be written
    except Exception:  # whatever a damaged block makes Pillow raise
        again, left = None, ["a damaged EXIF block"]
    return again, orientation if orientation in range(1, 9) else 1, tuple(left)


def of_tiff(page: "TiffPage") -> tuple[bytes | None, tuple[str, ...]]:
    """EXIF block of what a directory of a TIFF file says, and the names of what was left out."""
    from PIL import Image

    source, exif = Image.Exif(), Image.Exif()
    try:
        source.endian, source.bigtiff = page.parent.byteorder, page.parent.is_bigtiff
        source.load_from_fp(cast("IO[bytes]", page.parent.filehandle), page.offset)
        left = _copy(source, source.keys() & {*_TEXTS, _EXPOSURE, _PLACE}, exif)
        block, _, more = without_orientation(exif.tobytes()) if len(exif) else (None, 1, ())
    except Exception:  # whatever a damaged directory makes Pillow raise
        return None, ("a damaged EXIF block",)
    return block, (*left, *more)


def for_tiff(block: bytes) -> tuple[dict[int, bytes], dict[int, dict[int, Any]], tuple[str, ...]]:
    """Texts of a block, its inner directories, and the names of what a TIFF file does not hold of it."""
    from PIL import Image
    from PIL.ExifTags import TAGS

    exif = Image.Exif()
    exif.load(block)
    inner = {code: _inner(exif, code) for code in (_EXPOSURE, _PLACE) if code in exif}
    texts = {code: exif[code].encode("latin-1") for code in _TEXTS if isinstance(exif.get(code), str)}
    left = exif.keys() - inner.keys() - texts.keys() - {*_OF_THE_FILE}
    return texts, inner, tuple(f"EXIF {TAGS.get(code, code)}" for code in sorted(left))


def place_holder(code: int) -> int:
    """Tag that stands for that of an inner directory until its place is known: tifffile writes none of these itself."""
    return code - 1


def put_into_tiff(file: Path | BytesIO, block: bytes) -> None:
    """Append the inner directories of a block to a TIFF file, in which place holders for them are."""
    import tifffile
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    with tifffile.TiffFile(file, mode="r+") as tiff:
        big = tiff.is_bigtiff
        word: Literal["little", "big"] = "little" if tiff.byteorder == "<" else "big"
        head = (b"II" if word == "little" else b"MM") + (43 if big else 42).to_bytes(2, word)
        for code, values in for_tiff(block)[1].items():
            directory = ImageFileDirectory_v2(head + bytes(12 if big else 4), group=code)
            for inner, value in values.items():
                directory[inner] = value
            place = tiff.filehandle.seek(0, 2)
            place += place % 2
            tiff.filehandle.seek(place)
            tiff.filehandle.write(directory.tobytes(place))
            tag = tiff.pages.first.tags[place_holder(code)].overwrite(place, dtype=16 if big else 4)
            tiff.filehandle.seek(tag.offset)
            tiff.filehandle.write(code.to_bytes(2, word))


def _copy(source: "Exif", codes: Iterable[int], target: "Exif") -> list[str]:
    """Copy tags and inner directories as Pillow can write them; the names of what cannot be."""
    left = []
    for code in codes:
        target[code] = _inner(source, code) if code in (_EXPOSURE, _PLACE) else _as_written(source[code])
        if target[code] == {}:  # Pillow tells nobody that it could not read it
            del target[code]
            left.append("an empty or damaged directory of EXIF")
    return left


def _inner(exif: "Exif", code: int) -> dict[int, Any]:
    values = {inner: _as_written(value) for inner, value in exif.get_ifd(code).items()}
    if _INTEROPERABILITY in values:
        values[_INTEROPERABILITY] = exif.get_ifd(_INTEROPERABILITY)
    return values


def _as_written(value: Any) -> Any:
    """Text as its bytes, if it has others than ASCII: Pillow would write question marks for them."""
    return value.encode("latin-1") if isinstance(value, str) and not value.isascii() else value
