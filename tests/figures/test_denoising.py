"""Curves: the points that they draw."""

import pytest
import torch

from indeed import figures


def test_denoising_curve_draws_the_points_that_it_returns(drawn):
    figure, data = figures.denoising_curve([5, 25], {"noisy": [34.0, 20.0], "denoised": [38.0, 31.0]})
    assert data["denoised"] == [(5, 38.0), (25, 31.0)]
    (ax,) = drawn(figure).axes
    assert [list(map(tuple, line.get_xydata())) for line in ax.lines] == list(data.values())
    assert "grey levels" in ax.get_xlabel()
    assert "dB" in ax.get_ylabel()


def test_rank_reference_has_one_point_for_each_rank_and_the_line_of_the_method(drawn):
    figure, data = figures.rank_reference([20.0, 25.0, 30.0], 24.0, "L")
    assert data["rank"] == [1.0, 2.0, 3.0]
    curve, line = drawn(figure).axes[0].lines
    assert curve.get_ydata().tolist() == [20.0, 25.0, 30.0]
    assert set(line.get_ydata()) == {24.0}


def test_training_curves_leave_out_steps_that_were_not_validated(drawn):
    rows = [{"step": "100", "psnr": ""}, {"step": "200", "psnr": "25.5"}, {"step": "300", "psnr": "26"}]
    figure, data = figures.training_curves({"run": rows})
    assert data == {"run": [(200.0, 25.5), (300.0, 26.0)]}
    assert len(drawn(figure).axes[0].lines) == 1


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
