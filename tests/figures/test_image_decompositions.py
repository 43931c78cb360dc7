"""Figures of the classical decompositions: the data that they show, and that they show it."""

import numpy as np
import pytest
import torch

from indeed import figures
from indeed.baselines.low_rank import truncated_svd


def test_rank_curves_are_the_psnr_of_truncation(drawn):
    tiles = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    figure, data = figures.rank_curves({"tiles": torch.linalg.svdvals(tiles), "one": torch.linalg.svdvals(tiles[:1])})
    assert list(data) == ["tiles", "one"]
    for name, images in {"tiles": tiles, "one": tiles[:1]}.items():
        shares, psnr = zip(*data[name], strict=True)
        assert shares == pytest.approx([k / 8 for k in range(1, 8)])
        errors = [(truncated_svd(images, k) - images).square().mean() for k in range(1, 8)]
        assert psnr == pytest.approx([-10 * float(torch.log10(error)) for error in errors])
    lines = drawn(figure).axes[0].lines
    assert [line.get_label() for line in lines] == ["tiles", "one"]
    np.testing.assert_allclose(lines[0].get_xydata(), data["tiles"])


def test_recovery_map_shows_each_cell_where_it_belongs(drawn):
    recovered = np.array([[1.0, 0.5, 0.25], [0.0, 0.75, 0.0]])
    figure, data = figures.recovery_map(recovered, [1, 4], [0.05, 0.1, 0.4], side=20)
    ax = drawn(figure).axes[0]
    np.testing.assert_array_equal(ax.images[0].get_array(), recovered)
    np.testing.assert_array_equal(data, recovered)
    assert ax.images[0].get_clim() == (0, 1)
    assert not ax.yaxis_inverted()
    assert [text.get_text() for text in ax.get_xticklabels()] == ["5", "10", "40"]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["1", "4"]


def test_noise_edge_has_both_spectra_and_a_line_at_half_the_edge(drawn):
    generator = torch.Generator().manual_seed(0)
    clean = torch.ones(9, 9, dtype=torch.float64)
    noisy = clean + 0.1 * torch.randn(9, 9, generator=generator, dtype=torch.float64)
    figure, data = figures.noise_edge(clean, noisy, 0.1)
    assert data["edge"] == pytest.approx(255 * 0.6)
    assert data["lifted"] == pytest.approx(255 * 0.3)
    assert data["clean"][0] == pytest.approx(255 * 9)
    np.testing.assert_allclose(data["noisy"], 255 * torch.linalg.svdvals(noisy))
    lines = drawn(figure).axes[0].lines
    np.testing.assert_allclose(lines[0].get_ydata(), data["noisy"])
    assert [line.get_ydata()[0] for line in lines[2:]] == pytest.approx([255 * 0.6, 255 * 0.3])
