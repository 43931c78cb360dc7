import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from indeed.networks.anomaly_detection import load_detector
from indeed.networks.checkpoint import (
    CheckpointError,
    load_checkpoint,
    read_record,
    save_checkpoint,
    shipped_checkpoint,
)
from indeed.networks.inference_network import InDeed, network_preset


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(3)
    model = InDeed(network_preset("tiny", 3)).eval()
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, model, {"preset": "tiny", "seed": 3})
    return path, model


def test_loading_gives_back_the_network_and_its_record(saved):
    path, model = saved
    loaded, record = load_checkpoint(path)
    y = torch.rand(2, 3, 16, 16)
    assert record == {"preset": "tiny", "seed": 3}
    assert loaded.config == model.config
    assert not loaded.training
    assert all(torch.equal(a, b) for a, b in zip(loaded(y)[1], model(y)[1], strict=True))


def test_loading_leaves_the_global_random_state_alone(saved):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    load_checkpoint(saved[0])
    assert torch.equal(torch.rand(1), expected)


def test_record_is_read_without_the_network(saved):
    path, model = saved
    content = read_record(path)
    assert content["record"]["seed"] == 3
    assert content["parameters"] == sum(value.numel() for value in model.state_dict().values())


def test_saving_leaves_no_temporary_file(saved):
    assert [path.name for path in saved[0].parent.iterdir()] == ["model.safetensors"]


def damaged(path, kind):
    if kind == "missing":
        path.unlink()
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("this is a letter to my grandmother")
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif kind == "foreign":
        save_file({"weight": torch.zeros(3)}, path)
    elif kind == "other configuration":
        content = read_record(path)
        network = content["network"] | {"sparse_width": 16}
        tensors = load_file(path)
        save_file(tensors, path, {"format": content["format"], "network": json.dumps(network), "record": "{}"})
    elif kind == "unknown field":
        content = read_record(path)
        network = content["network"] | {"colour": "blue"}
        tensors = load_file(path)
        save_file(tensors, path, {"format": content["format"], "network": json.dumps(network), "record": "{}"})


@pytest.mark.parametrize(
    "kind",
    ["missing", "folder", "empty", "text", "truncated", "foreign", "other configuration", "unknown field"],
)
def test_an_unusable_file_is_named_in_one_line(saved, kind):
    path, _ = saved
    damaged(path, kind)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert "model.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.shipped
@pytest.mark.parametrize(("name", "channels"), [("denoise_grey", 1), ("denoise_color", 3)])
def test_shipped_models_load_and_say_how_they_were_made(name, channels):
    path = shipped_checkpoint(name)
    model, record = load_checkpoint(path)
    assert model.config.channels == channels
    assert path.stat().st_size <= 12 * 2**20
    assert {"task", "provenance", "training", "validation", "steps", "seconds"} <= record.keys()
    assert record["provenance"]["commit"] not in ("", "unknown")
    # the blind denoiser must beat the noisy input, 20.2 dB at sigma 25
    assert record["validation"]["psnr"] > 25


@pytest.mark.shipped
@pytest.mark.parametrize("name", ["detect_textures", "detect_parts"])
def test_shipped_detectors_load_and_say_how_they_were_made(name):
    path = shipped_checkpoint(name)
    _, record = load_checkpoint(path)
    assert path.stat().st_size <= 12 * 2**20
    assert {"task", "provenance", "training", "validation", "steps", "seconds", "map", "side"} <= record.keys()
    assert record["provenance"]["commit"] not in ("", "unknown")
    assert not record["provenance"]["commit"].endswith("-dirty")
    assert len(load_detector(path).good_scores) == record["validation_images"]


def test_a_shipped_model_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr("pathlib.Path.is_file", lambda path: False)
    with pytest.raises(CheckpointError, match=r"denoise_grey_cpu\.safetensors"):
        shipped_checkpoint("denoise_grey")


@pytest.mark.parametrize("metadata", [{}, {"network": "{}"}, {"network": "{", "record": "{}"}])
def test_a_record_that_cannot_be_read_is_named(tmp_path, metadata):
    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.zeros(3)}, path, {"format": "indeed-checkpoint-1"} | metadata)
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        read_record(path)
