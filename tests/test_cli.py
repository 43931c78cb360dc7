"""The command does what its help says; a fault is one line and exit code 2, without a trace of a file."""

import csv
import errno
import functools
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from indeed import cli
from indeed.bayes.conjugate_updates import solve_leaf_level
from indeed.bayes.elbo import elbo_terms
from indeed.cli import adapt as adapt_command
from indeed.cli import decompose as decompose_command
from indeed.cli import detect as detect_command
from indeed.cli import models
from indeed.data.files import Picture, read_image, write_image
from indeed.figures import heat, heat_overlay
from indeed.images.metrics import psnr
from indeed.images.noise import correlated_gaussian
from indeed.learning.adaptation import noise as replayed_noise
from indeed.learning.adaptation import online
from indeed.learning.adaptation.config import adaptation_preset
from indeed.learning.adaptation.engine import adapt
from indeed.networks.anomaly_detection import load_detector
from indeed.networks.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from indeed.networks.inference_network import InDeed, network_preset
from indeed.networks.whole_image import denoise


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    paths = {}
    for name, channels in (("denoise_grey", 1), ("denoise_color", 3)):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            paths[name] = folder / f"{name}.safetensors"
            save_checkpoint(paths[name], InDeed(network_preset("tiny", channels)), {"preset": "tiny"})
    for name, side in (("detect_textures", None), ("detect_parts", 32)):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            made = {"form": "magnitude", "smoothing": 1.0, "good_scores": [0.2, 0.3, 0.4, 0.5]}
            paths[name] = folder / f"{name}.safetensors"
            record = {"task": "detect", "side": side, "map": made}
            save_checkpoint(paths[name], InDeed(network_preset("tiny", 1)), record)
    return paths


@pytest.fixture(autouse=True)
def shipped(monkeypatch, checkpoints) -> None:
    monkeypatch.setattr(models, "shipped_checkpoint", checkpoints.__getitem__)


@pytest.fixture
def run(capsys):
    """Run the command in this process: exit code, lines on standard output, lines on standard error."""

    def run(*arguments: object) -> tuple[int, list[str], list[str]]:
        code = cli.main([str(argument) for argument in arguments])
        output = capsys.readouterr()
        return code, output.out.splitlines(), output.err.splitlines()

    return run


def random_picture(height: int, width: int, channels: int = 3, dtype: str = "uint8", alpha: bool = False) -> Picture:
    rng = np.random.default_rng(0)
    samples = (rng.random((height, width, channels + 1)) * np.iinfo(dtype).max).astype(dtype)
    return Picture(samples[..., :channels].copy(), samples[..., channels].copy() if alpha else None)


@pytest.fixture
def photo(tmp_path) -> Path:
    write_image(tmp_path / "photo.png", random_picture(40, 50))
    return tmp_path / "photo.png"


def contents(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


# denoise


@pytest.mark.parametrize(
    ("suffix", "dtype", "alpha"),
    [(".jpg", "uint8", False), *itertools.product([".png", ".tif"], ["uint8", "uint16"], [False, True])],
)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (1, 30), (33, 21)])
def test_denoise_keeps_size_depth_colours_and_alpha(run, tmp_path, suffix, dtype, alpha, channels, size):
    picture = random_picture(*size, channels, dtype, alpha)
    write_image(tmp_path / f"a{suffix}", picture)
    assert run("denoise", tmp_path / f"a{suffix}", "-o", tmp_path / f"b{suffix}") == (0, [], [])
    result = read_image(tmp_path / f"b{suffix}")
    assert result.pixels.shape == picture.pixels.shape
    assert result.pixels.dtype == picture.pixels.dtype
    assert alpha is False or np.array_equal(result.alpha, picture.alpha)


def test_denoise_writes_low_rank_plus_sparse(run, photo, tmp_path, checkpoints):
    from indeed.networks.checkpoint import load_checkpoint
    from indeed.networks.whole_image import decompose

    run("denoise", photo, "-o", tmp_path / "out.png")
    parts = decompose(load_checkpoint(checkpoints["denoise_color"])[0], read_image(photo).tensor())
    expected = ((parts.L + parts.S).clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()
    assert np.abs(read_image(tmp_path / "out.png").pixels - expected).max() <= 1


def test_denoise_of_palette_and_one_bit_images(run, tmp_path):
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).convert("P").save(tmp_path / "palette.png")
    Image.fromarray(np.eye(8, dtype=bool)).save(tmp_path / "bit.png")
    code, _, errors = run("denoise", tmp_path / "palette.png", tmp_path / "bit.png", "-o", tmp_path / "out")
    assert (code, errors) == (0, [])
    assert contents(tmp_path / "out") == {"palette.png", "bit.png"}


def test_a_batch_goes_on_after_each_fault_and_reports_it_by_one_line(run, tmp_path, photo):
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
        (["photo.png", "-o", "out.png", "--device", "abacus"], "'abacus' is not available"),
        (["photo.png", "-o", "out.png", "--overlap", "16"], "overlap: got 16"),
        (["photo.png", "-o", "out.png", "--checkpoint", "photo.png"], "not a whole safetensors file"),
        (["photo.png", "-o", "out.png", "--checkpoint", "none"], "none: no such file"),
        (["photo.png", "-o", "out.png", "--add-noise", "-1"], "sigma: got"),
        (["alpha.png", "-o", "out.jpg"], "JPEG holds no alpha"),
    ],
)
def test_a_wrong_call_of_denoise_is_one_line(run, photo, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "alpha.png", random_picture(8, 8, alpha=True))
    code, _, errors = run("denoise", *arguments)
    assert (code, len(errors)) == (2, 1)
    assert words in errors[0]
    assert contents(tmp_path) == {"photo.png", "alpha.png"}


