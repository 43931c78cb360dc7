import csv
import math
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from indeed.baselines.classical_detectors import fit_detector
from indeed.baselines.reconstruction import load_autoencoder
from indeed.bayes.anomaly_maps import smoothed
from indeed.data.anomaly_readers import anomaly_set
from indeed.data.anomaly_sets import GOOD, AnomalySet, load
from indeed.data.benchmarks import DataMissingError
from indeed.experiments import claims, table6
from indeed.experiments.methods import TABLE6_METHODS
from indeed.experiments.program import cell_name
from indeed.experiments.table6 import TABLE, cells, scores
from indeed.experiments.table6_summary import PRINTED, beside_paper, summary
from indeed.images.detection_metrics import image_score
from indeed.networks.anomaly_detection import anomaly_maps, map_settings
from indeed.networks.checkpoint import CheckpointError, load_checkpoint, save_checkpoint, shipped_checkpoint
from indeed.networks.whole_image import decompose
from indeed.recipes import detector, rivals
from indeed.recipes.choice import chosen_map, synthetic_anomalies
from indeed.recipes.detector import validation_on
from indeed.recipes.good_images import good_images, texture_set_for_tests
from indeed.recipes.rivals import Choice, held_out_anomalies, runs_folder
from indeed.record import results_folder
from indeed.tables import read_table

QUICK = ("mean", "pca", "autoencoder", "draem", "indeed")


@pytest.fixture(scope="module")
def textures(few):
    """One texture of each class."""
    return few(texture_set_for_tests())


@pytest.fixture(scope="module")
def small(textures):
    """Few images to test on and to choose settings on, and networks of one step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table6, "texture_set_for_tests", lambda: textures)
        patch.setattr(rivals, "STEPS", dict.fromkeys(rivals.STEPS, 1))
        patch.setattr(rivals, "synthetic_anomalies", partial(synthetic_anomalies, least=3))
        patch.setattr(detector, "chosen_map", partial(chosen_map, least=3))
        patch.setattr(detector, "validation_on", partial(validation_on, count=4))
        yield


@pytest.fixture(scope="module")
def made(small, tmp_path_factory):
    """Working folder with the smoke table, and its rows."""
    folder = tmp_path_factory.mktemp("smoke")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return folder, TABLE.table("smoke", folder / "records")


@pytest.fixture
def here(made, monkeypatch):
    monkeypatch.chdir(made[0])
    return made[0]


@pytest.fixture
def tiles(tmp_path, monkeypatch):
    """A set in the place of the magnetic tiles: noise with a bright square or line, 32 pixels wide."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INDEED_DATA", str(tmp_path))
    root, generator = tmp_path / "uad" / "magnetic_tile", np.random.default_rng(0)

    def picture(path, add=0):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((generator.integers(90, 130, (32, 32)) + add).astype(np.uint8)).save(path)

    for index in range(4):
        picture(root / "train" / "good" / f"{index}.png")
    for index in range(2):
        picture(root / "test" / "good" / f"{index}.png")
    for defect, where in (("blowhole", np.s_[8:14, 20:26]), ("crack", np.s_[3:30, 16:18])):
        mask = np.zeros((32, 32), np.uint8)
        mask[where] = 255
        picture(root / "test" / defect / "0.png", (mask > 0) * 25)
        (root / "ground_truth" / defect).mkdir(parents=True)
        Image.fromarray(mask).save(root / "ground_truth" / defect / "0_mask.png")
    return anomaly_set("magnetic_tile")


@pytest.mark.slow
def test_smoke_table_has_every_class_by_every_quick_method_with_and_without_noise(made):
    folder, rows = made
    assert read_table(folder / "records" / "table6.csv") == rows
    assert [(row["method"], row["noise"], row["category"], row["defect"]) for row in rows] == [
        (method, noise, category, defect)
        for method in QUICK
        for noise in "01"
        for category in ("brick", "grass", "gravel")
        for defect in ("poisson", "scar")
    ]
    assert all(0 < float(row["base_rate"]) < 0.05 and float(row["images"]) == 2 for row in rows)
    clean, noisy = rows[:6], rows[6:12]
    for one, other in zip(clean, noisy, strict=True):
        assert (one["rank"], one["base_rate"], one["option"]) == (other["rank"], other["base_rate"], other["option"])
        assert one["average_precision"] != other["average_precision"]


