"""What is read: folders with those inside, chosen channels, planes of stacks; and never over what is written."""

import os

import numpy as np
import pytest
import tifffile

from indeed.cli.paths import check_apart
from indeed.data.folders import pictures_in
from indeed.data.image_files import read_image, write_image
from indeed.data.picture import Picture
from indeed.networks.checkpoint import save_checkpoint
from indeed.networks.inference_network import InDeed, network_preset


@pytest.fixture
def mvtec(tmp_path, random_picture):
    """Folder with images of equal names in the folders inside it, and hidden files."""
    for kind in ("good", "broken"):
        (tmp_path / "test" / kind).mkdir(parents=True)
        write_image(tmp_path / "test" / kind / "000.png", random_picture(24, 24, 1))
        (tmp_path / "test" / kind / "._000.png").write_bytes(b"\0\5\x16\7")
    return tmp_path / "test"


def test_folders_are_searched_and_their_structure_is_kept(run, tmp_path, mvtec, contents):
    out = mvtec / "out"  # inside what is read, and left out
    skipped = f"indeed: {mvtec}: skipped 2 hidden, such as broken/._000.png"
    for _ in range(2):
        assert run("denoise", mvtec, "-o", out) == (0, [], [skipped])
        assert contents(out) == {"good", "broken", "good/000.png", "broken/000.png"}
    code, _, _ = run("adapt", mvtec, "-o", tmp_path / "a", "--preset", "paper", "--steps", 1)
    assert (code, (tmp_path / "a" / "broken" / "000.png").exists()) == (0, True)
    code, output, _ = run("detect", mvtec, "-o", tmp_path / "d", "--checkpoint", "parts")
    assert (code, len(output)) == (0, 5)
    assert (tmp_path / "d" / "broken" / "000_map.npy").exists()
    assert run("evaluate", mvtec / "good")[1][1].startswith("000.png")


def test_our_own_pictures_are_skipped_where_a_folder_is_read(run, tmp_path, photo, capsys):
    assert run("decompose", photo, "-o", tmp_path / "in")[0] == 0
    assert run("detect", photo, "-o", tmp_path / "found", "--checkpoint", "parts")[0] == 0
    for path in (tmp_path / "found").glob("*.png"):
        os.link(path, tmp_path / "in" / f"copy of {path.name}")
    assert pictures_in(tmp_path / "in") == []
    assert "skipped 6 of our own making, such as L.png" in capsys.readouterr().err
    os.link(photo, tmp_path / "in" / "photo.png")
    assert pictures_in(tmp_path / "in") == [tmp_path / "in" / "photo.png"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["decompose", "L.png", "-o", "."], "L.png: would overwrite its input"),
        (["decompose", "in/l.png", "-o", "in"], "in/L.png: would overwrite its input"),
        (["decompose", "link.png", "-o", "."], "L.png: would overwrite its input"),
        (["evaluate", "in", "--csv", "in/l.png"], "in/l.png: would overwrite its input"),
        (["evaluate", "in", "--csv", "out.png"], "would overwrite its input"),
        (["evaluate", "in", "--csv", "m.safetensors", "--checkpoint", "m.safetensors"], "would overwrite its input"),
        (["evaluate", "in", "--csv", "in"], "in: is a folder"),
        (["denoise", "in/l.png", "-o", "out.png"], "would overwrite its input"),
        (["denoise", "in", "-o", "in"], "would overwrite its input"),
        (["adapt", "in", "-o", "in"], "would overwrite its input"),
        (["detect", "L.png", "-o", "in", "--good", "in"], "in: holds images of the run"),
        (["detect", "in", "-o", "in"], "in: holds images of the run"),
        (["train", "--start", "m.safetensors", "-o", "m.safetensors"], "would overwrite its input"),
        (["train", "-o", "in"], "in: is a folder, expected a file"),
        (["denoise", "-", "-o", "o.png"], "-: is standard input or a device"),
        (["info", "/dev/stdin"], "/dev/stdin: is standard input or a device"),
        (["denoise", "L.png", "-o", "o.png", "--channels", "1,2"], "channels: got '1,2'"),
        (["denoise", "L.png", "-o", "o.png", "--channels", "1"], "expected TIFF where channels are chosen"),
        (["denoise", "L.png", "-o", "o.png", "--page", "2"], "page: got 2, expected 1 to 1"),
    ],
)
def test_what_is_read_is_never_written(
    run, tmp_path, monkeypatch, checkpoints, random_picture, contents, arguments, words
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "L.png", random_picture(24, 24, 1))
    write_image(tmp_path / "in" / "l.png", random_picture(24, 24, 1))
    (tmp_path / "link.png").symlink_to("L.png")
    os.link(tmp_path / "in" / "l.png", tmp_path / "out.png")
    (tmp_path / "m.safetensors").write_bytes(checkpoints["denoise_grey"].read_bytes())
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    code, _, errors = run(*arguments)
    assert (code, len(errors)) == (2, 1)
    assert words in errors[0]
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == before


def test_files_are_apart_where_they_are(tmp_path):
    check_apart([tmp_path / "a.png"], [tmp_path / "b.png", tmp_path / "c" / "a.png"])