def test_a_network_for_grey_refuses_colour(run, photo, tmp_path, checkpoints):
    code, _, errors = run("denoise", photo, "-o", tmp_path / "o.png", "--checkpoint", checkpoints["denoise_grey"])
    assert code == 2
    assert "is for grey images, got a colour one" in errors[0]


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


# adapt


@pytest.fixture
def clean(tmp_path) -> Path:
    """Folder of a clean photograph to replay."""
    (tmp_path / "clean").mkdir()
    write_image(tmp_path / "clean" / "ramp.png", Picture(np.full((20, 20, 3), np.arange(20, dtype="uint8")[:, None])))
    return tmp_path / "clean"


@pytest.fixture
def few(clean) -> list[object]:
    """Options of an adaptation of little work."""
    return ["--photographs", clean, "--steps", 2, "--learning-rate", 1e-3]


def noisy_picture(height: int, width: int, correlation_length: float = 0.7) -> Picture:
    """Flat colour image with noise of 20 grey levels; neighbours have the correlation exp(-1 / (4 length^2))."""
    flat = torch.full((1, 3, height, width), 0.5)
    noisy = correlated_gaussian(flat, 20 / 255, correlation_length, torch.Generator().manual_seed(0))
    return Picture(noisy[0].permute(1, 2, 0).numpy())


def adapted(folder: Path) -> list[dict[str, str]]:
    with (folder / "adaptation.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("suffix", "channels", "dtype", "alpha"),
    [(".jpg", 1, "uint8", False), (".png", 3, "uint8", True), (".tif", 3, "uint16", False)],
)
def test_adapt_keeps_size_depth_colours_and_alpha_and_only_reads_the_checkpoint(
    run, tmp_path, few, checkpoints, suffix, channels, dtype, alpha
):
    before = {path: path.read_bytes() for path in checkpoints.values()}
    picture = random_picture(40, 50, channels, dtype, alpha)
    write_image(tmp_path / f"a{suffix}", picture)
    code, output, errors = run("adapt", tmp_path / f"a{suffix}", "-o", tmp_path / "out", *few)
    assert (code, len(output), errors) == (0, 1, [])
    assert contents(tmp_path / "out") == {f"a{suffix}", "adaptation.csv"}
    result = read_image(tmp_path / "out" / f"a{suffix}")
    assert result.pixels.shape == picture.pixels.shape
    assert result.pixels.dtype == picture.pixels.dtype
    assert alpha is False or np.array_equal(result.alpha, picture.alpha)
    assert {path: path.read_bytes() for path in checkpoints.values()} == before


@pytest.mark.parametrize("reset", ["image", "never"])
def test_online_adaptation_starts_from_the_checkpoint_or_goes_on(run, tmp_path, checkpoints, reset):
    # one is smaller than a patch, and too small to estimate its noise, which the terms of the paper do not ask for
    pictures = {"b.tif": noisy_picture(30, 24), "a.tif": noisy_picture(9, 40)}
    for name, picture in pictures.items():
        write_image(tmp_path / name, picture)
    options = ["--preset", "paper", "--modules", "LS", "--steps", 3, "--learning-rate", 1e-3, "--seed", 5]
    images = [tmp_path / name for name in pictures]
    assert run("adapt", *images, "-o", tmp_path / "out", *options, "--reset", reset)[0] == 0

    config = replace(adaptation_preset("paper"), modules="LS", steps=3, learning_rate=1e-3)
    original = model = load_checkpoint(checkpoints["denoise_color"])[0]
    for (name, picture), row in zip(pictures.items(), adapted(tmp_path / "out"), strict=True):
        image = picture.tensor()
        mirrored = torch.nn.functional.pad(image, (0, 0, 0, max(0, 16 - image.shape[1])), "reflect")
        start = model if reset == "never" else original
        model = adapt(start, [mirrored], config, torch.Generator().manual_seed(5)).model
        expected = denoise(model, image).permute(1, 2, 0).numpy()
        np.testing.assert_allclose(read_image(tmp_path / "out" / name).pixels, expected, atol=1e-6)
        assert (row["file"], row["steps"], row["stopped"], row["forwards"], row["noise_sd"]) == (
            *(name, "3", "budget", "9", ""),
        )


def test_the_report_has_the_noise_of_the_image_and_its_free_energy_before_and_after(run, tmp_path, few, checkpoints):
    pictures = {"rough.tif": noisy_picture(128, 96, 0.5), "smooth.tif": noisy_picture(128, 96, 1.0)}
    for name, picture in pictures.items():
        write_image(tmp_path / name, picture)
    code, output, _ = run("adapt", *(tmp_path / name for name in pictures), "-o", tmp_path / "out", *few)
    assert code == 0
    model = load_checkpoint(checkpoints["denoise_color"])[0]
    neighbours = {"rough.tif": float(np.exp(-1)), "smooth.tif": float(np.exp(-1 / 4))}
    for row, line in zip(adapted(tmp_path / "out"), output, strict=True):
        assert abs(float(row["noise_sd"]) - 20) < 1.5
        assert abs(float(row["neighbour_correlation"]) - neighbours[row["file"]]) < 0.1
        noise = f"noise {float(row['noise_sd']):.1f}, of neighbours {float(row['neighbour_correlation']):+.2f}"
        assert line.startswith(f"{row['file']:<24} {noise}; 2 steps, ")
        assert float(row["forwards"]) == 12  # two steps of two patches, a backward pass counted as two
        assert 0 < float(row["drift"]) < 0.1
        # 48 tiles: every sixth is reported on
        tiles = pictures[row["file"]].tensor().unfold(1, 16, 16).unfold(2, 16, 16).permute(1, 2, 0, 3, 4).flatten(0, 1)
        with torch.no_grad():
            middle, _ = model(tiles[::6])
            hyperpriors = adaptation_preset("replay").training.hyperpriors
            terms = elbo_terms(tiles[::6], middle, solve_leaf_level(tiles[::6], middle, hyperpriors), hyperpriors)
        means = {name: term.mean().item() / 768 for name, term in terms._asdict().items()}
        for name in ("fidelity", "rank", "sparsity"):
            assert float(row[f"{name}_before"]) == pytest.approx(means[name], rel=1e-4)
            assert row[f"{name}_after"] != row[f"{name}_before"]
        assert float(row["free_energy_before"]) == pytest.approx(sum(means.values()), rel=1e-4)


