"""A small writer of PNG files, from the specification: an independent second opinion on every layout of them."""

import struct
import zlib
from collections.abc import Sequence

import numpy as np
from tag_writer import packed

PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Interlacing (section 8.2 of the specification): first column and row of each pass, and the steps."""


def chunk(name: bytes, data: bytes = b"", *, wrong: bool = False) -> bytes:
    """A chunk with its sum, which may be wrong."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data) ^ wrong)


def scanlines(values: np.ndarray, depth: int, *, interlaced: bool = False) -> bytes:
    """Rows of samples (row, column, sample), without filters."""
    lines = b""
    for left, top, across, down in PASSES if interlaced else ((0, 0, 1, 1),):
        part = values[top::down, left::across]
        rows = packed(part.reshape(len(part), -1), depth, ">") if part.size else b""
        size = len(rows) // len(part) if rows else 1
        lines += b"".join(b"\0" + rows[place : place + size] for place in range(0, len(rows), size))
    return lines


def png(
    values: np.ndarray,
    depth: int,
    colour_type: int,
    *,
    before: Sequence[bytes] = (),
    after: Sequence[bytes] = (),
    interlaced: bool = False,
    surplus: bytes = b"",
) -> bytes:
    """Whole file of samples (row, column, sample), with other chunks before the pixels and after them."""
    height, width = values.shape[:2]
    head = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, interlaced)
    pixels = zlib.compress(scanlines(values, depth, interlaced=interlaced) + surplus)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", head), *before, chunk(b"IDAT", pixels), *after, chunk(b"IEND")]
    )
