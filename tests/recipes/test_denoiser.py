from dataclasses import replace

import pytest
import torch
from PIL import Image

from indeed.data.benchmarks import DataMissingError
from indeed.data.samples import sample_image, sample_names
from indeed.images.pixels import eight_bit
from indeed.learning.training.config import training_preset
from indeed.learning.training.log import read_log
from indeed.networks.backbones import parameter_count
from indeed.networks.checkpoint import load_checkpoint
from indeed.networks.inference_network import InDeed, network_preset
from indeed.recipes import run as recipes_run
from indeed.recipes.denoiser import UNQUOTED, train_denoiser, training_images
from indeed.recipes.run import Run


def run(out, **options):
    return train_denoiser(Run(out=out, preset="tiny", progress=False, **options))


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3])
def test_a_preset_becomes_a_checkpoint_with_its_record(tmp_path, channels):
    out = tmp_path / "model.safetensors"
    trainer = run(out, channels=channels, data="embedded", seed=4)
    model, record = load_checkpoint(out)
    assert model.config.channels == channels
    assert record["provenance"]["seed"] == 4
    assert record["provenance"]["data"] == "embedded"
    assert record["steps"] == trainer.step == 20
    assert record["training"]["noise_high"] == pytest.approx(75 / 255)
    assert record["throughput"]["patches_per_second"] > 0
    weights, averaged = model.state_dict(), trainer.average.state_dict()
    assert all(torch.equal(weights[key], averaged[key]) for key in averaged)


def test_a_folder_of_images_is_split_and_converted_to_the_channels(tmp_path):
    generator = torch.Generator().manual_seed(0)
    for index in range(5):
        pixels = torch.randint(0, 256, (40, 40, 3), generator=generator, dtype=torch.uint8).numpy()
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    out = tmp_path / "out" / "model.safetensors"
    out.parent.mkdir()
    run(out, channels=1, data=str(tmp_path), steps=2)
    record = load_checkpoint(out)[1]
    assert (record["training_images"], record["validation_images"]) == (4, 1)


@pytest.mark.slow
def test_a_finished_run_resumed_gives_the_same_checkpoint(tmp_path):
    out = tmp_path / "model.safetensors"
    run(out, data="embedded")
    first = load_checkpoint(out)[0].state_dict()
    out.unlink()
    run(out, data="embedded", resume=True)
    again = load_checkpoint(out)[0].state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)


def test_missing_data_and_bad_targets_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("INDEED_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataMissingError, match="nowhere"):
        run(tmp_path / "a.safetensors", data="bsd")
    with pytest.raises(DataMissingError, match="'imaginary'"):
        run(tmp_path / "a.safetensors", data="imaginary")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataMissingError, match="at least two images"):
        run(tmp_path / "a.safetensors", data=str(tmp_path / "empty"))
    with pytest.raises(ValueError, match=r"\.safetensors"):
        run(tmp_path / "a.pt", data="embedded")


def test_automatic_data_falls_back_on_the_embedded_photographs(tmp_path, monkeypatch):
    monkeypatch.setenv("INDEED_DATA", str(tmp_path / "nowhere"))
    out = tmp_path / "model.safetensors"
    run(out, data="auto", steps=2)
    assert load_checkpoint(out)[1]["provenance"]["data"] == "embedded"


def test_fields_of_the_training_are_changed_by_name(tmp_path):
    out = tmp_path / "model.safetensors"
    changes = {"batch_size": 2, "accumulate": 2, "precision": "bfloat16", "learning_rate": None}
    run(out, data="embedded", steps=2, **changes)
    training = load_checkpoint(out)[1]["training"]
    assert {name: training[name] for name in changes} == changes | {"learning_rate": 1e-3}


def test_a_run_that_learns_from_files_too_reports_both_kinds(tmp_path, monkeypatch):
    tiny = training_preset("tiny")
    asked = {"clipped": 0.5, "spread": 1.5, "saturation": 2.0, "varied": 0.5}
    monkeypatch.setattr(recipes_run, "training_preset", lambda name: replace(tiny, **asked))
    out = tmp_path / "model.safetensors"
    run(out, channels=3, data="embedded", steps=2)
    record = load_checkpoint(out)[1]
    assert {name: record["training"][name] for name in asked} == asked
    # What is clipped is noise: a network that has learned next to nothing is a little better on files.
    assert record["validation"]["psnr"] < record["validation"]["psnr_clipped"] < record["validation"]["psnr"] + 1
    assert float(read_log(tmp_path / "model" / "log.csv")[-1]["psnr_clipped"]) == record["validation"]["psnr_clipped"]


def test_the_preset_of_long_runs_learns_from_files_of_other_statistics_and_of_all_levels():
    short, long = training_preset("cpu"), training_preset("cpu-long")
    assert long.noise_high == pytest.approx(75 / 255)
    assert 0 < long.clipped < 1
    assert long.spread > 1
    assert long.saturation > 1
    assert (short.clipped, short.spread, short.saturation) == (0, 1, 1)
    for channels in (1, 3):
        assert 4 * parameter_count(InDeed(network_preset("cpu-long", channels))) <= 12e6


def test_photographs_beside_the_berkeley_images_are_pieces_of_those_that_nothing_is_measured_on():
    try:
        name, train, held_out = training_images("bsd", 3, 64)
    except DataMissingError as error:
        pytest.skip(str(error))
    more = training_images("bsd+embedded", 3, 64)
    assert more[0] == f"{name}+embedded"
    assert len(more[2]) == len(held_out)
    extra = more[1][len(train) :]
    assert {piece.shape for piece in extra} == {(3, 256, 256)}
    assert len(extra) > 20
    quoted = [eight_bit(sample_image(other), 3) for other in set(sample_names(3)) - set(UNQUOTED)]
    assert not any(torch.equal(piece, image[:, :256, :256]) for piece in extra for image in quoted)


@pytest.mark.slow
def test_a_run_that_is_stopped_early_gives_weights_to_start_from(tmp_path):
    early, late = tmp_path / "early.safetensors", tmp_path / "late.safetensors"
    run(early, data="embedded", steps=6, stop_at=3)
    model, record = load_checkpoint(early)
    assert (record["steps"], record["training"]["steps"]) == (3, 6)
    run(late, data="embedded", steps=1, start=early, patch_size=32)
    assert load_checkpoint(late)[0].config.patch_size == 2 * model.config.patch_size
