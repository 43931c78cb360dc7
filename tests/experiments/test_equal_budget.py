import json

import pytest
import torch

from indeed.baselines.dncnn import load_dncnn
from indeed.experiments.equal_budget import TABLE
from indeed.learning.training.config import training_preset
from indeed.learning.training.trainer import Trainer
from indeed.networks.checkpoint import load_checkpoint, read_record
from indeed.networks.inference_network import network_preset
from indeed.recipes.equal_budget import MODELS, SIZES, checkpoint_path, measure_budget, train_within_budget

SMOKE = {"profile": "smoke", "data": "embedded"}


@pytest.fixture
def budget(tmp_path):
    """Two steps for each network, as if they had been measured."""
    counts = {model: {"budget_seconds": 1.0, "seconds_per_step": 0.5, "steps": 2} for model in MODELS}
    (tmp_path / "budget_grey.json").write_text(json.dumps(counts))
    return tmp_path


def test_the_steps_of_each_network_fill_the_budget(tmp_path):
    measured = measure_budget(folder=tmp_path, rounds=1, **SMOKE)
    assert set(measured) == set(MODELS)
    for row in measured.values():
        assert row["steps"] * row["seconds_per_step"] == pytest.approx(row["budget_seconds"], rel=0.5)
    assert measure_budget(folder=tmp_path, **SMOKE) == measured  # read, not measured again


def test_both_networks_are_trained_by_the_same_loop_on_the_same_images(budget):
    paths = {model: train_within_budget(model, folder=budget, progress=False, **SMOKE) for model in MODELS}
    histories = {model: read_record(path)["record"] for model, path in paths.items()}
    for name in ("learning_rate", "schedule", "ema_decay", "noise_high", "precision", "seed", "steps"):
        assert histories["dncnn"]["training"][name] == histories["indeed"]["training"][name]
    assert histories["dncnn"]["provenance"]["data"] == histories["indeed"]["provenance"]["data"] == "embedded"
    for size in SIZES.values():
        pixels = training_preset(size.preset).batch_size * network_preset(size.preset, 1).patch_size ** 2
        assert size.batch * size.patch**2 == pixels
    assert not histories["dncnn"]["training"]["variational"]
    assert histories["indeed"]["training"]["variational"]
    assert load_dncnn(paths["dncnn"])[0].config.depth == 3
    assert load_checkpoint(paths["indeed"])[0].config.channels == 1


@pytest.mark.slow
def test_a_dncnn_learns(tmp_path):
    counts = {model: {"budget_seconds": 1.0, "seconds_per_step": 0.5, "steps": 60} for model in MODELS}
    (tmp_path / "budget_grey.json").write_text(json.dumps(counts))
    history = read_record(train_within_budget("dncnn", folder=tmp_path, progress=False, **SMOKE))["record"]
    assert history["validation"]["psnr"] > 20.17 + 2  # better than the noisy image at sigma 25


@pytest.mark.slow
def test_a_killed_run_continues_to_the_same_network(budget, monkeypatch):
    whole = load_dncnn(train_within_budget("dncnn", folder=budget, progress=False, **SMOKE))[0].state_dict()
    again = budget / "again"
    again.mkdir()
    (again / "budget_grey.json").write_bytes((budget / "budget_grey.json").read_bytes())
    run = Trainer.run
    monkeypatch.setattr(Trainer, "run", lambda self, *_: run(self, stop_at=1, progress=False))
    path = train_within_budget("dncnn", folder=again, progress=False, **SMOKE)
    path.unlink()
    monkeypatch.undo()
    resumed = load_dncnn(train_within_budget("dncnn", folder=again, progress=False, **SMOKE))[0].state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.slow
def test_what_the_budget_bought_is_recorded(budget):
    rows = {row["model"]: row for row in TABLE.table("smoke", budget, runs=budget)}
    assert [float(rows[model]["steps"]) for model in MODELS] == [2, 2]
    assert all(float(row["minutes"]) == 1 / 60 and float(row["psnr"]) > 0 for row in rows.values())
    assert checkpoint_path("dncnn", 1, budget).is_file()


def test_a_damaged_budget_is_named(budget):
    (budget / "budget_grey.json").write_text('{"dncnn"')
    with pytest.raises(ValueError, match=r"budget_grey\.json: damaged"):
        measure_budget(folder=budget, **SMOKE)


def test_the_command_trains_and_reports_faults_in_one_line(budget, capsys):
    arguments = ["--profile", "smoke", "--data", "embedded", "--folder", str(budget), "--no-progress"]
    TABLE.main(["train", "indeed", *arguments])
    assert checkpoint_path("indeed", 1, budget).is_file()
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        TABLE.main(["train", "dncnn", "--data", "nowhere", "--folder", str(budget / "other")])
    assert stop.value.code == 2
    assert "nowhere" in capsys.readouterr().err