def test_what_is_replayed_are_the_photographs_with_the_noise_of_each_image_as_often(run, tmp_path, clean, monkeypatch):
    for name, correlation_length in (("rough.tif", 0.5), ("smooth.tif", 1.0)):
        write_image(tmp_path / name, noisy_picture(64, 64, correlation_length))
    replayed = []

    def watched(patches, law, spread):
        def draw(generator):
            sample = matched(patches, law, spread)(generator)
            replayed.append((law.neighbour_correlation > 0.57, sample.observed - sample.target, sample.target))
            return sample

        return draw

    matched = replayed_noise.matched_replay
    monkeypatch.setattr(replayed_noise, "matched_replay", watched)
    images = [tmp_path / "rough.tif", tmp_path / "smooth.tif"]
    options = ["--mode", "batch", "--photographs", clean, "--steps", 30]
    assert run("adapt", *images, "-o", tmp_path / "out", *options)[0] == 0
    assert len(replayed) == 120
    for smooth in (False, True):
        noise, targets = (torch.stack([sample[k] for sample in replayed if sample[0] == smooth]) for k in (1, 2))
        assert 40 <= len(noise) <= 80
        assert abs(255 * noise.std().item() - 1.17 * 20) < 3  # the root mean square of the factors is 1.17
        correlation = (noise[..., 1:] * noise[..., :-1]).mean() / noise.square().mean()
        assert (correlation.item() > 0.57) == smooth
        assert set((255 * targets).round().unique().tolist()) <= set(range(20))  # the ramp


def test_an_image_too_small_to_tell_its_noise_is_denoised_without_adaptation(run, tmp_path, few):
    # between others, it also leaves the weights that are carried over alone
    for name, side in (("a.tif", 48), ("b.tif", 30), ("c.tif", 48)):
        write_image(tmp_path / name, noisy_picture(side, side))
    images = [tmp_path / name for name in ("b.tif", "a.tif", "c.tif")]
    code, output, errors = run("adapt", *images, "-o", tmp_path / "out", *few)
    assert (code, errors) == (0, [])
    reason = "not adapted: image: got 30x30 pixels with 4 blocks"
    assert output[0].startswith(f"b.tif                    {reason}")
    row = adapted(tmp_path / "out")[0]
    assert row["stopped"].startswith(reason)
    assert (row["steps"], row["forwards"], row["drift"], row["noise_sd"]) == ("0", "0", "0", "")
    assert row["free_energy_before"] == row["free_energy_after"]
    assert run("denoise", tmp_path / "b.tif", "-o", tmp_path / "b2.tif")[0] == 0
    assert (tmp_path / "out" / "b.tif").read_bytes() == (tmp_path / "b2.tif").read_bytes()

    images = [tmp_path / name for name in ("a.tif", "b.tif", "c.tif")]
    assert run("adapt", *images, "-o", tmp_path / "carried", *few, "--reset", "never")[0] == 0
    drifts = [float(row["drift"]) for row in adapted(tmp_path / "carried")]
    assert 0 < drifts[0] == drifts[1] < drifts[2]


def test_a_batch_has_one_adaptation_for_each_kind_of_image(run, tmp_path, few, monkeypatch):
    (tmp_path / "in").mkdir()
    for name, side in (("a.tif", 48), ("a.tiff", 64), ("small.tif", 30)):
        write_image(tmp_path / "in" / name, noisy_picture(side, side))
    write_image(tmp_path / "in" / "grey.tif", Picture(noisy_picture(48, 48).pixels[..., :1].copy()))
    calls = []

    def watched(model, images, config, *rest, **options):
        calls.append((model.config.channels, len(images)))
        return adapt(model, images, config, *rest, **options)

    monkeypatch.setattr(online, "adapt", watched)
    arguments = ["adapt", tmp_path / "in", "-o", tmp_path / "out", *few, "--mode", "batch"]
    first = run(*arguments)
    assert first[::2] == (0, [])
    assert calls == [(1, 1), (3, 2)]
    rows = {row["file"]: row for row in adapted(tmp_path / "out")}
    assert {name: row["steps"] for name, row in rows.items()} == {
        **{"grey.tif": "2", "a.tif": "4", "a.tiff": "4", "small.tif": "0"}
    }
    assert rows["a.tif"]["drift"] == rows["a.tiff"]["drift"] != rows["grey.tif"]["drift"]
    assert contents(tmp_path / "out") == {*rows, "adaptation.csv"}
    # all are there: nothing is done; with one more image the adaptation is another one
    assert sorted(run(*arguments)[1]) == sorted(first[1])
    assert len(calls) == 2
    write_image(tmp_path / "in" / "b.tif", noisy_picture(40, 40))
    assert run(*arguments)[0] == 0
    assert calls[2:] == [(1, 1), (3, 3)]


