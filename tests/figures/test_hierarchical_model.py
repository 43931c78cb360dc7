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
