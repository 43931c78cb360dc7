"""Figures of the leaf level: the data that they show, and that they show it."""

import numpy as np
import pytest
import torch

from indeed import figures
from indeed.bayes.conjugate_updates import gamma_objective, update_gamma, update_lambda
from indeed.bayes.elbo import negative_expected_log_likelihood
from indeed.bayes.generative_model import Hyperpriors
from indeed.bayes.middle_updates import update_factor
from indeed.bayes.posterior_summaries import low_rank_moments
from indeed.bayes.variational_family import GammaFactor, GaussianFactor
from indeed.figures.conjugate_updates import column_given_gamma

SIZE, PRECISION = 24, 100.0


THRESHOLD = 2 * ((2 + SIZE) / PRECISION) ** 0.5  # of Hyperpriors().gamma_shape


def rank_one_problem(singular_value, seed=0):
    """A square image with one singular value, and the factors that start at its singular vectors."""
    generator = torch.Generator().manual_seed(seed)
    u, v = (torch.nn.functional.normalize(torch.randn(SIZE, generator=generator).double(), dim=0) for _ in "uv")
    y = (singular_value * torch.outer(u, v))[None, None]
    factors = [
        GaussianFactor(singular_value**0.5 * x[None, None, :, None], torch.full((1, 1, SIZE, 1), -6.0).double())
        for x in (u, v)
    ]
    return y, torch.full_like(y, PRECISION), factors


def settle(y, weight, factors, rounds, mean_gamma=None):
    A, B = factors
    for _ in range(rounds):
        gamma = update_gamma(A, B, Hyperpriors()).mean if mean_gamma is None else mean_gamma
        A = update_factor(y, A, B, gamma, weight)
        B = update_factor(y.mT, B, A, gamma, weight.mT)
    return A, B


def energy(A, B):
    return (A.second_moment.sum() + B.second_moment.sum()).item()


def test_precision_landscapes_show_the_minimum_and_the_points(drawn):
    exact, paper = (GammaFactor(torch.tensor(scale * 3.0), torch.tensor(scale * 2.0)) for scale in (1, 2))
    grid = torch.meshgrid(torch.logspace(-0.3, 1, 20), torch.logspace(0, 1, 20), indexing="ij")
    excess = (grid[1] / 3).log().square() + (grid[0] / 2).log().square()
    path = GammaFactor(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 2.0]))
    landscape = figures.Landscape(GammaFactor(grid[1], grid[0]), excess, exact, paper, path)
    figure, data = figures.precision_landscapes({"one": landscape})
    np.testing.assert_allclose(data["one"]["exact"], [3, 2])
    np.testing.assert_allclose(data["one"]["paper"], [6, 4])
    np.testing.assert_allclose(data["one"]["path"], [3, 2])
    ridge, _, blue, orange = drawn(figure).axes[0].lines
    np.testing.assert_allclose(ridge.get_xdata() / ridge.get_ydata(), 1.5, rtol=1e-6)
    assert (blue.get_xdata()[0], orange.get_xdata()[0]) == (3, 6)


def test_variance_tails_are_those_of_samples(drawn):
    residual = torch.full((1, 1, 1, 1), 0.01, dtype=torch.float64)
    forms = [update_lambda(residual, Hyperpriors(), form) for form in ("exact", "paper")]
    figure, data = figures.variance_tails({"noise": tuple(forms)}, {"noise": 1.5})
    generator = torch.Generator().manual_seed(0)
    curves = data["noise"]
    for name, q in zip(("exact", "paper"), forms, strict=True):
        many = GammaFactor(q.shape.expand(20_000, 1, 1, 1), q.rate.expand(20_000, 1, 1, 1)).sample(generator)
        share = (q.mean / many > curves["threshold"][100]).double().mean().item()
        assert curves[name][100] == pytest.approx(share, abs=0.015)
    # Half the variance: the paper's tail falls later and ends lower.
    assert curves["paper"][20] > curves["exact"][20]
    assert curves["paper"][-1] < curves["exact"][-1]
    exact, paper, _, mark = drawn(figure).axes[0].lines
    assert [line.get_label() for line in (exact, paper)] == ["exact", "paper"]
    assert set(mark.get_xdata()) == {1.5}


@pytest.mark.parametrize("mean_gamma", [1.0, 40.0, 1e3])
def test_a_column_settles_where_the_soft_threshold_says(mean_gamma):
    d = 1.5
    y, weight, factors = rank_one_problem(d)
    A, B = settle(y, weight, factors, 1000, torch.full((1, 1, 1), mean_gamma).double())
    squared_norm, variance = column_given_gamma(torch.tensor([mean_gamma]).double(), d, PRECISION, SIZE)
    for q in (A, B):
        assert q.mean.square().sum().item() == pytest.approx(squared_norm.item(), abs=1e-6)
        torch.testing.assert_close(q.variance.flatten(), variance.expand(SIZE), rtol=1e-5, atol=0)
    assert (squared_norm.item() > 0) == (mean_gamma / PRECISION + SIZE / PRECISION / d < d)


