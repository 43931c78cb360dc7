"""PNG files: chunks around libpng, which decodes and encodes every depth that the standard has.

Grey of 1, 2 or 4 bits becomes 8 by its full range, palettes become colour, a transparent value becomes alpha.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from indeed.data.samples_of_files import Metadata, Samples, UnsupportedError, refuse_large

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_ORDER = re.compile(rb"IHDR(\.{4})*(PLTE(\.{4})*)?(tRNS(\.{4})*)?(IDAT)+(\.{4})*IEND")
"""Names of the chunks of a file, with dots for those that say nothing of its pixels."""
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples of a pixel, by the colour type."""
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column and row of the passes of an interlaced file, and their steps."""
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""Depths that go with a colour type."""
_COLOUR = {b"gAMA": "gamma", b"cHRM": "chromaticities", b"sRGB": "sRGB", b"cICP": "cICP"}
_TEXT = (b"tEXt", b"zTXt", b"iTXt")
_TOLD = (*_PIXELS, b"iCCP", b"sBIT", b"pHYs", b"eXIf", b"acTL", b"fcTL", *_COLOUR, *_TEXT)
"""Chunks that are kept, or told of in words; the others are told of by their names."""


class Chunk(NamedTuple):
    """A chunk of a PNG file."""

    name: bytes
    data: bytes


def chunks(data: bytes) -> Iterator[Chunk]:
    """Chunks of a file in their order, up to its end.

    Raises
    ------
    UnsupportedError
        If the sum of one is wrong.
    struct.error
        If one is cut off.
    """
    position = len(SIGNATURE)
    name = b""
    while name != b"IEND":
        length, name = struct.unpack(">I4s", data[position : position + 8])
        body = data[position + 8 : position + 8 + length]
        (total,) = struct.unpack(">I", data[position + 8 + length : position + 12 + length])
        if zlib.crc32(name + body) != total:
            raise UnsupportedError(f"is damaged (the sum of the chunk {name.decode('latin-1')!r} is wrong)")
        yield Chunk(name, body)
        position += 12 + length


def decode(data: bytes) -> Samples:
    """Decode a PNG file to grey or RGB, with alpha if it is transparent anywhere.

    Raises
    ------
    UnsupportedError
        If it is an animation, too large, or damaged.
    struct.error, zlib.error
        If it is damaged.
    """
    import imagecodecs

    whole = list(chunks(data))
    held = {chunk.name: chunk.data for chunk in reversed(whole)}
    width, height, depth, colour_type, *rest = struct.unpack(">IIBBBBB", held.get(b"IHDR", b""))
    if depth not in _DEPTHS.get(colour_type, ()) or rest[:2] != [0, 0] or rest[2] > 1 or not width * height:
        raise UnsupportedError("is damaged (its header is that of no PNG file)")
    refuse_large(width, height)
    if max(width, height) > 1_000_000:
        raise UnsupportedError(f"is {width} x {height} pixels, expected sides of at most a million")
    if b"acTL" in held and struct.unpack(">I", held[b"acTL"][:4])[0] > 1:
        raise UnsupportedError("holds several pictures, expected one")
    _check_chunks(whole, colour_type, depth)
    stream = b"".join(chunk.data for chunk in whole if chunk.name == b"IDAT")
    _check_stream(stream, _bytes_of(width, height, depth * _SAMPLES[colour_type], interlaced=rest[2] == 1))
    # The other chunks are none of its business, and it would print what it thinks of them.
    given = {name: held[name] for name in _PIXELS if name in held} | {b"IDAT": stream}
    if colour_type == 3:  # a palette that gives the indices
        given = given | {b"PLTE": bytes(value for index in range(2**depth) for value in (index, 0, 0))}
        given.pop(b"tRNS", None)
    try:
        values = imagecodecs.png_decode(SIGNATURE + b"".join(_packed(Chunk(*item)) for item in given.items()))
    except imagecodecs.PngError as error:
        raise UnsupportedError(f"is damaged ({error})") from error
    if values.shape[:2] != (height, width):
        raise UnsupportedError("is damaged (it has another size than its header says)")
    values = values[..., None] if values.ndim == 2 else values
    if colour_type == 3:
        values = _from_palette(values[..., 0], held[b"PLTE"], held.get(b"tRNS", b""))
    alpha = values.shape[2] in (2, 4)
    exif, orientation, described = _exif(held.get(b"eXIf"))
    dropped = {"text" for name in _TEXT if name in held} | {word for name, word in _COLOUR.items() if name in held}
    dropped |= {name.decode("latin-1") for name in held if name not in _TOLD}
    profile = _profile(held.get(b"iCCP", b""))
    if b"iCCP" in held and profile is None:
        dropped.add("a damaged colour profile")
    metadata = Metadata(profile, _resolution(held.get(b"pHYs")), exif, None, (*described, *sorted(dropped)))
    white = None if colour_type == 3 else _significant(held.get(b"sBIT", b""), depth, values, alpha)
    return Samples(values, alpha, white, orientation, metadata)


