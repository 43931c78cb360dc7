"""Detectors learn from good images alone; how their maps are made is chosen on synthetic anomalies held out."""

import re
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score

from indeed.data.anomaly_sets import load
from indeed.data.benchmarks import DataError, DataMissingError
from indeed.data.image_files import ImageFileError
from indeed.data.patches import PatchSampler
from indeed.data.samples import sample_image
from indeed.images.anomaly_families import FAMILIES
from indeed.images.anomaly_synthesis import Synthesis
from indeed.images.detection_metrics import image_score
from indeed.images.metrics import psnr
from indeed.learning.loading import draw_batch
from indeed.learning.training.config import training_preset
from indeed.learning.training.sources import anomaly_samples
from indeed.networks.anomaly_detection import anomaly_maps, load_detector, map_settings
from indeed.networks.backbones import UNet
from indeed.networks.checkpoint import load_checkpoint
from indeed.networks.inference_network import InDeed, network_preset
from indeed.recipes import detector
from indeed.recipes import good_images as images_of_recipes
from indeed.recipes.choice import TURNS, chosen_map, synthetic_anomalies
from indeed.recipes.detector import (
    PART_SURFACE,
    TEXTURE_SURFACE,
    detector_network,
    train_detector,
    validation_on,
)
from indeed.recipes.good_images import SEED, TEXTURE_CONTRAST, UNSEEN_FAMILIES, good_images, texture_set_for_tests
from indeed.recipes.run import Run

SIDE = 32


@pytest.fixture(autouse=True)
def small(monkeypatch) -> None:
    monkeypatch.setattr(images_of_recipes, "SIDE", SIDE)
    monkeypatch.setattr(detector, "chosen_map", partial(chosen_map, least=4))
    monkeypatch.setattr(detector, "validation_on", partial(validation_on, count=4))


def run(out, **options):
    return train_detector(Run(out=out, preset="tiny", progress=False, **options))


def photographs(folder: Path, count: int, channels: int = 3, size: tuple[int, int] = (40, 50)) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(channels)
    for index in range(count):
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels if channels == 3 else pixels[..., 0]).save(folder / f"{index:02}.png")
    return folder


def layout(folder: Path, good: int) -> Path:
    """A set with one defect, laid out as the public ones."""
    photographs(folder / "train" / "good", good, channels=1)
    for part in ("good", "crack"):
        photographs(folder / "test" / part, 1, channels=1)
    mask = np.zeros((40, 50), np.uint8)
    mask[10:20, 5:15] = 255
    (folder / "ground_truth" / "crack").mkdir(parents=True)
    Image.fromarray(mask).save(folder / "ground_truth" / "crack" / "00_mask.png")
    return folder


def tiny() -> InDeed:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return InDeed(detector_network("tiny", 1)).eval()


def pieces(count: int = 3) -> list[torch.Tensor]:
    """8-bit parts of a photograph."""
    return [(sample_image("gravel")[:, :SIDE, k * SIDE : (k + 1) * SIDE] * 255).byte() for k in range(count)]


# good images