@pytest.mark.parametrize("mode", ["online", "batch"])
def test_a_bad_file_does_not_keep_the_others_from_adaptation(run, tmp_path, few, mode):
    (tmp_path / "text.png").write_text("no picture")
    write_image(tmp_path / "grey.png", random_picture(48, 48, 1))
    missing = tmp_path / "missing.png"
    write_image(tmp_path / "photo.tif", noisy_picture(48, 48))
    images = [tmp_path / "text.png", tmp_path / "photo.tif", missing, tmp_path / "grey.png"]
    few[1] = tmp_path / "grey"
    few[1].mkdir()
    write_image(few[1] / "grey.png", random_picture(16, 16, 1))  # nothing to replay for the colour image
    code, output, errors = run("adapt", *images, "-o", tmp_path / "out", *few, "--mode", mode)
    assert (code, len(output), len(errors)) == (2, 1, 3)
    assert contents(tmp_path / "out") == {"grey.png", "adaptation.csv"}
    assert any(line.startswith(f"indeed: {tmp_path / 'text.png'}: ") for line in errors)
    assert any(line.startswith(f"indeed: {missing}: ") for line in errors)
    assert any("got none to replay, expected colour ones of at least 16x16 pixels" in line for line in errors)


def test_an_adaptation_that_is_killed_goes_on_and_what_is_there_is_not_done_again(run, tmp_path, few, monkeypatch):
    images = [tmp_path / name for name in ("a.tif", "b.tif")]
    for path in images:
        write_image(path, noisy_picture(48, 48))
    out = tmp_path / "out"
    arguments = ["adapt", *images, "-o", out, *few]
    write, written = adapt_command.write_image, []

    def killed(path, picture):
        if path.name == "b.tif":
            raise KeyboardInterrupt
        write(path, picture)

    monkeypatch.setattr(adapt_command, "write_image", killed)
    assert run(*arguments)[0] == 130
    assert contents(out) == {"a.tif", "adaptation.csv"}
    monkeypatch.setattr(
        adapt_command, "write_image", lambda path, picture: [written.append(path.name), write(path, picture)]
    )

    def redone(*options: object) -> list[str]:
        written.clear()
        code, output, _ = run(*arguments, *options)
        assert (code, len(output)) == (0, 2)
        assert sorted(row["file"] for row in adapted(out)) == ["a.tif", "b.tif"]
        return written.copy()

    assert redone() == ["b.tif"]
    assert redone() == []
    (out / "a.tif").unlink()
    assert redone() == ["a.tif"]
    assert redone("--modules", "S") == ["a.tif", "b.tif"]
    assert redone("--modules", "S") == []
    write_image(images[1], noisy_picture(49, 48))
    assert redone("--modules", "S") == ["b.tif"]
    write_image(images[0], noisy_picture(49, 48))
    assert redone("--modules", "S", "--reset", "never") == ["a.tif", "b.tif"]
    (out / "b.tif").unlink()
    assert redone("--modules", "S", "--reset", "never") == ["a.tif", "b.tif"]
    assert redone("--modules", "S", "--reset", "never") == []


def test_denoise_with_adaptation_is_adapt_by_default(run, tmp_path):
    write_image(tmp_path / "a.tif", noisy_picture(64, 80, 1.0))
    options = ["--seed", 3, "--add-noise", 5]
    code, output, errors = run("denoise", tmp_path / "a.tif", "-o", tmp_path / "b.tif", "--adapt", *options)
    assert (code, errors) == (0, [])
    assert "; 60 steps, " in output[0]
    assert run("adapt", tmp_path / "a.tif", "-o", tmp_path / "out", *options)[0] == 0
    assert (tmp_path / "b.tif").read_bytes() == (tmp_path / "out" / "a.tif").read_bytes()
    assert run("denoise", tmp_path / "a.tif", "-o", tmp_path / "c.tif", *options)[0] == 0
    assert not np.array_equal(read_image(tmp_path / "b.tif").pixels, read_image(tmp_path / "c.tif").pixels)


def test_adapt_never_overwrites_its_input(run, photo, few):
    before = photo.read_bytes()
    code, _, errors = run("adapt", photo, "-o", photo.parent, *few)
    assert (code, len(errors)) == (2, 1)
    assert "would overwrite its input" in errors[0]
    assert photo.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "out"], "images: got none"),
        (["void", "-o", "out"], "void: holds no image"),
        (["photo.png", "-o", "out.png"], "out.png: is the name of one image, expected a folder"),
        (["photo.png", "-o", "photo.png"], "photo.png: is the name of one image, expected a folder"),
        (["photo.png", "twin", "-o", "out"], "several images have the same name"),
        (["photo.png", "-o", "out", "--steps", "0"], "steps: got 0"),
        (["photo.png", "-o", "out", "--learning-rate", "-1"], "learning_rate: got -1"),
        (["photo.png", "-o", "out", "--mode", "batch", "--reset", "never"], "reset: got 'never'"),
        (["photo.png", "-o", "out", "--photographs", "nowhere"], "nowhere: is not a folder"),
        (["photo.png", "-o", "out", "--photographs", "void"], "void: holds no image"),
        (["photo.png", "-o", "out", "--photographs", "twin", "--preset", "paper"], "photographs: got twin"),
        (["photo.png", "-o", "out", "--checkpoint", "none"], "none: no such file"),
        (["photo.png", "-o", "out", "--device", "abacus"], "'abacus' is not available"),
        (["photo.png", "-o", "table"], "is no table of this command"),
    ],
)
def test_a_wrong_call_of_adapt_is_one_line(run, photo, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    for folder in ("void", "twin", "table"):
        (tmp_path / folder).mkdir()
    write_image(tmp_path / "twin" / "photo.png", random_picture(8, 8))
    (tmp_path / "table" / "adaptation.csv").write_text("name,size\na,1\n")
    before = contents(tmp_path)
    code, _, errors = run("adapt", *arguments)
    assert (code, len(errors)) == (2, 1)
    assert words in errors[0]
    assert contents(tmp_path) == before


# decompose


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (37, 50)])
def test_decompose_writes_parts_that_add_up_to_the_image(run, tmp_path, channels, size):
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


