"""Files of a data set compared with what is known of them: names, numbers, sizes and SHA-256 checksums."""

import csv
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path

from fetching.download import digest
from indeed.data.benchmarks import DataError
from indeed.data.image_files import FORMATS
from indeed.files import atomic_write

SUMS = "SHA256SUMS"


def read_sha256(path: Path) -> dict[str, str]:
    """Checksums by file name from a table with the columns ``file`` and ``sha256``."""
    with path.open(newline="", encoding="utf-8") as file:
        return {row["file"]: row["sha256"] for row in csv.DictReader(file)}


def relative_paths(folder: Path) -> list[str]:
    """Paths of all files below a folder, as they are written in ``SHA256SUMS``."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def verify_files(folder: Path, files: Mapping[str, str | None], counts: Mapping[str, int] | None = None) -> None:
    """Compare the files of a folder with names and checksums; a file that is neither an image nor named is left alone.

    Raises
    ------
    DataError
        If a file is missing or differs, there is an image more than expected, or a count is not the expected one.
    """
    there = relative_paths(folder)
    images = [name for name in there if name.lower().endswith((*FORMATS, ".nii.gz"))]
    missing = sorted(set(files) - set(there))
    if missing:
        raise DataError(f"{folder / missing[0]}: missing ({len(missing)} of {len(files)} files are), expected all")
    extra = sorted(set(images) - set(files)) if files else []
    if extra:
        raise DataError(f"{folder / extra[0]}: {len(extra)} image(s) more than the {len(files)} files expected")
    for pattern, count in (counts or {}).items():
        if (found := sum(re.fullmatch(pattern, name) is not None for name in there)) != count:
            raise DataError(f"{folder}: {found} files {pattern}, expected {count}")
    for name, expected in sorted(files.items()):
        if not (folder / name).is_file():
            raise DataError(f"{folder / name}: not a file, expected one")
        if expected is not None and (actual := digest(folder / name)) != expected:
            raise DataError(f"{folder / name}: sha256 {actual}, expected {expected}")


def verify_images(folder: Path, sizes: frozenset[tuple[int, int]]) -> None:
    """Open every image of a folder, check its integrity as far as its format can tell, and its width and height.

    Raises
    ------
    DataError
        If one is not an image or has another size.
    """
    from PIL import Image

    for path in map(folder.joinpath, relative_paths(folder)):
        if path.suffix.lower() not in FORMATS:
            continue
        try:
            with warnings.catch_warnings(), Image.open(path) as image:
                warnings.simplefilter("error")
                size = image.size
                image.verify()
        except (OSError, ValueError, SyntaxError, Warning, Image.DecompressionBombError) as error:
            raise DataError(f"{path}: damaged or not an image ({' '.join(str(error).split())})") from error
        if sizes and size not in sizes:
            wanted = " or ".join(f"{width}x{height}" for width, height in sorted(sizes))
            raise DataError(f"{path}: {size[0]}x{size[1]} pixels, expected {wanted}")


def read_sums(path: Path) -> dict[str, str]:
    """Checksums by path from a file in the format of the command ``sha256sum``."""
    rows = (line.split("  ", 1) for line in path.read_text(encoding="utf-8").splitlines())
    try:
        return {name: checksum for checksum, name in rows}
    except ValueError as error:
        raise DataError(f"{path}: a line is not '<sha256>  <file>', expected the output of sha256sum") from error


def write_sums(folder: Path) -> None:
    """Flush all files of a folder to the disk, and write their checksums into its ``SHA256SUMS``."""
    lines = []
    for name in relative_paths(folder):
        with (folder / name).open("rb+") as file:
            os.fsync(file.fileno())
        lines.append(f"{digest(folder / name)}  {name}\n")
    with atomic_write(folder / SUMS) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")
