import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import norm

from indeed.data.benchmarks import DataMissingError
from indeed.experiments.methods import ORACLE, TABLE5_METHODS, TABLE5_SETS
from indeed.experiments.program import cell_name
from indeed.experiments.table5 import PARTS, TABLE, TESTED, TEXTURES, cells, coordinates, networks
from indeed.experiments.table5_methods import ADAPTATIONS, DEFAULT, REPLAYED, replayed
from indeed.experiments.table5_summary import ALL, beside_paper, gains, row_coordinates, separation, summary
from indeed.images.noise import GREY_LEVEL, gaussian
from indeed.images.noise_estimation import RELIABLE_RISE
from indeed.networks.checkpoint import load_checkpoint
from indeed.record import results_folder
from indeed.tables import read_table

QUICK = [method for method in TABLE5_METHODS if method != "bm3d"]


@pytest.fixture(scope="module")
def table(untrained):
    """The table with an untrained network: what is tested here is what is done with it."""
    tiny = {untrained(3): ""}
    return replace(TABLE, networks=lambda key, profile: tiny if networks(key, profile) else {})


@pytest.fixture(scope="module")
def made(table, tmp_path_factory):
    """Working folder with the smoke table, and its rows."""
    folder = tmp_path_factory.mktemp("smoke")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return folder, table.table("smoke", folder / "records")


