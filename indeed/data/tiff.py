"""TIFF files: what of them is read is decided from their tags, before anything is decoded.

A directory of a file is one picture of one kind: photometric interpretation x samples x extra samples x planes x bits x
sample format x compression. `Layout` holds the kinds that are read; every other is refused by name. The samples are
decoded by tifffile with imagecodecs, whatever the compression, so that no two decoders can disagree. Which pictures a
file holds is found by `tiff_directories`.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from indeed.data import exif, microscopy
from indeed.data.lzw import check_lzw
from indeed.data.samples_of_files import Metadata, Samples, UnsupportedError, refuse_large
from indeed.data.tiff_directories import TiffPictures

if TYPE_CHECKING:
    from tifffile import TiffPage

COMPRESSIONS = {
    1: "none",
    2: "CCITT RLE",
    3: "CCITT T.4",
    4: "CCITT T.6",
    5: "LZW",
    7: "JPEG",
    8: "deflate",
    32773: "PackBits",
    32946: "deflate",
    34712: "JPEG 2000",
    34925: "LZMA",
    50000: "Zstandard",
    50001: "WebP",
}
"""Compressions that are read, by the value of their tag."""
_OF_THE_LAYOUT = {
    *range(254, 264), *range(264, 269), 270, *range(271, 285), 288, 289, *range(292, 298), 305, 306, 315, 317, 320,
    *range(321, 342), 347, *range(512, 533), 32997, 33432, 34665, 34675, 34853, 50838,
} - {336}  # fmt: skip
"""Tags that say how the pixels lie in the file, or are kept, or are told of otherwise; the others are told by name."""
_FAX = (2, 3, 4)
_JPEG, _JPEG_2000, _WEBP = 7, 34712, 50001
_PREDICTED = (5, 8, 32946, 34925, 50000)
"""Compressions that go with a predictor."""

_PHOTOMETRIC = {
    0: "white is zero",
    1: "black is zero",
    2: "RGB",
    3: "palette",
    4: "transparency mask",
    5: "separated inks",
    6: "YCbCr",
    8: "CIE L*a*b*",
    9: "ICC L*a*b*",
    10: "ITU L*a*b*",
    32803: "colour filter array",
    32844: "LogL",
    32845: "LogLuv",
    34892: "linear raw",
    51177: "depth map",
}
_COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3}
"""Samples of a pixel without the extra ones, by photometric interpretation: those that are read."""


@dataclass(frozen=True)
class Layout:
    """Kind of a picture in a TIFF file: how its samples become grey or RGB."""

    photometric: int
    extra: int
    """Number of extra samples of a pixel, after its colours."""
    alpha: bool
    """Whether the one extra sample is alpha that the colours are not multiplied by."""
    bits: int
    floating: bool


def layout(page: "TiffPage", *, channels: int | None = None) -> Layout:
    """Kind of the picture of a directory, from its tags alone.

    Parameters
    ----------
    page
        The directory.
    channels
        Number of the samples of a pixel that are asked for by their place: extra samples of unknown meaning are then
        no fault.

    Raises
    ------
    UnsupportedError
        If it is none of those that are read; says which tag is the reason.
    """
    photometric, samples, extra = int(page.photometric or 0), page.samplesperpixel, tuple(map(int, page.extrasamples))
    if 262 not in page.tags:
        raise UnsupportedError("does not say what its samples mean (no photometric interpretation), not supported")
    if photometric not in _COLOURS:
        raise UnsupportedError(
            f"holds {_PHOTOMETRIC.get(photometric, f'colours of kind {photometric}')}, not supported"
        )
    if page.compression not in COMPRESSIONS:
        raise UnsupportedError(f"has compression {int(page.compression)}, not supported")
    if page.imagedepth > 1 or page.is_volumetric or page.tags.valueof(32997, 1) > 1:
        raise UnsupportedError("holds several pictures, expected one")
    bits, formats = page.bitspersample, page.sampleformat
    if not isinstance(bits, int) or not isinstance(formats, int):
        raise UnsupportedError("has samples of different kinds in one pixel, not supported")
    floating = int(formats) == 3
    if int(formats) not in (1, 3, 4):  # 4: unspecified, which the standard has taken as unsigned
        raise UnsupportedError(f"holds {page.dtype} samples, expected 8 bit, 16 bit or float")
    if bits not in ((16, 32, 64) if floating else (1, 2, 4, *range(8, 17))):
        kind = "float" if floating else "integer"
        raise UnsupportedError(f"holds {kind} samples of {bits} bits, expected 8 bit, 16 bit or float")
    if floating and photometric not in (1, 2):
        raise UnsupportedError("holds float samples that are neither grey, where 1 is white, nor RGB, not supported")
    if int(page.fillorder) == 2 and (bits >= 8 or page.compression not in (1, *_FAX)):
        raise UnsupportedError("has a reversed order of bits, supported for packed bits without compression only")
    if page.compression in _FAX and (bits, samples) != (1, 1):
        raise UnsupportedError("has a fax compression of more than one bit a pixel, not supported")
    most = {_JPEG: (8,), _JPEG_2000: (8, 16), _WEBP: (8,)}.get(int(page.compression), (bits,))
    kinds = {_JPEG: (0, 1, 2, 6), _JPEG_2000: (1, 2), _WEBP: (2,)}.get(int(page.compression), (photometric,))
    if bits not in most or (floating and most != (bits,)) or photometric not in kinds:
        what = f"{_PHOTOMETRIC[photometric]} of {bits} bits"
        raise UnsupportedError(f"has {COMPRESSIONS[page.compression]} compression of {what}, not supported")
    wanted = {1: True, 2: bits in (8, 16) and not floating, 3: floating}
    if not wanted.get(int(page.predictor), False) or (page.predictor != 1 and page.compression not in _PREDICTED):
        raise UnsupportedError(f"has predictor {int(page.predictor)} of samples that do not go with it, not supported")
    if photometric == 3 and bits > 8:
        raise UnsupportedError(f"has a palette of {bits} bits, expected at most 8")
    if photometric == 5 and page.tags.valueof(332, 1) != 1:
        raise UnsupportedError("holds separated inks other than CMYK, not supported")
    if photometric == 6 and page.compression != 7:
        raise UnsupportedError("holds YCbCr without JPEG compression, not supported")
    colours = _COLOURS[photometric]
    if samples != colours + len(extra):
        if samples < colours:
            raise UnsupportedError(f"has {samples} channels, expected {colours} for {_PHOTOMETRIC[photometric]}")
        extra = (0,) * (samples - colours)  # samples that no tag speaks of
    if channels is None:
        if 1 in extra:
            raise UnsupportedError("has colours multiplied by alpha, expected unassociated alpha")
        if any(kind != 2 for kind in extra):
            names = f"{len(extra)} extra channel{'s' * (len(extra) > 1)} of unspecified meaning"
            raise UnsupportedError(f"has {names}: choose the channels to read, such as --channels 1")
        if len(extra) > 1:
            raise UnsupportedError(f"has {len(extra)} alpha channels, expected at most one")
    return Layout(photometric, len(extra), extra == (2,), bits, floating)


def decoded(page: "TiffPage", kind: Layout) -> np.ndarray:
    """Raw samples of a page as (height, width, sample)."""
    parts, size = int(np.prod(page.chunked)), page.parent.filehandle.size
    if 279 not in page.tags and 325 not in page.tags and (parts > 1 or page.compression != 1 or kind.bits % 8):
        raise UnsupportedError("does not say how long its parts are (no byte counts), not supported")
    places = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    if len(places) != parts or not all(at and count and at + count <= size for at, count in places):
        raise UnsupportedError("is damaged (a part of the pixels is missing)")
    if page.compression == 5:
        for at, count in places:
            page.parent.filehandle.seek(at)
            check_lzw(page.parent.filehandle.read(count))
    samples = page.asarray(maxworkers=1)
    if samples.shape != page.shape or samples.dtype != page.dtype:
        raise UnsupportedError("is damaged (its pixels are not those that its tags describe)")
    if page.axes == "SYX":
        return samples.transpose(1, 2, 0)
    if page.axes == "YX":
        return samples[..., None]
    if page.axes != "YXS":
        raise UnsupportedError(f"has axes {page.axes}, expected a flat image")
    return samples


def read_page(page: "TiffPage", *, channels: tuple[int, ...] | None = None) -> Samples:
    """Read one directory as grey or RGB, upright order not yet applied.

    Parameters
    ----------
    page
        The directory.
    channels
        Places, from 1 on, of the one or three samples of a pixel to read as they are; None: the colours, with alpha.

    Raises
    ------
    UnsupportedError
        As `layout`; if a channel is asked for that is not there.
    """
    refuse_large(page.imagewidth, page.imagelength, page.samplesperpixel)
    kind = layout(page, channels=None if channels is None else len(channels))
    return _interpreted(page, kind, decoded(page, kind), channels)


def read_plane(page: "TiffPage", index: int) -> Samples:
    """Read a plane of a stack whose planes lie behind each other, described by the directory of the first.

    Raises
    ------
    UnsupportedError
        As `layout`; if the planes are compressed, or the file ends before this one.
    """
    refuse_large(page.imagewidth, page.imagelength, page.samplesperpixel)
    kind = layout(page)
    if page.compression != 1 or page.dtype is None or kind.bits not in (8, 16, 32, 64):
        raise UnsupportedError("holds planes without directories of their own that are compressed, not supported")
    place = page.dataoffsets[0] + index * page.nbytes
    file = page.parent.filehandle
    if place + page.nbytes > file.size:
        raise UnsupportedError("is damaged (it ends before this plane does)")
    file.seek(place)
    flat = file.read_array(page.dtype.newbyteorder(page.parent.byteorder), page.size)
    raw = flat.astype(page.dtype.newbyteorder("=")).reshape(page.shape)
    raw = raw.transpose(1, 2, 0) if page.axes == "SYX" else raw[..., None] if page.axes == "YX" else raw
    return _interpreted(page, kind, raw, None)


def _interpreted(page: "TiffPage", kind: Layout, raw: np.ndarray, channels: tuple[int, ...] | None) -> Samples:
    if channels is not None:
        if kind.photometric in (3, 6) or max(channels) > raw.shape[2]:
            raise UnsupportedError(f"channels: got {max(channels)}, expected at most {raw.shape[2]}, of plain samples")
        raw = raw[..., [place - 1 for place in channels]]
        kind = replace(kind, photometric=1 if kind.photometric in (2, 5) else kind.photometric, alpha=False)
    if kind.photometric == 3:
        return Samples(_from_palette(page, raw, kind), kind.alpha, None, _orientation(page))
    samples = _ranged(raw, kind)
    if kind.photometric == 5:
        samples = _from_cmyk(samples)
    return Samples(samples, kind.alpha, _stated_white(page, kind), _orientation(page))


def _orientation(page: "TiffPage") -> int:
    return int(page.tags.valueof(274, 1))


def _ranged(samples: np.ndarray, kind: Layout) -> np.ndarray:
    """Bring samples to the full range of 8 or 16 bits, or floats where white is 1; white is the largest value."""
    if kind.floating:
        samples = samples.astype(np.float32)
        top: float = 1.0
    else:
        most, top = 2**kind.bits - 1, 255 if kind.bits <= 8 else 65535
        target = np.uint8 if kind.bits <= 8 else np.uint16
        if most != top:  # rounded to the nearest: 17-fold for 4 bits, 4369 / 273 for 12
            scaled = (samples.astype(np.uint32) * (2 * top) + most) // (2 * most)
            samples = scaled.astype(target)
        samples = samples.astype(target, copy=False)
    if kind.photometric == 0:  # alpha, if any, is as it is
        samples = samples.copy()
        samples[..., 0] = top - samples[..., 0]
    return samples


def _from_palette(page: "TiffPage", indices: np.ndarray, kind: Layout) -> np.ndarray:
    colours = page.colormap
    if colours is None or colours.shape != (3, 2**kind.bits):
        raise UnsupportedError("is damaged (its palette has another length than its samples have values)")
    # Entries are of 16 bits; some writers fill 8 of them.
    table = (colours if colours.max() < 256 else colours >> 8).astype(np.uint8)
    pixels: np.ndarray = table.T[indices[..., 0].astype(np.uint8)]  # bits come as booleans, which would select
    if not kind.alpha:
        return pixels
    alpha = (indices[..., 1:2].astype(np.uint16) * 255 // (2**kind.bits - 1)).astype(np.uint8)
    return np.concatenate([pixels, alpha], axis=2)


def _from_cmyk(samples: np.ndarray) -> np.ndarray:
    """RGB from inks, R = (1 - C)(1 - K) and so on, rounded; what follows the inks stays."""
    top = int(np.iinfo(samples.dtype).max)
    light = top - samples[..., :4].astype(np.uint64)
    rgb = ((2 * light[..., :3] * light[..., 3:] + top) // (2 * top)).astype(samples.dtype)
    return np.concatenate([rgb, samples[..., 4:]], axis=2)


def _stated_white(page: "TiffPage", kind: Layout) -> int | None:
    """White as MaxSampleValue or SMaxSampleValue say it: 2^n - 1 below the largest value of the type.

    Other values are statistics of the pixels, as the standard has them, and say nothing of white.
    """
    if kind.floating or kind.bits not in (8, 16):
        return None
    for tag in (281, 341):
        value = page.tags.valueof(tag)
        values = set(np.atleast_1d(value).tolist()) if value is not None else set()
        if len(values) == 1 and (white := int(values.pop())) & (white + 1) == 0 and 0 < white < 2**kind.bits - 1:
            return white
    return None


def metadata_of(pictures: TiffPictures, *, chosen: bool = False) -> Metadata:
    """Note what is put back into a copy, as the first directory says it for all, and the names of what is not.

    ``chosen`` says that channels are read by their place: their colours are not those of the file.
    """
    page = pictures.pages[0]
    tags = page.tags
    unit = {1: 0.0, 2: 0.0254, 3: 0.01}.get(int(tags.valueof(296, 2)), 0.0)
    x, y = (_ratio(tags.valueof(code, 0)) for code in (282, 283))
    block, left = exif.of_tiff(page)
    dropped = [*left, *(tag.name for tag in tags if tag.code not in _OF_THE_LAYOUT), *pictures.left]
    profile, text = page.iccprofile, page.description if page.is_imagej or page.is_ome else None
    # Without a unit, which a description may name, it is the shape of a pixel, and says nothing if that is square.
    resolution = (x, y, unit) if min(x, y) > 0 and (unit or x != y or (text and x != 1)) else None
    if profile and (chosen or page.photometric == 5):  # inks, and the copy is RGB
        profile, dropped = None, [*dropped, "the colour profile"]
    if text:
        try:
            resolution = microscopy.described_resolution(text, x, y) or resolution
            dropped += microscopy.not_kept(text)
        except (ValueError, SyntaxError):  # of XML
            text, dropped = None, [*dropped, "a damaged description"]
    # That of a shape is tifffile's own.
    described = [other.description not in ("", other.shaped_description) for other in pictures.pages]
    if described[0] and not (page.is_imagej or page.is_ome):
        dropped.append("the description")
    if any(described[1:]):
        dropped.append("the descriptions of its pictures")
    return Metadata(profile, resolution, block, text, tuple(dropped))


def _ratio(value: Any) -> float:
    numerator, denominator = value if isinstance(value, tuple) else (value, 1)
    return float(numerator) / float(denominator) if denominator else 0.0
