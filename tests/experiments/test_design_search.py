import csv
from dataclasses import replace
from pathlib import Path

import pytest

from indeed.experiments.design_search import FORMS, TABLE, Form, configurations, flops
from indeed.learning.training.config import training_preset
from indeed.learning.training.trainer import Trainer
from indeed.networks.inference_network import InDeed, network_preset
from indeed.tables import read_table

PRESET = FORMS[0]


def cell(form, folder):
    (row,) = TABLE.cell(form, profile="smoke", runs=folder)
    return row


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"sparse_width": 24},
        {"sparse_unshuffle": 1},
        {"factor_halving": False},
        {"patch_size": 8},
        {"patch_size": 32},
        {"norm": "group"},
    ],
)
def test_every_form_gets_the_arithmetic_of_the_steps_of_the_preset(change):
    base, run = network_preset("tiny", 1), training_preset("tiny")
    steps = 400
    network, training = configurations(Form("changed", "a change", change), "tiny", 1, steps)
    budget = flops(base, run.batch_size) * steps
    cost = flops(network, training.batch_size)
    assert abs(training.steps * cost - budget) <= cost / 2
    # ... in batches with the same number of pixels
    assert training.batch_size * network.patch_size**2 == run.batch_size * base.patch_size**2


def test_forms_have_names_of_their_own_and_each_changes_the_preset():
    assert len({form.name for form in FORMS}) == len({form.meaning for form in FORMS}) == len(FORMS)
    assert not PRESET.network
    assert not PRESET.training
    network, training = network_preset("cpu", 1), training_preset("cpu")
    for form in FORMS[1:]:
        assert replace(network, **form.network) != network or replace(training, **form.training) != training, form.name


def test_operations_are_those_of_the_forward_and_backward_pass():
    # A channel more in the head of f_S: its weights once forward, once for their gradient, once for that of the input.
    network = replace(network_preset("tiny", 1), sparse_blocks=1)
    one, two = (flops(network, batch) for batch in (1, 2))
    assert two == 2 * one
    parameters = sum(value.numel() for value in InDeed(network).parameters())
    assert one > 2 * 3 * parameters  # every weight is used at many pixels, forward and twice backward
    assert flops(replace(network, sparse_width=16), 1) > one


def test_a_row_has_the_validation_and_what_it_cost(tmp_path):
    row = cell("narrow", tmp_path)
    network, training = configurations(next(form for form in FORMS if form.name == "narrow"), "tiny", 1, 4)
    assert row["form"] == "narrow"
    assert float(row["steps"]) == training.steps < 4
    assert float(row["gflop_per_step"]) == pytest.approx(flops(network, training.batch_size) / 1e9)
    assert 0 < float(row["psnr_low_rank"]) < float(row["psnr"])
    assert row["data"] == "embedded"


@pytest.mark.slow
def test_a_killed_search_continues_to_the_same_row(tmp_path, monkeypatch):
    whole = cell("preset", tmp_path / "whole")
    run = Trainer.run

    def killed(self, progress=True):
        run(self, stop_at=2, progress=False)
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        cell("preset", tmp_path / "again")
    monkeypatch.undo()
    assert (tmp_path / "again" / "preset" / "config.json").read_text()
    again = cell("preset", tmp_path / "again")
    assert [again[name] for name in ("psnr", "psnr_low_rank", "steps")] == [
        whole[name] for name in ("psnr", "psnr_low_rank", "steps")
    ]
    with (tmp_path / "again" / "preset" / "log.csv").open(newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["4"]
    # What is done is read, not computed again.
    monkeypatch.setattr(Trainer, "run", killed)
    assert cell("preset", tmp_path / "again") == again


@pytest.mark.parametrize("part", ["network", "training"])
def test_a_form_that_names_an_unknown_field_fails_and_names_it(part):
    with pytest.raises((TypeError, ValueError), match="colour_of_the_sky"):
        configurations(Form("odd", "a field that is none", **{part: {"colour_of_the_sky": 1}}), "tiny", 1, 3)


def test_the_published_search_has_a_row_for_each_form():
    published = Path(__file__).parents[2] / "results" / "measured" / "cpu" / "design_search.csv"
    assert [row["form"] for row in read_table(published)] == [form.name for form in FORMS]
