import csv
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from indeed.data.anomaly_sets import AnomalySet
from indeed.experiments import adapted_detection, table6
from indeed.experiments.adapted_detection import (
    ADAPTATIONS,
    SEEDS,
    TABLE,
    adapt_detector,
    cells,
    noise_of_set,
    noisy_images,
)
from indeed.experiments.adapted_detection_summary import gains, summary, with_checked
from indeed.experiments.methods import ADAPTED_METHODS, CHECKED
from indeed.experiments.program import cell_name
from indeed.images.noise import GREY_LEVEL, gaussian
from indeed.images.noise_estimation import NoiseLaw
from indeed.networks.checkpoint import load_checkpoint
from indeed.recipes.choice import synthetic_anomalies
from indeed.recipes.good_images import texture_set_for_tests
from indeed.recipes.rivals import Choice
from indeed.record import results_folder
from indeed.tables import read_table


@pytest.fixture(scope="module")
def bricks(few):
    """One brick of each class."""
    whole = texture_set_for_tests()
    kept = [tuple(item for item in items if item.category == "brick") for items in (whole.train, whole.test)]
    return few(AnomalySet("textures", *kept))


@pytest.fixture(scope="module")
def table(untrained):
    """The table with an untrained detector: what is tested here is what is done with it."""
    tiny = {untrained(1): ""}
    return replace(TABLE, networks=lambda key, profile: tiny)


@pytest.fixture(scope="module")
def made(table, bricks, tmp_path_factory):
    """Working folder with the smoke table of few images, and its rows."""
    folder = tmp_path_factory.mktemp("smoke")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(adapted_detection, "set_of_profile", lambda dataset, profile: bricks)
        patch.setattr(adapted_detection, "synthetic_anomalies", partial(synthetic_anomalies, least=3))
        return folder, table.table("smoke", folder / "records")


def of(rows, method):
    return [row for row in rows if row["method"] == method]


@pytest.mark.slow
def test_the_smoke_table_has_every_method_on_the_same_classes_with_its_cost(made):
    folder, rows = made
    assert read_table(folder / "records" / "adapted_detection.csv") == rows
    expected = [(method, defect) for method in ADAPTED_METHODS for defect in ("poisson", "scar")]
    assert [(row["method"], row["defect"]) for row in rows] == expected
    assert {row["base_rate"] for row in rows if row["defect"] == "scar"} == {of(rows, "indeed")[1]["base_rate"]}
    steps = {row["method"]: float(row["steps"]) for row in rows}
    assert steps == {
        "indeed": 0,
        "ag_s": 6,  # two steps for each of the three images
        "oag_s": 6,
        "ag_s_fast": 6,
        "replay_training": 2,
        "replay": 2,
    }
    for method, config in ADAPTATIONS.items():
        (first, second) = of(rows, method)
        assert float(first["forwards"]) == steps[method] * config.forwards_per_step * config.patches
        assert 0 < float(first["adaptation_seconds"]) == float(second["adaptation_seconds"])
        assert math.isnan(float(first["check"])) == (method == "oag_s")
        assert first["average_precision"] != of(rows, "indeed")[0]["average_precision"]


@pytest.mark.shipped
@pytest.mark.slow
def test_the_detector_that_ships_has_the_scores_of_table_6_with_noise(tmp_path):
    rows = TABLE.cell("textures", "indeed", 0, profile="smoke", runs=tmp_path)
    expected = [
        row
        for row in read_table(results_folder() / "measured" / "cpu" / "table6.csv")
        if (row["dataset"], row["method"], row["noise"], row["category"]) == ("textures", "indeed", "1", "brick")
    ]
    for row, theirs in zip(rows, expected, strict=True):
        assert row["defect"] == theirs["defect"]
        # The bricks stand first in the set, so their noise is the same.
        assert float(row["average_precision"]) == pytest.approx(float(theirs["average_precision"]), abs=0.01)


def test_the_set_is_adapted_to_in_the_noise_that_it_is_scored_in(bricks):
    seen, how = [], Choice("", 0.0, 0.0)
    table6.scores(bricks, lambda y: seen.append(y[0]) or y[:, 0], how, adapted_detection.NOISE, side=None)
    for image, scored in zip(noisy_images(bricks, None), seen[1:], strict=True):  # the first is a warm-up
        assert torch.equal(image, scored)


def test_adaptation_leaves_the_detector_as_it_was_and_moves_the_sparse_module_alone(untrained):
    model, record = load_checkpoint(untrained(1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images = [torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(0))]
    after = adapt_detector(model, record, images, replace(ADAPTATIONS["ag_s"], steps=1), 0).model
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    moved = {name for name, value in after.state_dict().items() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith("f_S.") for name in moved)


def test_matched_replay_does_not_look_at_the_images_but_at_the_law_of_their_noise(untrained, monkeypatch):
    model, record = load_checkpoint(untrained(1))
    config = replace(ADAPTATIONS["replay"], steps=1, replay_patches=1)
    one, other = (torch.full((1, 64, 64), grey) for grey in (0.3, 0.6))
    law = NoiseLaw(torch.ones(1, 1, 1, 1), ((10 * GREY_LEVEL) ** 2, 0.0))
    monkeypatch.setattr(adapted_detection, "noise_of_set", lambda images: law)
    found = [adapt_detector(model, record, [image], config, 0).model.state_dict() for image in (one, other)]
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())
    unmatched = adapt_detector(model, record, [one], config, 0, matched=False).model.state_dict()
    assert any(not torch.equal(value, found[0][name]) for name, value in unmatched.items())


