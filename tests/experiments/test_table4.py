import math
from pathlib import Path

import pytest
import torch

from indeed.baselines.dncnn import DnCNN, DnCNNConfig, load_dncnn
from indeed.data.benchmarks import DataMissingError
from indeed.data.samples import sample_image
from indeed.experiments import table4
from indeed.experiments.methods import TABLE4_METHODS
from indeed.experiments.program import Job, cell_name
from indeed.experiments.table4 import DATA_SETS, SIGMAS, TABLE, beside_paper, cells
from indeed.networks.checkpoint import CheckpointError, load_checkpoint, save_checkpoint, shipped_checkpoint
from indeed.networks.figures_of_merit import figures_of_merit, mean_figures
from indeed.networks.inference_network import InDeed, network_preset
from indeed.recipes.equal_budget import checkpoint_path, runs_folder
from indeed.tables import read_table

PUBLISHED = Path(__file__).resolve().parents[2] / "results" / "measured"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Working folder of its own with two untrained networks of equal budget, and no benchmark images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INDEED_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setenv("INDEED_RECORDS", str(tmp_path / "records"))
    folder = runs_folder("smoke")
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    save_checkpoint(checkpoint_path("dncnn", 1, folder), DnCNN(DnCNNConfig(depth=3, width=4)), {})
    save_checkpoint(checkpoint_path("indeed", 1, folder), InDeed(network_preset("tiny", 1)), {})
    return tmp_path


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """Every test set on disk, as empty files."""
    monkeypatch.setenv("INDEED_DATA", str(tmp_path))
    for name, count in (("cbsd68", 68), ("kodak24", 24), ("mcmaster", 18), ("set12", 12), ("bsd68", 68)):
        folder = tmp_path / "denoise" / "test" / name
        folder.mkdir(parents=True)
        for index in range(count):
            (folder / f"{index:02}.png").touch()


def installed(monkeypatch, bm3d):
    monkeypatch.setattr(table4, "find_spec", lambda name: object() if bm3d else None)


@pytest.mark.shipped
def test_smoke_table_has_every_method_on_grey_and_colour_and_is_written(here):
    rows = TABLE.table("smoke")
    assert read_table(here / "records" / "smoke" / "table4.csv") == rows
    fast = {"noisy", "tv", "nlm", "wavelet", "indeed"}
    methods = {
        name: {row["method"] for row in rows if row["dataset"] == name} for name in ("embedded_grey", "embedded_color")
    }
    assert methods == {"embedded_color": fast, "embedded_grey": fast | {"dncnn", "indeed_budget"}}
    by_method = {row["method"]: row for row in rows if row["dataset"] == "embedded_grey"}
    assert 20 < float(by_method["noisy"]["psnr"]) < 22  # 20.17 and what the clipping of the output takes away
    assert all(float(by_method[m]["psnr"]) > float(by_method["noisy"]["psnr"]) + 2 for m in ("tv", "wavelet", "indeed"))
    assert all(float(row["seconds_per_image"]) >= 0 and 0 < float(row["ssim"]) < 1 for row in rows)


@pytest.mark.shipped
def test_a_cell_of_indeed_is_the_mean_of_its_figures_of_merit(here):
    (row,) = TABLE.cell("embedded_color", "indeed", 25, 2, profile="smoke")
    model, _ = load_checkpoint(shipped_checkpoint("denoise_color"))
    data = DATA_SETS["embedded_color"]
    expected = mean_figures([figures_of_merit(model, data.image(file), 25, 0) for file in data.files()])
    assert float(row["psnr"]) == pytest.approx(expected.psnr)
    assert float(row["ssim"]) == pytest.approx(expected.ssim)
    assert float(row["psnr_low_rank"]) == pytest.approx(expected.psnr_low_rank)
    (noisy,) = TABLE.cell("embedded_color", "noisy", 25, 2, profile="smoke")
    assert float(noisy["psnr"]) == pytest.approx(expected.psnr_noisy)


