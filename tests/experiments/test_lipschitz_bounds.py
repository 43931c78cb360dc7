"""What the table of bounds holds: a lower bound below an upper one, for each part, of the network that is given."""

import pytest
import torch

from indeed.experiments import lipschitz_bounds
from indeed.experiments.lipschitz_bounds import TABLE, centres, observed
from indeed.networks.inference_network import InDeed, network_preset
from indeed.networks.lipschitz import Lipschitz


def test_the_truth_lies_between_the_bounds_and_a_steeper_network_has_larger_ones(tmp_path, monkeypatch):
    model = InDeed(network_preset("tiny", 1)).eval()
    monkeypatch.setattr(lipschitz_bounds, "load_checkpoint", lambda _: (model, {}))
    flat = TABLE.table("smoke", tmp_path, runs=tmp_path / "flat")
    assert [row["part"] for row in flat] == list(Lipschitz._fields)
    assert all(0 < float(row["at_least"]) <= float(row["at_most"]) for row in flat)
    with torch.no_grad():
        model.f_A.mean_head.weight *= 3
    steep = TABLE.table("smoke", tmp_path, runs=tmp_path / "steep")
    for bound in ("at_least", "at_most"):
        assert float(steep[0][bound]) == pytest.approx(3 * float(flat[0][bound]), rel=0.05)
        assert steep[1][bound] == flat[1][bound]


def test_the_noise_of_a_photograph_does_not_depend_on_how_many_follow():
    clean = torch.cat(list(centres("smoke").values()))
    assert clean.shape == (4, 1, 64, 64)
    assert torch.equal(observed(clean)[:2], observed(clean[:2]))
    assert (observed(clean) - clean).std().item() == pytest.approx(25 / 255, rel=0.02)
