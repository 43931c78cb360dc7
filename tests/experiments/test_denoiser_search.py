from dataclasses import replace

import pytest

from indeed.experiments import denoiser_search
from indeed.experiments.denoiser_search import CANDIDATES, LEVELS, SIZES, TABLE, Round, cells, gflop_megapixel
from indeed.experiments.design_search import flops
from indeed.learning.training.trainer import Trainer
from indeed.networks.inference_network import network_preset


def test_candidates_are_forms_that_the_preset_can_have_and_differ():
    size = SIZES["cpu"]
    forms = [(replace(size.network, **form.network), replace(size.training, **form.training)) for form in CANDIDATES]
    assert all(one not in forms[:index] for index, one in enumerate(forms))
    assert len({form.name for form in CANDIDATES}) == len({form.meaning for form in CANDIDATES}) == len(CANDIDATES)


def test_later_rounds_follow_the_earlier_ones_with_their_own_forms_and_seeds(monkeypatch):
    rounds = (Round(1e-4, ("unet", "cpu")), Round(1e-3, ("cpu",), (0, 1)))
    monkeypatch.setitem(SIZES, "smoke", replace(SIZES["smoke"], rounds=rounds))
    assert cells("smoke") == [(1, "unet", 0), (1, "cpu", 0), (2, "cpu", 0), (2, "cpu", 1)]
    with pytest.raises(ValueError, match="round: got 3, expected 1 to 2"):
        TABLE.cell(3, "cpu", 0, profile="smoke")


def test_a_row_has_the_quality_at_each_level_what_it_cost_and_what_it_costs_in_use(tmp_path, monkeypatch):
    (row,) = TABLE.cell(1, "observation", 0, profile="smoke", runs=tmp_path)
    values = [float(row[f"psnr_{level}"]) for level in LEVELS]
    assert values[0] > values[1] > values[2] > float(row["psnr_low_rank"])
    teraflop = SIZES["smoke"].rounds[0].teraflop
    assert float(row["steps"]) * float(row["gflop_per_step"]) == pytest.approx(1e3 * teraflop, rel=0.2)
    assert float(row["seconds_per_step"]) > 0
    monkeypatch.setattr(Trainer, "run", None)  # what is done is read, not computed again
    assert TABLE.cell(1, "observation", 0, profile="smoke", runs=tmp_path) == [row]


def test_operations_in_use_are_a_third_of_those_in_training_but_for_what_tiles_share():
    network = network_preset("tiny", 3)
    forward = flops(network, 1) / 3 / network.patch_size**2 / 1e3
    assert forward < gflop_megapixel(network) < forward / 0.75**2
    wide = replace(network, sparse_width=32)
    assert gflop_megapixel(wide) > gflop_megapixel(network)


def test_a_shrunken_image_is_measured_too(tmp_path, monkeypatch):
    monkeypatch.setattr(denoiser_search, "SIDE", 24)
    (row,) = TABLE.cell(1, "residual_unet", 0, profile="smoke", runs=tmp_path)
    assert float(row["psnr_15"]) > 10
