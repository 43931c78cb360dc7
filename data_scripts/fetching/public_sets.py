"""Public image sets: described in `data_scripts/`, brought here whole and verified, or not at all.

A set lands in its folder together with ``SHA256SUMS`` (the format of the command ``sha256sum``), which a later call
verifies.
"""

import argparse
import csv
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fetching.checksums import SUMS, read_sums, relative_paths, verify_files, verify_images, write_sums
from fetching.download import Source, check, digest, fetch
from fetching.unpack import unpack, whole_folder
from indeed.data.benchmarks import SETS, DataError, data_root
from indeed.data.image_files import FORMATS
from indeed.files import atomic_write

RECORDED = "checksums.csv"
"""File beside the data: checksums that were unknown before the first download, and are verified since."""


@dataclass(frozen=True)
class PublicSet:
    """What is known about a set before it is there."""

    name: str
    """Key of `indeed.data.benchmarks.SETS`, unless ``folder`` is given."""
    home: str
    """Page of the people who made it."""
    terms: str
    """What its source says about use; shown before the download."""
    sources: tuple[Source, ...]
    """Files to download: archives if ``members`` is given, else the images themselves."""
    files: Mapping[str, str | None] = field(default_factory=dict)
    """File names with their SHA-256, None where that is not known."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Where the names are not known (``files`` is empty): regular expressions of paths and how many of each."""
    sizes: frozenset[tuple[int, int]] = frozenset()
    """Widths and heights that occur; empty if any may."""
    members: str = ""
    """Regular expression for the paths of the wanted files in the archives."""
    lands: str = r"\1"
    """File name, or path below the folder, made of its groups."""
    password: str | None = None
    """Of an encrypted archive, as published on its page."""
    crop: int | None = None
    """Side of the centre crops that ``--crop`` writes into the set ``<name>_<crop>``."""
    folder: str = ""
    """Where it lands below the folder of the data sets, if `indeed.data.benchmarks.SETS` does not say."""
    login: bool = False
    """Whether its page asks for a login or a form, so that the user must download it and give it with ``--from``."""
    accepts: Callable[[Path], object] | None = None
    """Reads the folder of the whole set as its users will, and raises `DataError` if it cannot be trusted."""

    @property
    def expected(self) -> int:
        """Number of files, as far as it is known beforehand."""
        return len(self.files) or sum(self.counts.values())

    @property
    def checked(self) -> bool:
        """Whether the checksum of each file is known beforehand."""
        return bool(self.files) and all(self.files.values())

    @property
    def place(self) -> str:
        """Where it lands below the folder of the data sets."""
        return self.folder or SETS[self.name]

    def landing(self, path: str) -> str | None:
        """File name for a path in an archive, None if the set does not want it."""
        match = re.fullmatch(self.members, path) if self.members else None
        name = match.expand(self.lands) if match else None
        return name if not self.files or name in self.files else None


def verify(public: PublicSet, folder: Path) -> None:
    """Verify a set that is there: against what was known before, and against its own ``SHA256SUMS`` if it has one.

    Raises
    ------
    DataError
        If it is not what it was, or it is not known what it should be.
    """
    if (folder / SUMS).exists():
        noted = read_sums(folder / SUMS)
        for name in sorted(set(noted) | set(public.files)) if public.files else ():
            found, expected = noted.get(name), public.files.get(name)
            if found is None or name not in public.files or expected not in (None, found):
                raise DataError(f"{folder / SUMS}: {name} has sha256 {found}, expected {expected or 'no such file'}")
        verify_files(folder, noted)
    elif public.checked:
        verify_files(folder, public.files)
        verify_images(folder, public.sizes)
    else:
        raise DataError(
            f"{folder}: has no {SUMS}, expected a set that this script wrote; move it away, and give it with --from"
        )


