from dataclasses import replace

import pytest

from indeed.data.anomaly_sets import AnomalySet
from indeed.experiments import adapted_maps, detector_gradients
from indeed.recipes.good_images import texture_set_for_tests


@pytest.fixture
def table(few, untrained, tmp_path_factory, monkeypatch):
    """Smoke rows of a table, with an untrained detector and one brick of each class."""
    whole = texture_set_for_tests()
    kept = (tuple(item for item in items if item.category == "brick") for items in (whole.train, whole.test))
    bricks = few(AnomalySet("textures", *kept))
    tiny = {untrained(1): ""}

    def rows(of):
        monkeypatch.setattr(of, "set_of_profile", lambda dataset, profile: bricks)
        tested = replace(of.TABLE, networks=lambda key, profile: tiny)
        folder = tmp_path_factory.mktemp("table")
        return tested.table("smoke", folder, runs=folder / "runs")

    return rows


@pytest.mark.slow
def test_an_adaptation_changes_the_maps_and_nothing_else_does(table):
    maps = {row["method"]: (float(row["inside"]), float(row["outside"])) for row in table(adapted_maps)}
    assert list(maps) == list(adapted_maps.METHODS)
    assert all(0 <= mean <= 1 for means in maps.values() for mean in means)
    assert len(set(maps.values())) == len(maps)


@pytest.mark.slow
def test_a_probe_has_the_cosine_of_each_term_and_is_its_seed(table):
    found, again = (
        [[float(row[name]) for name in ("fidelity", "sparsity", "sum", "replay")] for row in table(detector_gradients)]
        for _ in range(2)
    )
    assert found == again
    assert all(-1 <= cosine <= 1 and cosine for cosines in found for cosine in cosines)
    assert found[0] != found[1]
