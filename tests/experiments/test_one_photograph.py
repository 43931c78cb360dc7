import math

import pytest
import torch

from indeed.experiments import one_photograph
from indeed.experiments.one_photograph import RUNS, TABLE, curves, gains, photograph, replayed, with_noise
from indeed.networks.inference_network import InDeed, network_preset


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Rows of three runs, with a tiny network in the place of the shipped ones."""
    with pytest.MonkeyPatch.context() as patch:
        torch.manual_seed(0)
        patch.setattr(one_photograph, "load_checkpoint", lambda _: (InDeed(network_preset("tiny", 3)), {}))
        folder, runs = tmp_path_factory.mktemp("one_photograph"), ("estimated", "terms", "terms_two_threads")
        return {run: TABLE.cell(run, profile="smoke", runs=folder)[0] for run in runs}


@pytest.mark.slow
def test_a_watched_run_has_a_point_for_every_step_and_what_each_rule_kept(rows):
    points = curves(rows.values())
    assert points.keys() == {"estimated", "terms"} == {run for run, row in rows.items() if RUNS[run].watched}
    assert [step for step, _ in points["estimated"]] == [0, 1, 2, 3, 4]
    for name in ("kept_energy", "kept_variance", "kept_drift"):
        assert float(rows["terms"][name]) in range(5)
        assert math.isnan(float(rows["terms_two_threads"][name]))


@pytest.mark.slow
def test_the_gain_is_that_of_the_whole_image_and_to_watch_does_not_change_it(rows):
    found = gains(rows.values())
    row = rows["estimated"]
    assert found["estimated"] == float(row["psnr_after"]) - float(row["psnr_before"]) != 0
    assert found["terms"] == pytest.approx(found["terms_two_threads"], abs=0.05)
    assert torch.get_num_threads() == int(row["threads"])  # put back


def test_the_wrong_law_is_that_of_the_white_noise():
    clean = photograph("coffee", "smoke")
    noisy = with_noise(clean, "demosaicked")
    assert torch.equal(noisy, with_noise(clean, "demosaicked"))
    noise = {}
    for name in ("estimated", "wrong"):
        sample = replayed(name, noisy, clean, "demosaicked", 32)(torch.Generator().manual_seed(0))
        noise[name] = sample.observed - sample.target
    neighbours = {name: (n[..., 1:] * n[..., :-1]).mean() / n.square().mean() for name, n in noise.items()}
    assert neighbours["estimated"] > 0.3 > abs(neighbours["wrong"])
