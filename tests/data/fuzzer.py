"""Mutations of valid image files that know their structure: ``python tests/data/fuzzer.py --count 1000000``.

A run is a function of its seed. What must hold of each file: it is read or refused by `ImageFileError` in one line,
within five seconds and two gigabytes. The suite runs 20,000 files; the script as many as it is told, and prints the
seeds of what fails.
"""

import argparse
import random
import resource
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import numpy as np
import tifffile
from PIL import Image

from indeed.data.image_files import ImageFileError, read_image, write_image
from indeed.data.stacks import opened_stack

SLOWEST = 5.0
"""Seconds of the processor that a file may take."""
MEMORY = 2 * 2**30
"""Bytes that the process may hold at most."""
EDGES = (0, 1, 2, 3, 4, 7, 8, 16, 127, 128, 255, 256, 257, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)


def valid_files(folder: Path) -> list[bytes]:
    """Small files of every format and of many layouts."""
    rng = np.random.default_rng(0)
    grey, colour = rng.integers(0, 256, (11, 13), np.uint8), rng.integers(0, 256, (11, 13, 3), np.uint8)
    deep = rng.integers(0, 65536, (11, 13, 3), np.uint16)
    path = folder / "valid"
    found = []
    for name, image, options in (
        ("png", grey, {}), ("png", colour, {}), ("png", deep[..., 0], {}), ("jpeg", colour, {}),
        ("jpeg", grey, {"progressive": True}), ("bmp", colour, {}), ("webp", colour, {"lossless": True}),
        ("tiff", colour, {"compression": "tiff_lzw"}), ("tiff", colour, {"compression": "jpeg"}),
    ):  # fmt: skip
        Image.fromarray(image).save(path, name.upper(), **options)
        found.append(path.read_bytes())
    palette = Image.fromarray(grey // 64).convert("P")
    palette.save(path, "PNG", transparency=1)
    found.append(path.read_bytes())
    palette.save(path, "TIFF")
    found.append(path.read_bytes())
    noted = Image.Exif()
    noted[0x010F], noted[0x0112] = "a camera", 6
    noted.get_ifd(0x8769).update({0x829A: 0.25, 0xA005: {1: "R98"}})
    for name in ("png", "jpeg"):
        Image.fromarray(colour).save(path, name.upper(), exif=noted)
        found.append(path.read_bytes())
    write_image(path.with_suffix(".tif"), read_image(path))
    found.append(path.with_suffix(".tif").read_bytes())
    for data, options in (
        (grey, {}), (deep, {"photometric": "rgb", "compression": "zlib", "predictor": True}),
        (deep[..., 0], {"byteorder": ">"}), (colour, {"photometric": "rgb", "tile": (16, 16)}),
        (deep[..., 0].astype(np.float32) / 65535, {"compression": "lzw"}),
        (np.stack([grey] * 3), {"photometric": "minisblack"}), (np.stack([deep[..., 0]] * 3), {"imagej": True}),
        (grey > 128, {"photometric": "minisblack"}), (deep[..., 0], {"bigtiff": True}),
        (np.stack([grey] * 2), {"ome": True, "metadata": {"axes": "ZYX", "UUID": f"urn:uuid:{UUID(int=0)}"}}),
    ):  # fmt: skip
        tifffile.imwrite(path, data, **options)
        found.append(path.read_bytes())
    path.unlink()
    return found


def mutated(data: bytes, source: random.Random) -> bytes:
    """A file with one to four faults, of kinds that its format is made of."""
    changed = bytearray(data)
    for _ in range(source.randint(1, 4)):
        source.choice(_MUTATIONS)(changed, source)
        if not changed:
            return b""
    return bytes(changed)


def _flip(data: bytearray, source: random.Random) -> None:
    data[source.randrange(len(data))] ^= 1 << source.randrange(8)


def _byte(data: bytearray, source: random.Random) -> None:
    data[source.randrange(len(data))] = source.randrange(256)


def _number(data: bytearray, source: random.Random) -> None:
    size, kind = source.choice(((2, "H"), (4, "I")))
    if len(data) > size:
        place = source.randrange(len(data) - size)
        value = source.choice(EDGES) % 2 ** (8 * size)
        data[place : place + size] = struct.pack(source.choice("<>") + kind, value)


def _cut(data: bytearray, source: random.Random) -> None:
    del data[source.randrange(len(data)) :]


def _remove(data: bytearray, source: random.Random) -> None:
    place = source.randrange(len(data))
    del data[place : place + source.randint(1, 40)]


def _repeat(data: bytearray, source: random.Random) -> None:
    place = source.randrange(len(data))
    data[place:place] = data[place : place + source.randint(1, 40)]


def _tag(data: bytearray, source: random.Random) -> None:
    """Change a field of an entry of the first directory of a TIFF file."""
    if data[:2] not in (b"II", b"MM") or len(data) < 16 or data[2:4] not in (b"*\0", b"\0*"):
        return _byte(data, source)
    order = "<" if data[:2] == b"II" else ">"
    (place,) = struct.unpack_from(order + "I", data, 4)
    if place + 14 > len(data):
        return None
    (count,) = struct.unpack_from(order + "H", data, place)
    entry = place + 2 + 12 * source.randrange(max(1, min(count, 40)))
    if entry + 12 > len(data):
        return None
    at, kind = source.choice(((0, "H"), (2, "H"), (4, "I"), (8, "I"), (8, "H")))
    struct.pack_into(order + kind, data, entry + at, source.choice(EDGES) % (65536 if kind == "H" else 2**32))
    return None


def _chunk(data: bytearray, source: random.Random) -> None:
    """Change the content of a chunk of a PNG file and make its sum right again."""
    if data[:4] != b"\x89PNG":
        return _byte(data, source)
    places, place = [], 8
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        if place + 12 + length > len(data):
            break
        places.append((place, length))
        place += 12 + length
    if not places:
        return None
    place, length = source.choice(places)
    if length:
        data[place + 8 + source.randrange(length)] = source.randrange(256)
        struct.pack_into(">I", data, place + 8 + length, zlib.crc32(data[place + 4 : place + 8 + length]))
    return None


_MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip, _byte, _number, _number, _cut, _remove, _repeat, _tag, _tag, _tag, _chunk, _chunk,
)  # fmt: skip


