from dataclasses import replace

import pytest

from indeed.experiments.ascent_ends import TABLE

STARTS = ["network", "svd", "s_copies"]


@pytest.fixture
def ends(untrained, tmp_path):
    """Smoke rows by noise and start, with an untrained network."""
    tiny = {untrained(1): ""}
    table = replace(TABLE, networks=lambda key, profile: tiny)
    return {(row["noise"], row["start"]): row for row in table.table("smoke", tmp_path, runs=tmp_path / "runs")}


def test_an_ascent_lowers_the_free_energy_of_each_start_with_both_models_of_the_noise(ends):
    assert list(ends) == [(noise, start) for noise in ("pixel", "scalar") for start in STARTS]
    assert all(float(row["free_energy"]) < float(row["begin"]) for row in ends.values())


def test_an_s_that_copies_the_noise_saves_at_once_what_the_rule_says(ends):
    svd, copies = ends["pixel", "svd"], ends["pixel", "s_copies"]
    saved = float(svd["free_energy"]) - float(copies["begin"])
    assert saved > 0
    assert float(svd["price"]) == pytest.approx(saved, rel=0.1)
    assert ends["scalar", "svd"]["price"] == "nan"  # one precision has no such price
    assert float(copies["psnr"]) < float(ends["scalar", "svd"]["psnr"])
