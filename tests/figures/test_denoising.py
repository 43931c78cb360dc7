"""The denoising table: its numbers, and what its colours say."""

import math

import pytest
import torch
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


def test_cost_chart_has_a_point_for_each_method_and_a_line_for_the_observation(drawn):
    figure, data = figures.cost_chart({"a": 28.0, "b": 30.0}, {"a": 0.1, "b": 5.0}, 20.0)
    assert data == {"a": (0.1, 28.0), "b": (5.0, 30.0)}
    (ax,) = drawn(figure).axes
    *points, line = ax.lines
    assert [tuple(point.get_xydata()[0]) for point in points] == list(data.values())
    assert set(line.get_ydata()) == {20.0}
    assert ax.get_xscale() == "log"


def test_refinement_curves_begin_before_the_first_sweep_and_name_the_ranks(drawn):
    figure, data = figures.refinement_curves({"L": [22.0, 25.0, 26.0]}, {2: 23.0, 4: 25.5})
    assert data == {"L": [22.0, 25.0, 26.0], "rank 2": [23.0], "rank 4": [25.5]}
    (ax,) = drawn(figure).axes
    curve, *ranks = ax.lines
    assert curve.get_xydata().tolist() == [[0, 22.0], [1, 25.0], [2, 26.0]]
    assert [set(line.get_ydata()) for line in ranks] == [{23.0}, {25.5}]
    assert [text.get_text() for text in ax.texts] == ["rank 2", "rank 4"]


def test_noise_estimates_are_drawn_as_errors_and_shaded_beyond_the_training(drawn):
    figure, data = figures.noise_estimates([10.0, 80.0], {"N": [11.0, 70.0]}, trained_to=55)
    assert data == {"N": [(10.0, 1.0), (80.0, -10.0)]}
    (ax,) = drawn(figure).axes
    assert ax.lines[1].get_xydata().tolist() == [[10.0, 1.0], [80.0, -10.0]]
    (shade,) = ax.patches
    assert shade.get_x() == 55
    within, _ = figures.noise_estimates([10.0, 50.0], {"N": [11.0, 50.0]}, trained_to=55)
    assert not within.axes[0].patches


def test_an_honest_spread_lies_on_the_diagonal(drawn):
    generator = torch.Generator().manual_seed(0)
    spread = torch.rand(400, 500, generator=generator) / 255
    error = spread * torch.randn(400, 500, generator=generator)
    figure, data = figures.spread_against_error(spread, error, bins=5)
    assert data["spread"] == sorted(data["spread"])
    assert data["error"] == pytest.approx(data["spread"], rel=0.02)
    line = drawn(figure).axes[0].lines[0]
    assert line.get_xdata().tolist() == data["spread"]
    assert line.get_ydata().tolist() == data["error"]
