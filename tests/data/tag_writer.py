"""A small writer of TIFF files, tag by tag: an independent second opinion on what a layout looks like on disk."""

import struct
from collections.abc import Mapping, Sequence

import numpy as np

FORMATS = {1: "B", 2: "B", 3: "H", 4: "I", 5: "II", 12: "d", 16: "Q"}


def packed(values: np.ndarray, bits: int, order: str = "<", *, fill: int = 1) -> bytes:
    """Rows of unsigned integers (row, value) as TIFF stores them: bits in a row, each row from a whole byte on.

    Samples of 8, 16, 32 and 64 bits have the byte order of the file; floats are packed by their own type.
    """
    if values.dtype.kind == "f" or bits in (8, 16, 32, 64):
        kind = values.dtype if values.dtype.kind == "f" else np.dtype(f"u{bits // 8}")
        return values.astype(kind.newbyteorder(order)).tobytes()
    places = np.arange(bits - 1, -1, -1)
    rows = ((values[..., None].astype(np.int64) >> places) & 1).astype(np.uint8).reshape(len(values), -1)
    return np.packbits(rows, axis=1, bitorder="big" if fill == 1 else "little").tobytes()


def directory(
    tags: Mapping[int, tuple[int, Sequence[float]]], at: int, following: int, order: str = "<", *, big: bool = False
) -> bytes:
    """Bytes of a directory that lies at an offset, with the values that have no room in it behind it."""
    count_format, value_format, entry_size, room = ("Q", "Q", 20, 8) if big else ("H", "I", 12, 4)
    head = struct.calcsize(order + count_format) + entry_size * len(tags) + room
    entries, behind = b"", b""
    for code, (kind, values) in sorted(tags.items()):
        number = len(values) // 2 if kind == 5 else len(values)
        data = struct.pack(f"{order}{len(values)}{FORMATS[kind][0]}", *values)
        if len(data) > room:
            where = at + head + len(behind)
            behind += data + b"\0" * (len(data) % 2)
            data = struct.pack(order + value_format, where)
        entries += struct.pack(order + "HH" + value_format, code, kind, number) + data.ljust(room, b"\0")
    return (
        struct.pack(order + count_format, len(tags)) + entries + struct.pack(order + value_format, following) + behind
    )


def tiff(
    tags: Mapping[int, tuple[int, Sequence[float]]], strips: Sequence[bytes], order: str = "<", *, big: bool = False
) -> bytes:
    """Whole file of one directory; the tags of the strips' places and sizes are added."""
    mark = b"II" if order == "<" else b"MM"
    head = mark + (struct.pack(order + "HHHQ", 43, 8, 0, 0) if big else struct.pack(order + "HI", 42, 0))
    places, body = [], b""
    for strip in strips:
        places.append(len(head) + len(body))
        body += strip + b"\0" * (len(strip) % 2)
    at = len(head) + len(body)
    kind = 16 if big else 4
    all_tags = {273: (kind, places), 279: (kind, [len(strip) for strip in strips])} | dict(tags)
    head = mark + (struct.pack(order + "HHHQ", 43, 8, 0, at) if big else struct.pack(order + "HI", 42, at))
    return head + body + directory(all_tags, at, 0, order, big=big)
