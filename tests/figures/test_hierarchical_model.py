"""Figures of the model: the data that they show, and that they show it."""

import numpy as np
import pytest
import scipy.stats
import torch

from indeed import figures
from indeed.bayes.generative_model import Hyperpriors, sample_prior


def test_graph_of_the_model_has_the_arrows_of_the_generative_model(drawn):
    figure, data = figures.model_graph()
    parents = {}
    for arrow in data["arrows"]:
        tail, head = arrow.split(" -> ")
        parents.setdefault(head, set()).add(tail)
    assert parents == {
        "gamma": {"gamma prior"},
        "Omega": {"Omega prior"},
        "Lambda": {"Lambda prior"},
        "A": {"gamma"},
        "B": {"gamma"},
        "S": {"Omega"},
        "L": {"A", "B"},
        "N": {"Lambda"},
        "Y": {"L", "S", "N"},
        "U": {"L", "S"},
    }
    nodes = [name for kind, names in data.items() if kind != "arrows" for name in names]
    assert set(nodes) == set(parents) | {f"{name} prior" for name in ("gamma", "Omega", "Lambda")}
    assert len(drawn(figure).axes[0].patches) == len(nodes) + len(data["arrows"])


def test_prior_gallery_titles_give_the_white_level_of_each_panel(drawn):
    generator = torch.Generator().manual_seed(0)
    sizes = {"height": 9, "width": 8, "rank": 3}
    samples = {
        name: sample_prior(hyperpriors=Hyperpriors(omega_rate=rate), generator=generator, **sizes)
        for name, rate in {"one": 1e-6, "two": 1e-2}.items()
    }
    figure, data = figures.prior_gallery(samples)
    assert list(data) == ["one", "two"]
    for name, sample in samples.items():
        limits = {"L": sample.A @ sample.B.mT, "S": sample.S, "N": sample.N, "Y": sample.Y}
        for part, values in limits.items():
            assert data[name][part] == pytest.approx(255 * np.quantile(values.abs().numpy(), 0.99))
    panels = drawn(figure).axes
    assert [ax.get_title().split(",")[0] for ax in panels] == [*"LSNY", *"LSNY"]
    assert panels[0].images[0].get_clim() == pytest.approx((-data["one"]["L"], data["one"]["L"]))


def test_heavy_tails_shows_densities_that_fit_the_samples(drawn):
    hyperpriors = Hyperpriors()
    generator = torch.Generator().manual_seed(0)
    s = sample_prior(height=300, width=300, rank=1, hyperpriors=hyperpriors, generator=generator).S.flatten()
    figure, data = figures.heavy_tails(s, hyperpriors)
    scale = 255 * 0.5e-6**0.5
    np.testing.assert_allclose(data["Student-t"], scipy.stats.t(4, scale=scale).pdf(data["value"]), rtol=1e-9)
    np.testing.assert_allclose(data["normal"], scipy.stats.norm(scale=255e-3).pdf(data["value"]), rtol=1e-9)
    width = data["value"][1] - data["value"][0]
    assert data["samples"].sum() * width == pytest.approx(1, abs=1e-3)
    # Within the counting error where there are many samples; the normal density is far off in the same bins.
    counts = data["Student-t"] * width * s.numel()
    many = counts > 100
    z = (data["samples"] * width * s.numel() - counts)[many] / np.sqrt(counts[many])
    assert np.abs(z).max() < 5
    assert (data["normal"] / data["Student-t"])[many].min() < 0.5
    assert drawn(figure).axes[0].get_yscale() == "log"


def test_heavy_tails_refuses_a_variance_that_is_infinite():
    with pytest.raises(ValueError, match=r"hyperpriors.omega_shape: got 1.0, expected more than 1"):
        figures.heavy_tails(torch.zeros(3), Hyperpriors(omega_shape=1.0))


@pytest.mark.parametrize(("final", "kept"), [([0.1, 1e-6, 0.2], 2), ([0.1, 0.1, 0.1], 3), ([1e-6, 1e-6, 1e-6], 0)])
def test_column_variances_are_split_by_where_they_end(final, kept, drawn):
    variances = torch.stack([torch.full((3,), 0.05), torch.tensor(final)])
    figure, data = figures.column_variances(variances, floor=5e-7)
    assert data["kept"].shape == (2, kept)
    assert data["pruned"].shape == (2, 3 - kept)
    labels = [text.get_text() for text in drawn(figure).axes[0].get_legend().get_texts()]
    assert (f"{kept} columns kept" in labels) == (kept > 0)


def test_rank_one_images_add_up_to_the_last_panel(drawn):
    generator = torch.Generator().manual_seed(0)
    A, B = torch.randn(5, 2, generator=generator), torch.randn(4, 2, generator=generator)
    figure, data = figures.rank_one_sum(A, B)
    first, second, total = data.values()
    np.testing.assert_allclose(first, 255 * A[:, :1] @ B[:, :1].T, rtol=1e-5)
    np.testing.assert_allclose(total, first + second, rtol=1e-4)
    axes = drawn(figure).axes
    images = [ax.images[0] for ax in axes if ax.images]
    curves = [ax.lines[0].get_xydata() for ax in axes if ax.lines]
    assert [image.get_array().shape for image in images] == [(5, 4)] * 3
    assert len({image.get_clim() for image in images}) == 1
    np.testing.assert_allclose(curves[0][:, 1], B[:, 0])
    np.testing.assert_allclose(curves[1][:, 0], A[:, 0])


def test_penalties_and_estimates_have_a_panel_each(drawn):
    penalties = {"square": [(-1.0, 1.0), (1.0, 1.0)], "absolute": [(-1.0, 2.0), (1.0, 2.0)]}
    estimates = {"square": [(0.0, 0.0), (4.0, 2.0)], "absolute": [(0.0, 0.0), (4.0, 3.0)]}
    figure, data = figures.penalties_and_estimates(penalties, estimates)
    assert data == {"penalties": penalties, "estimates": estimates}
    left, right = drawn(figure).axes
    assert [line.get_xydata().tolist() for line in left.lines] == [list(map(list, p)) for p in penalties.values()]
    assert right.lines[0].get_xydata().tolist() == [[0, 0], [4, 4]]
    assert [line.get_label() for line in right.lines[1:]] == list(estimates)
    assert len({line.get_linestyle() for line in left.lines}) == 2


def test_shrinkage_rules_show_each_rule_the_columns_and_the_edge(drawn):
    rules = {"one": [(0.0, 0.0), (9.0, 8.0)], "other": [(0.0, 0.0), (9.0, 4.0)]}
    figure, data = figures.shrinkage_rules(rules, [(3.0, 2.0)], edge=2.0)
    assert data == {**rules, "measured": [(3.0, 2.0)]}
    ax = drawn(figure).axes[0]
    for axes in (ax, *ax.child_axes):
        *lines, measured, edge = axes.lines
        assert [line.get_label() for line in lines] == list(rules)
        assert measured.get_xydata().tolist() == [[3, 2]]
        assert edge.get_xdata()[0] == 2
    low, high = ax.child_axes[0].get_xlim()
    assert low < 2 < high