def test_the_noise_of_a_set_is_not_taken_for_its_texture():
    generator = torch.Generator().manual_seed(0)
    textured = 0.5 + 0.1 * torch.randn(1, 128, 128, generator=generator)
    plain = gaussian(torch.full((1, 1, 128, 128), 0.5), 4 * GREY_LEVEL, generator)[0]
    law = noise_of_set([textured, plain, textured])
    assert law.sigma(plain[None]).mean().item() / GREY_LEVEL == pytest.approx(4, rel=0.1)
    with pytest.raises(ValueError, match="images: got none"):
        noise_of_set([])


def test_the_cells_are_of_all_methods_and_the_default_has_several_seeds(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("INDEED_DATA", str(tmp_path))
    keys = TABLE.keys("cpu")
    assert {key["dataset"] for key in keys} == {"textures"}
    assert "left out: mvtec_screw_256: " in capsys.readouterr().err
    assert {key["method"] for key in keys} == ADAPTED_METHODS.keys()
    assert [TABLE.parse(cell_name(key.values())) for key in keys] == keys
    assert sum(key["method"] == "replay" for key in keys) == SEEDS


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("lena", "replay", 0), "dataset: got 'lena', expected one of textures, mvtec_screw_256"),
        (("textures", "pca", 0), "method: got 'pca', expected one of indeed, ag_s"),
    ],
)
def test_a_cell_that_cannot_be_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        TABLE.cell(*values, profile="smoke")


def row(method, seed, defect, precision, auroc=0.8):
    values = {"average_precision": precision, "auroc": auroc, "image_auroc": 0.5, "base_rate": 0.01}
    values |= {"adaptation_seconds": 3, "steps": 2, "forwards": 6}
    key = {"dataset": "magnetic_tile", "method": method, "seed": seed, "category": "tile", "defect": defect}
    return key | {name: str(value) for name, value in values.items()}


ROWS = [
    row("indeed", "0", "crack", 0.5),
    row("indeed", "0", "break", 0.2, 0.6),
    row("replay", "0", "crack", 0.6),
    row("replay", "0", "break", 0.2, 0.7),
    row("replay", "1", "crack", 0.52),
    row("replay", "1", "break", 0.16, 0.7),
]


def test_gains_are_over_the_detector_as_it_is_on_the_same_class():
    (found,) = gains(ROWS).values()
    assert found["tile crack"] == pytest.approx({"0": 0.1, "1": 0.02})
    assert found["tile break"] == pytest.approx({"0": 0.0, "1": -0.04})


def test_the_spread_over_seeds_is_of_means_over_classes_and_that_over_classes_of_means_over_seeds():
    plain, replay = summary(ROWS)
    assert (plain["classes"], plain["seeds"], plain["average_precision"]) == (2, 1, 0.35)
    assert math.isnan(plain["average_precision_gain"])
    assert (replay["classes"], replay["seeds"], replay["forwards"]) == (2, 2, 6)
    assert replay["average_precision_gain"] == pytest.approx(0.02)
    assert replay["average_precision_over_seeds"] == pytest.approx(0.06 / 2**0.5)  # of 0.05 and -0.01
    assert replay["average_precision_over_classes"] == pytest.approx(0.08 / 2**0.5)  # of 0.06 and -0.02
    assert replay["average_precision_worst"] == pytest.approx(-0.02)
    assert replay["auroc_gain"] == pytest.approx(0.05)
    assert replay["auroc_over_seeds"] == 0


def test_the_checked_default_is_replay_where_its_check_is_passed_and_else_the_detector_as_it_is():
    checks = {"0": {"check": "0.4", "check_before": "0.3"}, "1": {"check": "0.3", "check_before": "0.3"}}
    rows = [one | (checks[one["seed"]] if one["method"] == "replay" else {}) for one in ROWS]
    found = with_checked(rows)
    assert found[: len(rows)] == rows
    assert [(one["method"], one["seed"], one["average_precision"]) for one in found[len(rows) :]] == [
        (CHECKED, "0", "0.6"),
        (CHECKED, "0", "0.2"),
        (CHECKED, "1", "0.5"),
        (CHECKED, "1", "0.2"),
    ]


def test_what_is_printed_is_the_papers():
    with (results_folder() / "paper" / "table7_uad_ood.csv").open(newline="", encoding="utf-8") as file:
        assert ADAPTED_METHODS["indeed"].paper in {line["method"] for line in csv.DictReader(file)}
    assert ADAPTATIONS.keys() == ADAPTED_METHODS.keys() - {"indeed"}


@pytest.mark.slow
def test_the_command_lists_computes_and_draws(table, made, monkeypatch, capsys):
    monkeypatch.chdir(made[0])
    TABLE.main(["list", "--profile", "smoke"])
    needs = dict(line.partition(" ")[::2] for line in capsys.readouterr().out.splitlines())
    assert list(needs) == list(map(cell_name, cells("smoke")))
    assert needs["textures-replay-0"].endswith("results/checkpoints/detect_textures_cpu.safetensors")
    table.main(["cell", "textures-replay-0", "--profile", "smoke"])
    assert capsys.readouterr().out.startswith("textures         replay           seed 0 AP 0.")
    TABLE.main(["figure", "--profile", "smoke", "--folder", "records"])
    assert {path.name for path in Path("records").iterdir()} == {
        "adapted_detection.csv",
        "adapted_detection.json",
        "adapted_detection.svg",
    }
    with pytest.raises(SystemExit) as stop:
        TABLE.main(["cell", "lena-replay-0", "--profile", "smoke"])
    assert stop.value.code == 2
