"""The paper's data sets on disk: where they are, how they are split, and what to do when they are missing.

The folder named by the environment variable ``INDEED_DATA`` (default ``data``) holds ``denoise/test/<set>``,
``denoise/train/<set>`` and ``denoise/real/<set>``, where ``data_scripts/`` puts them, and ``uad/<set>``.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from indeed.checks import expect, one_of
from indeed.data.image_files import FORMATS

Item = TypeVar("Item")

SETS = {
    "cbsd68": "denoise/test/cbsd68",
    "bsd68": "denoise/test/bsd68",
    "set12": "denoise/test/set12",
    "kodak24": "denoise/test/kodak24",
    "kodak24_500": "denoise/test/kodak24_500",
    "mcmaster": "denoise/test/mcmaster",
    "div2k_valid": "denoise/test/div2k_valid",
    "bsd400_gray": "denoise/train/bsd400_gray",
    "cbsd432": "denoise/train/cbsd432",
    "div2k": "denoise/train/div2k",
    "polyu": "denoise/real/polyu",
    "sidd_small": "denoise/real/sidd_small",
}
SCRIPTS = {
    "bsd68": "cbsd68.py",
    "kodak24_500": "kodak24.py --crop",
    "div2k_valid": "div2k.py",
    "bsd400_gray": "bsd400.py",
}
"""Commands of `data_scripts/` that are not named after the set they bring."""
VALIDATION_SIZE = {"bsd400_gray": 40, "cbsd432": 32}


class DataError(RuntimeError):
    """Data that cannot be had or trusted; the message is one line: the file, what was found, what was expected."""


class DataMissingError(FileNotFoundError):
    """A data set that is not on disk; the message says where it was looked for and how to get it."""


def data_root() -> Path:
    """Folder of the data sets: ``INDEED_DATA``, or ``data`` under the working folder."""
    return Path(os.environ.get("INDEED_DATA") or "data")


def image_files(folder: Path) -> list[Path]:
    """Image files directly in a folder, sorted by name; those that macOS hides beside them are none."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in FORMATS and not path.name.startswith(".") and path.is_file()
    )


def benchmark(name: str) -> list[Path]:
    """Sorted image files of a data set.

    Raises
    ------
    ValueError
        If no data set has that name.
    DataMissingError
        If it is not on disk.
    """
    one_of(SETS, name=name)
    folder = data_root() / SETS[name]
    files = image_files(folder) if folder.is_dir() else []
    if not files:
        script = SCRIPTS.get(name, f"{name}.py")
        raise DataMissingError(
            f"{name}: no images in {folder}; set INDEED_DATA to the data, or run: python data_scripts/{script}"
        )
    return files


def evenly(items: Sequence[Item], count: int) -> list[Item]:
    """``count`` of the items, spread evenly over their order: this choice needs no seed.

    >>> evenly("abcdefgh", 3)
    ['a', 'c', 'f']

    Raises
    ------
    ValueError
        If there are fewer items.
    """
    expect(1 <= count <= len(items), "count", count, f"1 to {len(items)}, the number of images")
    return [items[index * len(items) // count] for index in range(count)]


def hold_out(files: Sequence[Path], validation: int) -> tuple[list[Path], list[Path]]:
    """Training and validation files; the latter are spread evenly over the sorted names, so the split needs no seed.

    >>> train, held_out = hold_out([Path(str(i)) for i in range(10)], 2)
    >>> len(train), [path.name for path in held_out]
    (8, ['0', '5'])
    """
    expect(0 < validation < len(files), "validation", validation, f"1 to {len(files) - 1}")
    held_out = evenly(files, validation)
    return [path for path in files if path not in held_out], held_out


def training_split(name: str) -> tuple[list[Path], list[Path]]:
    """Training and validation files of ``bsd400_gray`` (360 + 40) or ``cbsd432`` (400 + 32)."""
    one_of(VALIDATION_SIZE, name=name)
    return hold_out(benchmark(name), VALIDATION_SIZE[name])
