"""A public set is there, whole and verified, or it is not there."""

import csv
import hashlib
import io
import shutil
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from fetching import public_sets
from fetching.download import Source, fetch
from fetching.public_sets import PublicSet, centre_crops, command, obtain, verify
from PIL import Image

from indeed.data.benchmarks import SETS, DataError, benchmark

ARCHIVE = "repository-1.zip"


def png(seed: int, width: int = 12, height: int = 10) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


IMAGES = {f"{number}.png": png(number) for number in (1, 2, 3)}
SHA256 = {name: hashlib.sha256(content).hexdigest() for name, content in IMAGES.items()}
UNKNOWN = dict.fromkeys(IMAGES)


def zipped(images: Mapping[str, bytes] = IMAGES, folder: str = "repository-1/images", note: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    members = {"repository-1/README.md": note} | {f"{folder}/{name}": content for name, content in images.items()}
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)  # of a fixed date
    return buffer.getvalue()


@pytest.fixture
def root(monkeypatch, tmp_path):
    """Folder of the data sets, in which there is a set named tiny."""
    monkeypatch.setitem(SETS, "tiny", "denoise/test/tiny")
    monkeypatch.setitem(SETS, "tiny_8", "denoise/test/tiny_8")
    return tmp_path / "data"


@pytest.fixture
def tiny(server):
    """What is known about the set; its archive is served, its checksum unknown."""

    def make(raw: bytes | None = None, **changes) -> PublicSet:
        url = server.url(ARCHIVE, server.answer(zipped() if raw is None else raw))
        known = {
            "home": server.address,
            "terms": "Free for all.",
            "sources": (Source(url),),
            "files": SHA256,
            "sizes": frozenset({(12, 10)}),
            "members": r"[^/]+/images/(\d\.png)",
        }
        return PublicSet(name="tiny", **(known | changes))

    return make


def get(public: PublicSet, root: Path, given: Path | None = None) -> Path:
    return obtain(
        public,
        root,
        given,
        accepted=lambda _: True,
        get=partial(fetch, attempts=2, wait=lambda _: None),
    )


def refused(public: PublicSet, root: Path, message: str, given: Path | None = None) -> None:
    with pytest.raises(DataError, match=message) as error:
        get(public, root, given)
    assert "\n" not in str(error.value)
    folder = root / "denoise" / "test"
    assert not folder.exists() or not list(folder.iterdir()), "something was accepted or left"


def test_a_set_lands_whole_where_the_loader_looks(tiny, root, monkeypatch):
    monkeypatch.setenv("INDEED_DATA", str(root))
    folder = get(tiny(), root)
    assert benchmark("tiny") == [folder / name for name in IMAGES]
    assert all(path.read_bytes() == IMAGES[path.name] for path in benchmark("tiny"))
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    assert lines == [f"{checksum}  {name}" for name, checksum in SHA256.items()]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["tiny"]


def test_a_second_call_asks_nobody_and_says_so(tiny, root, server, capsys):
    public = tiny()
    get(public, root)
    capsys.readouterr()
    requests = len(server.requests)
    get(public, root)
    assert len(server.requests) == requests
    says = capsys.readouterr().out
    assert says.count("\n") == 1
    assert says.endswith("are whole; nothing to do\n")


@pytest.mark.parametrize("files", [SHA256, UNKNOWN, {}])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "2.png").write_bytes(IMAGES["1.png"]), r"2\.png: sha256 .*, expected "),
        (lambda folder: (folder / "2.png").unlink(), r"2\.png: missing \(1 of 3 files"),
        (lambda folder: (folder / "4.png").write_bytes(b""), r"4\.png: 1 image\(s\) more than the 3"),
        (lambda folder: (folder / "SHA256SUMS").write_text("nonsense\n"), "expected the output of sha256sum"),
    ],
)
def test_a_set_that_was_changed_afterwards_is_noticed(tiny, root, files, change, message):
    public = tiny(files=files, counts={r"\d\.png": 3})
    change(get(public, root))
    with pytest.raises(DataError, match=message):
        get(public, root)


