"""A folder of small images, some of them bad in 25 ways, through all commands: the right ones are done, the bad named.

As a script: ``python tests/data/bad_batch.py [number of images] [of them bad]``, by default 1,000 and 50.
"""

import argparse
import contextlib
import csv
import io
import os
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import tifffile
import torch
from PIL import Image

from indeed import cli
from indeed.cli import models
from indeed.networks.checkpoint import save_checkpoint
from indeed.networks.inference_network import InDeed, network_preset

CASES = Path(__file__).parent / "cases"
NAMES = (
    "plain",
    "with, comma",
    'with "quotes"',
    "with\nline",
    "with\rreturn",
    os.fsdecode(b"not utf-8 \xff"),
    "ünïcode",
)


def tiny_checkpoints(folder: Path) -> dict[str, Path]:
    """Networks of the smallest preset in the places of those that ship."""
    made = {"form": "magnitude", "smoothing": 1.0, "good_scores": [0.2, 0.3, 0.4, 0.5]}
    paths = {}
    for name, channels, record in (
        ("denoise_grey", 1, {"preset": "tiny"}),
        ("denoise_color", 3, {"preset": "tiny"}),
        ("detect_textures", 1, {"task": "detect", "side": None, "map": made}),
        ("detect_parts", 1, {"task": "detect", "side": 32, "map": made}),
    ):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            paths[name] = folder / f"{name}.safetensors"
            save_checkpoint(paths[name], InDeed(network_preset("tiny", channels)), record)
    return paths


def samples(side: int = 24) -> np.ndarray:
    """Colours of a small photograph."""
    return np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)


def png(width: int, height: int, rows: bytes, *, spoilt: bool = False) -> bytes:
    """Grey PNG file as its chunks, whatever they say."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body) ^ spoilt)

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def encoded(kind: str) -> bytes:
    """Whole file of a kind that Pillow writes."""
    buffer = io.BytesIO()
    Image.fromarray(samples()).save(buffer, kind)
    return buffer.getvalue()


def tiff(pixels: np.ndarray, **options: object) -> bytes:
    """TIFF file of samples."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


def two_sizes() -> bytes:
    """TIFF file of two pictures of different sizes."""
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for side in (24, 30):
            writer.write(samples(side), photometric="rgb", metadata=None)
    return buffer.getvalue()


def case(name: str) -> Callable[[Path], object]:
    """Copy of one of the cases."""
    return lambda path: path.write_bytes((CASES / name).read_bytes())


def holding(content: Callable[[], bytes]) -> Callable[[Path], object]:
    """File of these bytes."""
    return lambda path: path.write_bytes(content())