@pytest.mark.slow
def test_a_cell_is_computed_again_when_its_network_has_changed(here, tmp_path, monkeypatch):
    shutil.copytree(here / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    before = TABLE.cell("textures", "autoencoder", 0, profile="smoke")
    path = runs_folder("smoke") / "autoencoder_textures.safetensors"
    model, record = load_autoencoder(path)
    torch.nn.init.zeros_(model.network.head.weight)
    save_checkpoint(path, model, record | {"map": record["map"] | {"option": "squared", "smoothing": 2.0}})
    after = TABLE.cell("textures", "autoencoder", 0, profile="smoke")
    assert (after[0]["option"], after[0]["smoothing"]) == ("squared", "2.0")
    assert after[0]["data_hash"] != before[0]["data_hash"]
    assert after[0]["average_precision"] != before[0]["average_precision"]


@pytest.mark.slow
def test_scores_are_those_of_scikit_learn_on_all_pixels_of_a_class_and_of_the_good_images(tiles):
    rows = TABLE.cell("magnetic_tile", "mean", 0, profile="cpu")
    assert [row["defect"] for row in rows] == ["blowhole", "crack"]
    good = torch.stack(good_images("magnetic_tile", 1, 128).train).float() / 255
    detector = fit_detector(good, "mean", standardise=rows[0]["option"] == "standardise=True")
    for row in rows:
        found, masks, defective = [], [], []
        for item in tiles.test:
            if item.defect in (GOOD, row["defect"]):
                loaded = load(item, 256)
                image = (loaded.image * 255).round() / 255
                found.append(smoothed(detector.map(image[None]), float(row["smoothing"]) or 1e-3)[0])
                masks.append(loaded.mask)
                defective.append(item.defect != GOOD)
        pixels, truth = torch.stack(found).flatten().numpy(), torch.stack(masks).flatten().numpy()
        assert float(row["average_precision"]) == pytest.approx(average_precision_score(truth, pixels), rel=1e-6)
        assert float(row["auroc"]) == pytest.approx(roc_auc_score(truth, pixels), rel=1e-6)
        assert float(row["base_rate"]) == truth.mean()
        of_images = image_score(torch.stack(found)).numpy()
        assert float(row["image_auroc"]) == roc_auc_score(defective, of_images)
        assert float(row["images"]) == 3


def test_a_defect_that_is_lost_on_the_way_to_the_side_is_said(tiles):
    mask = np.zeros((32, 32), np.uint8)
    mask[1, 1] = 255  # three of four rows and columns are kept, and this is not one of them
    Image.fromarray(mask).save(next(item.mask_file for item in tiles.test if item.defect == "blowhole"))
    some = tuple(replace(item, defect="any") if item.mask_file else item for item in tiles.test)
    with pytest.warns(UserWarning, match=r"blowhole/0_mask\.png: no pixel of it is left at a side of 24"):
        scores(AnomalySet("tiles", tiles.train, some), lambda images: images[:, 0], Choice("", 0.0, 0.0), side=24)


@pytest.mark.slow
def test_the_base_rate_of_synthetic_anomalies_is_that_of_what_a_method_was_chosen_on(made, tiles):
    rates = {row["method"]: float(row["synthetic_base_rate"]) for row in made[1]}
    assert len(set(rates.values())) == 2
    assert rates["mean"] == rates["pca"] != rates["draem"] == rates["indeed"] == rates["autoencoder"]
    (row, _) = TABLE.cell("magnetic_tile", "mean", 0, profile="cpu")
    masks = torch.cat([sample.mask for sample in held_out_anomalies("magnetic_tile")])
    assert float(row["synthetic_base_rate"]) == masks.double().mean().item() > 0


def test_the_noise_of_an_image_is_its_own_and_the_same_for_every_method(tiles):
    def seen(noise, smoothing):
        observed = []
        scores(tiles, lambda images: observed.append(images) or images[:, 0], Choice("", smoothing, 0.0), noise)
        return torch.cat(observed[1:])  # the first is a warm-up

    clean, noisy = seen(0, 0.0), seen(1, 2.0)
    assert torch.equal(noisy, seen(1, 0.0))
    noise = noisy - clean
    assert noise.flatten(1).std(1).mul(255).tolist() == pytest.approx([2.55] * len(noise), rel=0.02)
    correlation = torch.corrcoef(noise.flatten(1)) - torch.eye(len(noise))
    assert correlation.abs().max() < 0.02  # 256 * 256 pixels: 5 deviations


def test_the_cells_are_of_the_sets_on_disk_by_all_methods(tiles, capsys):
    keys = TABLE.keys("cpu")
    assert [TABLE.parse(cell_name(key.values())) for key in keys] == keys
    assert {key["dataset"] for key in keys} == {"textures", "magnetic_tile"}
    assert {key["method"] for key in keys} == TABLE6_METHODS.keys()
    assert "left out: mvtec_screw_256: " in capsys.readouterr().err


def test_a_network_of_one_set_alone_is_measured_on_the_sets_of_the_unified_one(tiles, capsys):
    assert [dataset for dataset, method, _ in cells("cpu") if method == "indeed_separate"] == ["magnetic_tile"] * 2
    TABLE.main(["list", "--profile", "cpu"])
    needs = dict(line.partition(" ")[::2] for line in capsys.readouterr().out.splitlines())
    assert needs["magnetic_tile-indeed_separate-0"] == "runs/table6/cpu/networks/indeed_magnetic_tile.safetensors"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("lena", "mean", 0), "dataset: got 'lena', expected one of textures, magnetic_tile"),
        (("textures", "median", 0), "method: got 'median', expected one of mean"),
        (("textures", "mean", 2), "noise: got 2, expected one of 0, 1"),
    ],
)
def test_a_cell_that_cannot_be_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        TABLE.cell(*values, profile="smoke")