def test_decompose_with_refinement_moves_the_sparse_part_to_the_low_rank_one(run, photo, tmp_path):
    parts = {}
    for sweeps in ("0", "3"):
        assert run("decompose", photo, "-o", tmp_path / sweeps, "--refine", sweeps)[0] == 0
        with np.load(tmp_path / sweeps / "parts.npz") as arrays:
            parts[sweeps] = {name: arrays[name] for name in "LSN"}
    assert np.allclose(parts["0"]["N"], parts["3"]["N"], atol=1e-6)
    assert np.median(np.abs(parts["3"]["S"])) < 0.5 * np.median(np.abs(parts["0"]["S"]))


def test_decompose_of_16_bits_and_alpha(run, tmp_path):
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
def test_a_full_disk_leaves_nothing_of_a_decomposition(run, photo, tmp_path, monkeypatch, stage, existing):
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


# detect


def detected(folder: Path) -> list[dict[str, str]]:
    with (folder / "scores.csv").open() as file:
        return list(csv.DictReader(file))


def results(*names: str) -> set[str]:
    return {"scores.csv", *(f"{name}_{part}" for name in names for part in ("map.npy", "heat.png", "overlay.png"))}


@pytest.fixture
def parts(tmp_path) -> Path:
    """Folder of two photographs of parts: one in grey, one in colour."""
    (tmp_path / "parts").mkdir()
    for name, channels in (("a.png", 1), ("b.jpg", 3)):
        write_image(tmp_path / "parts" / name, random_picture(40, 50, channels))
    return tmp_path / "parts"


@pytest.mark.parametrize(
    ("name", "size"),
    [("textures", (21, 30)), ("textures", (40, 50)), ("parts", (1, 1)), ("parts", (5, 30)), ("parts", (40, 50))],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_detect_writes_what_the_detector_finds(run, tmp_path, checkpoints, name, size, channels):
    write_image(tmp_path / "a.tif", random_picture(*size, channels, "uint16", alpha=True))
    code, output, errors = run("detect", tmp_path / "a.tif", "-o", tmp_path / "out", "--checkpoint", name)
    assert (code, errors) == (0, [])
    assert contents(tmp_path / "out") == results("a")
    image = read_image(tmp_path / "a.tif").tensor()
    expected = load_detector(checkpoints[f"detect_{name}"])(image)
    found = np.load(tmp_path / "out" / "a_map.npy")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected.map)
    (row,) = detected(tmp_path / "out")
    assert (row["file"], float(row["score"])) == ("a.tif", expected.score)
    assert row["threshold"] == row["anomalous"] == ""
    limit = 2 * 0.5  # twice the largest good score
    assert output[0] == "heat: black 0, light yellow 1, twice the largest score of 4 good images"
    for part, shown in (("heat", heat(expected.map, limit)), ("overlay", heat_overlay(image, expected.map, limit))):
        written = read_image(tmp_path / "out" / f"a_{part}.png").tensor()
        torch.testing.assert_close(written, shown, rtol=0, atol=0.51 / 255)


def test_the_heat_of_a_share_ends_where_a_share_does(run, tmp_path):
    """Twice a good score above a half is more than any pixel can have: what is certain would look faint."""
    write_image(tmp_path / "a.png", random_picture(40, 50, 1))
    for largest, line in (
        (0.9, "light yellow 1, the largest share that there can be: good images score up to 0.9"),
        (0.4, "light yellow 0.8, twice the largest score of 1 good images"),
    ):
        made = {"form": "share", "smoothing": 0.0, "good_scores": [largest]}
        path = tmp_path / f"{largest}.safetensors"
        save_checkpoint(path, InDeed(network_preset("tiny", 1)), {"task": "detect", "side": None, "map": made})
        code, output, errors = run("detect", tmp_path / "a.png", "-o", tmp_path / f"{largest}", "--checkpoint", path)
        assert (code, errors, output[0]) == (0, [], f"heat: black 0, {line}")
        found = np.load(tmp_path / f"{largest}" / "a_map.npy")
        heated = read_image(tmp_path / f"{largest}" / "a_heat.png").tensor()
        expected = heat(torch.from_numpy(found), min(1.0, 2 * largest))
        torch.testing.assert_close(heated, expected, rtol=0, atol=0.51 / 255)


def test_a_package_that_is_not_installed_is_named_in_one_line(run, tmp_path, monkeypatch):
    monkeypatch.setenv("INDEED_DATA", str(tmp_path))
    monkeypatch.setitem(sys.modules, "nibabel", None)
    for name in ("brain_train", "toy", "toy_label/pixel"):
        (tmp_path / "uad" / "mood" / name).mkdir(parents=True)
        (tmp_path / "uad" / "mood" / name / "00000.nii.gz").write_bytes(b"")
    code, _, errors = run("train", "--task", "uad", "--data", "mood", "-o", tmp_path / "m.safetensors")
    assert (code, errors) == (2, ["indeed: NIfTI volumes need the package nibabel: pip install nibabel"])


