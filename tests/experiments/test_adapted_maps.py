import pytest

from indeed.experiments import adapted_maps, detector_gradients

pytestmark = [pytest.mark.shipped, pytest.mark.slow]


def table(of, folder):
    return of.TABLE.table("smoke", folder, runs=folder / "runs")


def test_the_defects_stand_out_of_the_maps_and_only_an_adaptation_changes_them(tmp_path):
    rows = table(adapted_maps, tmp_path)
    assert [row["method"] for row in rows] == list(adapted_maps.METHODS)
    maps = {row["method"]: (float(row["inside"]), float(row["outside"])) for row in rows}
    assert all(0 <= outside < inside <= 1 for inside, outside in maps.values())
    assert len(set(maps.values())) == len(maps)


def test_less_of_s_is_nearer_to_the_defects_and_more_of_it_is_not(tmp_path):
    for row in table(detector_gradients, tmp_path):
        assert float(row["fidelity"]) < 0 < float(row["sparsity"])
        assert min(float(row["sum"]), float(row["replay"])) >= -1
