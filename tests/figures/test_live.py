"""The still form of a live figure: the data that it shows, and that it shows it."""

import numpy as np
import pytest

from indeed import figures
from indeed.bayes.generative_model import Hyperpriors
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
