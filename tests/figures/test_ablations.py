"""The ablation study: its points are the numbers, its bars the range over the seeds."""

import pytest

from indeed import figures

ROWS = [
    {
        "model": model,
        "label": label,
        "psnr_low_rank": low_rank,
        "psnr_low_rank_range": 0.4,
        "psnr_low_rank_paper": 22.0,
        "psnr": 28.0 + model,
        "psnr_range": 0.2,
        "psnr_paper": 32.0,
    }
    for model, label, low_rank in ((3, "(35, 3), r0 = 64", 20.0), (10, "BatchNorm", 15.0))
]


CONCLUSIONS = [
    {"claim": "loss", "meaning": "L: whole loss better", "paper": 9.68, "here": 0.1, "noise": 0.3},
    {"claim": "kernel", "meaning": "L + S: small kernels better", "paper": 0.63, "here": -0.5, "noise": 0.2},
]


def test_points_are_the_numbers_and_bars_are_as_long_as_the_range(drawn):
    figure, data = figures.ablation_study(ROWS)
    assert data["psnr_low_rank"] == {
        "model": [3, 10],
        "here": [20.0, 15.0],
        "range": [0.4, 0.4],
        "paper": [22.0, 22.0],
    }
    low_rank, total = drawn(figure).axes
    assert [label.get_text() for label in low_rank.get_yticklabels()] == ["#3  (35, 3), r0 = 64", "#10  BatchNorm"]
    for ax, name in ((low_rank, "psnr_low_rank"), (total, "psnr")):
        paper, *_ = (list(line.get_xdata()) for line in ax.lines)
        (container,) = ax.containers
        segments = container[2][0].get_segments()
        assert paper == data[name]["paper"]
        assert list(container[0].get_xdata()) == data[name]["here"]
        assert [end[0] - start[0] for start, end in segments] == pytest.approx(data[name]["range"])


def test_the_first_model_is_on_top_in_both_panels(drawn):
    low_rank, total = drawn(figures.ablation_study(ROWS)[0]).axes
    assert low_rank.yaxis_inverted()
    assert total.yaxis_inverted()


def test_margins_are_the_numbers_and_the_band_is_the_noise_on_both_sides(drawn):
    figure, data = figures.conclusion_margins(CONCLUSIONS)
    assert data == {"loss": (9.68, 0.1, 0.3), "kernel": (0.63, -0.5, 0.2)}
    (ax,) = drawn(figure).axes
    assert [(bar.get_x(), bar.get_width()) for bar in ax.patches] == [(-0.3, 0.6), (-0.2, 0.4)]
    points = [line.get_xdata()[0] for line in ax.lines if len(line.get_xdata()) == 1]
    assert points == [9.68, 0.1, 0.63, -0.5]
    assert len(figure.legends[0].get_texts()) == 3


def test_a_line_of_the_ranks_skips_what_was_not_measured(drawn):
    figure, data = figures.low_rank_by_rank(
        [4, 8, 64], {"here": [18.0, float("nan"), 20.0], "paper": [17.0, 18.0, 22.0]}
    )
    assert data == {"here": [(4, 18.0), (64, 20.0)], "paper": [(4, 17.0), (8, 18.0), (64, 22.0)]}
    (ax,) = drawn(figure).axes
    assert [list(zip(*line.get_data(), strict=True)) for line in ax.lines] == list(data.values())
    assert [label.get_text() for label in ax.get_xticklabels()] == ["4", "8", "64"]
