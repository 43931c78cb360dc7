import csv
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from indeed.data.image_files import read_image
from indeed.data.samples import sample_path
from indeed.experiments import table3
from indeed.experiments.table3_conclusions import CLAIMS, FIGURES, beside_paper, printed, verdicts
from indeed.images.metrics import psnr
from indeed.images.noise import seeded_gaussian
from indeed.networks.backbones import parameter_count
from indeed.networks.inference_network import InDeed, NetworkConfig
from indeed.record import results_folder
from indeed.tables import rank_correlation, read_table


def row(model, low_rank, total, seed=0, heads="moments"):
    values = {"psnr_low_rank": low_rank, "ssim_low_rank": 0.5, "psnr": total, "ssim": 0.8, "parameters_million": 0.1}
    return {"model": str(model), "heads": heads, "seed": str(seed)} | {
        name: str(value) for name, value in values.items()
    }


def paper_rows(shift=0.0, **changes):
    """Rows as if the paper's own numbers had been measured, with ``m<model>=(L, L + S)`` changed."""
    rows = []
    for model, theirs in printed().items():
        low_rank, total = float(theirs["psnr_L"]), float(theirs["psnr_L_plus_S"])
        rows.append(row(model, *changes.get(f"m{model}", (low_rank + shift, total + shift))))
    return rows


def test_paper_size_has_the_depths_ranks_norms_and_parameter_counts_of_the_table():
    for model, theirs in printed().items():
        config = table3.network(model, "paper")
        assert config.max_rank == int(theirs["max_rank"])
        if theirs["backbone"] == "ResNet":
            assert 2 * config.factor_blocks + 1 == int(theirs["depth"])
            assert config.factor_kernel_size == int(theirs["kernel_size"])
            assert config.norm == {"GroupNorm": "group", "BatchNorm": "batch"}[theirs["norm"]]
        with torch.device("meta"):
            count = parameter_count(InDeed(config)) / 1e6
        assert count == pytest.approx(float(theirs["params_million"]), rel=0.03)
    assert table3.network(3, "paper") == NetworkConfig()


@pytest.mark.parametrize("profile", ["smoke", "cpu"])
def test_smaller_sizes_keep_ranks_patches_and_the_ratios_of_the_widths(profile):
    size = table3.SIZES[profile]
    for model in printed():
        config, paper = table3.network(model, profile), table3.network(model, "paper")
        assert (config.max_rank, config.norm, config.backbone) == (paper.max_rank, paper.norm, paper.backbone)
        assert config.patch_size == paper.patch_size == 128
        assert table3.network(model, profile, "mean").factor_moments == paper.factor_moments == 1
        assert config.factor_moments > 1
        for name in ("factor_width", "sparse_width") + ("transformer_width",) * (model == 11):
            assert getattr(config, name) * size.width == getattr(paper, name)


def test_a_third_of_the_depth_keeps_depth_times_kernel_size_nearly_equal():
    products = []
    for model in (1, 2, 3):
        config, paper = table3.network(model, "cpu"), table3.network(model, "paper")
        depth, full = 2 * config.factor_blocks + 1, 2 * paper.factor_blocks + 1
        assert abs(depth - full / 3) <= 1  # the nearest odd number
        assert full * paper.factor_kernel_size == 105
        products.append(depth * config.factor_kernel_size)
    assert products == [35, 35, 33]


@pytest.mark.parametrize("profile", ["smoke", "cpu", "paper"])
def test_models_of_a_seed_are_trained_alike_but_for_the_loss_of_model_9(profile):
    runs = {model: table3.training(model, profile, 1) for model in printed()}
    assert [model for model, run in runs.items() if not run.variational] == [9]
    del runs[9]
    assert len(set(map(repr, runs.values()))) == 1


def test_a_cell_has_the_columns_of_the_table(tmp_path):
    (first,) = table3.TABLE.cell(4, "moments", 0, profile="smoke", runs=tmp_path)
    assert {"model": "4", "heads": "moments", "seed": "0", "profile": "smoke"}.items() <= first.items()
    assert all(math.isfinite(float(first[figure])) for figure in FIGURES)
    assert len(first["data_hash"]) == 12


@pytest.mark.slow
def test_a_killed_training_goes_on_and_ends_as_if_it_had_not_been_killed(tmp_path):
    key = {"model": 9, "heads": "mean", "seed": 0}
    table3.train_model(key, profile="smoke", folder=tmp_path / "killed", stop_at=1)
    resumed = table3.train_model(key, profile="smoke", folder=tmp_path / "killed")
    whole = table3.train_model(key, profile="smoke", folder=tmp_path / "whole")
    assert resumed.step == whole.step == 2
    for a, b in zip(resumed.average.parameters(), whole.average.parameters(), strict=True):
        assert torch.equal(a, b)


def test_running_statistics_of_batch_norm_are_those_of_the_averaged_weights(tmp_path):
    """The first layer's statistics are moments of the stem's output under the averaged weights on training batches."""
    key = {"model": 10, "heads": "mean", "seed": 0}
    trainer = table3.train_model(key, profile="smoke", folder=tmp_path)
    trunk = trainer.average.f_A.trunk
    means = []
    with torch.no_grad():
        for step in range(2):
            features = trunk.blocks[0].conv1(trunk.stem(trainer.draw(step)[0].observed))
            means.append(features.mean((0, 2, 3)))
    torch.testing.assert_close(trunk.blocks[0].norm1.running_mean, torch.stack(means).mean(0), rtol=1e-4, atol=1e-5)
    # they are not those that the training left, of weights that were not yet there
    left = trainer.model.f_A.trunk.blocks[0].norm1.running_mean
    assert not torch.allclose(trunk.blocks[0].norm1.running_mean, left, rtol=1e-2)
    assert not trainer.average.training
    assert not any(isinstance(part, nn.BatchNorm2d) for part in table3.InDeed(table3.network(3, "smoke")).modules())


