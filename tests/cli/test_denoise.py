"""Denoise writes L + S in the depth of the input; a fault is one line, without a trace of a file."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indeed.cli import models
from indeed.data.image_files import read_image, write_image
from indeed.networks.checkpoint import CheckpointError, load_checkpoint


@pytest.mark.parametrize(
    ("suffix", "dtype", "alpha", "channels", "size"),
    [  # each pair of values of two columns that a file can have; test_files.py has all combinations
        (".jpg", "uint8", False, 1, (1, 1)),
        (".jpg", "uint8", False, 3, (1, 30)),
        (".jpg", "uint8", False, 1, (33, 21)),
        (".png", "uint8", False, 3, (1, 1)),
        (".png", "uint16", True, 1, (1, 30)),
        (".png", "uint16", False, 3, (33, 21)),
        (".png", "uint8", True, 3, (33, 21)),
        (".tif", "uint16", True, 3, (1, 1)),
        (".tif", "uint8", False, 1, (1, 30)),
        (".tif", "uint16", False, 1, (33, 21)),
    ],
)
def test_denoise_keeps_size_depth_colours_and_alpha(
    run, tmp_path, random_picture, suffix, dtype, alpha, channels, size
):
    picture = random_picture(*size, channels, dtype, alpha)
    write_image(tmp_path / f"a{suffix}", picture)
    assert run("denoise", tmp_path / f"a{suffix}", "-o", tmp_path / f"b{suffix}") == (0, [], [])
    result = read_image(tmp_path / f"b{suffix}")
    assert result.pixels.shape == picture.pixels.shape
    assert result.pixels.dtype == picture.pixels.dtype
    assert alpha is False or np.array_equal(result.alpha, picture.alpha)


def test_denoise_writes_low_rank_plus_sparse(run, photo, tmp_path, checkpoints):
    from indeed.networks.whole_image import decompose

    run("denoise", photo, "-o", tmp_path / "out.png")
    parts = decompose(load_checkpoint(checkpoints["denoise_color"])[0], read_image(photo).tensor())
    expected = ((parts.L + parts.S).clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()
    assert np.abs(read_image(tmp_path / "out.png").pixels - expected).max() <= 1


def test_denoise_of_palette_and_one_bit_images(run, tmp_path, contents):
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).convert("P").save(tmp_path / "palette.png")
    Image.fromarray(np.eye(8, dtype=bool)).save(tmp_path / "bit.png")
    code, _, errors = run("denoise", tmp_path / "palette.png", tmp_path / "bit.png", "-o", tmp_path / "out")
    assert (code, errors) == (0, [])
    assert contents(tmp_path / "out") == {"palette.png", "bit.png"}


def test_a_batch_goes_on_after_each_fault_and_reports_it_by_one_line(run, tmp_path, photo, contents, random_picture):
    import tifffile

    write_image(tmp_path / "grey.png", random_picture(20, 20, 1))
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "cut.png").write_bytes(photo.read_bytes()[:500])
    write_image(tmp_path / "whole.jpg", random_picture(64, 64))
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:800])
    tifffile.imwrite(tmp_path / "nan.tif", np.full((8, 8), np.nan, np.float32))
    bad = ["text.png", "empty.png", "folder.png", "cut.png", "cut.jpg", "nan.tif", "missing.png"]
    images = [photo, *(tmp_path / name for name in bad), tmp_path / "grey.png"]
    code, output, errors = run("denoise", *images, "-o", tmp_path / "out")
    assert (code, output) == (2, [])
    assert contents(tmp_path / "out") == {"photo.png", "grey.png"}
    assert len(errors) == len(bad)
    for name, line in zip(bad, errors, strict=True):
        assert line.startswith(f"indeed: {tmp_path / name}: ")


def test_denoise_never_overwrites_its_input(run, photo):
    before = photo.read_bytes()
    for out in (photo, photo.parent):
        code, _, errors = run("denoise", photo, "-o", out)
        assert (code, len(errors)) == (2, 1)
        assert "would overwrite its input" in errors[0]
    assert photo.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["photo.png", "-o", "out.gif"], "ends in '.gif'"),
        (["photo.png", "alpha.png", "-o", "out.png"], "is the name of one image, expected a folder"),
        (["photo.png", "none/photo.png", "-o", "out"], "several images have the same name"),
        (["-o", "out"], "images: got none"),
        (["photo.png", "-o", "none/out.png"], "its folder does not exist"),
        (["photo.png", "-o", "out.png", "--device", "abacus"], "device: got 'abacus', expected one that is available"),
        (["photo.png", "-o", "out.png", "--overlap", "16"], "overlap: got 16"),
        (["photo.png", "-o", "out.png", "--checkpoint", "photo.png"], "not a whole safetensors file"),
        (["photo.png", "-o", "out.png", "--checkpoint", "none"], "none: no such file"),
        (["photo.png", "-o", "out.png", "--add-noise", "-1"], "sigma: got"),
        (["alpha.png", "-o", "out.jpg"], "JPEG holds no alpha"),
    ],
)
def test_a_wrong_call_of_denoise_is_one_line(
    run, photo, tmp_path, monkeypatch, arguments, words, contents, random_picture
):
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "alpha.png", random_picture(8, 8, alpha=True))
    code, _, errors = run("denoise", *arguments)
    assert (code, len(errors)) == (2, 1)
    assert words in errors[0]
    assert contents(tmp_path) == {"photo.png", "alpha.png"}


def test_a_network_for_grey_refuses_colour(run, photo, tmp_path, checkpoints):
    code, _, errors = run("denoise", photo, "-o", tmp_path / "o.png", "--checkpoint", checkpoints["denoise_grey"])
    assert code == 2
    assert "got a colour image, expected grey ones" in errors[0]


def test_a_missing_shipped_checkpoint_is_one_line(run, photo, tmp_path, monkeypatch):
    def absent(name: str) -> Path:
        raise CheckpointError(f"{name}: the shipped checkpoint is missing")

    monkeypatch.setattr(models, "shipped_checkpoint", absent)
    code, _, errors = run("denoise", photo, "-o", tmp_path / "out.png")
    assert code == 2
    assert errors == [f"indeed: {photo}: denoise_color: the shipped checkpoint is missing"]


def test_added_noise_depends_on_the_seed_alone(run, photo, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run("denoise", photo, "-o", tmp_path / f"{name}.png", "--add-noise", 50, "--seed", seed)
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b
    assert a != c


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_one_line(run, photo, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    code, _, errors = run("denoise", photo, "-o", tmp_path / "locked" / "out.png")
    assert code == 2
    assert errors[0].endswith("permission denied")
