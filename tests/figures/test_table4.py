"""The denoising table: its numbers, and what its colours say."""

import math

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from indeed import figures


def row(dataset, method, sigma, psnr, difference=math.nan, images=68):
    return {
        "dataset": dataset,
        "images": images,
        "method": method,
        "sigma": sigma,
        "psnr": psnr,
        "psnr_difference": difference,
    }


ROWS = [
    row("cbsd68", "noisy", 15, 24.61),
    row("cbsd68", "indeed", 15, 34.0, -0.06),
    row("cbsd68", "indeed", 50, 28.35, 0.2),
    row("cbsd68", "bm3d", 50, 27.0, -0.38),
    row("set12", "indeed", 50, 26.5, images=12),
]


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_every_number_is_printed_with_its_difference(drawn):
    figure, data = figures.denoising_table(ROWS)
    assert data["cbsd68", 68, "indeed", 50] == (28.35, 0.2)
    assert math.isnan(data["set12", 12, "indeed", 50][1])
    shown = texts(drawn(figure))
    for expected in ("24.61", "34.00 (−0.06)", "28.35 (+0.20)", "27.00 (−0.38)", "26.50"):
        assert shown.count(expected) == 1
    assert {"CBSD68 (68 images)", "Set12 (12 images)", "σ = 15", "σ = 50", "PSNR (dB)"} <= set(shown)


def test_only_differences_are_coloured_and_below_is_warm_above_cold(drawn):
    figure, _ = figures.denoising_table(ROWS)
    faces = [patch.get_facecolor() for patch in drawn(figure).axes[0].patches]
    assert len(faces) == 3
    near, above, below = faces
    assert below[0] > below[2]  # more red than blue
    assert above[2] > above[0]
    assert min(near[:3]) > min(below[:3])  # the smaller difference is paler


def test_nothing_is_drawn_over_another_or_outside():
    figure, _ = figures.denoising_table(ROWS)
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = [text.get_window_extent(renderer) for text in figure.axes[0].texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0 for box in boxes)


def test_a_table_without_rows_or_of_another_value_is_refused():
    with pytest.raises(ValueError, match="rows"):
        figures.denoising_table([])
    with pytest.raises(ValueError, match="seconds"):
        figures.denoising_table(ROWS, "seconds")