def test_textures_are_trained_on_in_one_half_held_out_below_and_tested_in_the_other():
    good = good_images("textures", 1, 128)
    assert (good.name, good.side, len(good.train), len(good.held_out)) == ("textures", None, 3, 3)
    for upper, lower, name in zip(good.train, good.held_out, ("brick", "grass", "gravel"), strict=True):
        whole = (sample_image(name) * 255).round().byte()
        assert torch.equal(torch.cat([upper, lower], dim=1), whole[..., : whole.shape[2] // 2])
        assert lower.shape[1] >= 128


@pytest.mark.parametrize("place", [".", "train/good", "tile/train/good"])
def test_a_folder_of_good_photographs_is_found_resized_and_one_in_ten_held_out(tmp_path, place):
    photographs(tmp_path / place, 20)
    photographs(tmp_path / "test" / "broken", 3)
    good = good_images(str(tmp_path), 1, 16)
    assert (good.name, good.side, len(good.train), len(good.held_out)) == (tmp_path.name, SIDE, 18, 2)
    assert {image.shape for image in good.train + good.held_out} == {(1, SIDE, SIDE)}


@pytest.mark.parametrize("channels", [1, 3])
def test_photographs_are_read_as_pillow_resizes_and_converts_them(tmp_path, channels):
    photographs(tmp_path, 2)
    (ours,) = good_images(str(tmp_path), channels, 16).held_out
    with Image.open(tmp_path / "00.png") as image:
        image = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        theirs = np.asarray(image.convert("L") if channels == 1 else image, dtype=int)
    difference = ours.permute(1, 2, 0).numpy().reshape(theirs.shape) - theirs
    assert np.abs(difference).max() <= 2


def test_sets_joined_by_a_plus_make_one(tmp_path, monkeypatch):
    monkeypatch.setenv("INDEED_DATA", str(tmp_path))
    layout(tmp_path / "uad" / "magnetic_tile", 6)
    layout(tmp_path / "uad" / "mvtec_screw_256", 5)
    good = good_images("mvtec_screw_256+magnetic_tile", 1, 16)
    assert (good.name, len(good.train), len(good.held_out)) == ("mvtec_screw_256+magnetic_tile", 10, 1)
    alone = good_images("magnetic_tile", 1, 16)
    assert any(torch.equal(alone.train[0], image) for image in good.train + good.held_out)


def test_bad_data_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("INDEED_DATA", str(tmp_path))
    for name in ("nowhere", "auto", "magnetic_tile+nowhere"):
        with pytest.raises(DataMissingError, match=re.escape(f"got '{name}'")):
            good_images(name, 1, 16)
    with pytest.raises(DataMissingError, match="magnetic_tile: nothing in"):
        good_images("magnetic_tile", 1, 16)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: holds no image"):
        good_images(str(tmp_path / "empty"), 1, 16)
    layout(tmp_path / "sets" / "whole", 6)
    for name, made in (("bad", "train/bad"), ("empty", "train/good")):
        (tmp_path / "sets" / name / made).mkdir(parents=True)
        with pytest.raises(DataError, match=f"{name}/train/good: holds no image, expected photographs of good parts"):
            good_images(str(tmp_path / "sets"), 1, 16)
        shutil.rmtree(tmp_path / "sets" / name)
    assert len(good_images(str(tmp_path / "sets"), 1, 16).train) == 5
    with pytest.raises(DataError, match="one: 1 good images, expected at least 2"):
        good_images(str(photographs(tmp_path / "one", 1)), 1, 16)
    damaged = photographs(tmp_path / "damaged", 3) / "01.png"
    damaged.write_bytes(damaged.read_bytes()[:200])
    with pytest.raises(ImageFileError, match=r"damaged/01\.png"):
        good_images(str(tmp_path / "damaged"), 1, 16)


# synthetic anomalies


@pytest.mark.slow
def test_rank_f_S_and_the_weight_of_the_mask_are_those_of_the_surface_or_those_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(detector, "chosen_map", lambda *arguments: {})
    good = {"data": str(photographs(tmp_path / "good", 4))}
    chosen = {
        "good": good,
        "asked": good | {"max_rank": 2, "halvings": 2},
        "textures": {"data": "textures"},
        "refused": {"data": "textures", "halvings": 0},
    }
    found = {}
    for name, options in chosen.items():
        trainer = run(tmp_path / f"{name}.safetensors", steps=1, **options)
        config = trainer.average.config
        f_S = (config.sparse_halvings, isinstance(trainer.average.f_S.trunk, UNet))
        found[name] = (config.max_rank, *f_S, trainer.config.mask_weight)
    assert found == {
        "good": (4, 0, False, PART_SURFACE.mask_weight),
        "asked": (2, 2, True, PART_SURFACE.mask_weight),
        "textures": (4, TEXTURE_SURFACE.halvings, True, TEXTURE_SURFACE.mask_weight),
        "refused": (4, 0, False, TEXTURE_SURFACE.mask_weight),
    }
    assert TEXTURE_SURFACE.largest_rank < network_preset("cpu", 1).max_rank


def test_halvings_that_do_not_go_with_the_network_are_named():
    for halvings, expected in (
        (-1, "sparse_halvings: got -1, expected 0 or"),
        (5, "expected a multiple"),
    ):
        with pytest.raises(ValueError, match=expected):
            detector_network("tiny", 1, halvings)
    with pytest.raises(ValueError, match="halvings: got 3, expected none at the preset paper"):
        detector_network("paper", 1, 3)


def test_textures_are_tested_with_families_that_are_not_trained_on():
    assert not set(UNSEEN_FAMILIES) & set(TEXTURE_SURFACE.synthesis.families)
    found = texture_set_for_tests()
    assert {defect for _, defect in found.classes} == set(UNSEEN_FAMILIES)
    good = {(item.category, item.part): load(item).image for item in found.test if item.defect == "good"}
    for item in found.test:
        image, mask = load(item)
        clean = good[item.category, item.part]
        assert torch.equal((image != clean)[0], mask)
        if item.defect != "good":
            assert 0.01 <= mask.double().mean() <= 0.05
            assert (image - clean)[0, mask].abs().mean() >= TEXTURE_CONTRAST


def test_synthetic_anomalies_are_the_same_each_time_and_at_least_as_many_as_asked_for():
    images = [image.float() / 255 for image in pieces()]
    one, other = (synthetic_anomalies(images, Synthesis(("cutpaste", "scar")), least=8) for _ in range(2))
    assert len(one) == 9
    assert all(torch.equal(a.observed, b.observed) for a, b in zip(one, other, strict=True))
    assert all(torch.equal(sample.normal[0], images[k % 3]) for k, sample in enumerate(one))
    assert {family for sample in one for family in sample.family} == {"cutpaste", "scar", "clean"}


def test_a_synthetic_anomaly_lies_in_a_window_and_the_rest_of_its_image_is_as_it_was():
    images = [image.float() / 255 for image in pieces()]
    for sample in synthetic_anomalies(images, Synthesis(("cutpaste",)), least=9, window=20):
        assert torch.equal(sample.observed - sample.normal, sample.anomaly)
        assert torch.equal(sample.mask, (sample.anomaly != 0).any(1))
        rows, columns = sample.mask[0].nonzero().T
        if len(rows):
            assert max(rows.max() - rows.min(), columns.max() - columns.min()) < 20


@pytest.mark.slow
def test_the_map_is_the_best_of_all_by_scikit_learn():
    model, images, synthesis = tiny(), pieces(), Synthesis(tuple(FAMILIES))
    made = chosen_map(model, images, synthesis, least=6)
    samples = synthetic_anomalies([image.float() / 255 for image in images], synthesis, least=6)
    truth = torch.cat([sample.mask.flatten() for sample in samples])

    def average_precision(form: str, smoothing: float) -> float:
        how = {"form": form, "smoothing": smoothing, "turns": TURNS}
        maps = [anomaly_maps(model, sample.observed, **how) for sample in samples]
        return average_precision_score(truth, torch.cat([one.flatten() for one in maps]).double())

    for name, found in made["average_precision"].items():
        form, smoothing = name.rsplit("_", 1)
        assert found == pytest.approx(average_precision(form, float(smoothing)), abs=1e-12)
    best = made["average_precision"][f"{made['form']}_{made['smoothing']:g}"]
    assert best == max(made["average_precision"].values())
    maps = anomaly_maps(model, torch.stack(images) / 255, **map_settings(made)._asdict())
    assert made["good_scores"] == pytest.approx(sorted(image_score(maps).tolist()), rel=1e-5)


def test_validation_is_that_of_one_draw_of_anomalies_whatever_the_batches():
    model, surfaces, synthesis = tiny(), [PatchSampler(pieces(), 16)], Synthesis(("cutpaste",))
    training = training_preset("tiny")
    samples = draw_batch(anomaly_samples(surfaces, training, synthesis), range(20), SEED)
    with torch.no_grad():
        draw = model(samples.observed)[1]
    mask, maps = (samples.observed != samples.target)[:, 0], anomaly_maps(model, samples.observed, form="share")
    validate = validation_on(surfaces, training, synthesis, count=20)
    for _ in range(2):
        found = validate(model)
        assert found.average_precision == pytest.approx(
            average_precision_score(mask.flatten(), maps.flatten()), abs=1e-5
        )
        assert found.psnr_low_rank == pytest.approx(psnr(draw.low_rank, samples.target).mean().item(), rel=1e-5)


def test_each_texture_is_a_surface_of_its_own_and_the_images_of_other_data_are_one():
    textures = good_images("textures", 1, 32)
    sources = TEXTURE_SURFACE.patches(textures.train, 32)
    for source, image in zip(sources, textures.train, strict=True):
        patch = source(torch.Generator().manual_seed(0))
        assert torch.equal(patch, PatchSampler([image], 32)(torch.Generator().manual_seed(0)))
    assert len(sources) == 3
    (parts,) = PART_SURFACE.patches(textures.train, 32)
    # zoom and gamma vary in training, and of textures only
    spreads = [source.spread for source in TEXTURE_SURFACE.patches(textures.train, 32, training=True)]
    assert spreads == 3 * [TEXTURE_SURFACE.spread]
    (trained_parts,) = PART_SURFACE.patches(textures.train, 32, training=True)
    assert {source.spread for source in (*sources, parts, trained_parts)} == {1.0}


# training


@pytest.mark.parametrize("channels", [1, 3])
def test_networks_for_detection_shrink_the_residual_and_that_of_the_paper_is_the_papers(channels):
    for preset in ("tiny", "cpu"):
        network = detector_network(preset, channels)
        seen = (network.sparse_input, network.sparse_output)
        assert (network.channels, *seen) == (channels, "observation_and_residual", "shrinkage")
    assert detector_network("paper", channels) == network_preset("paper", channels)


@pytest.mark.slow
def test_good_photographs_become_a_detector_with_its_record(tmp_path):
    photographs(tmp_path / "good", 4)
    out = tmp_path / "detector.safetensors"
    trainer = run(out, data=str(tmp_path / "good"), seed=4)
    model, record = load_checkpoint(out)
    assert model.config == detector_network("tiny", 1)
    assert record["task"] == "detect"
    assert record["provenance"]["seed"] == 4
    assert record["provenance"]["data"] == "good"
    assert record["steps"] == trainer.step == 20
    assert record["training"]["noise_high"] == pytest.approx(5 / 255)
    assert (record["training_images"], record["validation_images"], record["side"]) == (3, 1, SIDE)
    assert record["validation"].keys() == {*Synthesis._fields, "seed", "average_precision", "psnr_low_rank"}
    assert set(record["validation"]["families"]) == set(FAMILIES)
    assert record["training"]["mask_weight"] == PART_SURFACE.mask_weight
    made = load_detector(out)
    assert (made.side, made.settings) == (SIDE, (record["map"]["form"], record["map"]["smoothing"], TURNS))
    held_out = good_images(str(tmp_path / "good"), 1, 16).held_out[0].float() / 255
    assert made(held_out).score == pytest.approx(made.good_scores[0], rel=1e-5)
    header = (tmp_path / "detector" / "log.csv").read_text().splitlines()[0]
    assert {"average_precision", "psnr_low_rank"} <= set(header.split(","))


@pytest.mark.slow
def test_a_finished_run_resumed_gives_the_same_detector(tmp_path):
    photographs(tmp_path / "good", 2)
    out = tmp_path / "detector.safetensors"
    options = {"data": str(tmp_path / "good"), "steps": 4}
    run(out, **options)
    first, record = load_checkpoint(out)
    out.unlink()
    run(out, resume=True, **options)
    again, record_again = load_checkpoint(out)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert record["map"] == record_again["map"]
    with pytest.raises(FileExistsError, match="resume"):
        run(out, **options)


@pytest.mark.slow
def test_options_reach_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(detector, "chosen_map", lambda *arguments: arguments[2]._asdict())
    early, late = tmp_path / "early.safetensors", tmp_path / "late.safetensors"
    run(early, steps=1, channels=3)
    options = {"batch_size": 2, "learning_rate": 1e-4, "precision": None}
    run(late, steps=1, channels=3, patch_size=32, start=early, **options)
    model, record = load_checkpoint(late)
    assert (model.config.channels, model.config.patch_size) == (3, 32)
    assert record["start"]["steps"] == 1
    expected = TEXTURE_SURFACE.synthesis._replace(
        families=list(TEXTURE_SURFACE.synthesis.families), area=list(TEXTURE_SURFACE.synthesis.area)
    )
    assert record["map"] == expected._asdict()
    assert record["training"]["precision"] == "float32"
    assert (record["training"]["batch_size"], record["training"]["learning_rate"]) == (2, 1e-4)


def test_a_rank_out_of_range_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"max_rank: got .*, expected 1 to patch_size"):
        run(tmp_path / "a.safetensors", max_rank=0)
