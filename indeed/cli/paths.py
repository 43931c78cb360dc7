"""Files that the commands read and write: which they are, and what is known to fail before the work begins."""

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro  # noqa: TID253  (the types of the command line: nothing but the command imports this module)

from indeed.checks import expect
from indeed.data.folders import notice, pictures_in
from indeed.data.image_files import FORMATS, check_writable, lost
from indeed.data.picture import Picture
from indeed.data.white import Reader

InputFile = tyro.conf.Positional[Path]
InputFiles = tyro.conf.Positional[tuple[Path, ...]]
Out = Annotated[Path, tyro.conf.arg(aliases=["-o"])]


@dataclass(frozen=True, kw_only=True)
class WithImages:
    """Options of the commands that read images."""

    white: int | Literal["auto"] | None = None
    """Value of white in 16-bit files, such as 4095 where a camera of 12 bits wrote them; auto: the smallest 2^n - 1
    that holds all values of all images. Default: as a file says, else 65535."""
    channels: str | None = None
    """Places of the one or three channels to read of TIFF files that have others, such as 1 or 3,2,1."""

    def reader(self, images: Iterable[Path], usual: int | None = None) -> Reader:
        """Reader of these images; ``usual`` is white where neither the command nor the file says it."""
        return Reader(self.white, images, channels=self.places, usual=usual)

    @property
    def places(self) -> tuple[int, ...] | None:
        """Places of the channels that are asked for."""
        if self.channels is None:
            return None
        texts = self.channels.split(",")
        known = len(texts) in (1, 3) and all(text.isdecimal() and 1 <= int(text) <= 64 for text in texts)
        expect(known, "channels", repr(self.channels), "one place or three, from 1 on, such as 1 or 3,2,1")
        return tuple(map(int, texts))


def images_in(folder: Path, *, deep: bool = False, without: Path | None = None) -> list[Path]:
    """Images in a folder; ``deep``: and in those inside it, but ``without``."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: got no folder, expected one of images")
    images = pictures_in(folder, deep=deep, without=without)
    if not images:
        raise ValueError(f"{folder}: holds no image, expected files ending in {', '.join(FORMATS)}")
    return images


def check_file(path: Path) -> None:
    """Refuse standard input and devices by name: a file is read more than once."""
    if str(path) in ("-", "/dev/stdin") or (path.exists() and not path.is_file() and not path.is_dir()):
        raise ValueError(f"{path}: is standard input or a device, expected a file")


def named_images(places: Sequence[Path], out: Path | None = None) -> dict[Path, Path]:
    """Images among files and in folders, and those inside them but ``out``, with their names: where they are there."""
    images: dict[Path, Path] = {}
    for place in places:
        check_file(place)
        if place.is_dir() and (place.suffix.lower() not in FORMATS or pictures_in(place, deep=True, without=out)):
            found = images_in(place, deep=True, without=out)
            images |= {path: path.relative_to(place) for path in found}
        else:
            images[place] = Path(place.name)
    expect(images, "images", "none", "at least one")
    return images


def targets(images: Mapping[Path, Path], out: Path, *, folder: bool = False) -> dict[Path, Path]:
    """File to write for each image; in a folder also that of a single one, if ``folder`` says so."""
    if not out.is_dir():
        if len(images) == 1 and out.suffix and not folder:
            return {next(iter(images)): out}
        if out.suffix.lower() in FORMATS:
            raise ValueError(f"{out}: is the name of one image, expected a folder")
        if out.exists():
            raise ValueError(f"{out}: is a file, expected a folder")
    written = {path: out / _writable(name) for path, name in images.items()}
    exact = len(set(written.values())) == len(written)
    if not exact or (len(set(map(_folded, written.values()))) < len(written) and _folds_case(out)):
        raise ValueError(f"{out}: several images have the same name, expected different ones")
    return written


def _writable(name: Path) -> Path:
    """Name of a result; formats that are only read become PNG."""
    return name.with_suffix(".png") if name.suffix.lower() in (".bmp", ".webp") else name


def _folds_case(folder: Path) -> bool:
    """Whether a folder, or that in which it will be made, takes names in upper and lower case for the same."""
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.is_dir())
    with tempfile.NamedTemporaryFile(prefix=".indeed-", dir=there) as probe:
        return (there / Path(probe.name).name.swapcase()).exists()


def check_apart(read: Iterable[Path], written: Iterable[Path]) -> None:
    """Refuse a call before the work that would write a file that it reads.

    Links, and names that differ in upper and lower case only, count as the same: on some systems they are.

    Raises
    ------
    ValueError
        If a file is in both.
    """
    files = list(read)
    names = {_folded(path): path for path in files}
    identities = {identity: path for path in files if (identity := _identity(path)) is not None}
    for target in written:
        path = names.get(_folded(target)) or identities.get(_identity(target) or (-1, -1))
        if path is not None:
            raise ValueError(f"{target}: would overwrite its input, {path}, expected another name or folder")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_dev, state.st_ino


def _folded(path: Path) -> tuple[str, str]:
    return os.path.realpath(path.parent), path.name.casefold()


def prepare(target: Path, picture: Picture, out: Path) -> None:
    """Make the folder of a result in ``out``, and find out before the work whether the result can be written there."""
    if target != out:
        target.parent.mkdir(parents=True, exist_ok=True)
    check_writable(target, picture)
    tell_lost(target, picture)


def tell_lost(target: Path, picture: Picture) -> None:
    """Say what the file of a picture says besides its pixels and the result will not."""
    if left := lost(target, picture):
        notice(f"{target}: is written without what the input says besides: {', '.join(left)}")


@contextmanager
def folder_of_results(out: Path) -> Iterator[Path]:
    """Folder to write files in, which ``out`` gets together when the block ends well; otherwise it is unchanged.

    Raises
    ------
    ValueError
        If a file would take the place of a folder.
    """
    made = not out.exists()
    (out.parent if made else out).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".indeed-", dir=out.parent if made else out) as scratch:
        unfinished = Path(scratch) / "results"
        unfinished.mkdir()
        yield unfinished
        finished = sorted(unfinished.iterdir())
        for path in finished:
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        if made and not out.exists():
            unfinished.rename(out)  # all files at once, also if the process is killed now
            return
        for path in finished:
            if (out / path.name).is_dir():
                raise ValueError(f"{out / path.name}: is a folder, expected a file or nothing")
        for path in finished:
            path.replace(out / path.name)
