import pytest
import torch

from indeed.bayes.generative_model import Hyperpriors
from indeed.experiments import generalisation
from indeed.experiments.generalisation import MEASURES, PARTS, SIZES, TABLE, cell, cells, measure_patches
from indeed.experiments.program import Job
from indeed.tables import read_table


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generalisation")
    return folder, TABLE.table("smoke", folder / "published", runs=folder / "runs")


def test_every_number_of_images_is_trained_on_with_every_seed():
    keys = cells("cpu")
    assert len(keys) == len(set(keys)) == len(SIZES["cpu"].images) * len(SIZES["cpu"].seeds)
    assert SIZES["cpu"].images[-1] == 360  # all of bsd400_gray but its validation images


@pytest.mark.slow
def test_the_loss_is_the_risk_and_the_divergences_and_the_leaf_level_is_most_of_it(smoke):
    folder, rows = smoke
    assert read_table(folder / "published" / "generalisation.csv") == rows
    for row in rows:
        for part in PARTS:
            values = {name: float(row[f"{name}_{part}"]) for name in MEASURES}
            assert values["loss"] == pytest.approx(values["risk"] + values["middle_kl"] + values["leaf_kl"])
            assert values["leaf_kl"] > 0.5 * values["loss"]
            assert values["middle_kl"] > 0
            assert values["psnr"] > 10


def test_the_estimate_is_below_the_bound_and_the_proxies_are_in_their_ranges(smoke):
    for row in smoke[1]:
        assert 0 < float(row["lipschitz_lower"]) <= float(row["lipschitz_upper"])
        assert float(row["wasserstein"]) > 0
        assert float(row["mean_distance"]) > 1
        assert 1 / 200 <= float(row["p_value"]) <= 1


def test_training_and_held_out_images_are_different_photographs_and_fewer_are_a_part_of_more(tmp_path):
    train, held_out = generalisation._files("embedded")
    assert not set(train) & set(held_out)
    job = Job("smoke", "cpu", tmp_path, [])
    few, more = (cell(job, images, 3).files[: -len(held_out)] for images in (2, 5))
    assert (len(few), len(more)) == (2, 5)
    assert more[:2] == few
    assert set(more) <= set(train)


def test_what_is_measured_does_not_depend_on_how_patches_are_grouped(smoke):
    torch.manual_seed(0)
    model = generalisation.InDeed(SIZES["smoke"].network).eval()
    clean = torch.rand(4, 1, 16, 16)
    noisy = clean + 0.1 * torch.randn_like(clean)
    whole = measure_patches(model, noisy, clean, Hyperpriors())
    halves = [measure_patches(model, noisy[part], clean[part], Hyperpriors()) for part in (slice(2), slice(2, 4))]
    for name in MEASURES:
        assert whole[name] == pytest.approx((halves[0][name] + halves[1][name]) / 2, rel=1e-5)


@pytest.mark.slow
def test_the_command_lists_prints_and_draws_and_refuses_in_one_line(smoke, capsys):
    folder, rows = smoke
    TABLE.main(["list", "--profile", "smoke"])
    names = capsys.readouterr().out.split()
    assert names == [f"{row['images']}-{row['seed']}" for row in rows]
    TABLE.main(["cell", names[0], "--profile", "smoke", "--runs", str(folder / "runs")])
    assert capsys.readouterr().out.startswith(f"1 images, seed 0: risk {float(rows[0]['risk_train']):.3f}")
    TABLE.main(["figure", "--profile", "smoke", "--folder", str(folder / "published")])
    assert {path.name for path in (folder / "published").glob("*.svg")} == {
        "generalisation.svg",
        "generalisation_loss.svg",
    }
    for name, message in (
        ("one-0", "name: got 'one-0', expected images-seed"),
        ("99-0", "images: got 99, expected 1 to 10"),
    ):
        with pytest.raises(SystemExit) as stop:
            TABLE.main(["cell", name, "--profile", "smoke"])
        assert stop.value.code == 2
        assert capsys.readouterr().err.startswith(f"generalisation: {message}")
