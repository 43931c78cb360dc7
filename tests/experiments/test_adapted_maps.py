import pytest

from indeed.experiments.adapted_maps import METHODS, TABLE


@pytest.mark.shipped
@pytest.mark.slow
def test_the_defects_stand_out_of_the_maps_and_only_an_adaptation_changes_them(tmp_path):
    rows = TABLE.table("smoke", tmp_path, runs=tmp_path / "runs")
    assert [row["method"] for row in rows] == list(METHODS)
    maps = {row["method"]: (float(row["inside"]), float(row["outside"])) for row in rows}
    assert all(0 <= outside < inside <= 1 for inside, outside in maps.values())
    assert len(set(maps.values())) == len(METHODS)