def test_grey_stored_as_colour_scores_as_grey(run, tmp_path):
    grey = random_picture(40, 50, 1)
    write_image(tmp_path / "grey.png", grey)
    write_image(tmp_path / "colour.png", Picture(grey.pixels.repeat(3, axis=2)))
    assert run("detect", tmp_path / "grey.png", tmp_path / "colour.png", "-o", tmp_path / "out")[0] == 0
    one, other = (float(row["score"]) for row in detected(tmp_path / "out"))
    assert one == pytest.approx(other, rel=1e-4)


def test_a_threshold_comes_from_the_good_images_of_the_checkpoint(run, parts, tmp_path, checkpoints):
    arguments = ["detect", parts, "-o", tmp_path / "out", "--false-positive-rate"]
    assert run(*arguments, 0.25)[1][1] == "threshold: 0.4, exceeded by at most 1 of 4 good images"
    assert {row["threshold"] for row in detected(tmp_path / "out")} == {"0.4"}
    # the rows are there already, and their threshold is another one now
    assert run(*arguments, 0.75)[0] == 0
    rows = detected(tmp_path / "out")
    assert {row["threshold"] for row in rows} == {"0.2"}
    assert [row["anomalous"] for row in rows] == [str(float(row["score"]) > 0.2) for row in rows]


def test_a_threshold_of_a_folder_of_good_images_is_exceeded_by_at_most_its_share_of_them(run, parts, tmp_path):
    (tmp_path / "good").mkdir()
    for index in range(5):
        pixels = np.random.default_rng(index).integers(0, 40 * (index + 1), (30, 30, 1)).astype(np.uint8)
        write_image(tmp_path / "good" / f"{index}.png", Picture(pixels))
    arguments = ["-o", tmp_path / "out", "--good", tmp_path / "good", "--false-positive-rate", 0.4]
    code, output, errors = run("detect", tmp_path / "good", *arguments)
    assert (code, errors) == (0, [])
    rows = detected(tmp_path / "out")
    scores = sorted(float(row["score"]) for row in rows)
    assert {float(row["threshold"]) for row in rows} == {scores[2]}
    assert sum(row["anomalous"] == "True" for row in rows) == sum(line.endswith(" anomalous") for line in output) == 2
    assert {float(row["limit"]) for row in rows} == {2 * scores[-1]}
    with (tmp_path / "out" / "good_scores.csv").open() as file:
        assert sorted(float(row["score"]) for row in csv.DictReader(file)) == scores


def test_what_was_detected_is_not_detected_again(run, parts, tmp_path, monkeypatch):
    out = tmp_path / "out"
    arguments = ["detect", parts, "-o", out, "--good", parts]
    first = run(*arguments)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    written = []
    write = detect_command._write_detection
    monkeypatch.setattr(
        detect_command, "_write_detection", lambda files, *rest: [written.append(files[0].name), write(files, *rest)]
    )
    assert run(*arguments) == first
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    assert written == []
    # what is missing, or made from another image, at another scale or by another checkpoint, is made anew
    (out / "a_heat.png").unlink()
    assert run(*arguments) == first
    assert written == ["a_map.npy"]
    write_image(parts / "b.jpg", random_picture(40, 51))
    assert run("detect", parts, "-o", out, "--good", parts)[0] == 0
    assert written[1:] in (["b_map.npy"], ["a_map.npy", "b_map.npy"])  # the latter if the scale has changed
    written.clear()
    for options in ((), ("--checkpoint", "parts")):
        assert run("detect", parts, "-o", out, *options)[0] == 0
        assert written == ["a_map.npy", "b_map.npy"]
        written.clear()
    assert np.load(out / "b_map.npy").shape == (40, 51)


def test_a_run_that_is_killed_loses_one_image_at_most(run, parts, tmp_path, monkeypatch):
    out = tmp_path / "out"

    def killed(files, *_):
        if files[0].name == "b_map.npy":
            raise KeyboardInterrupt
        write(files, *_)

    write = detect_command._write_detection
    monkeypatch.setattr(detect_command, "_write_detection", killed)
    assert run("detect", parts, "-o", out)[0] == 130
    assert contents(out) == results("a")
    assert [row["file"] for row in detected(out)] == ["a.png"]
    monkeypatch.setattr(detect_command, "_write_detection", write)
    assert run("detect", parts, "-o", out)[0] == 0
    assert contents(out) == results("a", "b")
    assert [row["file"] for row in detected(out)] == ["a.png", "b.jpg"]


def test_images_of_earlier_runs_stay_in_the_table(run, parts, tmp_path):
    for name in ("b.jpg", "a.png"):
        assert run("detect", parts / name, "-o", tmp_path / "out")[0] == 0
    assert [row["file"] for row in detected(tmp_path / "out")] == ["b.jpg", "a.png"]


def test_a_batch_of_detections_goes_on_after_each_fault(run, parts, tmp_path):
    (parts / "text.png").write_text("no picture")
    missing = tmp_path / "missing.png"
    code, _, errors = run("detect", missing, parts, "-o", tmp_path / "out")
    assert code == 2
    assert [row["file"] for row in detected(tmp_path / "out")] == ["a.png", "b.jpg"]
    assert contents(tmp_path / "out") == results("a", "b")
    assert [line.split(": ")[1] for line in errors] == [str(missing), str(parts / "text.png")]