def obtain(
    public: PublicSet,
    root: Path,
    given: Path | None = None,
    *,
    accepted: Callable[[PublicSet], bool],
    get: Callable[[Source, Path], Path] = fetch,
) -> Path:
    """Bring a set to its folder, or verify it there.

    Parameters
    ----------
    public
        The set.
    root
        Folder of the data sets.
    given
        Folder that already holds the archives, or the images, under their names; nothing is downloaded then.
    accepted
        Shows the terms and says whether the user accepts them.
    get
        Downloads one file into a folder.

    Raises
    ------
    DataError
        If it cannot be had, or anything about it is not as expected; then nothing of it is left but the downloads.
    """
    folder, downloads = root / public.place, root / "downloads"
    if folder.is_dir() and any(folder.iterdir()):
        verify(public, folder)
        print(f"{public.name}: {_number(public, folder)} files in {folder} are whole; nothing to do")
        return folder
    if given is not None and not given.is_dir():
        raise DataError(f"{given}: not a folder, expected one with the files of {public.name}")
    if not accepted(public):
        raise DataError(f"{public.name}: terms not accepted, expected yes (or --yes)")
    if public.login and given is None:
        names = " and ".join(source.name for source in public.sources)
        raise DataError(f"{public.home}: asks for a login or a form; download {names} there, and say --from its folder")
    unpacked = given is not None and not all((given / source.name).is_file() for source in public.sources)
    with _alone(downloads / f".{public.sources[0].name}.lock"), whole_folder(folder) as temporary:
        fresh = {}
        try:
            if given is not None and unpacked:
                _copy_images(public, given, temporary)
            else:
                fresh = _land(public, given, downloads, temporary, root / RECORDED, get)
            verify_files(temporary, public.files, public.counts)
            verify_images(temporary, public.sizes)
            if public.accepts:
                public.accepts(temporary)
        except DataError:
            if given is None:  # otherwise the next call would take the same wrong file, as no checksum is known
                for source in public.sources:
                    if source.checksum is None:
                        (downloads / source.name).unlink(missing_ok=True)
            raise
        write_sums(temporary)
    _record(root / RECORDED, fresh)
    print(f"{public.name}: {_number(public, folder)} files, verified, in {folder}")
    return folder


def _number(public: PublicSet, folder: Path) -> int:
    return len(public.files) or len([name for name in relative_paths(folder) if name != SUMS])


def centre_crops(public: PublicSet, root: Path) -> Path:
    """Cut the square in the middle out of every image of a set, top and left rounded down, and write it as PNG.

    Raises
    ------
    DataError
        If the crops are there and are not what was written, or an image is smaller than the square.
    """
    from PIL import Image

    if public.crop is None:
        raise ValueError(f"public: got {public.name}, expected a set with a crop")
    side, name = public.crop, f"{public.name}_{public.crop}"
    folder, target = root / SETS[public.name], root / SETS[name]
    sizes = frozenset({(side, side)})
    if target.is_dir() and any(target.iterdir()):
        if not (target / SUMS).exists():
            raise DataError(f"{target}: has no {SUMS}, expected a set that this script wrote; move it away")
        verify_files(target, read_sums(target / SUMS))
        print(f"{name}: {public.expected} files in {target} are whole; nothing to do")
        return target
    with whole_folder(target) as temporary:
        for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in FORMATS):
            with Image.open(path) as image:
                width, height = image.size
                if min(width, height) < side:
                    raise DataError(f"{path}: {width}x{height} pixels, expected at least {side}x{side}")
                left, top = (width - side) // 2, (height - side) // 2
                image.crop((left, top, left + side, top + side)).save(temporary / f"{path.stem}.png")
        verify_files(temporary, {}, {r".*\.png": public.expected})
        verify_images(temporary, sizes)
        write_sums(temporary)
    print(f"{name}: {public.expected} centre crops in {target}")
    return target