def inputs(seed: int, count: int, folder: Path, first: int = 0) -> Iterator[tuple[int, bytes]]:
    """Numbered files of a run; each is a function of the seed and of its number."""
    valid = valid_files(folder)
    for number in range(first, first + count):
        source = random.Random(f"{seed} {number}")
        yield number, mutated(source.choice(valid), source)


def fault_of(path: Path) -> str | None:
    """What is wrong with how a file was read; None if it was read, or refused as it should be."""
    begun = time.process_time()
    try:
        try:
            read_image(path)
        except ImageFileError as error:
            if "\n" in str(error) or not str(error).startswith(str(path)):
                return f"a message that is not one line with the name: {error!r}"
            if "several pictures" in str(error):
                with opened_stack(path) as stack:
                    for index in range(min(len(stack or ()), 3)):
                        stack[index]  # type: ignore[index]
    except ImageFileError:
        pass
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    seconds = time.process_time() - begun
    return f"{seconds:.1f} seconds" if seconds > SLOWEST else None


def main() -> int:
    """Run as many files as asked for; exit code 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    failures = 0
    resource.setrlimit(resource.RLIMIT_AS, (8 * MEMORY, 8 * MEMORY))  # of addresses: torch alone maps some gigabytes
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "input"
        for number, data in inputs(options.seed, options.count, Path(name), options.first):
            path.write_bytes(data)
            if fault := fault_of(path):
                failures += 1
                print(f"{number}: {fault[:200]}", flush=True)
            if number % 10_000 == 9_999:
                most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
                print(f"{number + 1} files, {time.monotonic() - begun:.0f} s, {most / 2**20:.0f} MiB", flush=True)
                failures += most > MEMORY
    print(f"{options.count} files: {failures} failures")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
