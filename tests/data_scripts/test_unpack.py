"""No archive decides where a byte goes, and none is taken for whole when it is not."""

import base64
import gzip
import io
import os
import re
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest
from fetching import unpack as module
from fetching.unpack import unpack, whole_folder

from indeed.data.benchmarks import DataError

CONTENT = os.urandom(2000)
ENCRYPTED = base64.b64decode(
    "UEsDBAoACQAAAPlBdl1k8P/tGwAAAA8AAAAJAAAATWNNLzEudGlmIXxcuHBx8QX5RdW/PDjnaiywB52Cima7DT01UEsHCGTw/+0bAAAADwAAAFBLAQIeAwoACQAAAPlBdl1k8P/tGwAAAA8AAAAJAAAAAAAAAAEAAACkgQAAAABNY00vMS50aWZQSwUGAAAAAAEAAQA3AAAAUgAAAAAA"
)


def landing(path: str) -> str | None:
    match = re.fullmatch(r"top/(.+\.png)", path, flags=re.IGNORECASE)
    return match[1] if match else None


def make_zip(path: Path, *members: tuple[str, bytes] | tuple[zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def make_tar(path: Path, *members: tuple[str | tarfile.TarInfo, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def tar_special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zip_special(name: str, kind: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (kind | 0o777) << 16
    return info


make = pytest.mark.parametrize("make", [make_zip, make_tar])


@pytest.fixture
def folder(tmp_path):
    """An empty folder; nothing may appear beside it."""
    path = tmp_path / "deep" / "folder"
    path.mkdir(parents=True)
    return path


def refused(archive: Path, folder: Path, message: str, password: str | None = None) -> None:
    before = sorted(path for path in archive.parent.rglob("*") if folder not in path.parents)
    with pytest.raises(DataError, match=message) as error:
        unpack(archive, folder, landing, password)
    assert str(error.value).startswith(str(archive))
    assert "\n" not in str(error.value)
    assert sorted(path for path in archive.parent.rglob("*") if folder not in path.parents) == before


@make
def test_only_the_wanted_files_land_and_without_their_folders(tmp_path, folder, make):
    members = [("top/", b""), ("top/a.png", CONTENT), ("top/readme.txt", b"no"), ("other/b.png", b"no")]
    archive = make(tmp_path / "archive", *(members if make is make_zip else members[1:]))
    assert unpack(archive, folder, landing) == 1
    assert [path.name for path in folder.iterdir()] == ["a.png"]
    assert (folder / "a.png").read_bytes() == CONTENT


@make
def test_wanted_files_land_in_the_folders_that_the_caller_names(tmp_path, folder, make):
    archive = make(tmp_path / "archive", ("top/b/a.png", CONTENT), ("top/a.png", b"another"))
    assert unpack(archive, folder, landing) == 2
    assert (folder / "b" / "a.png").read_bytes() == CONTENT
    assert (folder / "a.png").read_bytes() == b"another"


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_a_tar_is_unpacked_however_it_is_compressed_and_refused_if_cut(tmp_path, folder, mode):
    archive = make_tar(tmp_path / "archive", ("top/a.png", CONTENT), mode=mode)
    assert unpack(archive, folder, landing) == 1
    assert (folder / "a.png").read_bytes() == CONTENT
    archive.write_bytes(archive.read_bytes()[:1500])
    (folder / "a.png").unlink()
    refused(archive, folder, "damaged archive")


@make
@pytest.mark.parametrize(
    "name", ["../a.png", "top/../../a.png", "/etc/a.png", "..\\a.png", "\\a.png", "C:/a.png", "c:a.png"]
)
def test_a_path_that_leaves_its_folder_condemns_the_archive(tmp_path, folder, make, name):
    archive = make(tmp_path / "archive", (name, CONTENT), ("top/a.png", CONTENT))
    refused(archive, folder, "leaves its folder")


@make
@pytest.mark.parametrize(
    "name", ["top/.hidden.png", "top/a b.png", "top/sub/.a.png", "top/sub//a.png", "top/-rf.png", "top/ä.png"]
)
def test_a_wanted_name_is_plain(tmp_path, folder, make, name):
    refused(make(tmp_path / "archive", (name, CONTENT)), folder, "expected plain names")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE])
def test_a_wanted_file_of_a_tar_is_neither_link_nor_device_nor_folder(tmp_path, folder, kind):
    archive = make_tar(tmp_path / "a.tgz", (tar_special("top/a.png", kind, "/etc/passwd"), b""))
    refused(archive, folder, "is a link, folder or device, expected a file")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_a_wanted_file_of_a_zip_is_neither_link_nor_device(tmp_path, folder, kind):
    archive = make_zip(tmp_path / "a.zip", (zip_special("top/a.png", kind), b"/etc/passwd"))
    refused(archive, folder, "is a link, folder or device, expected a file")


def test_a_link_that_nobody_wants_is_not_made_and_leads_nowhere(tmp_path, folder):
    outside = tmp_path / "outside"
    outside.mkdir()
    link = tar_special("top", tarfile.SYMTYPE, str(outside))
    assert unpack(make_tar(tmp_path / "a.tgz", (link, b""), ("top/a.png", CONTENT)), folder, landing) == 1
    assert not list(outside.iterdir())
    assert (folder / "a.png").read_bytes() == CONTENT


@make
@pytest.mark.parametrize("second", ["top/a.png", "top/A.PNG"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_never_land_in_one_file(tmp_path, folder, make, second):
    archive = make(tmp_path / "archive", ("top/a.png", CONTENT), (second, b"another"))
    refused(archive, folder, "are the same file")


@make
def test_a_wanted_bomb_is_refused_before_it_is_written(tmp_path, folder, make):
    refused(make(tmp_path / "archive", ("top/a.png", bytes(3_000_000))), folder, "unpacks to more than 20 times")
    assert not list(folder.iterdir())


def test_a_bomb_that_is_only_skipped_is_refused_too(tmp_path, folder):
    archive = make_tar(tmp_path / "a.tgz", ("top/bomb.txt", bytes(3_000_000)), ("top/a.png", CONTENT))
    refused(archive, folder, "unpacks to more than 20 times")


def test_a_zip_that_lies_about_a_size_is_refused(tmp_path, folder):
    content = os.urandom(5000)
    raw = make_zip(tmp_path / "a.zip", ("top/a.png", content)).read_bytes()
    lie = raw.replace((5000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    (tmp_path / "a.zip").write_bytes(lie.replace(zlib.crc32(content).to_bytes(4, "little"), bytes(4)))
    refused(tmp_path / "a.zip", folder, "damaged archive|longer than")


@make
def test_an_archive_of_too_many_members_is_refused(tmp_path, folder, make, monkeypatch):
    monkeypatch.setattr(module, "MAX_MEMBERS", 3)
    archive = make(tmp_path / "archive", *[(f"other/{number}", b"x") for number in range(4)])
    refused(archive, folder, "more than 3 members")


@make
@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_a_truncated_archive_is_refused(tmp_path, folder, make, share):
    archive = make(tmp_path / "archive", *[(f"top/{number}.png", os.urandom(3000)) for number in range(5)])
    raw = archive.read_bytes()
    archive.write_bytes(raw[: int(len(raw) * share)])
    refused(archive, folder, "damaged archive")


@make
def test_a_changed_byte_is_noticed(tmp_path, folder, make):
    archive = make(tmp_path / "archive", ("top/a.png", CONTENT))
    raw = bytearray(archive.read_bytes())
    raw[raw.find(CONTENT[500:520]) + 3] ^= 1
    archive.write_bytes(raw)
    refused(archive, folder, "damaged archive")


def test_a_gzip_is_read_to_the_checksum_at_its_end(tmp_path, folder):
    archive = make_tar(tmp_path / "a.tgz", ("top/a.png", CONTENT))
    raw = bytearray(gzip.compress(gzip.decompress(archive.read_bytes()) + bytes(200_000)))  # padding, which tar allows
    raw[-8] ^= 1
    archive.write_bytes(raw)
    refused(archive, folder, "damaged archive .*CRC")


@pytest.mark.parametrize("content", [b"", b"<html>log in</html>", b"Rar!\x1a\x07\x00", b"PK"])
def test_what_is_no_archive_is_said_by_its_first_bytes(tmp_path, folder, content):
    (tmp_path / "a.zip").write_bytes(content)
    refused(tmp_path / "a.zip", folder, r"begins with .*, expected a zip or tar archive")


def test_gzip_that_holds_no_tar_is_refused(tmp_path, folder):
    (tmp_path / "a.tgz").write_bytes(gzip.compress(CONTENT))
    refused(tmp_path / "a.tgz", folder, "damaged archive")


def test_a_published_password_opens_an_encrypted_archive(tmp_path, folder):
    archive = tmp_path / "McM.zip"
    archive.write_bytes(ENCRYPTED)
    assert unpack(archive, folder, lambda path: path.removeprefix("McM/"), "McM_CDM") == 1
    assert (folder / "1.tif").read_text() == "eighteen images"


@pytest.mark.parametrize("password", [None, "wrong"])
def test_without_the_password_it_is_an_error_of_one_line(tmp_path, folder, password):
    archive = tmp_path / "McM.zip"
    archive.write_bytes(ENCRYPTED)
    with pytest.raises(DataError, match=r"McM\.zip: cannot be read \(.*password"):
        unpack(archive, folder, lambda path: path.removeprefix("McM/"), password)


def test_a_folder_appears_when_it_is_whole(tmp_path):
    target = tmp_path / "a" / "set"
    with whole_folder(target) as temporary:
        (temporary / "1.png").write_bytes(b"1")
        assert not target.exists()
    assert [path.name for path in target.parent.iterdir()] == ["set"]


def test_a_folder_that_fails_vanishes_with_what_a_killed_one_left(tmp_path):
    (tmp_path / ".set.partial").mkdir()
    (tmp_path / ".set.partial" / "old.png").write_bytes(b"half")
    emptied = []

    def fail() -> None:
        with whole_folder(tmp_path / "set") as temporary:
            emptied.append(not list(temporary.iterdir()))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert emptied == [True]
    assert not list(tmp_path.iterdir())
