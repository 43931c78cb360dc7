"""A download is whole and checked, or it is not there."""

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import namedtuple
from pathlib import Path
from urllib.request import Request

import pytest
from fetching import download
from fetching.download import Source, fetch

from indeed.data.benchmarks import DataError

BODY = bytes(range(256)) * 400
OTHER = BODY[::-1]
SHA256 = f"sha256:{hashlib.sha256(BODY).hexdigest()}"


def get(source: Source, folder: Path, *, attempts: int = 3, waits: list[float] | None = None) -> Path:
    return fetch(source, folder, attempts=attempts, wait=(waits if waits is not None else []).append)


def nothing_accepted(folder: Path) -> bool:
    return not (folder / "a.bin").exists()


def ranges(server) -> list[str | None]:
    return [headers.get("Range") for _, headers in server.requests]


def test_a_file_arrives_whole_and_leaves_no_part(server, tmp_path):
    path = get(Source(server.url("a.bin", server.answer(BODY)), len(BODY), SHA256), tmp_path)
    assert path.read_bytes() == BODY
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]


def test_a_file_that_is_there_is_verified_and_not_asked_for(server, tmp_path):
    source = Source(server.url("a.bin", server.answer(BODY)), checksum=SHA256)
    get(source, tmp_path)
    get(source, tmp_path)
    assert len(server.requests) == 1
    (tmp_path / "a.bin").write_bytes(OTHER)
    with pytest.raises(DataError, match=r"a\.bin: sha256 [0-9a-f]{64}, expected [0-9a-f]{64}"):
        get(source, tmp_path)


@pytest.mark.parametrize("checksum", [None, SHA256])
def test_a_lost_connection_is_continued_where_it_broke(server, tmp_path, checksum):
    url = server.url(
        "a.bin", server.answer(BODY, drop_after=30_000), server.answer(BODY, drop_after=70_000), server.answer(BODY)
    )
    assert get(Source(url, checksum=checksum), tmp_path).read_bytes() == BODY
    assert ranges(server) == [None, "bytes=30000-", "bytes=70000-"]
    assert [headers.get("If-Range") for _, headers in server.requests] == [None, '"one"', '"one"']


def test_a_later_call_continues_what_an_earlier_one_left(server, tmp_path):
    source = Source(server.url("a.bin", server.answer(BODY, drop_after=30_000)))
    with pytest.raises(DataError, match=r"30000 of 102400 bytes; gave up, run again to continue"):
        get(source, tmp_path, attempts=1)
    assert nothing_accepted(tmp_path)
    server.url("a.bin", server.answer(BODY))
    assert get(source, tmp_path).read_bytes() == BODY
    assert ranges(server)[-1] == "bytes=30000-"


def test_a_server_that_ignores_ranges_starts_again(server, tmp_path):
    url = server.url("a.bin", server.answer(BODY, drop_after=30_000), server.answer(BODY, ranges=False))
    assert get(Source(url), tmp_path).read_bytes() == BODY


@pytest.mark.parametrize(
    ("etag", "headers", "continued"),
    [
        (None, {}, None),
        ('W/"weak"', {}, None),
        (None, {"Last-Modified": "Tue, 14 Feb 2017 14:27:11 GMT"}, "Tue, 14 Feb 2017 14:27:11 GMT"),
    ],
)
def test_only_a_file_that_can_be_told_to_be_the_same_is_continued(server, tmp_path, etag, headers, continued):
    dropped = server.answer(BODY, etag=etag, headers=headers, drop_after=30_000)
    url = server.url("a.bin", dropped, server.answer(BODY, etag=etag, headers=headers, if_range=False))
    assert get(Source(url), tmp_path).read_bytes() == BODY
    assert server.requests[1][1].get("If-Range") == continued
    assert (ranges(server)[1] is not None) == (continued is not None)


@pytest.mark.parametrize("if_range", [True, False])
def test_a_file_that_changed_between_two_attempts_is_never_mixed(server, tmp_path, if_range):
    url = server.url(
        "a.bin", server.answer(BODY, drop_after=30_000), server.answer(OTHER, etag='"two"', if_range=if_range)
    )
    assert get(Source(url), tmp_path).read_bytes() == OTHER


