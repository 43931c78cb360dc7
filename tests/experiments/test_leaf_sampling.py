import pytest

from indeed.experiments import leaf_sampling
from indeed.experiments.leaf_sampling import CONDITIONS, SIZES, TABLE, cells
from indeed.tables import read_table


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("leaf_sampling")
    return folder, TABLE.table("smoke", folder / "published", runs=folder / "runs")


def test_every_condition_is_trained_both_ways_with_every_seed():
    keys = cells("cpu")
    assert len(keys) == len(set(keys)) == len(CONDITIONS) * 2 * len(SIZES["cpu"].seeds)
    for condition, leaf, seed in keys:
        assert leaf == "mean" or (condition, "mean", seed) in keys


@pytest.mark.slow
def test_the_table_holds_all_cells_with_what_was_measured(smoke):
    folder, rows = smoke
    assert read_table(folder / "published" / "leaf_sampling.csv") == rows
    assert [(row["condition"], row["leaf"]) for row in rows] == [
        (condition, leaf) for condition in CONDITIONS for leaf in ("mean", "sampled")
    ]
    for row in rows:
        assert 0 < float(row["psnr_low_rank"]) < float(row["psnr"])
        assert float(row["noise_leaf"]) > 0
        assert float(row["steps"]) == SIZES["smoke"].training.steps


@pytest.mark.slow
def test_the_two_ways_and_the_conditions_are_different_trainings(smoke):
    rows = {(row["condition"], row["leaf"]): row for row in smoke[1]}
    assert len({row["psnr"] for row in rows.values()}) == len(rows)
    # a hundredth of the target precision is a ten-thousandth of the variance that it causes
    strong, weak = (float(rows[condition, "mean"]["noise_batch"]) for condition in ("few", "weak"))
    assert weak / strong == pytest.approx(1e-4, rel=0.2)


def test_the_command_lists_and_prints_cells_and_refuses_others_in_one_line(smoke, capsys):
    folder, rows = smoke
    TABLE.main(["list", "--profile", "smoke"])
    names = capsys.readouterr().out.split()
    assert names == [f"{row['condition']}-{row['leaf']}-{row['seed']}" for row in rows]
    TABLE.main(["cell", names[0], "--profile", "smoke", "--runs", str(folder / "runs")])
    assert f"{names[0]}: psnr_low_rank {float(rows[0]['psnr_low_rank']):.3f}" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        TABLE.main(["cell", "all-mode-0", "--profile", "smoke"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("leaf_sampling: leaf: got 'mode', expected one of mean, sampled")
    assert leaf_sampling.SIZES["paper"].network.patch_size == 128
