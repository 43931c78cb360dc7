import pytest
import torch
from PIL import Image

from indeed.data.benchmarks import DataMissingError
from indeed.experiments.denoiser import train_denoiser
from indeed.networks.checkpoint import load_checkpoint


@pytest.mark.parametrize("channels", [1, 3])
def test_a_preset_becomes_a_checkpoint_with_its_record(tmp_path, channels):
    out = tmp_path / "model.safetensors"
    trainer = train_denoiser(out, preset="tiny", channels=channels, data="embedded", seed=4, progress=False)
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
    train_denoiser(out, preset="tiny", channels=1, data=str(tmp_path), steps=2, progress=False)
    record = load_checkpoint(out)[1]
    assert (record["training_images"], record["validation_images"]) == (4, 1)


def test_a_finished_run_resumed_gives_the_same_checkpoint(tmp_path):
    out = tmp_path / "model.safetensors"
    train_denoiser(out, preset="tiny", data="embedded", progress=False)
    first = load_checkpoint(out)[0].state_dict()
    out.unlink()
    train_denoiser(out, preset="tiny", data="embedded", resume=True, progress=False)
    again = load_checkpoint(out)[0].state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)


def test_missing_data_and_bad_targets_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("INDEED_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataMissingError, match="nowhere"):
        train_denoiser(tmp_path / "a.safetensors", preset="tiny", data="bsd", progress=False)
    with pytest.raises(DataMissingError, match="'imaginary'"):
        train_denoiser(tmp_path / "a.safetensors", preset="tiny", data="imaginary", progress=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataMissingError, match="at least two images"):
        train_denoiser(tmp_path / "a.safetensors", preset="tiny", data=str(tmp_path / "empty"), progress=False)
    with pytest.raises(ValueError, match=r"\.safetensors"):
        train_denoiser(tmp_path / "a.pt", preset="tiny", data="embedded", progress=False)


def test_automatic_data_falls_back_on_the_embedded_photographs(tmp_path, monkeypatch):
    monkeypatch.setenv("INDEED_DATA", str(tmp_path / "nowhere"))
    out = tmp_path / "model.safetensors"
    train_denoiser(out, preset="tiny", data="auto", steps=2, progress=False)
    assert load_checkpoint(out)[1]["provenance"]["data"] == "embedded"


def test_fields_of_the_training_are_changed_by_name(tmp_path):
    out = tmp_path / "model.safetensors"
    changes = {"batch_size": 2, "accumulate": 2, "precision": "bfloat16", "compile": None}
    train_denoiser(out, preset="tiny", data="embedded", steps=2, progress=False, **changes)
    training = load_checkpoint(out)[1]["training"]
    assert {name: training[name] for name in changes} == changes | {"compile": False}


def test_a_run_that_is_stopped_early_gives_weights_to_start_from(tmp_path):
    early, late = tmp_path / "early.safetensors", tmp_path / "late.safetensors"
    train_denoiser(early, preset="tiny", data="embedded", steps=6, stop_at=3, progress=False)
    model, record = load_checkpoint(early)
    assert (record["steps"], record["training"]["steps"]) == (3, 6)
    train_denoiser(late, preset="tiny", data="embedded", steps=1, start=early, patch_size=32, progress=False)
    assert load_checkpoint(late)[0].config.patch_size == 2 * model.config.patch_size