def test_a_range_that_starts_elsewhere_is_not_appended(server, tmp_path):
    url = server.url("a.bin", server.answer(BODY, drop_after=30_000), server.answer(BODY, shift=5), server.answer(BODY))
    assert get(Source(url), tmp_path).read_bytes() == BODY
    assert ranges(server) == [None, "bytes=30000-", None]


@pytest.mark.parametrize("part", [BODY, BODY + b"more"])
def test_a_part_that_is_whole_or_too_long_ends_well(server, tmp_path, part):
    source = Source(server.url("a.bin", server.answer(BODY)), checksum=SHA256)
    (tmp_path / "a.bin.part").write_bytes(part)
    assert get(source, tmp_path).read_bytes() == BODY


def test_a_part_of_unknown_origin_is_not_continued(server, tmp_path):
    source = Source(server.url("a.bin", server.answer(BODY)))
    (tmp_path / "a.bin.part").write_bytes(b"unknown")
    (tmp_path / "a.bin.part.json").write_text("{ not json")
    assert get(source, tmp_path).read_bytes() == BODY
    assert ranges(server) == [None]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_file_that_is_always_cut_short_is_given_up_and_not_accepted(server, tmp_path, chunked):
    source = Source(server.url("a.bin", server.answer(BODY, drop_after=500, chunked=chunked)))
    with pytest.raises(DataError, match=r"a\.bin: connection lost .*gave up"):
        get(source, tmp_path)
    assert nothing_accepted(tmp_path)
    assert len(server.requests) == 3  # one byte more each time would have gone on


def test_a_size_other_than_known_is_refused_before_the_download(server, tmp_path):
    source = Source(server.url("a.bin", server.answer(BODY)), size=len(BODY) + 1)
    with pytest.raises(DataError, match=r"a\.bin: 102400 bytes, expected 102401"):
        get(source, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [None, 50_000])
def test_a_body_without_end_is_stopped(server, tmp_path, monkeypatch, size):
    monkeypatch.setattr(download, "LARGEST", 50_000)
    source = Source(server.url("a.bin", server.answer(BODY, chunked=True)), size=size)
    with pytest.raises(DataError, match="more than 50000 bytes"):
        get(source, tmp_path)
    assert nothing_accepted(tmp_path)


