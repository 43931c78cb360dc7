"""One file from the web: resumed where it broke, checked, and never there before it is whole.

`pooch` fetches the small files of other packages well, but starts a broken download from nothing; the sets here have up
to 6.6 GB. The standard library's HTTP client and a few rules of RFC 9110 (sections 13.1.5, 14 and 15.3.7) do the rest.
"""

import hashlib
import http.client
import json
import os
import shutil
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

from tqdm import tqdm

from indeed.data.benchmarks import DataError

CHUNK = 1 << 20
LARGEST = 20 * 10**9
"""Bytes after which a download of unknown size is given up."""
_TIMEOUT = 60.0
_PASSING = (408, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Source:
    """One file on the web and what is known about it beforehand.

    ``checksum`` is ``"<algorithm>:<digest>"`` as published (or measured on a copy at a stated commit), or None where
    none is known; ``name`` is the file's name on disk, by default the last part of the address.

    >>> Source("https://example.org/a/b.zip").name
    'b.zip'
    """

    url: str
    size: int | None = None
    checksum: str | None = None
    name: str = ""

    def __post_init__(self) -> None:
        """Take the name from the address."""
        if not self.name:
            object.__setattr__(self, "name", urlsplit(self.url).path.rsplit("/", 1)[-1])
        if self.checksum is not None and self.checksum.split(":")[0] not in hashlib.algorithms_guaranteed:
            raise ValueError(f"checksum: got {self.checksum!r}, expected '<algorithm>:<digest>'")


def digest(path: Path, algorithm: str = "sha256") -> str:
    """Checksum of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def check(path: Path, source: Source) -> None:
    """Compare a file with the size and the checksum of its source.

    Raises
    ------
    DataError
        If either differs.
    """
    found = path.stat().st_size
    if source.size is not None and found != source.size:
        raise DataError(f"{path}: {found} bytes, expected {source.size}")
    if source.checksum is not None:
        algorithm, expected = source.checksum.split(":")
        actual = digest(path, algorithm)
        if actual != expected:
            raise DataError(f"{path}: {algorithm} {actual}, expected {expected}")


def fetch(source: Source, folder: Path, *, attempts: int = 6, wait: Callable[[float], None] = time.sleep) -> Path:
    """Download a file into a folder, or find it there.

    What has arrived lies in ``<name>.part``; the file itself appears when it is whole and has the size and the checksum
    that are known. A later call continues the part if the server can tell that the file is still the same (``ETag`` or
    ``Last-Modified``, asked by ``If-Range``) or a checksum will tell, and starts again otherwise. After
    passing trouble (connection lost, 429, 503) it is tried again in 1, 2, 4, ... seconds, as long as the part grows or
    ``attempts`` are not used up.

    Parameters
    ----------
    source
        Address, and size and checksum if known.
    folder
        Where the file goes; made if missing.
    attempts
        Number of failures in a row, without a new byte, after which it gives up.
    wait
        Sleeps so many seconds.

    Raises
    ------
    DataError
        If the file cannot be had, or is not what was expected (then the part is removed).
    """
    path = folder / source.name
    if path.exists():
        check(path, source)
        return path
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{source.name}.part"
    failures, furthest = 0, 0
    while True:
        try:
            _receive(source, part)
            break
        except _PassingError as trouble:
            if isinstance(trouble, _StaleError):
                _discard(part)
            reached = _size(part)
            failures = 1 if reached > furthest else failures + 1
            furthest = max(furthest, reached)
            if failures >= attempts:
                raise DataError(f"{source.url}: {trouble}; gave up, run again to continue") from trouble
            seconds = min(2.0 ** (failures - 1), 60.0) if trouble.seconds is None else trouble.seconds
            print(f"{source.name}: {trouble}; again in {seconds:g} s", file=sys.stderr)
            wait(seconds)
    try:
        check(part, source)
    except DataError as error:
        _discard(part)
        raise DataError(f"{error} (removed)") from error
    part.replace(path)
    _state(part).unlink(missing_ok=True)
    return path


class _PassingError(Exception):
    """Trouble that may be over after a while."""

    def __init__(self, message: str, seconds: float | None = None) -> None:
        super().__init__(message)
        self.seconds = seconds


class _StaleError(_PassingError):
    """The part on disk cannot be continued."""


class _Redirects(HTTPRedirectHandler):
    max_redirections = 8

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        before, after = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if after != before and (before, after) != ("http", "https"):
            raise DataError(f"{req.full_url}: redirects to {newurl}, expected the scheme {before}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> OpenerDirector:
    """Make an HTTP client that speaks nothing else: no file:, no ftp:, no data:."""
    opener = OpenerDirector()
    for handler in (
        ProxyHandler(),
        UnknownHandler(),
        HTTPHandler(),
        HTTPSHandler(),
        HTTPDefaultErrorHandler(),
        _Redirects(),
        HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _state(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _state(part).unlink(missing_ok=True)


def _validator(part: Path) -> str | None:
    """Read what the server said about the file whose beginning is in the part."""
    try:
        value = json.loads(_state(part).read_text(encoding="utf-8"))["validator"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return value if isinstance(value, str) else None


def _validator_of(headers: http.client.HTTPMessage) -> str | None:
    """Strong entity tag, or date of the last change: what ``If-Range`` may hold."""
    tag = headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")


def _receive(source: Source, part: Path) -> None:
    """Make the part whole, or raise; what arrived before a failure stays for the next attempt."""
    have, validator = _size(part), _validator(part)
    if have and (have > (source.size or LARGEST) or (validator is None and source.checksum is None)):
        _discard(part)
        have = 0
    if have and have == source.size:
        return
    headers = {"User-Agent": "indeed-book (data_scripts)", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if validator:
            headers["If-Range"] = validator
    with _response(source, headers, have) as response:
        if response is None:  # there is nothing after the part: it is whole
            return
        start, total = _extent(source, response.headers, response.status)
        if start and (start != have or (validator and _validator_of(response.headers) not in (None, validator))):
            raise _StaleError("the file has changed", 0)
        if total is not None and (free := shutil.disk_usage(part.parent).free) < total - start:
            raise DataError(f"{part}: {free} bytes free, expected {total - start}")
        _copy(source, response, part, start, total, _validator_of(response.headers))


@contextmanager
def _response(source: Source, headers: dict[str, str], have: int) -> Iterator[http.client.HTTPResponse | None]:
    """Answer to a request, its errors sorted into those that pass and those that do not."""
    try:
        response = _opener().open(Request(source.url, headers=headers), timeout=_TIMEOUT)
    except HTTPError as error:
        with error:
            if error.code == 416 and error.headers.get("Content-Range") == f"bytes */{have}":
                yield None
                return
            if error.code == 416:
                raise _StaleError(f"cannot be continued after {have} bytes", 0) from error
            if error.code in _PASSING:
                raise _PassingError(f"{error.code} {error.msg}", _retry_after(error.headers)) from error
            what = "redirects without end" if 300 <= error.code < 400 else f"{error.code} {error.msg}"
            raise DataError(f"{source.url}: {' '.join(what.split())}, expected a file") from error
    except URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError) or not isinstance(error.reason, OSError):
            raise DataError(f"{source.url}: {error.reason}") from error
        raise _PassingError(str(error.reason)) from error
    except (http.client.HTTPException, OSError) as error:
        raise _PassingError(f"{type(error).__name__} {error}".strip()) from error
    with response:
        yield response


def _retry_after(headers: Message) -> float | None:
    value = headers.get("Retry-After", "")
    return min(float(value), 60.0) if value.isdigit() else None


def _extent(source: Source, headers: http.client.HTTPMessage, status: int) -> tuple[int, int | None]:
    """First byte and total size of what is about to arrive."""
    kind = headers.get_content_type() if "Content-Type" in headers else ""
    if kind in ("text/html", "application/xhtml+xml"):
        raise DataError(
            f"{source.url}: a web page ({kind}), expected the file {source.name}; if it asks for a login, "
            "download the file with a browser and give its folder with --from"
        )
    if headers.get("Content-Encoding", "identity") != "identity":
        raise DataError(f"{source.url}: content encoding {headers['Content-Encoding']}, expected none")
    start, total = 0, headers.get("Content-Length", "")
    if status == 206:
        extent, _, total = headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        first = extent.split("-")[0]
        if not first.isdigit():
            raise DataError(f"{source.url}: a part without a range ({headers.get('Content-Range')}), expected one")
        start = int(first)
    size = int(total) if total.isdigit() else source.size
    if source.size is not None and size != source.size:
        raise DataError(f"{source.url}: {size} bytes, expected {source.size}")
    return start, size


def _copy(
    source: Source, response: http.client.HTTPResponse, part: Path, start: int, total: int | None, validator: str | None
) -> None:
    """Append the body of an answer to the part, or replace the part by it."""
    limit = LARGEST if total is None else total
    with part.open("ab" if start else "wb") as file:
        if not start:  # written after the old bytes are gone and before the first new one arrives
            _state(part).write_text(json.dumps({"url": source.url, "validator": validator}), encoding="utf-8")
        with tqdm(desc=source.name, total=total, initial=start, unit="B", unit_scale=True, disable=None) as progress:
            size = start
            while chunk := _read(response):
                size += len(chunk)
                if size > limit:
                    raise DataError(f"{source.url}: more than {limit} bytes, expected {total or 'fewer'}")
                try:
                    file.write(chunk)
                    file.flush()
                except OSError as error:
                    raise DataError(f"{part}: {error.strerror} after {size - len(chunk)} bytes") from error
                progress.update(len(chunk))
        os.fsync(file.fileno())
    if total is not None and size < total:
        raise _PassingError(f"connection lost after {size} of {total} bytes")


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(CHUNK)
    except (http.client.HTTPException, OSError) as error:
        raise _PassingError(f"connection lost ({type(error).__name__})") from error