def command(*sets: PublicSet, argv: Sequence[str] | None = None, get: Callable[[Source, Path], Path] = fetch) -> int:
    """Run a script of `data_scripts/`: 0 if the sets are there and whole, 2 with one line on stderr if not."""
    names = ", ".join(public.name for public in sets)
    parser = argparse.ArgumentParser(description=f"Download, check and unpack {names}.")
    parser.add_argument("--from", dest="given", type=Path, metavar="DIR", help="take archives or images from DIR")
    parser.add_argument("--root", type=Path, help="folder of the data sets (default: INDEED_DATA, or data)")
    parser.add_argument("--yes", action="store_true", help="accept the terms of use")
    parser.add_argument("--keep", action="store_true", help="keep the downloaded archives")
    if any(public.crop for public in sets):
        parser.add_argument("--crop", action="store_true", help="also write the centre crops")
    arguments = parser.parse_args(argv)
    root = (arguments.root or data_root()).expanduser()

    def accepted(public: PublicSet) -> bool:
        terms = textwrap.fill(" ".join(public.terms.split()), 100, initial_indent="  ", subsequent_indent="  ")
        print(f"{public.name}: {public.home}\n{terms}\n  {_download(public)}")
        if arguments.yes:
            return True
        try:
            return input("Accept these terms? [y/N] ").strip().lower() in ("y", "yes")
        except EOFError:
            return False

    try:
        for public in sets:
            obtain(public, root, arguments.given, accepted=accepted, get=get)
            if public.crop and arguments.crop:
                centre_crops(public, root)
    except (DataError, ModuleNotFoundError) as error:  # the second if nibabel is missing
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{error.filename or root}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; run again to continue", file=sys.stderr)
        return 130
    if not arguments.keep:
        for source in (source for public in sets for source in public.sources):
            (root / "downloads" / source.name).unlink(missing_ok=True)
    return 0


def _download(public: PublicSet) -> str:
    """Say how much there is to download, and what nobody published about it."""
    sizes = [source.size for source in public.sources]
    known = "size unknown" if None in sizes else f"{sum(size or 0 for size in sizes):,} bytes"
    unknown = any(source.checksum is None for source in public.sources) and not all(
        (public.files or {"": None}).values()
    )
    return f"{len(sizes)} file(s), {known}" + (", checksum unknown, recorded at the first" if unknown else "")


def _land(
    public: PublicSet,
    given: Path | None,
    downloads: Path,
    folder: Path,
    recorded: Path,
    get: Callable[[Source, Path], Path],
) -> dict[str, tuple[int, str]]:
    """Write the images of the sources of a set; return size and checksum of the sources that had no known checksum."""
    known = _read_recorded(recorded)
    fresh = {}
    for source in public.sources:
        if given is None:
            path = get(source, downloads)
        else:
            path = given / source.name
            check(path, source)
        if source.checksum is None:
            found = (path.stat().st_size, digest(path))
            # GitHub makes its archives on demand, and their bytes may change: known files are judged one by one.
            if source.url in known and known[source.url] != found and not public.checked:
                raise DataError(
                    f"{path}: sha256 {found[1]}, expected {known[source.url][1]} as at the first download ({recorded})"
                )
            fresh[source.url] = found
        if public.members:
            unpack(path, folder, public.landing, public.password)
        else:
            shutil.copyfile(path, folder / source.name)
    return fresh


def _copy_images(public: PublicSet, given: Path, folder: Path) -> None:
    """Copy images from a folder that holds them under the paths of the archive or under their final names."""
    found: dict[str, Path] = {}
    for path in sorted(path for path in given.resolve().rglob("*") if path.is_file()):
        tails = ("/".join(path.parts[start:]) for start in range(1, len(path.parts)))
        name = next(filter(None, map(public.landing, tails)), path.name if path.name in public.files else None)
        if name is None:
            continue
        if name in found:
            raise DataError(f"{path}: a second {name} beside {found[name]}, expected one")
        found[name] = path
    if not found:
        raise DataError(
            f"{given}: holds nothing of {public.name}, expected {' and '.join(s.name for s in public.sources[:3])} "
            f"or its {public.expected} files"
        )
    for name, path in found.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / name)


def _read_recorded(path: Path) -> dict[str, tuple[int, str]]:
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        try:
            return {row["url"]: (int(row["bytes"]), row["sha256"]) for row in csv.DictReader(file)}
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: cannot be read ({error}), expected columns url, bytes, sha256") from error


def _record(path: Path, fresh: Mapping[str, tuple[int, str]]) -> None:
    """Note the checksums of a set that turned out whole."""
    known = _read_recorded(path)
    new = {url: found for url, found in fresh.items() if known.get(url) != found}
    if not new:
        return
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["url", "bytes", "sha256"])
        writer.writerows([url, *found] for url, found in sorted((known | new).items()))
    for url, (_, checksum) in new.items():
        print(f"{url}: no checksum was known; recorded sha256 {checksum} in {path}")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let one process at a time work on a set; the lock of a killed one ends with it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(f"{path}: another process works on this set, expected none") from error
        yield