def test_corrupted_bytes_are_removed_and_not_accepted(server, tmp_path):
    corrupted = BODY[:999] + b"\0" + BODY[1000:]
    source = Source(server.url("a.bin", server.answer(corrupted)), checksum=SHA256)
    with pytest.raises(DataError, match=r"sha256 [0-9a-f]{64}, expected [0-9a-f]{64} \(removed\)"):
        get(source, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_redirect_to_the_file_is_followed(server, tmp_path):
    target = server.url("elsewhere/b.bin", server.answer(BODY))
    source = Source(server.url("a.bin", server.answer(status=302, headers={"Location": target})), checksum=SHA256)
    assert get(source, tmp_path).name == "a.bin"


@pytest.mark.parametrize("target", ["a.bin", "ftp://127.0.0.1/a", "file:///etc/passwd", "data:,a", "gopher://x/"])
def test_a_redirect_in_a_circle_or_to_another_scheme_is_refused(server, tmp_path, target):
    source = Source(server.url("a.bin", server.answer(status=302, headers={"Location": target})))
    with pytest.raises(DataError, match=r"a\.bin: redirects"):
        get(source, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert len(server.requests) < 12


def test_a_redirect_never_gives_up_encryption():
    handler, request = download._Redirects(), Request("https://example.org/a")
    with pytest.raises(DataError, match=r"redirects to http://example\.org/a, expected the scheme https"):
        handler.redirect_request(request, None, 302, "Found", {}, "http://example.org/a")
    better = handler.redirect_request(Request("http://example.org/a"), None, 302, "", {}, "https://example.org/a")
    assert better.full_url == "https://example.org/a"


def test_a_server_that_falls_silent_is_left_and_asked_to_continue(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_TIMEOUT", 0.1)
    silent, over = server.answer(BODY, drop_after=30_000), threading.Event()
    silent.then = lambda: over.wait(20)
    source = Source(server.url("a.bin", silent, server.answer(BODY)))
    assert get(source, tmp_path).read_bytes() == BODY
    over.set()
    assert ranges(server) == [None, "bytes=30000-"]


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_file_that_is_not_served_is_asked_for_once(server, tmp_path, status):
    source = Source(server.url("a.bin", server.answer(b"no", status=status)))
    with pytest.raises(DataError, match=rf"a\.bin: {status} .*, expected a file"):
        get(source, tmp_path)
    assert len(server.requests) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_passing_trouble_is_waited_out(server, tmp_path, status):
    waits: list[float] = []
    busy = server.answer(status=status)
    url = server.url(
        "a.bin", busy, server.answer(status=status, headers={"Retry-After": "7"}), busy, server.answer(BODY)
    )
    assert get(Source(url), tmp_path, attempts=5, waits=waits).read_bytes() == BODY
    assert waits == [1, 7, 4]


def test_lasting_trouble_is_given_up(server, tmp_path):
    waits: list[float] = []
    with pytest.raises(DataError, match="503 Service Unavailable; gave up"):
        get(Source(server.url("a.bin", server.answer(status=503))), tmp_path, waits=waits)
    assert waits == [1, 2]


def test_nobody_listening_is_an_error_of_one_line(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DataError, match=r"a\.bin: .*refused.*; gave up") as error:
        get(Source(f"http://127.0.0.1:{port}/a.bin"), tmp_path)
    assert "\n" not in str(error.value)


def test_a_web_page_instead_of_the_file_points_to_from(server, tmp_path):
    page = server.answer(b"<html>please log in</html>", kind="text/html; charset=utf-8")
    with pytest.raises(DataError, match=r"a web page \(text/html\), expected the file a\.bin.*--from"):
        get(Source(server.url("a.bin", page)), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_bytes_that_the_server_compressed_are_refused(server, tmp_path):
    encoded = server.answer(BODY, headers={"Content-Encoding": "gzip"})
    with pytest.raises(DataError, match="content encoding gzip, expected none"):
        get(Source(server.url("a.bin", encoded)), tmp_path)
    assert server.requests[0][1]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/a.bin", "data:,a"])
def test_only_the_web_is_asked(tmp_path, url):
    with pytest.raises(DataError, match="unknown url type"):
        get(Source(url, name="a.bin"), tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said(server, tmp_path):
    (tmp_path / "a.bin.part").symlink_to("/dev/full")
    with pytest.raises(DataError, match=r"a\.bin\.part: No space left on device after 0 bytes"):
        get(Source(server.url("a.bin", server.answer(BODY))), tmp_path)
    assert nothing_accepted(tmp_path)


def test_a_disk_that_is_too_small_is_said_before_the_download(server, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 0, 10))
    with pytest.raises(DataError, match="10 bytes free, expected 102400"):
        get(Source(server.url("a.bin", server.answer(BODY))), tmp_path)


@pytest.mark.slow
def test_a_killed_download_is_continued(server, tmp_path):
    forever = threading.Event()
    source = Source(
        server.url("a.bin", server.answer(BODY, drop_after=50_000, then=lambda: forever.wait(20)), server.answer(BODY))
    )
    program = f"from fetching.download import *; fetch(Source({source.url!r}), Path({str(tmp_path)!r}))"
    scripts = Path(download.__file__).parents[1]
    process = subprocess.Popen([sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": str(scripts)})
    part = tmp_path / "a.bin.part"
    for _ in range(1000):
        if part.exists() and part.stat().st_size == 50_000:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    forever.set()
    assert part.stat().st_size == 50_000
    assert nothing_accepted(tmp_path)
    assert get(source, tmp_path).read_bytes() == BODY
    assert ranges(server) == [None, "bytes=50000-"]


def test_an_unknown_kind_of_checksum_is_named():
    with pytest.raises(ValueError, match="crc32:1234"):
        Source("http://example.org/a", checksum="crc32:1234")