@pytest.mark.slow
def test_column_switch_has_two_stable_points_above_the_edge_of_the_noise_and_one_below(drawn):
    columns = {"strong": 1.4 * THRESHOLD, "weak": 0.9 * THRESHOLD}
    figure, data = figures.column_switch(columns, PRECISION, SIZE, Hyperpriors())
    assert [len(data[name]["stable"]) for name in columns] == [2, 1]
    assert [len(data[name]["unstable"]) for name in columns] == [1, 0]
    for name, d in columns.items():
        # The updates themselves, from the singular vectors, end at the upper stable point.
        A, B = settle(*rank_one_problem(d), 400)
        assert data[name]["stable"][-1] == pytest.approx(energy(A, B), rel=0.03)
    above, below = drawn(figure).axes
    np.testing.assert_allclose(above.lines[0].get_ydata(), data["strong"]["growth"])
    np.testing.assert_allclose(below.lines[0].get_ydata(), data["strong"]["free energy"])


def test_the_free_energy_of_the_switch_is_stationary_where_the_growth_is_one():
    curves = figures.column_switch({"c": 1.4 * THRESHOLD}, PRECISION, SIZE, Hyperpriors())[1]["c"]
    slope = np.diff(curves["free energy"])
    # Growth means that the free energy falls with the energy, and the other way round.
    clear = np.abs(curves["growth"][:-1] - 1) > 0.02
    np.testing.assert_array_equal(np.sign(slope[clear]), -np.sign(curves["growth"][:-1] - 1)[clear])


def test_the_free_energy_of_the_switch_is_that_of_the_library():
    """Off against on, by the terms of the elbo for the two solutions of the same image."""
    d = 1.4 * THRESHOLD
    curves = figures.column_switch({"c": d}, PRECISION, SIZE, Hyperpriors())[1]["c"]
    y, weight, start = rank_one_problem(d)
    nothing = [GaussianFactor(0 * q.mean, torch.full_like(q.mean, -14.0)) for q in start]
    free_energies = []
    for factors in (nothing, start):
        A, B = settle(y, weight, factors, 300)
        mean, variance = low_rank_moments(A, B)
        known = GammaFactor(torch.full_like(y, 1e12), torch.full_like(y, 1e12 / PRECISION))
        fidelity = negative_expected_log_likelihood((y - mean).square() + variance, known)
        gamma = update_gamma(A, B, Hyperpriors())
        free_energies.append((fidelity + gamma_objective(gamma, A, B, Hyperpriors())).item())
    on = np.abs(curves["energy"] - curves["stable"][-1]).argmin()
    assert curves["free energy"][on] == pytest.approx(free_energies[1] - free_energies[0], abs=0.05)


def test_column_precisions_show_strengths_precisions_and_rank_one_images(drawn):
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(1, 1, 12, 12, generator=generator).double()
    U, d, Vh = torch.linalg.svd(y)
    scale = torch.tensor([1.0, 0.5, 0.0])
    A, B = (
        GaussianFactor(x[..., :3] * (scale * d[0, 0, :3]).sqrt(), torch.zeros(1, 1, 12, 3).double()) for x in (U, Vh.mT)
    )
    gamma = torch.tensor([[[2.0, 4.0, 1e6]]])
    figure, data = figures.column_precisions(A, B, gamma, y, 1.0, [0, 2])
    np.testing.assert_allclose(data["strength"], scale * d[0, 0, :3], atol=1e-12)
    np.testing.assert_allclose(data["singular value"], d[0, 0, :3])
    above, bars, first, off = drawn(figure).axes
    assert list(above.lines[1].get_xdata()) == [1, 2]
    assert list(above.lines[2].get_xdata()) == [3]
    np.testing.assert_allclose([bar.get_height() for bar in bars.patches], [2, 4, 1e6])
    assert [ax.get_title() for ax in (first, off)] == ["i = 1, on", "i = 3, off"]
    np.testing.assert_allclose(off.images[0].get_array(), 0.5)
    assert first.images[0].get_array().std() > 0.1


def test_precision_maps_show_standard_deviations_in_grey_levels(drawn):
    image = torch.linspace(-1, 1, 16).view(1, 1, 4, 4)
    precision = torch.full((1, 1, 4, 4), (10 / 255) ** -2)
    precision[..., 0, 0] = (20 / 255) ** -2
    figure, data = figures.precision_maps({"S": image}, {"Ω": precision})
    assert data["Ω"][0, 0] == pytest.approx(20)
    assert data["Ω"][1, 1] == pytest.approx(10)
    part, shown = drawn(figure).axes[:2]
    assert part.get_title() == "S, white 255"
    np.testing.assert_allclose(shown.images[0].get_array(), data["Ω"], rtol=1e-6)
