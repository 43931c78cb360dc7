"""What all trainings of networks that ship have in common, on a task made up here."""

import json
from typing import NamedTuple

import pytest
import torch

from indeed.learning.loading import Sample
from indeed.learning.training.config import training_preset
from indeed.learning.training.task import DENOISING
from indeed.networks.checkpoint import load_checkpoint, save_checkpoint
from indeed.networks.inference_network import InDeed, network_preset
from indeed.recipes.run import Recipe, Run, train


class Measured(NamedTuple):
    brightness: float


def flat(generator: torch.Generator) -> Sample:
    image = torch.rand(1, generator=generator).expand(1, 16, 16)
    return Sample(image, image)


def recipe(name: str = "flatten", data: str = "flat") -> Recipe:
    return Recipe(
        name,
        data,
        network_preset("tiny", 1),
        training_preset("tiny"),
        flat,
        DENOISING,
        lambda model: Measured(0.5),
        Measured._fields,
        {"how": "by eye"},
        {"colour": "grey"},
        lambda model: {"parameters_seen": sum(value.numel() for value in model.parameters())},
    )


def run(out, made=None, **options):
    return train(Run(out=out, preset="tiny", progress=False, **({"stop_at": 3} | options)), made or recipe())


def test_the_record_says_what_was_trained_how_it_was_measured_and_what_was_found_out(tmp_path):
    out = tmp_path / "model.safetensors"
    trainer = run(out)
    model, record = load_checkpoint(out)
    assert (record["task"], record["provenance"]["data"], record["steps"]) == ("flatten", "flat", 3)
    assert record["validation"] == {"how": "by eye", "brightness": 0.5}
    assert (record["colour"], record["start"]) == ("grey", None)
    assert record["parameters_seen"] == record["parameters"] == sum(p.numel() for p in model.parameters())
    weights = trainer.average.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert trainer.folder == tmp_path / "model"


def test_a_resumed_run_has_the_provenance_of_its_first_start_and_the_commits_of_all(tmp_path):
    out, folder = tmp_path / "model.safetensors", tmp_path / "run"
    run(out, folder=folder)
    starts = json.loads((folder / "started.json").read_text())
    starts[0]["commit"] = "an earlier one"
    (folder / "started.json").write_text(json.dumps(starts))
    assert run(out, folder=folder, stop_at=6, resume=True).step == 6
    record = load_checkpoint(out)[1]
    assert record["provenance"] == starts[0]
    assert len(record["commits"]) == 2


def test_a_run_is_not_continued_for_other_data(tmp_path):
    out = tmp_path / "model.safetensors"
    run(out)
    with pytest.raises(ValueError, match="expected the configuration of the run"):
        run(out, recipe(data="wavy"), resume=True)


def test_another_ending_or_another_network_to_start_from_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^out: got .*model\.pt"):
        run(tmp_path / "model.pt")
    other = tmp_path / "colour.safetensors"
    save_checkpoint(other, InDeed(network_preset("tiny", 3)), {})
    with pytest.raises(ValueError, match=r"colour\.safetensors: got a network of other sizes"):
        run(tmp_path / "model.safetensors", start=other)
    assert [path.name for path in tmp_path.iterdir()] == ["colour.safetensors"]
