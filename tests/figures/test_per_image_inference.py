"""Figures of per-image inference: the data that they show, and that they show it."""

import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from indeed import figures
from indeed.bayes.generative_model import Hyperpriors
from indeed.images.noise import GREY_LEVEL

RATE, WEIGHT = 2e-8, 2.5  # of the log penalty, with the paper's hyperpriors


def test_ascent_traces_account_for_the_whole_fall_by_the_kind_of_update(drawn):
    trace = [("start", 9.0), ("A", 7.0), ("B", 6.5), ("S", 6.0), ("gamma", 5.0), ("omega", 4.75), ("lambda", 3.0)]
    trace += [("switch off", 2.5), ("remove", 2.25), ("A", 2.0)]
    figure, data = figures.ascent_traces({"one": trace, "two": trace})
    assert list(data) == ["one", "two"]
    lowered = {kind: part["lowered"].item() for kind, part in data["one"].items()}
    assert lowered == {"A": 2.25, "B": 0.5, "S": 0.5, "leaf level": 3.0, "columns off": 0.75}
    np.testing.assert_array_equal(data["one"]["A"]["number"], [1, 9])
    np.testing.assert_array_equal(data["one"]["leaf level"]["above"], [3.0, 2.75, 1.0])
    axes = drawn(figure).axes
    assert [ax.get_title() for ax in axes] == ["one", "two"]
    leaf = axes[0].collections[3]
    assert leaf.get_label() == "leaf level"
    np.testing.assert_array_equal(leaf.get_segments()[0], [[4, 4.0], [4, 3.0]])


def test_descent_against_ascent_shows_what_is_above_the_best(drawn):
    ascent = {"step": [1, 2, 3], "seconds": [0.1, 0.2, 0.3], "free energy": [5.0, 2.0, 1.0]}
    descent = {"gradient": {"step": [1, 100], "seconds": [0.1, 9.0], "free energy": [6.0, 1.5]}}
    figure, data = figures.descent_against_ascent(ascent, descent, best=1.0)
    np.testing.assert_array_equal(data["gradient"]["above"], [5.0, 0.5])
    np.testing.assert_array_equal(data["coordinate ascent"]["above"][:2], [4.0, 1.0])
    left, right = drawn(figure).axes
    for ax, along in ((left, "step"), (right, "seconds")):
        line = next(line for line in ax.lines if line.get_label() == "gradient")
        np.testing.assert_array_equal(line.get_xdata(), descent["gradient"][along])
        np.testing.assert_array_equal(line.get_ydata(), [5.0, 0.5])


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
