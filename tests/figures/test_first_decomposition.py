"""Curves: the points that they draw."""

from indeed import figures


def test_rank_reference_has_one_point_for_each_rank_and_a_line_for_each_estimate(drawn):
    figure, data = figures.rank_reference([20.0, 25.0, 30.0], {"L": 24.0, "L + S": 26.0})
    assert data["rank"] == [1.0, 2.0, 3.0]
    curve, low_rank, denoised = drawn(figure).axes[0].lines
    assert curve.get_ydata().tolist() == [20.0, 25.0, 30.0]
    assert (set(low_rank.get_ydata()), set(denoised.get_ydata())) == ({24.0}, {26.0})
    assert data["L + S"] == [26.0]