@pytest.fixture
def polyu(tmp_path, monkeypatch):
    """Pairs in the place of PolyU: a smooth picture of 64 pixels and it with noise, eleven of two cameras."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INDEED_DATA", str(tmp_path))
    root, generator = tmp_path / "denoise" / "real" / "polyu", np.random.default_rng(0)
    root.mkdir(parents=True)
    clean = np.tile(np.linspace(60, 190, 64)[:, None, None], (1, 64, 3))
    for index in range(11):
        name = f"{'Sony' if index % 2 else 'Canon80D'}_{index:02d}"
        for kind, noise in (("mean", 0), ("real", generator.normal(0, 5, clean.shape))):
            Image.fromarray((clean + noise).round().astype(np.uint8)).save(root / f"{name}_{kind}.JPG", quality=95)
    return root


def of(rows, method):
    return [row for row in rows if (row["dataset"], row["method"]) == ("demosaicked", method)]


def test_no_photograph_is_tested_and_replayed_and_the_textures_are_tested():
    assert not set(TESTED) & set(REPLAYED)
    assert set(TEXTURES) <= set(TESTED)
    assert len(replayed(1, 64).images) == len(REPLAYED)
    assert len(replayed(3, 64).images) == 4


def test_every_default_and_control_costs_at_most_five_forward_passes_a_step():
    assert all(config.forwards_per_step <= 5 for config in ADAPTATIONS.values())
    default = ADAPTATIONS[DEFAULT]
    for control in ("oag_fast", "gains", "neighbor2neighbor", "noise2self", "replay_white", "replay_carried"):
        config = ADAPTATIONS[control]
        assert (config.steps, config.patches, config.schedule) == (default.steps, default.patches, default.schedule)


def refused(row):
    """Whether an estimate is not relied on; NaN where none is made."""
    return float(row["floor_rise"]) > RELIABLE_RISE


@pytest.mark.slow
def test_an_image_whose_noise_cannot_be_told_from_its_texture_is_left_as_it_is(made):
    rows = {row["image"]: row for row in of(made[1], DEFAULT)}
    assert [name for name, row in rows.items() if refused(row)] == ["flower"]  # at 128 pixels, in which it has no floor
    (before,) = (row for row in of(made[1], "indeed") if row["image"] == "flower")
    assert (rows["flower"]["steps"], rows["flower"]["forwards"]) == ("0.0", "0.0")
    assert rows["flower"]["psnr"] == before["psnr"]


@pytest.mark.slow
def test_smoke_table_has_a_row_for_each_image_by_every_method(made):
    folder, rows = made
    assert read_table(folder / "records" / "table5.csv") == rows
    found = [(row["method"], row["image"], row["camera"]) for row in rows if row["dataset"] == "demosaicked"]
    images = [("astronaut", "photograph"), ("flower", "photograph")]
    assert found == [(method, *image) for method in QUICK for image in images]
    for row in rows:
        assert math.isfinite(float(row["psnr"]))
        assert (float(row["steps"]) > 0) == (row["method"] in ADAPTATIONS and not refused(row))
        assert math.isnan(float(row["sparsity_term"])) == (row["method"] in ("noisy", "tv"))


@pytest.mark.slow
def test_what_is_not_adapted_is_where_every_adaptation_to_an_image_starts(made):
    start = {row["image"]: float(row["psnr"]) for row in of(made[1], "indeed")}
    for method in ADAPTATIONS:
        for row in of(made[1], method):
            points = dict(point.split(":") for point in row["psnr_by_step"].split())
            assert float(points["0"]) == pytest.approx(start[row["image"]], abs=2e-4)
            assert float(row["oracle_psnr"]) == pytest.approx(max(map(float, points.values())), abs=1e-4)
            if ADAPTATIONS[method].stop is None:
                between = ["1"] if method == DEFAULT else []
                assert list(points) == (["0"] if refused(row) else ["0", *between, "2"])
            if not (refused(row) and method == "replay_carried"):
                assert float(list(points.values())[-1]) == pytest.approx(float(row["psnr"]), abs=2e-4)


@pytest.mark.slow
def test_a_network_that_is_carried_over_differs_from_the_second_image_on(made):
    for reset, carried in (("replay", "replay_carried"), ("oag_reset", "oag_carried")):
        first, second = zip(of(made[1], reset), of(made[1], carried), strict=True)
        assert first[0]["psnr"] == first[1]["psnr"]
        assert second[0]["psnr"] != second[1]["psnr"]


@pytest.mark.slow
def test_the_noise_is_estimated_near_what_it_is(made):
    for truth, found in zip(of(made[1], "noisy"), of(made[1], "replay"), strict=True):
        assert float(truth["sigma"]) == pytest.approx(15.3, rel=0.05)
        assert float(found["sigma"]) == pytest.approx(float(truth["sigma"]), rel=0.3)
        assert float(truth["neighbour_correlation"]) == pytest.approx(0.57, abs=0.05)
        assert float(found["neighbour_correlation"]) > 0.4
    assert all(math.isnan(float(row["sigma"])) for row in of(made[1], "replay_white"))


@pytest.mark.shipped
def test_the_network_that_ships_takes_the_noise_away(tmp_path):
    noisy, restored = (TABLE.cell("white", name, 0, 0, profile="smoke", runs=tmp_path) for name in ("noisy", "indeed"))
    for before, after in zip(noisy, restored, strict=True):
        assert 15 < float(before["psnr"]) < float(after["psnr"]) - 3 < 42


def test_parts_are_spread_over_a_set_and_together_are_the_set(polyu):
    assert PARTS["polyu"] == 5
    found = [[row["image"] for row in TABLE.cell("polyu", "noisy", 0, part, profile="smoke")] for part in range(5)]
    assert found[0] == ["Canon80D_00", "Canon80D_10", "Sony_09"]
    assert sorted(name for part in found for name in part) == sorted(
        f"{'Sony' if k % 2 else 'Canon80D'}_{k:02d}" for k in range(11)
    )


def test_the_reference_has_white_noise_on_the_clean_images_other_for_each_image_and_seed(polyu):
    first = TABLE.cell("polyu_white", "noisy", 0, 0, profile="smoke")
    second = TABLE.cell("polyu_white", "noisy", 1, 0, profile="smoke")
    for row in (*first, *second):
        assert float(row["sigma"]) == pytest.approx(15, rel=0.05)
        assert abs(float(row["neighbour_correlation"])) < 0.05
    assert len({row["psnr"] for row in (*first, *second)}) == 6
    assert [row["camera"] for row in first] == ["Canon 80D", "Canon 80D", "Sony A7 II"]


def test_the_cells_are_of_all_sets_and_the_default_has_all_parts_and_a_second_seed(polyu):
    keys = TABLE.keys("cpu")
    assert [TABLE.parse(cell_name(key.values())) for key in keys] == keys
    assert len({cell_name(key.values()) for key in keys}) == len(keys)
    assert {key["dataset"] for key in keys} == TABLE5_SETS.keys() - {"sidd_small"}
    of_default = [(key["seed"], key["part"]) for key in keys if (key["dataset"], key["method"]) == ("polyu", DEFAULT)]
    assert of_default == [(0, 0), *((0, part) for part in range(1, PARTS["polyu"])), (1, 0)]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("lena", "noisy", 0, 0), "dataset: got 'lena', expected one of polyu"),
        (("white", "median", 0, 0), "method: got 'median', expected one of noisy"),
        (("white", "noisy", 0, 1), "part: got 1, expected less than 1"),
    ],
)
def test_a_cell_that_cannot_be_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        TABLE.cell(*values, profile="smoke")


def test_a_set_that_is_not_on_disk_has_no_cells_and_is_named_and_cannot_be_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("INDEED_DATA", str(tmp_path))
    missing = {"polyu", "polyu_white", "sidd_small"}
    assert {dataset for dataset, *_ in cells("cpu")} == TABLE5_SETS.keys() - missing
    assert "left out: polyu: " in capsys.readouterr().err
    with pytest.raises(DataMissingError, match="polyu"):
        TABLE.cell("polyu", "noisy", 0, 0, profile="smoke")


def row(method, image, psnr, seed="0", dataset="polyu", camera="A", **more):
    values = {"ssim": 0.9, "image_seconds": 2.0, "steps": 60, "forwards": 360, "oracle_psnr": psnr, "oracle_step": 40}
    label = {"dataset": dataset, "method": method, "seed": seed, "image": image, "camera": camera, "psnr": str(psnr)}
    return label | {name: str(value) for name, value in (values | more).items()}


ROWS = [
    row("noisy", "a", 35.0),
    row("noisy", "b", 36.0, camera="B"),
    row("indeed", "a", 36.0),
    row("indeed", "b", 36.0, camera="B"),
    row("indeed", "a", 36.5, seed="1"),
    row("tv", "a", 34.0),
    row("replay", "a", 38.0, oracle_psnr=38.5),
    row("replay", "b", 35.75, camera="B", oracle_psnr=36.0),
]


def test_a_gain_is_over_the_network_as_it_is_on_the_same_image():
    found = {(mean["method"], mean["camera"]): mean for mean in summary(ROWS)}
    assert found["replay", ALL]["gain"] == pytest.approx((2 - 0.25) / 2)
    assert found["replay", ALL]["over_noisy"] == pytest.approx((3 - 0.25) / 2)
    assert (found["replay", "A"]["gain"], found["replay", "B"]["gain"]) == (2.0, -0.25)
    assert (found["tv", ALL]["images"], found["tv", ALL]["gain"]) == (1, -2.0)
    assert found[ORACLE, ALL]["psnr"] == pytest.approx(37.25)
    assert found[ORACLE, ALL]["steps"] == 40
    common = {mean["method"]: mean for mean in summary(ROWS, common=True) if mean["camera"] == ALL}
    assert {mean["images"] for mean in common.values()} == {1}
    assert common["replay"]["gain"] == 2
    assert gains(ROWS)["polyu"] == {"noisy": [-1.0], "indeed": [0.0], "tv": [-2.0], "replay": [2.0], ORACLE: [2.5]}
    assert list(gains(ROWS, "polyu")) == ["A"]
    assert gains(ROWS, "white") == {}


def test_the_spread_is_over_the_seeds_on_the_images_that_all_seeds_have():
    found = {mean["method"]: mean["spread"] for mean in summary(ROWS) if mean["camera"] == ALL}
    assert found["indeed"] == pytest.approx(np.std([36, 36.5], ddof=1))
    assert math.isnan(found["replay"])


def test_the_paper_is_beside_and_the_camera_of_the_least_gain_is_named():
    found = {
        entry["method"]: entry for entry in beside_paper([*ROWS, row("ag_s", "a", 36.5), row("oag_reset", "a", 36.0)])
    }
    assert (found["replay"]["worst_camera"], found["replay"]["worst_gain"]) == ("B", -0.25)
    assert math.isnan(found["replay"]["psnr_paper"])
    assert (found["ag_s"]["psnr_paper"], found["ag_s"]["ssim_paper"]) == (36.75, 0.9521)
    assert found["ag_s"]["psnr_difference"] == pytest.approx(-0.25)
    assert found["ag_s"]["gain_paper"] == pytest.approx(1.49)
    assert found["oag_reset"]["psnr_paper"] == 36.84
    assert math.isnan(beside_paper([row("indeed", "a", 36.0, dataset="white")])[0]["psnr_paper"])


def test_what_is_printed_is_in_the_table_of_the_paper():
    with (results_folder() / "paper" / "table5_ood_denoising.csv").open(newline="", encoding="utf-8") as file:
        printed = list(csv.DictReader(file))
    assert {method.paper for method in TABLE5_METHODS.values() if method.paper} <= {line["method"] for line in printed}
    assert {of.paper for of in TABLE5_SETS.values() if of.paper} == {line["dataset"] for line in printed}


@pytest.mark.slow
def test_sets_that_are_apart_are_told_apart_and_halves_of_one_set_are_not():
    draws = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    same = separation(draws[:100], draws[100:])
    assert same.p_value > 0.1
    assert abs(same.auroc - 0.5) < 0.12
    apart = separation(draws[:100], draws[100:] + torch.tensor([0.0, 2.0]))
    assert apart.p_value == 1 / 200
    # the probability that a draw of N(2, 1) exceeds one of N(0, 1)
    assert apart.auroc_sparsity == pytest.approx(norm.cdf(2**0.5), abs=0.03)
    assert apart.auroc == pytest.approx(apart.auroc_sparsity, abs=0.02)
    lower = separation(draws[:100], draws[100:] - torch.tensor([0.0, 2.0]))
    assert lower.auroc_sparsity < 0.1 < 0.9 < lower.auroc


def test_coordinates_are_the_same_for_a_tile_and_for_an_image_of_such_tiles(untrained):
    model, _ = load_checkpoint(untrained(1))
    generator = torch.Generator().manual_seed(0)
    tile = gaussian(torch.full((1, 1, 64, 64), 0.5), 15 * GREY_LEVEL, generator)[0]
    found = coordinates(model, tile)
    assert found.shape == (1, 2)
    torch.testing.assert_close(coordinates(model, tile.tile(1, 2, 1)), found, rtol=1e-4, atol=1e-4)
    assert row_coordinates([row("indeed", "a", 36.0, rank_term=1, sparsity_term=2)], "polyu") == {"a": [1, 2, 36]}


@pytest.mark.slow
def test_the_command_lists_computes_and_draws(table, made, monkeypatch, capsys):
    monkeypatch.chdir(made[0])
    TABLE.main(["list", "--profile", "smoke"])
    needs = dict(line.partition(" ")[::2] for line in capsys.readouterr().out.splitlines())
    assert list(needs) == list(map(cell_name, cells("smoke")))
    assert needs["demosaicked-replay-0-0"].endswith("results/checkpoints/denoise_color_cpu.safetensors")
    assert needs["demosaicked-tv-0-0"] == ""
    table.main(["cell", "demosaicked-tv-0-0", "--profile", "smoke"])
    assert capsys.readouterr().out.startswith("demosaicked      tv               seed 0   2 images")
    TABLE.main(["figure", "--profile", "smoke", "--folder", "records"])
    assert {path.name for path in Path("records").iterdir()} == {"table5.csv", "table5.json", "table5_gains.svg"}
    with pytest.raises(SystemExit) as stop:
        TABLE.main(["cell", "lena-tv-0-0", "--profile", "smoke"])
    assert stop.value.code == 2
