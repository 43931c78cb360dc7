"""Cells of the refinement: what they hold is what decomposing says."""

import pytest
import torch

from indeed.experiments.refinement import SIGMA, TABLE, cells
from indeed.experiments.table4 import DATA_SETS
from indeed.images.metrics import psnr
from indeed.images.noise import seeded_gaussian
from indeed.networks.checkpoint import load_checkpoint, shipped_checkpoint
from indeed.networks.whole_image import decompose
from indeed.tables import read_table


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INDEED_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setenv("INDEED_RECORDS", str(tmp_path / "records"))
    return tmp_path


@pytest.mark.shipped
def test_table_holds_the_means_of_the_decompositions_and_the_sum_does_not_change(here, capsys):
    TABLE.main(["table", "--profile", "smoke"])
    rows = read_table(here / "records" / "smoke" / "refinement.csv")
    assert [int(row["sweeps"]) for row in rows] == [0, 2]
    model, _ = load_checkpoint(shipped_checkpoint("denoise_color"))
    data = DATA_SETS["embedded_color"]
    for row in rows:
        values = []
        for file in data.files():
            clean = data.image(file)
            parts = decompose(model, seeded_gaussian(clean, SIGMA, seed=0), refine=int(row["sweeps"]))
            values.append(torch.stack([psnr(part[None], clean[None])[0] for part in (parts.L, parts.L + parts.S)]))
        low_rank, both = torch.stack(values).mean(0).tolist()
        assert float(row["psnr_low_rank"]) == pytest.approx(low_rank, abs=0.02)
        assert float(row["psnr"]) == pytest.approx(both, abs=0.02)
    assert float(rows[0]["psnr"]) == pytest.approx(float(rows[1]["psnr"]), abs=0.01)
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_bad_cells_are_named(here):
    with pytest.raises(ValueError, match="dataset: got 'lena', expected one of"):
        TABLE.cell("lena", 25, 0, 1, profile="smoke")
    with pytest.raises(ValueError, match="count: got 3, expected 1 to 2"):
        TABLE.cell("embedded_color", 25, 0, 3, profile="smoke")
    with pytest.raises(FileNotFoundError, match="cbsd68"):
        cells("cpu")
