"""Decompose writes parts that add up to the image, all of them or none."""

import errno
import os

import numpy as np
import pytest
from PIL import Image

from indeed.cli import decompose as decompose_command
from indeed.data.image_files import read_image, write_image


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (37, 50)])
def test_decompose_writes_parts_that_add_up_to_the_image(run, tmp_path, channels, size, contents, random_picture):
    picture = random_picture(*size, channels)
    write_image(tmp_path / "a.png", picture)
    code, output, errors = run("decompose", tmp_path / "a.png", "-o", tmp_path / "out")
    assert (code, errors) == (0, [])
    assert contents(tmp_path / "out") == {"L.png", "S.png", "N.png", "parts.npz", "panel.png"}
    with np.load(tmp_path / "out" / "parts.npz") as parts:
        total = parts["L"] + parts["S"] + parts["N"]
        assert np.array_equal(np.rint(total * 255), picture.pixels.squeeze(2) if channels == 1 else picture.pixels)
        tiles = len(parts["tile_tops"]) * len(parts["tile_lefts"])
        assert parts["A_mean"].shape == parts["B_log_variance"].shape == (tiles, channels, 16, 4)
        assert parts["S_mean"].shape == parts["S_log_variance"].shape == (tiles, channels, 16, 16)
        for name, line in zip("SN", output, strict=True):
            shown = read_image(tmp_path / "out" / f"{name}.png").pixels.reshape(parts[name].shape) / 255
            limit = parts[f"{name}_limit"]
            assert np.allclose((shown - 0.5) * 2 * limit, parts[name].clip(-limit, limit), atol=limit / 255 + 1e-6)
            assert line == f"{name}.png: mid grey is 0, black {-limit:.4g}, white {limit:+.4g}"
        low_rank = read_image(tmp_path / "out" / "L.png").pixels.reshape(parts["L"].shape) / 255
        assert np.allclose(low_rank, parts["L"].clip(0, 1), atol=0.5 / 255 + 1e-6)
    with Image.open(tmp_path / "out" / "panel.png") as panel:
        assert panel.width > 1000


@pytest.mark.slow
def test_decompose_with_refinement_moves_the_sparse_part_to_the_low_rank_one(run, photo, tmp_path):
    parts = {}
    for sweeps in ("0", "3"):
        assert run("decompose", photo, "-o", tmp_path / sweeps, "--refine", sweeps)[0] == 0
        with np.load(tmp_path / sweeps / "parts.npz") as arrays:
            parts[sweeps] = {name: arrays[name] for name in "LSN"}
    assert np.allclose(parts["0"]["N"], parts["3"]["N"], atol=1e-6)
    assert np.median(np.abs(parts["3"]["S"])) < 0.5 * np.median(np.abs(parts["0"]["S"]))


def test_decompose_of_16_bits_and_alpha(run, tmp_path, random_picture):
    picture = random_picture(20, 24, 3, "uint16", alpha=True)
    write_image(tmp_path / "a.png", picture)
    assert run("decompose", tmp_path / "a.png", "-o", tmp_path / "out")[0] == 0
    assert read_image(tmp_path / "out" / "L.png").pixels.dtype == np.uint16
    with np.load(tmp_path / "out" / "parts.npz") as parts:
        assert np.array_equal(np.rint((parts["L"] + parts["S"] + parts["N"]) * 65535), picture.pixels)


def test_decompose_into_a_folder_in_use_replaces_only_its_own_files(run, photo, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    (tmp_path / "out" / "L.png").write_text("old")
    assert run("decompose", photo, "-o", tmp_path / "out")[0] == 0
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    assert read_image(tmp_path / "out" / "L.png").channels == 3


@pytest.mark.parametrize("stage", ["scratch", "write_image", "savez", "panel"])
@pytest.mark.parametrize("existing", [False, True])
def test_a_full_disk_leaves_nothing_of_a_decomposition(run, photo, tmp_path, monkeypatch, stage, existing, contents):
    from matplotlib.figure import Figure

    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    owner, name = {
        "scratch": (os, "posix_fallocate"),
        "write_image": (decompose_command, "write_image"),
        "savez": (np, "savez"),
        "panel": (Figure, "savefig"),
    }[stage]
    monkeypatch.setattr(owner, name, full)
    out = tmp_path / "out"
    if existing:
        out.mkdir()
        (out / "L.png").write_text("old")
    code, _, errors = run("decompose", photo, "-o", out)
    assert code == 2
    assert errors == ["indeed: no space left on device"]
    assert contents(tmp_path) == {"photo.png"} | ({"out", "out/L.png"} if existing else set())


def test_decompose_into_a_file_is_one_line(run, photo, tmp_path):
    (tmp_path / "out").write_text("a file")
    code, _, errors = run("decompose", photo, "-o", tmp_path / "out")
    assert (code, errors) == (2, [f"indeed: {tmp_path / 'out'}: file exists"])
