"""Adapt learns from what it says, reports it, and goes on where it was stopped."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from indeed.bayes.conjugate_updates import solve_leaf_level
from indeed.bayes.elbo import elbo_terms
from indeed.cli import adapt as adapt_command
from indeed.data.image_files import read_image, write_image
from indeed.data.picture import Picture
from indeed.learning.adaptation import noise_replay as replayed_noise
from indeed.learning.adaptation import online
from indeed.learning.adaptation.config import adaptation_preset
from indeed.learning.adaptation.engine import adapt
from indeed.networks.checkpoint import load_checkpoint
from indeed.networks.whole_image import denoise


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


def adapted(folder: Path) -> list[dict[str, str]]:
    with (folder / "adaptation.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("suffix", "channels", "dtype", "alpha"),
    [(".jpg", 1, "uint8", False), (".png", 3, "uint8", True), (".tif", 3, "uint16", False)],
)
def test_adapt_keeps_size_depth_colours_and_alpha_and_only_reads_the_checkpoint(
    run, tmp_path, few, checkpoints, suffix, channels, dtype, alpha, contents, random_picture
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
def test_online_adaptation_starts_from_the_checkpoint_or_goes_on(run, tmp_path, checkpoints, reset, noisy_picture):
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


def test_the_report_has_the_noise_of_the_image_and_its_free_energy_before_and_after(
    run, tmp_path, few, checkpoints, noisy_picture
):
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


@pytest.mark.slow
def test_what_is_replayed_are_the_photographs_with_the_noise_of_each_image_as_often(
    run, tmp_path, clean, monkeypatch, noisy_picture
):
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


@pytest.mark.slow
def test_an_image_too_small_to_tell_its_noise_is_denoised_without_adaptation(run, tmp_path, few, noisy_picture):
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


@pytest.mark.slow
def test_a_batch_has_one_adaptation_for_each_kind_of_image(run, tmp_path, few, monkeypatch, contents, noisy_picture):
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
def test_a_bad_file_does_not_keep_the_others_from_adaptation(
    run, tmp_path, few, mode, contents, noisy_picture, random_picture
):
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


@pytest.mark.slow
def test_an_adaptation_that_is_killed_goes_on_and_what_is_there_is_not_done_again(
    run, tmp_path, few, monkeypatch, contents, noisy_picture
):
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


@pytest.mark.slow
def test_denoise_with_adaptation_is_adapt_by_default(run, tmp_path, noisy_picture):
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
        (["photo.png", "-o", "out", "--photographs", "nowhere"], "nowhere: got no folder"),
        (["photo.png", "-o", "out", "--photographs", "void"], "void: holds no image"),
        (["photo.png", "-o", "out", "--photographs", "twin", "--preset", "paper"], "photographs: got twin"),
        (["photo.png", "-o", "out", "--checkpoint", "none"], "none: no such file"),
        (["photo.png", "-o", "out", "--device", "abacus"], "device: got 'abacus', expected one that is available"),
        (["photo.png", "-o", "table"], "is no table of this command"),
    ],
)
def test_a_wrong_call_of_adapt_is_one_line(
    run, photo, tmp_path, monkeypatch, arguments, words, contents, random_picture
):
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
