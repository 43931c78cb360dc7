"""Figures of the chapters: the data that they show, and that they show it."""

import numpy as np
import pytest
import scipy.stats
import torch

from indeed import figures
from indeed.bayes.generative_model import Hyperpriors, sample_prior


def drawn(figure):
    """The figure, rendered: warnings of the layout or of missing glyphs are errors under pytest."""
    figure.canvas.draw()
    return figure


# -- the hierarchical model ------------------------------------------------------------------------------------------


def test_graph_of_the_model_has_the_arrows_of_the_generative_model():
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


def test_prior_gallery_titles_give_the_white_level_of_each_panel():
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


def test_heavy_tails_shows_densities_that_fit_the_samples():
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
    with pytest.raises(ValueError, match=r"hyperpriors.omega_shape must exceed 1, got 1.0"):
        figures.heavy_tails(torch.zeros(3), Hyperpriors(omega_shape=1.0))


@pytest.mark.parametrize(("final", "kept"), [([0.1, 1e-6, 0.2], 2), ([0.1, 0.1, 0.1], 3), ([1e-6, 1e-6, 1e-6], 0)])
def test_column_variances_are_split_by_where_they_end(final, kept):
    variances = torch.stack([torch.full((3,), 0.05), torch.tensor(final)])
    figure, data = figures.column_variances(variances, floor=5e-7)
    assert data["kept"].shape == (2, kept)
    assert data["pruned"].shape == (2, 3 - kept)
    labels = [text.get_text() for text in drawn(figure).axes[0].get_legend().get_texts()]
    assert (f"{kept} columns kept" in labels) == (kept > 0)


# -- images, curves and runs -----------------------------------------------------------------------------------------


def test_image_grid_shows_each_image_clipped_and_leaves_no_axis_around_empty_places():
    images = {name: torch.full((3, 4, 6), value) for name, value in {"a": -1.0, "b": 0.25, "c": 0.5, "d": 7.0}.items()}
    figure, data = figures.image_grid(images, columns=3)
    assert {name: array.mean().item() for name, array in data.items()} == {"a": 0.0, "b": 0.25, "c": 0.5, "d": 1.0}
    panels = drawn(figure).axes
    assert [len(ax.images) for ax in panels] == [1, 1, 1, 1, 0, 0]
    assert not any(ax.axison for ax in panels)


def test_image_grid_thins_out_what_no_screen_shows():
    _, data = figures.image_grid({"large": torch.zeros(1, 10, 5000)})
    assert data["large"].shape == (3, 1250, 1)


def test_decomposition_panel_shows_the_parts_and_their_sum():
    generator = torch.Generator().manual_seed(0)
    L = torch.rand(1, 8, 8, generator=generator)
    S, N = (0.1 * torch.randn(1, 8, 8, generator=generator) for _ in range(2))
    figure, data = figures.decomposition_panel(L + S + N, L, S, N, clean=L)
    titles = [title.split(" (")[0] for title in data]
    assert titles == ["observation Y", "low rank L", "sparse S", "denoised L + S", "noise N", "clean image U"]
    np.testing.assert_allclose(data["denoised L + S"][..., 0], (L + S).clamp(0, 1)[0], atol=1e-6)
    assert len(drawn(figure).axes) == 6
    assert len(figures.decomposition_panel(L + S + N, L, S, N)[1]) == 5


def test_signed_display_puts_zero_at_mid_grey():
    display, limit = figures.signed_display(torch.tensor([[[-0.5, 0.0, 0.5]]]))
    assert limit == pytest.approx(0.5)
    assert display.flatten().tolist() == pytest.approx([0.0, 0.5, 1.0])


def test_denoising_curve_draws_the_points_that_it_returns():
    figure, data = figures.denoising_curve([5, 25], {"noisy": [34.0, 20.0], "denoised": [38.0, 31.0]})
    assert data["denoised"] == [(5, 38.0), (25, 31.0)]
    (ax,) = drawn(figure).axes
    assert [list(map(tuple, line.get_xydata())) for line in ax.lines] == list(data.values())
    assert "grey levels" in ax.get_xlabel()
    assert "dB" in ax.get_ylabel()


def test_rank_reference_has_one_point_for_each_rank_and_the_line_of_the_method():
    figure, data = figures.rank_reference([20.0, 25.0, 30.0], 24.0, "L")
    assert data["rank"] == [1.0, 2.0, 3.0]
    curve, line = drawn(figure).axes[0].lines
    assert curve.get_ydata().tolist() == [20.0, 25.0, 30.0]
    assert set(line.get_ydata()) == {24.0}


def test_training_curves_leave_out_steps_that_were_not_validated():
    rows = [{"step": "100", "psnr": ""}, {"step": "200", "psnr": "25.5"}, {"step": "300", "psnr": "26"}]
    figure, data = figures.training_curves({"run": rows})
    assert data == {"run": [(200.0, 25.5), (300.0, 26.0)]}
    assert len(drawn(figure).axes[0].lines) == 1


def test_png_is_a_picture_of_the_figure():
    figure, _ = figures.denoising_curve([5, 25], {"noisy": [34.0, 20.0]})
    assert figures.png(figure).startswith(b"\x89PNG\r\n")