GREY = np.zeros((24, 24), np.float32)
BAD: tuple[tuple[str, Callable[[Path], object]], ...] = (
    (".png", Path.touch),
    (".png", holding(lambda: b"no picture")),
    (".png", holding(lambda: encoded("PNG")[:300])),
    (".jpg", holding(lambda: encoded("JPEG")[:300])),
    (".tif", holding(lambda: tiff(samples())[:900])),
    (".png", Path.mkdir),
    (".png", lambda path: path.symlink_to("nowhere")),
    (".png", lambda path: os.mkfifo(path)),
    (".tif", holding(lambda: tiff(GREY * np.nan))),
    (".tif", holding(lambda: tiff(GREY + 1000))),
    (".tif", case("05_two_channels.tif")),
    (".tif", holding(two_sizes)),
    (".tif", case("08_ifd_loop.tif")),
    (".tif", case("18_12000x12000.tif")),
    (".png", case("20_animated.png")),
    (".png", holding(lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")),
    (".png", holding(lambda: png(24, 24, bytes(25 * 24), spoilt=True))),
    (".tif", holding(lambda: tiff(GREY.astype(np.int32)))),
    (".tif", holding(lambda: tiff(GREY.astype(np.complex64)))),
    (".png", holding(lambda: encoded("GIF"))),
    (".jpg", holding(lambda: b"<html><body>404 Not Found</body></html>")),
    (".png", holding(lambda: png(0, 24, b""))),
    (".png", holding(lambda: png(24, 24, bytes(25 * 5)))),
    (".tif", holding(lambda: tiff(np.zeros((24, 24, 5), np.uint8), photometric="rgb"))),
    (".tif", holding(lambda: b"II*\0" + bytes(20))),
)


def make(folder: Path, count: int, bad: int) -> tuple[list[Path], list[Path]]:
    """Fill a folder with images; the good and the bad ones of them."""
    folder.mkdir()
    good, wrong = [], []
    for index in range(count - bad):
        name, suffix = NAMES[index % len(NAMES)], (".png", ".jpg", ".tif")[index % 3]
        pixels = samples(20 + index % 9)
        path = folder / f"{index:04} {name}{suffix}"
        with path.open("wb") as file:
            if suffix == ".tif":
                tifffile.imwrite(file, pixels[..., 0].astype(np.uint16) * 257, compression="zlib")
            else:
                Image.fromarray(pixels).save(file, "PNG" if suffix == ".png" else "JPEG")
        good.append(path)
    for index in range(bad):
        suffix, write = BAD[index % len(BAD)]
        path = folder / f"{index:04} bad{suffix}"
        write(path)
        wrong.append(path)
    return good, wrong


def run(*arguments: object) -> tuple[int, list[str], list[str]]:
    """Call the command: exit code, lines of standard output, lines of standard error."""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = cli.main([str(argument) for argument in arguments])
    return code, out.getvalue().splitlines(), errors.getvalue().splitlines()


def names_in(table: Path, column: str) -> list[str]:
    """Names of the images in a report, whatever bytes they are of."""
    with table.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return [row[column] for row in csv.DictReader(file)]


def check(folder: Path, count: int, bad: int, decomposed: int) -> Iterator[str]:
    """Put a batch through all commands, and yield a line for each; `decomposed` good images go through decompose."""
    folder.mkdir()
    good, wrong = make(folder / "in", count, bad)
    names = sorted(path.name for path in good)

    def expect_batch(*arguments: object) -> None:
        code, _, errors = run(*arguments)
        assert code == 2, arguments
        assert len(errors) == bad, errors
        for path in wrong:
            assert sum(f"{path}:" in line or line.endswith(str(path)) for line in errors) == 1, path

    for label, arguments, table, column in (
        ("denoise", [folder / "in", "-o", folder / "denoise"], None, ""),
        (
            "adapt",
            [folder / "in", "-o", folder / "adapt", "--preset", "paper", "--steps", 1],
            folder / "adapt" / "adaptation.csv",
            "file",
        ),
        (
            "detect",
            [folder / "in", "-o", folder / "detect", "--checkpoint", "parts"],
            folder / "detect" / "scores.csv",
            "file",
        ),
        ("evaluate", [folder / "in", "--csv", folder / "evaluate.csv"], folder / "evaluate.csv", "image"),
    ):
        for again in ("", ", again"):
            start = time.perf_counter()
            expect_batch(label, *arguments)
            if table:
                assert sorted(names_in(table, column)) == names
            if label in ("denoise", "adapt"):
                assert sorted(path.name for path in (folder / label).glob("*") if path.suffix != ".csv") == names
            if label == "detect":
                assert len(list((folder / label).glob("*_map.npy"))) == len(names)
            yield f"{label}{again}: {len(names)} results, {bad} lines, exit code 2, {time.perf_counter() - start:.0f} s"
    start = time.perf_counter()
    for index, path in enumerate([*good[:decomposed], *wrong]):
        code, _, errors = run("decompose", path, "-o", folder / "decompose" / str(index))
        assert (code, len(errors)) == ((2, 1) if path in wrong else (0, 0)), (path, errors)
        assert (folder / "decompose" / str(index) / "panel.png").exists() == (path not in wrong)
    yield f"decompose: {decomposed} results, {bad} lines, {time.perf_counter() - start:.0f} s"
    for task in ("denoise", "uad"):
        out = folder / f"{task}.safetensors"
        code, _, errors = run("train", "--task", task, "--preset", "tiny", "--data", folder / "in", "-o", out)
        assert code == 2
        assert len(errors) == bad, errors
        assert all(any(f"{path}:" in line for line in errors) for path in wrong)
        assert not out.exists()
        yield f"train --task {task}: refused, {bad} lines"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the check, and print what it yields."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=1000)
    parser.add_argument("bad", type=int, nargs="?", default=50)
    parser.add_argument("--decomposed", type=int, help="good images that decompose is tried on; default: all")
    given = parser.parse_args(arguments)
    decomposed = given.count - given.bad if given.decomposed is None else given.decomposed
    with tempfile.TemporaryDirectory() as name:
        models.shipped_checkpoint = tiny_checkpoints(Path(name)).__getitem__  # type: ignore[assignment]
        for line in check(Path(name) / "batch", given.count, given.bad, decomposed):
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
