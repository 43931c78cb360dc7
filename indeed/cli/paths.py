"""Files that the commands read and write: which they are, and what is known to fail before the work begins."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import tyro  # noqa: TID253  (the types of the command line: nothing but the command imports this module)

from indeed.checks import expect
from indeed.data.benchmarks import image_files
from indeed.data.image_files import FORMATS, check_writable, read_image
from indeed.data.picture import Picture

InputFile = tyro.conf.Positional[Path]
InputFiles = tyro.conf.Positional[tuple[Path, ...]]
Out = Annotated[Path, tyro.conf.arg(aliases=["-o"])]


def images_in(folder: Path) -> list[Path]:
    """Images in a folder."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: got no folder, expected one of images")
    images = image_files(folder)
    if not images:
        raise ValueError(f"{folder}: holds no image, expected files ending in {', '.join(FORMATS)}")
    return images


def image_paths(places: Sequence[Path]) -> list[Path]:
    """Images among files and in folders."""
    return [path for place in places for path in (images_in(place) if place.is_dir() else [place])]


def images_by_stem(places: Sequence[Path]) -> dict[str, Path]:
    """Images among files and in folders, by the names without ending that their outputs have."""
    images: dict[str, Path] = {}
    for path in image_paths(places):
        other = images.setdefault(path.stem, path)
        if other.resolve() != path.resolve():
            raise ValueError(f"{path}: would have the outputs of {other}, expected another name")
    expect(images, "images", "none", "at least one")
    return images


def targets(images: Sequence[Path], out: Path, *, folder: bool = False) -> dict[Path, Path]:
    """File to write for each image; in a folder also that of a single one, if ``folder`` says so."""
    expect(images, "images", "none", "at least one")
    if len({path.name for path in images}) < len(set(images)):
        raise ValueError(f"{out}: several images have the same name, expected different ones")
    if not out.is_dir():
        if len(images) == 1 and out.suffix and not folder:
            return {images[0]: out}
        if out.suffix.lower() in FORMATS:
            raise ValueError(f"{out}: is the name of one image, expected a folder")
        out.mkdir(parents=True, exist_ok=True)
    return {path: out / path.name for path in images}


def read_for(path: Path, target: Path) -> Picture:
    """Picture in a file, once it is known that what becomes of it can be written."""
    picture = read_image(path)
    if target.exists() and target.samefile(path):
        raise ValueError(f"{target}: would overwrite its input, expected another name or folder")
    check_writable(target, picture)
    return picture


@contextmanager
def folder_of_results(out: Path) -> Iterator[Path]:
    """Folder to write files in, which ``out`` gets together when the block ends well; otherwise it is unchanged.

    Raises
    ------
    ValueError
        If a file would take the place of a folder.
    """
    made = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".indeed-", dir=out) as unfinished:
            yield Path(unfinished)
            finished = sorted(Path(unfinished).iterdir())
            for path in finished:
                if (out / path.name).is_dir():
                    raise ValueError(f"{out / path.name}: is a folder, expected a file or nothing")
            for path in finished:
                path.replace(out / path.name)
    except BaseException:
        if made:
            shutil.rmtree(out, ignore_errors=True)
        raise