def test_a_cell_is_measured_again_when_its_network_has_changed(here):
    (before,) = TABLE.cell("embedded_grey", "dncnn", 25, 1, profile="smoke")
    assert TABLE.cell("embedded_grey", "dncnn", 25, 1, profile="smoke") == [before]
    model, record = load_dncnn(runs_folder("smoke") / "dncnn_grey.safetensors")
    torch.nn.init.zeros_(model.last.weight)  # predicts no noise
    save_checkpoint(runs_folder("smoke") / "dncnn_grey.safetensors", model, record)
    (after,) = TABLE.cell("embedded_grey", "dncnn", 25, 1, profile="smoke")
    (noisy,) = TABLE.cell("embedded_grey", "noisy", 25, 1, profile="smoke")
    assert after["psnr"] == noisy["psnr"] != before["psnr"]


def test_crops_are_centres():
    image = sample_image("astronaut")
    crop = DATA_SETS["embedded_color"]
    assert torch.equal(crop.image(crop.files()[0]), image[:, 224:288, 224:288])


def test_whole_sets_at_every_noise_level_and_a_stated_part_for_bm3d(sets, monkeypatch):
    installed(monkeypatch, bm3d=True)
    keys = cells("cpu")
    assert len(keys) == len(set(keys))
    for dataset, images in (
        ("cbsd68", 68),
        ("kodak24_500", 24),
        ("mcmaster", 18),
        ("set12", 12),
        ("bsd68", 68),
    ):
        for sigma in SIGMAS:
            assert {(dataset, method, sigma, images) for method in ("noisy", "tv", "nlm", "wavelet", "indeed")} <= set(
                keys
            )
            assert ((dataset, "dncnn", sigma, images) in keys) == (DATA_SETS[dataset].channels == 1)
            assert ((dataset, "bm3d", sigma, images) in keys) == (dataset == "set12")
        if dataset != "set12":  # the same images for both, or they could not be compared
            assert {(dataset, "bm3d", 25, 8), (dataset, "indeed", 25, 8)} <= set(keys)
    assert "kodak24" not in {dataset for dataset, *_ in keys}
    whole = cells("paper")
    assert {("cbsd68", "bm3d", 50, 68), ("kodak24", "bm3d", 50, 24)} <= set(whole)


def test_without_bm3d_and_without_a_set_their_cells_are_left_out(sets, monkeypatch, tmp_path):
    installed(monkeypatch, bm3d=False)
    for file in (tmp_path / "denoise" / "test" / "kodak24").iterdir():
        file.unlink()
    keys = TABLE.keys("cpu")
    assert {key["dataset"] for key in keys} == {"cbsd68", "mcmaster", "set12", "bsd68"}
    assert "bm3d" not in {key["method"] for key in keys}
    assert {key["images"] for key in keys if key["dataset"] == "cbsd68"} == {68}


def test_a_part_of_a_set_is_spread_evenly(sets, tmp_path):
    job = Job("cpu", "cpu", tmp_path, [])
    files = table4.cell(job, "set12", "tv", 25, 5).files
    assert [path.name for path in files] == ["00.png", "02.png", "04.png", "07.png", "09.png"]


def test_names_and_keys_are_one_to_one(sets):
    keys = TABLE.keys("cpu")
    assert [TABLE.parse(cell_name(key.values())) for key in keys] == keys


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "lena"}, "dataset: got 'lena', expected one of"),
        ({"method": "median"}, "method: got 'median', expected one of"),
        ({"sigma": 0}, "sigma"),
        ({"images": 3}, "expected 1 to 2"),
    ],
)
def test_a_cell_that_cannot_be_is_refused(here, change, message):
    key = {"dataset": "embedded_grey", "method": "tv", "sigma": 25, "images": 1} | change
    with pytest.raises(ValueError, match=message):
        TABLE.cell(*key.values(), profile="smoke")