def test_what_is_missing_is_named_with_the_way_to_get_it(tiles):
    with pytest.raises(CheckpointError, match="table6 train draem --data parts --profile cpu"):
        TABLE.cell("magnetic_tile", "draem", 0, profile="cpu")
    with pytest.raises(CheckpointError, match="table6 train indeed --data magnetic_tile --profile cpu"):
        TABLE.cell("magnetic_tile", "indeed_separate", 0, profile="cpu")
    with pytest.raises(DataMissingError, match="mvtec_screw_256"):
        TABLE.cell("mvtec_screw_256", "mean", 0, profile="cpu")


def row(dataset, method, noise, rank, precision, auroc):
    values = {"rank": rank, "average_precision": precision, "auroc": auroc, "base_rate": 0.01, "image_auroc": 0.9}
    return {"dataset": dataset, "method": method, "noise": noise} | {name: str(it) for name, it in values.items()}


def test_summary_is_the_mean_over_classes_and_a_drop_is_from_the_same_classes_without_noise():
    rows = [row("mood", "pca", n, rank, p, 0.9) for n, p, rank in (("0", 0.5, 20), ("0", 0.2, 60), ("1", 0.25, 60))]
    found = {(mean["noise"], mean["group"]): mean for mean in summary(rows)}
    assert list(found) == [(0, "all"), (0, "Low"), (0, "Mid"), (1, "all"), (1, "Mid")]
    assert found[0, "all"]["average_precision"] == pytest.approx(0.35)
    assert [mean["classes"] for mean in found.values()] == [2, 1, 1, 1, 1]
    assert found[1, "Mid"]["average_precision_drop"] == pytest.approx(-0.05)
    assert found[0, "Low"]["auroc_drop"] == 0
    assert math.isnan(summary(rows[2:])[0]["average_precision_drop"])


def test_the_paper_is_beside_where_it_has_the_same_set_and_group():
    compared = beside_paper(
        [
            row("mvtec_ad", "indeed", "0", 10, 0.5, 0.9),
            row("mvtec_ad", "indeed", "1", 50, 0.5, 0.9),
            row("severstal", "draem", "0", 100, 0.5, 0.9),
            row("mood", "draem", "0", 20, 0.5, 0.9),
            row("textures", "indeed", "0", 50, 0.5, 0.9),
        ]
    )
    paper = {
        (entry["dataset"], entry["noise"], entry["group"]): (entry["average_precision_paper"], entry["auroc_paper"])
        for entry in compared
        if not math.isnan(entry["auroc_paper"])
    }
    assert paper == {
        ("mvtec_ad", 0, "Low"): pytest.approx((0.467, 0.995)),
        ("mvtec_ad", 1, "Mid"): pytest.approx((0.691, 0.904)),
        ("severstal", 0, "all"): pytest.approx((0.0556, 0.401)),
    }


def test_what_is_printed_is_in_the_tables_of_the_paper():
    for name, column in PRINTED.values():
        with (results_folder() / "paper" / name).open(newline="", encoding="utf-8") as file:
            printed = list(csv.DictReader(file))
        assert {column.format(value) for value in ("ap", "auroc")} <= printed[0].keys()
        assert {method.paper for method in TABLE6_METHODS.values() if method.paper} <= {
            line["method"] for line in printed
        }


