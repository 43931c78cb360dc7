"""Figures of the noise model and the target: their data against numerical derivatives and minimisation."""

import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from indeed import figures
from indeed.bayes.generative_model import Hyperpriors
from indeed.images.noise import GREY_LEVEL

RATE, WEIGHT = 2e-8, 2.5  # of the log penalty, with the paper's hyperpriors


def test_pull_of_the_papers_fidelity_is_the_slope_of_a_log_penalty(drawn):
    figure, data = figures.fidelity_of_a_pixel(Hyperpriors(), residual_sd=25, uncertainty=2)
    r = data["residual"] * GREY_LEVEL
    for name, floor in (("own sample", RATE), ("own expectation", RATE + (2 * GREY_LEVEL) ** 2)):
        slope = np.gradient(WEIGHT * np.log(r**2 + floor), data["residual"])
        np.testing.assert_allclose(data[name]["pull"][1:-1], slope[1:-1], rtol=2e-3)
    assert data["own sample"]["fidelity"][data["residual"] > 1] == pytest.approx(2.5, rel=2e-3)
    np.testing.assert_allclose(data["shared"]["fidelity"], 0.5 * (data["residual"] / 25) ** 2)
    axes = drawn(figure).axes
    np.testing.assert_array_equal(axes[1].lines[0].get_ydata(), data["own sample"]["pull"])


@pytest.mark.slow
def test_perfect_denoiser_under_a_log_penalty_by_numerical_minimisation(drawn):
    precisions = [1e3, 1e4, 1e5, 1e6]
    figure, data = figures.target_precision_curve(25, precisions, Hyperpriors())
    noise = 25 * GREY_LEVEL * scipy.stats.norm.ppf(0.5 + (np.arange(600) + 0.5) / 1200)
    for k, precision in enumerate(precisions):
        first, lowest = [], []
        for n in noise:

            def objective(e, n=n, precision=precision):
                return 0.5 * precision * e**2 + WEIGHT * np.log((n - e) ** 2 + RATE)

            # The first minimum by going right from 0; the lowest is that one or the one at the noise.
            grid = np.linspace(0, n, 4001)
            values = objective(grid)
            rising = np.flatnonzero(np.diff(values) > 0)
            near = grid[rising[0]] if len(rising) else n
            wells = [
                scipy.optimize.minimize_scalar(
                    objective, bounds=(max(c - n / 2000, 0), c + n / 2000), method="bounded", options={"xatol": 1e-12}
                ).x
                for c in (near, n)
            ]
            first.append(wells[0])
            lowest.append(min(wells, key=objective))
        for name, errors in (("first", first), ("lowest", lowest)):
            assert data[name][k] == pytest.approx(-10 * np.log10(np.mean(np.square(errors))), abs=0.3)
        # The threshold n^2 = 20 / target precision, neglecting the rate.
        share = scipy.stats.norm.cdf((20 / precision) ** 0.5 / (25 * GREY_LEVEL)) * 2 - 1
        assert data["copied"][k] == pytest.approx(share, abs=0.01)
    assert (np.diff(data["first"]) > 10).all()
    right = drawn(figure).axes[1]
    np.testing.assert_array_equal(right.lines[0].get_ydata(), data["first"])
