"""Folders of pictures as people have them: which files of them are images, and words on what is skipped."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from indeed.data.image_files import FORMATS
from indeed.data.png import SIGNATURE

Item = TypeVar("Item")
Result = TypeVar("Result")

OWN = "indeed: "
"""How the name of the software begins in pictures for the eye that the commands write; what they show comes after."""


def notice(text: str) -> None:
    """Say on the standard error stream, in one line, what is no fault but should be known; the first process does."""
    if os.environ.get("RANK", "0") == "0":
        print(f"indeed: {shown(text)}", file=sys.stderr)


def shown(text: object) -> str:
    """Text in one line, whatever the names of files in it hold."""
    return "".join(letter if letter.isprintable() else " " if letter.isspace() else "?" for letter in str(text))


def is_own(path: Path) -> bool:
    """Whether a file is a picture for the eye that a command has written, such as a heat map."""
    marker = b"tEXtSoftware\0" + OWN.encode()
    with path.open("rb") as file:
        if file.read(8) != SIGNATURE:
            return False
        position = 8
        while len(head := file.read(4 + len(marker))) > 8 and head[4:8] != b"IDAT":
            if head[4:] == marker:
                return True
            position += 12 + int.from_bytes(head[:4], "big")
            file.seek(position)
    return False


def pictures_in(folder: Path, *, deep: bool = False, without: Path | None = None) -> list[Path]:
    """Images in a folder, sorted; a notice says how many hidden files and pictures of our own were skipped.

    Parameters
    ----------
    folder
        Where to look.
    deep
        Whether to look into the folders inside it too.
    without
        A folder inside it that is left out.

    Raises
    ------
    OSError
        If a folder cannot be read.
    """
    found, hidden, own = [], [], []
    for path in _candidates(folder, deep, without, set()):
        if path.name.startswith("."):
            hidden.append(path)
        elif path.is_file() and os.access(path, os.R_OK) and is_own(path):
            own.append(path)
        else:
            found.append(path)
    for skipped, kind in ((hidden, "hidden"), (own, "of our own making")):
        if skipped:
            notice(f"{folder}: skipped {len(skipped)} {kind}, such as {skipped[0].relative_to(folder)}")
    return sorted(found)


def _candidates(folder: Path, deep: bool, without: Path | None, seen: set[tuple[int, int]]) -> Iterator[Path]:
    state = folder.stat()
    if (state.st_dev, state.st_ino) in seen:  # a link to a folder that holds it
        return
    seen.add((state.st_dev, state.st_ino))
    for path in sorted(folder.iterdir()):
        inside: list[Path] = []
        if path.is_dir():
            if path.name.startswith(".") or (without is not None and without.exists() and path.samefile(without)):
                continue
            if deep:
                inside = list(_candidates(path, deep, without, seen))
        # A folder that is called like an image and holds none is a mistake to be told of.
        yield from inside or ([path] if path.suffix.lower() in FORMATS else [])


def gathered(items: Iterable[Item], read: Callable[[Item], Result]) -> list[Result]:
    """Read all items, and name all that cannot be read at once.

    Raises
    ------
    ValueError, OSError
        What ``read`` raises for an item, where it is a single one.
    ExceptionGroup
        Of these, where they are several.
    """
    results, errors = [], []
    for item in items:
        try:
            results.append(read(item))
        except (ValueError, OSError) as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ExceptionGroup(f"{len(errors)} images cannot be read", errors)
    return results