def test_channels_of_unspecified_meaning_are_chosen(run, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 65536, (24, 24, 4), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=[0], planarconfig="contig")
    code, _, errors = run("denoise", tmp_path / "a.tif", "-o", tmp_path / "b.tif")
    assert (code, len(errors)) == (2, 1)
    for text, places in (("4", [3]), ("3,2,4", [2, 1, 3])):
        assert run("denoise", tmp_path / "a.tif", "-o", tmp_path / "b.tif", "--channels", text) == (0, [], [])
        write_image(tmp_path / "c.tif", Picture(np.ascontiguousarray(pixels[..., places])))
        assert run("denoise", tmp_path / "c.tif", "-o", tmp_path / "d.tif") == (0, [], [])
        assert np.array_equal(read_image(tmp_path / "b.tif").pixels, read_image(tmp_path / "d.tif").pixels)


def test_a_stack_is_worked_off_plane_by_plane_or_one_of_them(run, tmp_path, contents):
    planes = np.random.default_rng(0).integers(0, 65536, (3, 24, 24), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "s.tif", planes, photometric="minisblack", imagej=True, metadata={"axes": "ZYX"})
    assert run("denoise", tmp_path / "s.tif", "-o", tmp_path / "o.tif") == (0, [], [])
    denoised = tifffile.imread(tmp_path / "o.tif")
    assert denoised.shape == planes.shape
    assert run("denoise", tmp_path / "s.tif", "-o", tmp_path / "p.tif", "--page", 2) == (0, [], [])
    assert np.array_equal(read_image(tmp_path / "p.tif").pixels[..., 0], denoised[1])
    dropped = "is written without what the input says besides: the description of ImageJ"
    code, _, errors = run("decompose", tmp_path / "s.tif", "-o", tmp_path / "parts", "--page", 3)
    assert (code, errors) == (0, [f"indeed: {tmp_path / 'parts' / 'L.png'}: {dropped}"])
    assert len(contents(tmp_path / "parts")) == 5
    code, _, errors = run("decompose", tmp_path / "s.tif", "-o", tmp_path / "all")
    assert (code, errors) == (0, [f"indeed: {tmp_path / 'all' / '1' / 'L.png'}: {dropped}"])
    assert {path.name for path in (tmp_path / "all").iterdir()} == {"1", "2", "3"}
    for arguments in (["adapt", "-o"], ["detect", "-o"]):
        code, _, errors = run(arguments[0], tmp_path / "s.tif", "-o", tmp_path / "x")
        assert (code, len(errors)) == (2, 1)
        assert f"{tmp_path / 's.tif'}: holds several pictures" in errors[0]


def test_what_a_stack_says_and_the_result_does_not_is_printed_once(run, tmp_path):
    with tifffile.TiffWriter(tmp_path / "s.tif") as writer:
        for kind in (0, 0, 4):  # two planes and a mask
            pixels = np.full((24, 24), kind == 4) if kind else np.full((24, 24), 40000, np.uint16)
            writer.write(pixels, photometric="minisblack", subfiletype=kind, metadata=None)
    dropped = "is written without what the input says besides: mask"
    assert run("denoise", tmp_path / "s.tif", "-o", tmp_path / "o.tif") == (
        0,
        [],
        [f"indeed: {tmp_path / 'o.tif'}: {dropped}"],
    )


def test_a_network_of_another_task_is_refused_by_every_command(run, tmp_path, photo, checkpoints):
    detector = checkpoints["detect_parts"]
    for arguments in (
        ["denoise", photo, "-o", tmp_path / "o.png"],
        ["adapt", photo, "-o", tmp_path / "out", "--preset", "paper", "--steps", 1],
        ["decompose", photo, "-o", tmp_path / "parts"],
        ["evaluate", photo.parent],
    ):
        code, _, errors = run(*arguments, "--checkpoint", detector)
        assert (code, errors) == (
            2,
            [f"indeed: {photo}: {detector}: got a network of the task 'detect', expected a denoiser"],
        ) or errors == [f"indeed: {detector}: got a network of the task 'detect', expected a denoiser"]
    save_checkpoint(tmp_path / "d.safetensors", InDeed(network_preset("tiny", 1)), {"task": "detect"})
    arguments = ["train", "--preset", "tiny", "--data", "embedded", "--steps", 1]
    code, _, errors = run(*arguments, "-o", tmp_path / "m.safetensors", "--start", tmp_path / "d.safetensors")
    assert code == 2
    assert "got a network of the task 'detect', expected 'denoise'" in errors[0]


def test_a_training_is_not_resumed_on_other_data(run, tmp_path, random_picture):
    (tmp_path / "in").mkdir()
    for name in "ab":
        write_image(tmp_path / "in" / f"{name}.png", random_picture(40, 40, 1))
    arguments = ["train", "--preset", "tiny", "--data", tmp_path / "in", "--steps", 4, "--stop-at", 2]
    arguments += ["-o", tmp_path / "m.safetensors"]
    assert run(*arguments)[0] == 0
    assert run(*arguments, "--resume")[0] == 0
    write_image(tmp_path / "in" / "a.png", random_picture(41, 40, 1))
    code, _, errors = run(*arguments, "--resume")
    assert code == 2
    assert "got another content" in errors[0]