def test_an_image_that_was_spoilt_loses_its_row_and_its_maps(run, parts, tmp_path):
    assert run("detect", parts, "-o", tmp_path / "out")[0] == 0
    (parts / "b.jpg").write_text("no picture")
    assert run("detect", parts, "-o", tmp_path / "out")[0] == 2
    assert [row["file"] for row in detected(tmp_path / "out")] == ["a.png"]
    assert contents(tmp_path / "out") == results("a")
    assert run("detect", parts / "b.jpg", "-o", tmp_path / "other")[0] == 2
    assert contents(tmp_path / "other") == set()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "out"], "images: got none"),
        (["none", "-o", "out", "--checkpoint", "nothing"], "nothing: no such file"),
        (["parts", "-o", "out", "--checkpoint", "parts/a.png"], "not a whole safetensors file"),
        (["parts", "-o", "out", "--device", "abacus"], "'abacus' is not available"),
        (["parts", "-o", "parts"], "parts: holds images of the run"),
        (["parts", "-o", "parts/a.png"], "a.png: file exists"),
        (["parts", "twin/a.png", "-o", "out"], "twin/a.png: would have the outputs of parts/a.png"),
        (["parts", "-o", "out", "--false-positive-rate", "5"], "got 5.0, expected a share"),
        (["parts", "-o", "out", "--false-positive-rate", "0"], "got 0.0, expected a share"),
        (["parts", "-o", "out", "--false-positive-rate", "0.2"], "at least 1/4 and below 1: 4 good images cannot"),
        (["parts", "-o", "out", "--false-positive-rate", "0.4", "--good", "parts"], "expected at least 1/2"),
        (["parts", "void", "-o", "out"], "void: holds no image"),
        (["parts", "-o", "out", "--good", "nowhere"], "nowhere: is not a folder"),
        (["parts", "-o", "out", "--good", "void"], "void: holds no image"),
    ],
)
def test_a_wrong_call_of_detect_is_one_line(run, parts, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "void").mkdir()
    (tmp_path / "twin").mkdir()
    write_image(tmp_path / "twin" / "a.png", random_picture(8, 8))
    before = contents(tmp_path)
    code, _, errors = run("detect", *arguments)
    assert (code, len(errors)) == (2, 1)
    assert words in errors[0]
    assert contents(tmp_path) == before


def test_detect_refuses_a_denoiser(run, parts, tmp_path, checkpoints):
    arguments = ["detect", parts, "-o", tmp_path / "out", "--checkpoint", checkpoints["denoise_grey"]]
    assert run(*arguments)[::2] == (
        2,
        [f"indeed: {checkpoints['denoise_grey']}: is no detector of anomalies (task None)"],
    )


@pytest.mark.parametrize(
    ("table", "words"),
    [("name,size\na,1\n", "is no table of this command"), ("file,score\na.png", "damaged")],
)
def test_detect_leaves_a_foreign_table_alone(run, parts, tmp_path, table, words):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "scores.csv").write_text(table)
    code, _, errors = run("detect", parts, "-o", tmp_path / "out")
    assert (code, len(errors)) == (2, 1)
    assert words in errors[0]
    assert contents(tmp_path / "out") == {"scores.csv"}
    assert (tmp_path / "out" / "scores.csv").read_text() == table


# evaluate, info, train


def test_evaluate_reports_each_image_and_the_mean_of_the_images(run, tmp_path):
    (tmp_path / "clean").mkdir()
    for name, channels in (("a.png", 1), ("b.png", 3)):
        write_image(tmp_path / "clean" / name, random_picture(30, 30, channels))
    (tmp_path / "clean" / "notes.txt").write_text("not an image")
    arguments = ["evaluate", tmp_path / "clean", "--sigma", 15, "--seed", 3]
    code, output, errors = run(*arguments, "--csv", tmp_path / "table.csv")
    assert (code, errors) == (0, [])
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["a.png", "b.png"]
    assert [line.split()[0] for line in output] == ["image", "a.png", "b.png", "mean"]
    assert float(output[-1].split()[-2]) == pytest.approx(np.mean([float(row["psnr"]) for row in rows]), abs=0.006)
    clean = read_image(tmp_path / "clean" / "a.png").tensor()[None]
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(3)) * 15 / 255
    assert float(rows[0]["psnr_noisy"]) == pytest.approx(psnr(clean + noise, clean).item(), abs=1e-3)
    assert run(*arguments)[1] == output


def test_evaluate_goes_on_after_a_bad_image(run, tmp_path):
    write_image(tmp_path / "b.png", random_picture(30, 30, 1))
    write_image(tmp_path / "small.png", random_picture(5, 5, 1))
    (tmp_path / "a.png").write_text("no picture")
    code, output, errors = run("evaluate", tmp_path)
    assert code == 2
    assert [line.split()[0] for line in output] == ["image", "b.png", "mean"]
    assert [line.split(": ")[1] for line in errors] == [str(tmp_path / "a.png"), str(tmp_path / "small.png")]


def test_evaluate_needs_a_folder_with_images(run, tmp_path, photo):
    assert run("evaluate", photo) == (2, [], [f"indeed: {photo}: is not a folder"])
    (tmp_path / "none").mkdir()
    code, _, errors = run("evaluate", tmp_path / "none")
    assert code == 2
    assert "holds no image" in errors[0]


def test_info_prints_the_record_as_json(run, checkpoints):
    code, output, _ = run("info", checkpoints["denoise_grey"])
    record = json.loads("\n".join(output))
    assert code == 0
    assert record["network"]["channels"] == 1
    assert record["record"] == {"preset": "tiny"}


