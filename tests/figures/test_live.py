"""The still forms of the live figures: the data that they show, and that they show it."""

import numpy as np
import pytest
import torch

from indeed import figures
from indeed.bayes.generative_model import Hyperpriors
from indeed.figures.conjugate_updates import column_given_gamma
from indeed.images.noise import GREY_LEVEL


def scales(sparse, noise):
    return Hyperpriors(omega_rate=2 * (sparse * GREY_LEVEL) ** 2, lambda_rate=2 * (noise * GREY_LEVEL) ** 2)


def test_a_pixel_is_shared_by_the_scales(drawn):
    settings = {"one": scales(40, 20), "equal": scales(20, 20), "other": scales(20, 40), "paper": Hyperpriors()}
    figure, data = figures.pixel_posteriors(60, settings)
    assert data["equal"]["mean"] == pytest.approx(30, abs=1e-2)
    assert data["one"]["mean"] + data["other"]["mean"] == pytest.approx(60, abs=1e-2)  # S and N change places
    assert data["paper"]["mean"] == pytest.approx(60, abs=0.1)  # S takes all
    for curves in data.values():
        assert np.trapezoid(curves["density"], curves["s"]) == pytest.approx(1)
        cost = curves["S"] + curves["N"]
        inside = curves["density"] > 1e-200
        np.testing.assert_allclose(np.ptp((np.log(curves["density"]) + cost)[inside]), 0, atol=1e-6)
        assert np.interp(0, curves["s"], curves["S"]) == pytest.approx(0, abs=1e-6)
        assert np.interp(60, curves["s"], curves["N"]) == pytest.approx(0, abs=1e-6)
    above, below = drawn(figure).axes[0], figure.axes[4]
    assert [line.get_label() for line in above.lines[:3]] == ["S pays", "N pays", "sum"]
    np.testing.assert_allclose(above.lines[0].get_ydata(), data["one"]["S"])
    assert below.lines[1].get_xdata()[0] == pytest.approx(data["one"]["mean"])


def test_the_rules_agree_on_noise_and_differ_above_it(drawn):
    size, level = 32, 25
    figure, data = figures.strength_rules(level, size, Hyperpriors())
    d = data["singular value"]
    edge, threshold = 2 * level * size**0.5, 2 * level * (2 + size) ** 0.5
    rules = list(data)[1:]
    assert all((data[rule][d < edge] == 0).all() for rule in rules)
    above = d > threshold
    soft, shrunk, switch, kept = (data[rule][above] for rule in (rules[1], rules[2], rules[3], rules[0]))
    np.testing.assert_array_equal(kept, d[above])
    np.testing.assert_allclose(soft, d[above] - edge)
    np.testing.assert_allclose(shrunk, np.sqrt(d[above] ** 2 - edge**2))
    assert ((soft < switch) & (switch < kept)).all()
    # The column settles there: its precision follows from its energy, and its energy from its precision.
    chosen = torch.tensor([d[above][40], d[above][-1]], dtype=torch.float64) * GREY_LEVEL
    sigma = level * GREY_LEVEL
    half_energy = torch.tensor([switch[40], switch[-1]]) * GREY_LEVEL + size * sigma**2 / chosen
    for value, half, strength in zip(chosen, half_energy, (switch[40], switch[-1]), strict=True):
        squared_norm, _ = column_given_gamma((2 + size) / half[None], float(value), sigma**-2, size)
        assert squared_norm.item() / GREY_LEVEL == pytest.approx(strength, rel=1e-6)
    lines = drawn(figure).axes[0].lines
    assert [line.get_label() for line in lines[:4]] == rules
    np.testing.assert_allclose(lines[3].get_ydata(), data["the switch"])