def test_sums_that_were_changed_with_the_files_are_noticed(tiny, root):
    folder = get(tiny(), root)
    (folder / "2.png").write_bytes(IMAGES["1.png"])
    (folder / "SHA256SUMS").write_text((folder / "SHA256SUMS").read_text().replace(SHA256["2.png"], SHA256["1.png"]))
    with pytest.raises(DataError, match=rf"2\.png has sha256 {SHA256['1.png']}, expected {SHA256['2.png']}"):
        get(tiny(), root)


def test_a_set_that_the_user_put_there_is_verified_against_known_checksums_and_left_as_it_is(tiny, root):
    folder = root / SETS["tiny"]
    folder.mkdir(parents=True)
    for name, content in IMAGES.items():
        (folder / name).write_bytes(content)
    (folder / "notes.txt").write_text("mine")
    get(tiny(), root)
    assert not (folder / "SHA256SUMS").exists()
    (folder / "3.png").write_bytes(IMAGES["1.png"])
    with pytest.raises(DataError, match=r"3\.png: sha256"):
        get(tiny(), root)


def test_a_set_of_unknown_origin_is_never_taken_for_whole(tiny, root):
    (root / SETS["tiny"]).mkdir(parents=True)
    (root / SETS["tiny"] / "1.png").write_bytes(IMAGES["1.png"])
    with pytest.raises(DataError, match=r"has no SHA256SUMS, expected a set that this script wrote.*--from"):
        get(tiny(files=UNKNOWN), root)


@pytest.mark.parametrize(
    ("raw", "files", "message"),
    [
        (zipped({"1.png": IMAGES["1.png"]}), SHA256, r"2\.png: missing \(2 of 3 files are\)"),
        (zipped({"1.png": IMAGES["1.png"]}), {}, r"tiny\.partial: 1 files .*png, expected 3"),
        (zipped(IMAGES | {"4.png": png(4)}), {}, r"tiny\.partial: 4 files .*png, expected 3"),
        (zipped(IMAGES | {"2.png": png(9)}), SHA256, r"2\.png: sha256"),
        (zipped(IMAGES | {"2.png": png(2, 10, 12)}), UNKNOWN, r"2\.png: 10x12 pixels, expected 12x10"),
        (zipped(IMAGES | {"2.png": b"GIF89a no image"}), UNKNOWN, r"2\.png: damaged or not an image"),
        (zipped(IMAGES | {"2.png": IMAGES["2.png"][:200]}), UNKNOWN, r"2\.png: damaged or not an image"),
        (zipped(folder="repository-1/elsewhere"), SHA256, r"1\.png: missing \(3 of 3 files are\)"),
        (zipped(folder="repository-1/../images"), SHA256, "leaves its folder"),
        (zipped()[:-30], SHA256, "damaged archive"),
        (b"<html>please log in</html>", SHA256, r"begins with b'<htm', expected a zip"),
    ],
)
def test_a_tree_that_is_not_as_expected_is_not_accepted(tiny, root, raw, files, message):
    refused(tiny(raw, files=files, counts={r"\d\.png": 3}), root, message)


def test_an_archive_that_turned_out_wrong_is_downloaded_again(tiny, root):
    refused(tiny(zipped()[:-30]), root, "damaged archive")
    get(tiny(), root)


def test_a_published_checksum_is_verified_before_anything_is_unpacked(tiny, root, server):
    url = server.url(ARCHIVE, server.answer(zipped()))
    right, wrong = hashlib.sha1(zipped()).hexdigest(), "0" * 40
    refused(tiny(sources=(Source(url, checksum=f"sha1:{wrong}"),)), root, rf"sha1 {right}, expected {wrong}")
    get(tiny(sources=(Source(url, checksum=f"sha1:{right}"),), files=UNKNOWN), root)
    assert not (root / "checksums.csv").exists()


