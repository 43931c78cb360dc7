"""Curves: the points that they draw."""

from indeed import figures


def test_rank_reference_has_one_point_for_each_rank_and_the_line_of_the_method(drawn):
    figure, data = figures.rank_reference([20.0, 25.0, 30.0], 24.0, "L")
    assert data["rank"] == [1.0, 2.0, 3.0]
    curve, line = drawn(figure).axes[0].lines
    assert curve.get_ydata().tolist() == [20.0, 25.0, 30.0]
    assert set(line.get_ydata()) == {24.0}