def test_what_is_missing_is_named_with_the_way_to_get_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INDEED_DATA", str(tmp_path))
    with pytest.raises(CheckpointError, match="equal_budget train dncnn --profile smoke"):
        TABLE.cell("embedded_grey", "dncnn", 25, 1, profile="smoke")
    with pytest.raises(DataMissingError):
        TABLE.cell("set12", "tv", 25, 1, profile="cpu")
    with pytest.raises(DataMissingError, match="no data set is on disk"):
        TABLE.table("cpu")


def test_comparison_is_here_minus_paper_on_whole_sets_only():
    def row(dataset, method, sigma, images, psnr="30.0"):
        return {"dataset": dataset, "method": method, "sigma": sigma, "images": images, "psnr": psnr, "ssim": "0.9"}

    compared = beside_paper(
        [
            row("cbsd68", "bm3d", "25", "68", "30.75"),
            row("kodak24_500", "indeed", "50", "24", "29.0"),
            row("cbsd68", "bm3d", "25", "8"),
            row("set12", "indeed", "25", "12"),
            row("cbsd68", "tv", "25", "68"),
        ]
    )
    assert compared[0]["psnr_paper"] == 30.71
    assert compared[0]["psnr_difference"] == pytest.approx(0.04)
    assert compared[0]["ssim_difference"] == pytest.approx(0.9 - 0.8716)
    assert compared[1]["psnr_difference"] == pytest.approx(29.0 - 29.43)
    assert all(math.isnan(row["psnr_difference"]) for row in compared[2:])
    assert [(row["sigma"], row["images"]) for row in compared] == [(25, 68), (50, 24), (25, 8), (25, 12), (25, 68)]


def test_every_method_of_the_paper_that_is_here_is_in_its_table():
    printed = {row["method"] for row in read_table(PUBLISHED.parent / "paper" / "table4_denoising.csv")}
    assert {name.paper for name in TABLE4_METHODS.values() if name.paper} <= printed


@pytest.mark.shipped
def test_the_command_lists_computes_gathers_and_draws(here, capsys):
    TABLE.main(["list", "--profile", "smoke"])
    needs = dict(line.partition(" ")[::2] for line in capsys.readouterr().out.splitlines())
    names = list(needs)
    assert names == list(map(cell_name, cells("smoke")))
    assert needs["embedded_grey-dncnn-25-2"] == "runs/equal_budget/smoke/dncnn_grey.safetensors"
    assert needs["embedded_grey-tv-25-2"] == ""
    TABLE.main(["cell", names[0], "--profile", "smoke"])
    assert (Path("runs/table4/smoke") / f"{names[0]}.csv").is_file()
    TABLE.main(["table", "--profile", "smoke"])
    TABLE.main(["figure", "--profile", "smoke"])
    assert {path.name for path in (here / "records" / "smoke").iterdir()} == {
        "table4.csv",
        "table4.json",
        "table4_psnr.svg",
        "table4_ssim.svg",
    }
    with pytest.raises(SystemExit) as stop:
        TABLE.main(["cell", "lena-tv-25-1", "--profile", "smoke"])
    assert stop.value.code == 2


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.shipped
def test_shipped_grey_model_gives_its_published_numbers_on_set12(tmp_path):
    try:
        (fresh,) = TABLE.cell("set12", "indeed", 25, 12, profile="cpu", runs=tmp_path)
    except DataMissingError as missing:
        pytest.skip(str(missing))
    (published,) = (
        row
        for row in read_table(PUBLISHED / "cpu" / "table4.csv")
        if cell_name(row[name] for name in TABLE.key) == "set12-indeed-25-12"
    )
    for name, tolerance in {"psnr": 0.02, "psnr_low_rank": 0.02, "ssim": 0.001}.items():
        assert float(fresh[name]) == pytest.approx(float(published[name]), abs=tolerance)