def test_an_unknown_checksum_is_recorded_at_the_first_download_and_said(tiny, root, capsys):
    public = tiny(files=UNKNOWN)
    get(public, root)
    with (root / "checksums.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    sha256 = hashlib.sha256(zipped()).hexdigest()
    assert rows == [{"url": public.sources[0].url, "bytes": str(len(zipped())), "sha256": sha256}]
    assert f"no checksum was known; recorded sha256 {sha256}" in capsys.readouterr().out


@pytest.mark.parametrize("files", [UNKNOWN, {}])
def test_a_recorded_checksum_is_verified_at_the_next_download(tiny, root, files):
    shutil.rmtree(get(tiny(files=files), root))
    shutil.rmtree(root / "downloads")
    other = zipped(IMAGES | {"2.png": png(7)})
    refused(tiny(other, files=files), root, r"sha256 .*, expected .* as at the first download")
    get(tiny(files=files), root)


def test_an_archive_made_anew_is_judged_by_its_files_where_they_are_known(tiny, root):
    shutil.rmtree(get(tiny(), root))
    shutil.rmtree(root / "downloads")
    get(tiny(zipped(note=b"GitHub compresses differently today")), root)


def test_a_set_that_failed_records_nothing(tiny, root):
    refused(tiny(zipped({"1.png": IMAGES["1.png"]})), root, "missing")
    assert not (root / "checksums.csv").exists()


def test_a_table_of_checksums_that_cannot_be_read_is_named(tiny, root):
    root.mkdir()
    (root / "checksums.csv").write_text("a,b\n1,2\n")
    refused(tiny(), root, r"checksums\.csv: cannot be read")


def test_terms_that_are_not_accepted_stop_before_the_download(tiny, root, server):
    with pytest.raises(DataError, match="tiny: terms not accepted"):
        obtain(tiny(), root, accepted=lambda _: False)
    assert server.requests == []
    assert not root.exists()


@pytest.mark.parametrize("place", ["", "images", "repository-1/images", "somewhere/deep"])
def test_images_that_the_user_has_are_copied_from_wherever_they_lie(tiny, root, server, tmp_path, place):
    given = tmp_path / "mine"
    (given / place).mkdir(parents=True)
    for name, content in IMAGES.items():
        (given / place / name).write_bytes(content)
    (given / "other.png").write_bytes(png(5))
    folder = get(tiny(), root, given)
    assert server.requests == []
    assert sorted(path.name for path in folder.iterdir()) == [*IMAGES, "SHA256SUMS"]
    assert all((given / place / name).exists() for name in IMAGES)


def test_an_archive_that_the_user_has_is_verified_and_left_there(tiny, root, server, tmp_path):
    public = tiny(sources=(Source(f"{server.address}/{ARCHIVE}", size=len(zipped())),))
    (tmp_path / ARCHIVE).write_bytes(zipped() + b"x")
    refused(public, root, rf"{ARCHIVE}: {len(zipped()) + 1} bytes, expected {len(zipped())}", tmp_path)
    (tmp_path / ARCHIVE).write_bytes(zipped())
    get(public, root, tmp_path)
    assert server.requests == []
    assert (tmp_path / ARCHIVE).exists()


def test_a_folder_of_the_user_must_hold_the_whole_set(tiny, root, tmp_path):
    given = tmp_path / "mine"
    refused(tiny(), root, r"mine: not a folder", given)
    given.mkdir()
    refused(tiny(), root, rf"mine: holds nothing of tiny, expected {ARCHIVE} or its 3 files", given)
    (given / "1.png").write_bytes(IMAGES["1.png"])
    refused(tiny(), root, r"2\.png: missing \(2 of 3", given)
    for name, content in IMAGES.items():
        (given / name).write_bytes(content)
    (given / "3.png").write_bytes(IMAGES["1.png"])
    refused(tiny(), root, r"3\.png: sha256", given)
    (given / "3.png").write_bytes(IMAGES["3.png"])
    (given / "again").mkdir()
    (given / "again" / "1.png").write_bytes(IMAGES["1.png"])
    refused(tiny(), root, r"again/1\.png: a second 1\.png beside", given)


def test_names_that_are_not_known_are_made_of_the_paths(tiny, root, tmp_path):
    paths = {f"scene{number}/{kind}.png": png(number) for number in (1, 2) for kind in ("GT", "NOISY")}
    changes = {
        "files": {},
        "counts": {r".*\.png": 4},
        "members": r"repository-1/Data/([^/]+)/(\w+\.png)",
        "lands": r"\1_\2",
    }
    public = tiny(zipped(paths, "repository-1/Data"), **changes)
    names = ["SHA256SUMS", "scene1_GT.png", "scene1_NOISY.png", "scene2_GT.png", "scene2_NOISY.png"]
    folder = get(public, root)
    assert sorted(path.name for path in folder.iterdir()) == names
    verify(public, folder)
    shutil.rmtree(folder)
    with zipfile.ZipFile(io.BytesIO(zipped(paths, "repository-1/Data"))) as archive:
        archive.extractall(tmp_path / "unpacked")
    assert sorted(path.name for path in get(public, root, tmp_path / "unpacked" / "repository-1").iterdir()) == names


TREE = {f"{part}/good/{number}.png": png(number) for part in ("train", "test") for number in (1, 2)}


@pytest.fixture
def tree(tiny):
    """A set whose files lie in folders, checked by whoever will read it."""

    def make(**changes) -> PublicSet:
        known = {
            "folder": "uad/tree",
            "files": {},
            "counts": {r"train/.*": 2, r"test/.*": 2},
            "members": r"repository-1/(\w+/good/\d\.png)",
        }
        return tiny(zipped(TREE, "repository-1"), **(known | changes))

    return make


def test_a_set_of_folders_lands_as_a_tree_and_every_file_of_it_is_verified(tree, root, capsys):
    folder = get(tree(), root)
    assert folder == root / "uad" / "tree"
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")} == set(TREE)
    assert [line.split("  ")[1] for line in (folder / "SHA256SUMS").read_text().splitlines()] == sorted(TREE)
    capsys.readouterr()
    get(tree(), root)
    assert capsys.readouterr().out == f"tiny: 4 files in {folder} are whole; nothing to do\n"
    (folder / "test/good/2.png").write_bytes(png(9))
    with pytest.raises(DataError, match=r"tree/test/good/2\.png: sha256"):
        get(tree(), root)
    (folder / "test/good/2.png").write_bytes(png(2))
    (folder / "test/good/3.png").write_bytes(png(3))
    with pytest.raises(DataError, match=r"test/good/3\.png: 1 image\(s\) more"):
        get(tree(), root)


def test_a_tree_that_the_user_has_is_copied_as_a_tree(tree, root, tmp_path):
    with zipfile.ZipFile(io.BytesIO(zipped(TREE, "repository-1"))) as archive:
        archive.extractall(tmp_path / "mine")
    folder = get(tree(), root, tmp_path / "mine")
    assert all((folder / name).read_bytes() == content for name, content in TREE.items())


def test_an_image_of_a_tree_that_has_another_size_is_named(tree, root):
    with pytest.raises(DataError, match=r"test/good/1\.png: 12x10 pixels, expected 9x9"):
        get(tree(sizes=frozenset({(9, 9)})), root)


def test_what_its_readers_refuse_does_not_land(tree, root):
    def accepts(folder: Path) -> None:
        assert (folder / "train/good/1.png").is_file()
        raise DataError(f"{folder}: no masks")

    with pytest.raises(DataError, match="no masks"):
        get(tree(accepts=accepts), root)
    assert not list((root / "uad").iterdir())


def test_a_set_behind_a_login_is_never_downloaded(tree, root, server, tmp_path):
    message = rf"asks for a login or a form; download {ARCHIVE} there, and say --from its folder"
    with pytest.raises(DataError, match=message):
        get(tree(login=True), root)
    assert server.requests == []
    (tmp_path / ARCHIVE).write_bytes(zipped(TREE, "repository-1"))
    get(tree(login=True), root, tmp_path)
    assert server.requests == []
    assert hashlib.sha256(zipped(TREE, "repository-1")).hexdigest() in (root / "checksums.csv").read_text()


def test_size_and_checksum_are_shown_before_the_download(tiny, root, capsys, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda _: "no")
    url = "http://127.0.0.1/a.zip"
    for source, files, line in (
        (Source(url), UNKNOWN, "1 file(s), size unknown, checksum unknown"),
        (Source(url, size=12_345), SHA256, "1 file(s), 12,345 bytes\n"),
        (Source(url, size=12_345, checksum="md5:0"), UNKNOWN, "1 file(s), 12,345 bytes\n"),
    ):
        assert command(tiny(sources=(source,), files=files), argv=["--root", str(root)]) == 2
        assert line in capsys.readouterr().out


def test_images_served_one_by_one_are_a_set_too(tiny, root, server):
    sources = tuple(Source(server.url(name, server.answer(IMAGES[name]))) for name in IMAGES)
    folder = get(tiny(sources=sources, members=""), root)
    assert sorted(path.name for path in folder.iterdir()) == [*IMAGES, "SHA256SUMS"]


def test_what_a_killed_call_left_is_not_taken_over(tiny, root):
    half = root / "denoise" / "test" / ".tiny.partial"
    half.mkdir(parents=True)
    (half / "9.png").write_bytes(b"half")
    folder = get(tiny(), root)
    assert not half.exists()
    assert not (folder / "9.png").exists()


def test_one_process_at_a_time_works_on_a_set(tiny, root):
    pytest.importorskip("fcntl")
    public = tiny()
    with public_sets._alone(root / "downloads" / f".{ARCHIVE}.lock"):
        refused(public, root, "another process works on this set")
    get(public, root)


def test_centre_crops_are_the_middle_of_the_images(tiny, root, capsys):
    public = tiny(crop=8)
    folder = get(public, root)
    crops = centre_crops(public, root)
    for name in IMAGES:
        whole, crop = (np.asarray(Image.open(path / name)) for path in (folder, crops))
        np.testing.assert_array_equal(crop, whole[1:9, 2:10])
    centre_crops(public, root)
    assert capsys.readouterr().out.endswith("nothing to do\n")
    (crops / "1.png").write_bytes(IMAGES["1.png"])
    with pytest.raises(DataError, match=r"1\.png: sha256"):
        centre_crops(public, root)


def test_an_image_smaller_than_its_crop_is_named(tiny, root):
    public = tiny(crop=8, files={}, counts={r".*\.png": 3}, sizes=frozenset())
    get(tiny(zipped(IMAGES | {"2.png": png(2, 7, 9)}), files={}, counts={r".*\.png": 3}, sizes=frozenset()), root)
    with pytest.raises(DataError, match=r"2\.png: 7x9 pixels, expected at least 8x8"):
        centre_crops(public, root)
    assert not (root / SETS["tiny_8"]).exists()


def test_the_command_brings_verifies_crops_and_cleans_up(tiny, root, capsys):
    public = tiny(crop=8)
    assert command(public, argv=["--root", str(root), "--yes", "--crop"]) == 0
    assert "Free for all." in capsys.readouterr().out
    assert [path.name for path in (root / "downloads").iterdir() if not path.name.startswith(".")] == []
    assert (root / SETS["tiny_8"] / "1.png").exists()
    assert command(public, argv=["--root", str(root)]) == 0
    assert capsys.readouterr().out.count("nothing to do") == 1


def test_the_command_keeps_the_archive_if_asked(tiny, root):
    assert command(tiny(), argv=["--root", str(root), "--yes", "--keep"]) == 0
    assert (root / "downloads" / ARCHIVE).read_bytes() == zipped()


def test_the_command_looks_where_the_loader_looks(tiny, root, monkeypatch):
    monkeypatch.setenv("INDEED_DATA", str(root))
    assert command(tiny(), argv=["--yes"]) == 0
    assert len(benchmark("tiny")) == 3


@pytest.mark.parametrize(("typed", "code"), [("y", 0), ("YES ", 0), ("", 2), ("no", 2), (None, 2)])
def test_the_command_asks_once_and_takes_only_yes(tiny, root, monkeypatch, typed, code):
    def answer(_):
        if typed is None:
            raise EOFError
        return typed

    monkeypatch.setattr("builtins.input", answer)
    assert command(tiny(), argv=["--root", str(root)]) == code
    assert (root / SETS["tiny"]).exists() == (code == 0)


def test_the_command_ends_with_2_and_one_line(tiny, root, capsys, tmp_path):
    assert command(tiny(b"no archive"), argv=["--root", str(root), "--yes"]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert ARCHIVE in message
    (tmp_path / "file").write_text("in the way")
    assert command(tiny(), argv=["--root", str(tmp_path / "file"), "--yes"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_command_can_be_stopped(tiny, root, capsys):
    def stopped(source, folder):
        raise KeyboardInterrupt

    assert command(tiny(), argv=["--root", str(root), "--yes"], get=stopped) == 130
    assert "run again to continue" in capsys.readouterr().err
    assert not list((root / "denoise" / "test").iterdir())