def test_info_of_something_else_is_one_line(run, photo):
    code, output, errors = run("info", photo)
    assert (code, output, len(errors)) == (2, [], 1)
    assert str(photo) in errors[0]


def test_train_writes_a_checkpoint_that_denoises(run, photo, tmp_path):
    arguments = ["train", "--preset", "tiny", "--data", "embedded", "--steps", 2, "-o", tmp_path / "m.safetensors"]
    assert run(*arguments, "--channels", 3)[0] == 0
    assert run("denoise", photo, "-o", tmp_path / "o.png", "--checkpoint", tmp_path / "m.safetensors")[0] == 0
    code, _, errors = run(*arguments, "--channels", 3)
    assert code == 2
    assert "resume" in errors[-1]


def test_train_for_uad_writes_a_checkpoint_that_detects(run, parts, tmp_path, monkeypatch):
    from indeed.recipes import detector, good_images

    monkeypatch.setattr(good_images, "SIDE", 32)
    monkeypatch.setattr(detector, "chosen_map", functools.partial(detector.chosen_map, least=4))
    arguments = ["train", "--task", "uad", "--preset", "tiny", "--data", parts, "--steps", 2]
    assert run(*arguments, "-o", tmp_path / "m.safetensors", "--patch-size", 32)[0] == 0
    assert run("info", tmp_path / "m.safetensors")[1].count('    "task": "detect",') == 1
    assert run("detect", parts, "-o", tmp_path / "out", "--checkpoint", tmp_path / "m.safetensors")[0] == 0
    assert contents(tmp_path / "out") == results("a", "b")


@pytest.mark.parametrize("task", ["denoise", "uad"])
def test_each_task_has_its_own_recipe_that_knows_its_default_data(run, tmp_path, monkeypatch, task):
    from indeed.recipes import denoiser, detector

    calls = []
    for name, owner in (("denoise", denoiser), ("uad", detector)):
        function = "train_denoiser" if name == "denoise" else "train_detector"
        monkeypatch.setattr(owner, function, lambda run, name=name: calls.append((name, run.data)))
    assert run("train", "--task", task, "-o", tmp_path / "m.safetensors")[0] == 0
    assert calls == [(task, None)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "m.pt"], ".safetensors"),
        (["-o", "m.safetensors", "--data", "nowhere"], "nowhere"),
        (["-o", "m.safetensors", "--max-rank", "4"], "max_rank: goes with task uad only"),
        (["-o", "m.safetensors", "--halvings", "2"], "halvings: goes with task uad only"),
        (["-o", "m.safetensors", "--task", "uad", "--data", "nowhere"], "nowhere"),
        (["-o", "m.safetensors", "--task", "uad", "--data", "bsd"], "data: got 'bsd', expected 'textures'"),
        (["-o", "m.safetensors", "--task", "uad", "--data", "."], "holds no image"),
        (["-o", "m.safetensors", "--task", "uad", "--patch-size", "304"], "smaller than patch_size 304"),
    ],
)
def test_a_wrong_call_of_train_is_one_line(run, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    code, _, errors = run("train", "--preset", "tiny", *arguments)
    assert (code, len(errors)) == (2, 1)
    assert words in errors[0]


# the command as a process


def command(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "indeed.cli", *(str(argument) for argument in arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False, **options)


def test_the_process_decomposes_and_says_nothing_on_standard_error(photo, tmp_path, checkpoints):
    done = command("decompose", photo, "-o", tmp_path / "out", "--checkpoint", checkpoints["denoise_color"])
    assert (done.returncode, done.stderr) == (0, "")
    assert len(contents(tmp_path / "out")) == 5


def test_the_process_ends_with_2_and_one_line(tmp_path):
    done = command("denoise", tmp_path / "none.png", "-o", tmp_path / "out.png")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"indeed: {tmp_path / 'none.png'}: no such file or directory\n"


def test_a_misspelt_option_ends_with_2(photo):
    done = command("denoise", photo, "--aut", "b.png")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="file size limits are POSIX")
def test_a_write_that_the_system_refuses_leaves_no_file(tmp_path, checkpoints):
    import resource

    write_image(tmp_path / "photo.png", random_picture(200, 200))
    done = command(
        *("denoise", tmp_path / "photo.png", "-o", tmp_path / "out.png"),
        *("--checkpoint", checkpoints["denoise_color"]),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"indeed: {tmp_path / 'photo.png'}: ")
    assert done.stderr.endswith(f"{tmp_path / 'out.png'}: cannot be written: file too large\n")
    assert contents(tmp_path) == {"photo.png"}


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_one_line(run, photo, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    code, _, errors = run("denoise", photo, "-o", tmp_path / "locked" / "out.png")
    assert code == 2
    assert errors[0].endswith("permission denied")


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_ctrl_c_ends_with_130_and_leaves_no_file(tmp_path, checkpoints):
    write_image(tmp_path / "large.png", random_picture(3000, 3000, 1))
    line = [sys.executable, "-m", "indeed.cli", "denoise", "large.png", "-o", "out.png"]
    with subprocess.Popen(
        [*line, "--checkpoint", checkpoints["denoise_grey"], "--overlap", "15"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        # the tiles of this overlap take minutes; by then the command has long been started
        time.sleep(12)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        assert process.stderr.read() == "indeed: interrupted\n"
    assert contents(tmp_path) == {"large.png"}


def test_output_that_nobody_reads_is_no_traceback(checkpoints):
    line = [sys.executable, "-m", "indeed.cli", "info", checkpoints["denoise_grey"]]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 141