@pytest.mark.slow
def test_the_command_lists_computes_and_draws(here, capsys):
    TABLE.main(["list", "--profile", "smoke"])
    needs = dict(line.partition(" ")[::2] for line in capsys.readouterr().out.splitlines())
    assert list(needs) == list(map(cell_name, cells("smoke")))
    assert needs["textures-draem-1"] == "runs/table6/smoke/networks/draem_textures.safetensors"
    assert needs["textures-pca-0"] == ""
    TABLE.main(["cell", "textures-pca-0", "--profile", "smoke"])
    assert capsys.readouterr().out.startswith("textures         pca              noise 0 all   6 classes AP 0.")
    TABLE.main(["figure", "--profile", "smoke", "--folder", "records"])
    assert {path.name for path in Path("records").iterdir()} == {
        "table6.csv",
        "table6.json",
        "table6_ap.svg",
        "table6_auroc.svg",
    }
    with pytest.raises(SystemExit) as stop:
        TABLE.main(["cell", "lena-pca-1", "--profile", "smoke"])
    assert stop.value.code == 2


# the published table


@pytest.mark.slow
def test_claims_are_means_over_the_pixels_of_the_defects_of_a_class_and_of_good_images(here, textures):
    rows = {(row["category"], row["defect"]): row for row in claims.TABLE.cell("textures", profile="smoke")}
    assert rows.keys() == {(item.category, item.defect) for item in textures.test}
    model, _ = load_checkpoint(runs_folder("smoke") / "indeed_textures.safetensors")
    for defect in ("scar", GOOD):
        left, claimed = [], []
        for item in textures.test:
            if (item.category, item.defect) == ("brick", defect):
                image, mask = load(item, None, channels=1)
                image = (image * 255).round() / 255
                where = mask if defect != GOOD else torch.ones_like(mask)
                left += (255 * (image - decompose(model, image).L)[0].abs())[where].tolist()
                claimed += anomaly_maps(model, image[None], form="share")[0][where].tolist()
        row, detail = rows["brick", defect], np.array(left) >= 8
        assert float(row["pixels"]) == len(left)
        assert float(row["residual"]) == pytest.approx(np.mean(left), rel=1e-4)
        assert float(row["detail"]) == pytest.approx(detail.mean(), rel=1e-3)
        assert float(row["claimed"]) == pytest.approx(np.array(claimed)[detail].mean(), rel=1e-3)


PUBLISHED = results_folder() / "measured" / "cpu" / "table6.csv"


def published(**chosen):
    return [row for row in read_table(PUBLISHED) if all(row[name] == value for name, value in chosen.items())]


@pytest.mark.shipped
def test_the_published_scores_of_the_textures_are_those_of_the_model_that_ships():
    model, record = load_checkpoint(shipped_checkpoint("detect_textures"))
    made = record["map"]
    whole = texture_set_for_tests()
    bricks = [tuple(item for item in items if item.category == "brick") for items in (whole.train, whole.test)]
    few = AnomalySet("textures", *bricks)
    rows = scores(
        few,
        lambda images: anomaly_maps(model, images, **map_settings(made)._replace(smoothing=0.0)._asdict()),
        Choice(made["form"], made["smoothing"], math.nan),
        side=None,
    )
    expected = published(dataset="textures", method="indeed", noise="0", category="brick")
    assert len(rows) == len(expected) == 2
    for row, theirs in zip(rows, expected, strict=True):
        assert row["defect"] == theirs["defect"]
        for value in ("average_precision", "auroc", "base_rate"):
            assert row[value] == pytest.approx(float(theirs[value]), abs=0.01)


@pytest.mark.shipped
@pytest.mark.slow
def test_the_published_scores_of_cracks_are_those_of_the_model_that_ships():
    try:
        tiles = anomaly_set("magnetic_tile")
    except DataMissingError as error:
        pytest.skip(str(error))
    model, record = load_checkpoint(shipped_checkpoint("detect_parts"))
    made = record["map"]
    few = AnomalySet("magnetic_tile", tiles.train, tuple(item for item in tiles.test if item.defect in (GOOD, "crack")))
    (row,) = scores(
        few,
        lambda images: anomaly_maps(model, images, **map_settings(made)._replace(smoothing=0.0)._asdict()),
        Choice(made["form"], made["smoothing"], math.nan),
    )
    (theirs,) = published(dataset="magnetic_tile", method="indeed", noise="0", defect="crack")
    for value in ("average_precision", "auroc", "base_rate"):
        assert row[value] == pytest.approx(float(theirs[value]), abs=0.01)
