"""Figures of amortisation: the data that they show, and that they show them."""

import numpy as np
import pytest
import torch

from indeed import figures
from indeed.bayes.elbo import ElboTerms


def test_per_image_progress_draws_each_method_from_the_network_on(drawn):
    def values(free_energy, L, both):
        return {"free energy": free_energy, "L": L, "L + S": both}

    one = {0: values(9.0, 20.0, 30.0), 1: values(8.0, 19.0, 28.0), 10: values(5.0, 18.0, 25.0)}
    other = {0: values(9.0, 20.0, 30.0), 1: values(4.0, 21.0, 22.0)}
    figure, data = figures.per_image_progress({"model": {"one": one, "other": other}})
    assert data["model"]["one"]["steps"] == [0, 1, 10]
    assert data["model"]["one"]["free energy"] == [9, 8, 5]
    above, below = drawn(figure).axes
    assert [line.get_label() for line in above.lines] == ["one", "other"]
    np.testing.assert_array_equal(above.lines[0].get_xydata(), [(0, 9), (1, 8), (10, 5)])
    for line in below.lines:
        name, method = line.get_label().split(", ")
        assert list(line.get_ydata()) == data["model"][method][name]
    assert "dB" in below.get_ylabel()
    # The axis is logarithmic and yet has a place for zero.
    places = below.transData.transform([(0, 20), (1, 20), (10, 20)])[:, 0]
    assert 0 < places[0] < places[1] < places[2]


def test_terms_before_after_has_a_bar_of_the_mean_of_each_term_per_pixel(drawn):
    terms = ElboTerms(*(torch.tensor([k, k + 2.0]) for k in (-4.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0)))
    figure, data = figures.terms_before_after({"model": {"before": terms, "after": terms}}, pixels=2)
    expected = {
        "fidelity": -1.5,
        "lambda_prior": 3,
        "sparsity": 1.5,
        "omega_prior": 2.5,
        "rank": 1,
        "gamma_prior": 2,
    }
    assert data["model"]["before"] == pytest.approx(expected)
    (ax,) = drawn(figure).axes
    assert [bar.get_width() for bar in ax.patches[:6]] == pytest.approx(list(expected.values()))
    assert ax.get_legend().get_texts()[0].get_text() == "before, sum 8.5"


def test_all_or_nothing_puts_a_pixel_of_s_alone_on_the_diagonal(drawn):
    target = torch.tensor([[[[-0.2, 0.1, 0.3]]]])
    figure, data = figures.all_or_nothing({"all": (target, target), "nothing": (target, 0 * target)})
    np.testing.assert_allclose(data["all"][0], [-51, 25.5, 76.5], rtol=1e-6)
    for ax, line in zip(drawn(figure).axes, (0, 1), strict=True):
        x, y = ax.lines[2].get_data()
        np.testing.assert_allclose(y, np.interp(x, *ax.lines[line].get_data()), atol=1e-4)


def test_parts_by_stage_shows_s_with_mid_grey_as_zero_and_one_contrast(drawn):
    L = torch.full((1, 4, 4), 0.5)
    S = torch.full((1, 4, 4), 0.2)
    S[0, 0, 0] = -0.2
    figure, data = figures.parts_by_stage({"first": (L, S), "half": (L, S / 2), "none": (L, 0 * S)})
    assert [parts["S"][1, 1] for parts in data.values()] == pytest.approx([1.0, 0.75, 0.5])
    assert [parts["L + S"][0, 0] for parts in data.values()] == pytest.approx([0.3, 0.4, 0.5])
    axes = drawn(figure).axes
    assert [ax.get_title() for ax in axes[:3]] == ["first", "half", "none"]
    np.testing.assert_array_equal(axes[4].images[0].get_array(), data["half"]["S"])
