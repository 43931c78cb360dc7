import pytest
import torch

from indeed.learning.adaptation.stopping import DriftCap, LowestFreeEnergy, LowestVariance, Monitor, Verdict


def history(energies=(0.0,), outputs=None, drifts=None) -> list[Monitor]:
    outputs = outputs or [0.0] * len(energies)
    drifts = drifts or [0.0] * len(energies)
    values = zip(energies, outputs, drifts, strict=True)
    return [Monitor(energy, torch.full((1, 1, 2, 2), output), drift) for energy, output, drift in values]


@pytest.mark.parametrize(
    ("energies", "verdict"),
    [((3, 2, 1), (2, False)), ((3, 1, 2), (1, False)), ((3, 1, 2, 1), (1, True)), ((1, 2, 3), (0, True))],
)
def test_the_free_energy_rule_keeps_the_lowest_and_waits_its_patience(energies, verdict):
    assert LowestFreeEnergy(patience=2)(history([float(energy) for energy in energies])) == Verdict(*verdict)


def test_the_variance_rule_keeps_the_end_of_the_calmest_window():
    outputs = [0.0, 1.0, 1.5, 1.6, 1.6, 2.5, 4.0]
    rule = LowestVariance(window=3, patience=2)
    verdicts = [rule(history([0.0] * n, outputs[:n])) for n in range(1, 8)]
    # Windows (2, 3, 4) of outputs 1.5, 1.6, 1.6 vary least.
    assert [verdict.keep for verdict in verdicts] == [0, 1, 2, 3, 4, 4, 4]
    assert [verdict.stop for verdict in verdicts] == [False] * 6 + [True]


def test_the_drift_cap_keeps_the_last_weights_within_it():
    rule = DriftCap(0.5)
    assert rule(history([0.0] * 3, drifts=[0.0, 0.2, 0.5])) == Verdict(2, False)
    assert rule(history([0.0] * 3, drifts=[0.0, 0.2, 0.51])) == Verdict(1, True)
    assert rule(history([0.0], drifts=[0.6])) == Verdict(0, True)


@pytest.mark.parametrize(
    ("rule", "changes", "message"),
    [
        (LowestFreeEnergy, {"patience": 0}, "patience: got 0"),
        (LowestVariance, {"window": 1}, "window: got 1"),
        (LowestVariance, {"patience": 0}, "patience: got 0"),
        (DriftCap, {"largest": float("nan")}, "largest: got nan"),
    ],
)
def test_a_rule_out_of_range_is_refused_by_name(rule, changes, message):
    with pytest.raises(ValueError, match=message):
        rule(**changes)
