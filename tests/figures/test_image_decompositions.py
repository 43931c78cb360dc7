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
