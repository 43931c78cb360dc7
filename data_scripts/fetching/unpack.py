"""Images out of an archive that nobody vouches for.

Nothing of the archive decides where a byte goes: the caller names the members it wants and the path below the folder
that each one gets, made of plain names; no other member is written, no link is made, and no owner, mode or date is
taken over.
"""

import gzip
import io
import lzma
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fetching.download import CHUNK
from indeed.data.benchmarks import DataError

MAX_MEMBERS = 20_000
"""Members that an archive may have."""
MAX_RATIO = 20
"""Largest ratio of unpacked bytes, beyond the first megabyte, to the bytes of an archive: images compress less."""


def unpack(archive: Path, folder: Path, landing: Callable[[str], str | None], password: str | None = None) -> int:
    """Write the wanted members of a zip or tar (plain, gzip, xz) archive into a folder and return how many there were.

    Parameters
    ----------
    archive
        File whose first bytes say what it is.
    folder
        Existing folder.
    landing
        File name, or path below the folder, for a member's path; None if it is not wanted.
    password
        Of an encrypted zip.

    Raises
    ------
    DataError
        If it is not a whole archive; if a path is absolute or goes up; if a wanted member is not a regular file or two
        land under names that differ at most in case; if it has too many members or is too large unpacked.
    """
    with archive.open("rb") as file:
        head = file.read(262)
    allowed, magic = MAX_RATIO * archive.stat().st_size + CHUNK, head[:4]
    if magic in (b"PK\x03\x04", b"PK\x05\x06"):
        members = _zip(archive, password)
    elif magic[:2] == b"\x1f\x8b":
        members = _tar(archive, gzip.open, allowed)
    elif head[:6] == b"\xfd7zXZ\x00":
        members = _tar(archive, lzma.open, allowed)
    elif head[257:] == b"ustar":
        members = _tar(archive, partial(Path.open, mode="rb"), allowed)
    else:
        raise DataError(f"{archive}: begins with {magic!r}, expected a zip or tar archive (plain, gzip or xz)")
    seen: dict[str, str] = {}
    try:
        for number, (path, regular, size, opened) in enumerate(members):
            if number >= MAX_MEMBERS:
                raise DataError(f"{archive}: more than {MAX_MEMBERS} members")
            if path.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", path) or re.match(r"[A-Za-z]:", path):
                raise DataError(f"{archive}: member {path!r} leaves its folder")
            name = landing(path)
            if name is None:
                continue
            if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*", name):
                raise DataError(f"{archive}: member {path!r} would be {name!r}, expected plain names")
            if not regular:
                raise DataError(f"{archive}: member {path!r} is a link, folder or device, expected a file")
            if name.casefold() in seen:
                raise DataError(f"{archive}: members {seen[name.casefold()]!r} and {path!r} are the same file")
            seen[name.casefold()] = path
            allowed -= size
            if allowed < 0:
                raise DataError(f"{archive}: unpacks to more than {MAX_RATIO} times its size at member {path!r}")
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with opened() as content, (folder / name).open("xb") as target:
                written = 0
                while chunk := content.read(CHUNK):
                    written += len(chunk)
                    if written > size:
                        raise DataError(f"{archive}: member {path!r} is longer than the {size} bytes it states")
                    target.write(chunk)
            if written != size:
                raise DataError(f"{archive}: member {path!r} has {written} bytes, expected {size}")
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, gzip.BadGzipFile, lzma.LZMAError, EOFError) as error:
        raise DataError(f"{archive}: damaged archive ({error})") from error
    except RuntimeError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{archive}: cannot be read ({error})") from error  # a password or a method of compression
    return len(seen)


_Member = tuple[str, bool, int, Callable[[], Any]]  # path, whether a regular file, size, opens it


def _zip(archive: Path, password: str | None) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            mode = stat.S_IFMT(info.external_attr >> 16)
            regular = not info.is_dir() and mode in (0, stat.S_IFREG)
            key = password.encode() if password and info.flag_bits & 1 else None
            yield info.filename, regular, info.file_size, partial(file.open, info, pwd=key)


def _tar(archive: Path, open_: Callable[[Path], Any], allowed: int) -> Iterator[_Member]:
    with open_(archive) as unzipped:
        counted = _Counted(unzipped, allowed, archive)
        # Read as a stream: what is skipped is decompressed too, and counted.
        with tarfile.open(fileobj=counted, mode="r|") as file:
            for info in file:
                yield info.name, info.isreg() and not info.issparse(), info.size, partial(file.extractfile, info)
        while counted.read(CHUNK):  # to the end, where gzip and xz have their checksums
            pass


class _Counted(io.RawIOBase):
    """Reader that stops at so many bytes."""

    def __init__(self, file: Any, allowed: int, archive: Path) -> None:
        self._file, self._left, self._archive = file, allowed, archive

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._file.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise DataError(f"{self._archive}: unpacks to more than {MAX_RATIO} times its size")
        return data


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Give an empty folder beside ``target`` that takes its place when the block ends well, and vanishes otherwise.

    What a killed process left behind is removed first. The target must not exist, or be empty.
    """
    temporary = target.parent / f".{target.name}.partial"
    if temporary.exists():
        shutil.rmtree(temporary)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        temporary.replace(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
