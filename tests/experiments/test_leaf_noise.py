import pytest

from indeed.experiments import leaf_noise
from indeed.experiments.leaf_noise import NETWORKS, TABLE
from indeed.networks.inference_network import InDeed, network_preset


@pytest.mark.slow
def test_draws_of_the_precisions_weigh_more_where_the_supervision_is_weak(tmp_path, monkeypatch):
    monkeypatch.setattr(leaf_noise, "load_checkpoint", lambda _: (InDeed(network_preset("tiny", 1)), {}))
    rows = TABLE.table("smoke", tmp_path, runs=tmp_path / "runs")
    noise = leaf_noise.noises(rows)
    assert list(noise) == list(NETWORKS.values())
    assert noise["shipped"][1e3].leaf == float(rows[2]["leaf"])
    for weak, strong in (by_precision.values() for by_precision in noise.values()):
        assert weak.leaf / sum(weak) > strong.leaf / sum(strong) > 0
    # a random start is another network than the one that is loaded
    assert noise["random start"][1e5] != pytest.approx(noise["shipped"][1e5])