def test_measured_figures_are_those_of_the_parts_of_the_decomposition():
    """A network whose S is the observation minus L leaves the noise: L + S is then as far from the truth as Y."""

    class Copy(InDeed):
        def forward(self, y, generator=None):
            middle, draw = super().forward(y, generator)
            return middle, draw._replace(S=y - draw.low_rank)

    torch.manual_seed(0)
    measured = table3.measure(Copy(table3.network(4, "smoke")).eval(), [sample_path("astronaut")], crop=128)
    assert list(measured) == list(FIGURES)
    clean = read_image(sample_path("astronaut")).tensor()[:, :128, :128]
    assert measured["psnr"] == pytest.approx(
        psnr(seeded_gaussian(clean, 25, seed=0)[None], clean[None]).item(), abs=0.01
    )
    assert measured["psnr_low_rank"] < measured["psnr"]


def test_cells_are_ordered_by_seed_and_complete():
    keys, size = table3.TABLE.keys("cpu"), table3.SIZES["cpu"]
    assert len(keys) == len(size.seeds) * (11 + len(size.contrast))
    assert [key["model"] for key in keys[:11]] == list(range(1, 12))
    assert {(key["heads"], key["seed"]) for key in keys[:11]} == {("moments", 0)}
    assert {key["heads"] for key in table3.TABLE.keys("paper")} == {"mean"}


def test_comparison_has_mean_range_and_difference_of_the_rows_with_the_same_heads():
    rows = [row(3, 20.0, 28.0, seed=0), row(3, 21.0, 28.5, seed=1), row(3, 18.0, 28.0, heads="mean")]
    assert [entry["psnr_low_rank"] for entry in beside_paper(rows, "mean")] == [18.0]
    compared = beside_paper(rows)
    assert len(compared) == 1
    entry = compared[0]
    assert (entry["psnr_low_rank"], entry["psnr_low_rank_range"], entry["psnr_low_rank_paper"]) == (20.5, 1.0, 22.69)
    assert entry["psnr_low_rank_difference"] == pytest.approx(20.5 - 22.69)
    assert (entry["psnr"], entry["psnr_range"]) == (28.25, 0.5)
    assert (entry["label"], entry["seeds"], entry["parameters_million_paper"]) == ("(35, 3), r0 = 64", 2, 5.8)


def test_every_conclusion_of_the_paper_holds_in_the_papers_own_numbers():
    compared = beside_paper(paper_rows(shift=-3.0))
    found = verdicts(compared)
    assert len(found) == len(CLAIMS)
    assert {entry["verdict"] for entry in found} == {"holds"}
    for entry in found:
        assert entry["here"] == pytest.approx(entry["paper"])
    assert all(
        rank_correlation(compared, figure, f"{figure}_paper") == pytest.approx(1)
        for figure in ("psnr_low_rank", "psnr")
    )


def test_a_conclusion_is_reversed_or_undecided_where_the_numbers_say_so():
    rows = paper_rows(m10=(23.0, 31.91))
    verdict = {entry["claim"]: entry["verdict"] for entry in verdicts(beside_paper(rows))}
    assert verdict["group_norm"] == "reversed"
    assert verdict["loss"] == "holds"
    # a second seed of the BatchNorm model whose range is greater than its margin
    verdict = {
        entry["claim"]: entry["verdict"] for entry in verdicts(beside_paper([*rows, row(10, 22.0, 31.91, seed=1)]))
    }
    assert verdict["group_norm"] == "undecided"


def test_a_conclusion_without_its_models_is_left_out():
    compared = beside_paper([row(3, 22.69, 32.32), row(4, 17.08, 31.59)])
    assert [entry["claim"] for entry in verdicts(compared)] == ["rank_rises"]


@pytest.mark.slow
def test_command_lists_computes_and_gathers(tmp_path, capsys):
    table3.TABLE.main(["list", "--profile", "smoke"])
    assert capsys.readouterr().out.split() == [
        *(f"{model}-moments-0" for model in range(1, 12)),
        *(f"{model}-mean-0" for model in (3, 4)),
    ]
    table3.TABLE.main(["cell", "10-mean-0", "--profile", "smoke", "--runs", str(tmp_path)])
    assert capsys.readouterr().out.startswith("#10 mean seed 0: psnr_low_rank")
    table = replace(table3.TABLE, cells=lambda profile: [(10, "mean", 0)])
    table.main(["table", "--profile", "smoke", "--runs", str(tmp_path), "--folder", str(tmp_path / "out")])
    (measured,) = read_table(tmp_path / "out" / "table3.csv")
    assert measured["model"] == "10"
    assert measured["psnr_own_statistics"] != measured["psnr"]
    table3.TABLE.main(["figure", "--profile", "smoke", "--folder", str(tmp_path / "out")])
    assert (tmp_path / "out" / "table3.svg").stat().st_size > 1000


@pytest.mark.parametrize("name", ["12-mean-0", "3-best-0", "x", "3-mean"])
def test_a_cell_that_is_not_in_the_table_is_one_line_and_exit_code_2(name, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        table3.TABLE.main(["cell", name, "--profile", "smoke", "--runs", str(tmp_path)])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_papers_table_is_read_whole():
    with (results_folder() / "paper" / "table3_ablation.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(printed()) == 11
