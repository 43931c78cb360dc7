"""Figures of the free energy: the data that they show, and that they show it."""

import numpy as np
import pytest
import torch

from indeed import figures
from indeed.bayes.elbo import ElboTerms
from indeed.bayes.variational_family import GaussianFactor


def terms(*values):
    return ElboTerms(*(torch.tensor([float(value)]) for value in values))


def test_evidence_bound_shows_the_gap_and_densities_that_integrate_to_one(drawn):
    s = torch.linspace(-1, 1, 2001, dtype=torch.float64)
    posterior = torch.distributions.Normal(0.1, 0.1).log_prob(s).exp()
    q = GaussianFactor(torch.full((1, 1, 1, 1), 0.2), torch.full((1, 1, 1, 1), -5.0))
    bounds = {"one": torch.tensor([-3.0, -2.0, -1.5]), "two": torch.tensor([-2.0, -1.8, -1.7])}
    figure, data = figures.evidence_bound(bounds, -1.0, s, posterior, {"q(s)": q})
    np.testing.assert_allclose(data["gaps"]["one"], [2, 1, 0.5])
    for density in data["densities"].values():
        assert density.sum() * 255 * 0.001 == pytest.approx(1, abs=1e-3)
    assert s[data["densities"]["q(s)"].argmax()] == pytest.approx(0.2)
    left, right = drawn(figure).axes
    np.testing.assert_allclose(left.lines[1].get_ydata(), [-2.0, -1.8, -1.7], rtol=1e-6)
    assert left.lines[2].get_ydata()[0] == -1
    # The arrow of the gap ends at the worse of the two starts.
    assert (left.texts[0].xy[1], left.texts[0].xyann[1]) == pytest.approx((-1, -1.7))
    np.testing.assert_allclose(right.lines[0].get_ydata(), data["densities"]["q(s)"])


def test_term_bars_are_per_pixel_and_end_with_their_sum(drawn):
    states = {"start": terms(8, 0, 4, 2, 1, 1, 0), "end": terms(-4, 0, 1, 1, 0, 0, 0)}
    figure, data = figures.term_bars(states, pixels=2)
    np.testing.assert_allclose(data["start"], [4, 0, 2, 1, 0.5, 0.5, 0, 8])
    np.testing.assert_allclose(data["end"], [-2, 0, 0.5, 0.5, 0, 0, 0, -1])
    for ax, (title, values) in zip(drawn(figure).axes, data.items(), strict=True):
        assert ax.get_title() == title
        np.testing.assert_allclose([bar.get_width() for bar in ax.patches], values)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()][-1] == "sum"


def test_term_response_shows_differences_and_sums_all_but_the_supervision(drawn):
    base = terms(8, 3, 4, 2, 1, 1, 0)
    changed = {"more": terms(10, 3, 4, 2, 1, 1, 0), "less and more": terms(8, 7, 2, 2, 1, 1, 8)}
    figure, data = figures.term_response(base, changed, pixels=2)
    np.testing.assert_allclose(data[0], [1, 0, 0, 0, 0, 0, 0, 1])
    np.testing.assert_allclose(data[1], [0, 2, -1, 0, 0, 0, 4, 3])
    ax = drawn(figure).axes[0]
    np.testing.assert_allclose(ax.images[0].get_array(), data)
    assert [text.get_text() for text in ax.texts] == ["+1.00", "+1.00", "+2.00", "−1.00", "+4.00", "+3.00"]
    assert [label.get_text() for label in ax.get_yticklabels()] == list(changed)


def test_evidence_bars_are_a_bound_and_a_gap_that_end_at_the_evidence(drawn):
    figure, data = figures.evidence_bar({"start": -3.0, "end": -1.5}, -1.0)
    assert data == {"start": (-3.0, 2.0), "end": (-1.5, 0.5)}
    ax = drawn(figure).axes[0]
    for bound, gap in zip(ax.patches[::2], ax.patches[1::2], strict=True):
        assert bound.get_x() + bound.get_width() == pytest.approx(gap.get_x())
        assert gap.get_x() + gap.get_width() == pytest.approx(-1)
        assert gap.get_hatch()
    assert [patch.get_width() for patch in ax.patches[1::2]] == pytest.approx([2, 0.5])
    assert ax.lines[0].get_xdata()[0] == -1