def _check_chunks(whole: list[Chunk], colour_type: int, depth: int) -> None:
    """Refuse chunks of the pixels that are where or what they must not be: libpng prints a warning and goes on."""
    unknown = next((chunk.name for chunk in whole if chunk.name not in _PIXELS and not chunk.name[0] & 32), None)
    if unknown:
        raise UnsupportedError(f"has the critical chunk {unknown.decode('latin-1')!r}, not supported")
    if not _ORDER.fullmatch(b"".join(chunk.name if chunk.name in _PIXELS else b"...." for chunk in whole)):
        raise UnsupportedError("is damaged (its chunks are not in the order of the standard)")
    held = {chunk.name: len(chunk.data) for chunk in whole}
    entries = held.get(b"PLTE", 0) / 3
    fits = entries in range(1, 257) if b"PLTE" in held else colour_type != 3
    if not fits or (colour_type in (0, 4) and entries) or (colour_type == 3 and entries > 2**depth):
        raise UnsupportedError("is damaged (its palette does not go with its pixels)")
    transparent = {0: held.get(b"tRNS") == 2, 2: held.get(b"tRNS") == 6, 3: 0 < held.get(b"tRNS", 0) <= entries}
    if b"tRNS" in held and not transparent.get(colour_type, False):
        raise UnsupportedError("is damaged (its transparent values do not go with its pixels)")


def _bytes_of(width: int, height: int, bits: int, *, interlaced: bool) -> int:
    """Size of the pixels before their compression: rows of whole bytes, each after the number of its filter."""
    total = 0
    for left, top, across, down in _PASSES if interlaced else ((0, 0, 1, 1),):
        columns, rows = -((left - width) // across), -((top - height) // down)
        total += rows * (1 + (columns * bits + 7) // 8) if columns > 0 and rows > 0 else 0
    return total


def _check_stream(data: bytes, expected: int) -> None:
    """Refuse compressed pixels that are damaged, too few or too many: libpng fills what is missing, or warns."""
    stream, total = zlib.decompressobj(), 0
    while data and not stream.eof and total <= expected:
        total += len(stream.decompress(data, 2**20))
        data = stream.unconsumed_tail
    total += 0 if data else len(stream.flush())  # what it has read and not yet given
    if not stream.eof or stream.unused_data or total != expected:
        raise UnsupportedError("is damaged (its compressed pixels do not end where they should)")


def _from_palette(indices: np.ndarray, palette: bytes, transparent: bytes) -> np.ndarray:
    """Colours of indices, with alpha if there are transparent ones."""
    colours = np.frombuffer(palette, np.uint8).reshape(-1, 3)
    if (most := int(indices.max())) >= len(colours):
        raise UnsupportedError(f"is damaged (it has the index {most}, and {len(colours)} colours)")
    if transparent:
        alpha = np.frombuffer(transparent.ljust(len(colours), b"\xff"), np.uint8)
        colours = np.column_stack([colours, alpha])
    pixels: np.ndarray = colours[indices]
    return pixels


def _significant(bits: bytes, depth: int, values: np.ndarray, alpha: bool) -> int | None:
    """White as sBIT says it, of samples that were stored without being scaled to the depth of the file.

    The standard asks for scaled samples, whose white is the largest value. Cameras and microscopes that store 12 bits
    as they are say so by sBIT too; no sample is then above 2^12 - 1.
    """
    colours = values.shape[2] - alpha
    significant = set(bits[:colours])
    if depth != 16 or len(bits) < colours or len(significant) != 1:
        return None
    white = 2 ** int(significant.pop()) - 1
    most = int(values[..., :colours].max())
    return white if 0 < white < 65535 and most <= white else None


def _profile(data: bytes) -> bytes | None:
    """Colour profile of an iCCP chunk; a damaged one is no profile, and one of more than 16 MiB neither."""
    stream = zlib.decompressobj()
    try:
        profile = stream.decompress(data[data.index(0) + 2 :], 2**24)
    except (ValueError, zlib.error):
        return None
    return profile if stream.eof else None


def _resolution(data: bytes | None) -> tuple[float, float, float] | None:
    if data is None or len(data) != 9:
        return None
    x, y, unit = struct.unpack(">IIB", data)
    return (float(x), float(y), 1.0 if unit == 1 else 0.0) if x and y else None


def _exif(data: bytes | None) -> tuple[bytes | None, int, tuple[str, ...]]:
    from indeed.data.exif import without_orientation

    return without_orientation(b"Exif\0\0" + data) if data else (None, 1, ())


def encode(samples: np.ndarray, metadata: Metadata, *, white: int | None = None) -> bytes:
    """PNG file of samples (row, column, 1 to 4), uint8 or uint16.

    ``white`` is noted as significant bits, where it is not the largest value of the type.
    """
    import imagecodecs

    pixels = np.ascontiguousarray(samples[..., 0] if samples.shape[2] == 1 else samples)
    # The strides of axes of length one may be anything, and the encoder looks at them.
    data = bytes(imagecodecs.png_encode(pixels.ravel().reshape(pixels.shape)))
    head = len(SIGNATURE) + 25  # after IHDR: the chunks that must come before the pixels
    more = []
    if metadata.software:
        more.append(Chunk(b"tEXt", b"Software\0" + metadata.software.encode("latin-1")))
    if metadata.icc_profile:
        more.append(Chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc_profile)))
    if white is not None and samples.dtype == np.uint16:
        count = samples.shape[2]
        more.append(
            Chunk(b"sBIT", bytes([white.bit_length()] * (count - (count in (2, 4))) + [16] * (count in (2, 4))))
        )
    if metadata.resolution:
        x, y, unit = metadata.resolution
        per_unit = [round(value / unit) if unit else round(value) for value in (x, y)]
        if all(0 < value < 2**31 for value in per_unit):
            more.append(Chunk(b"pHYs", struct.pack(">IIB", *per_unit, unit > 0)))
    if metadata.exif:
        more.append(Chunk(b"eXIf", metadata.exif.removeprefix(b"Exif\0\0")))
    return data[:head] + b"".join(map(_packed, more)) + data[head:]


def _packed(chunk: Chunk) -> bytes:
    body = chunk.name + chunk.data
    return struct.pack(">I", len(chunk.data)) + body + struct.pack(">I", zlib.crc32(body))
