"""Figures of per-image inference: the data that they show, and that they show it."""

import numpy as np

from indeed import figures


def test_ascent_traces_account_for_the_whole_fall_by_the_kind_of_update(drawn):
    trace = [("start", 9.0), ("A", 7.0), ("B", 6.5), ("S", 6.0), ("gamma", 5.0), ("omega", 4.75), ("lambda", 3.0)]
    trace += [("switch off", 2.5), ("remove", 2.25), ("A", 2.0)]
    figure, data = figures.ascent_traces({"one": trace, "two": trace})
    assert list(data) == ["one", "two"]
    lowered = {kind: part["lowered"].item() for kind, part in data["one"].items()}
    assert lowered == {"A": 2.25, "B": 0.5, "S": 0.5, "leaf level": 3.0, "columns off": 0.75}
    np.testing.assert_array_equal(data["one"]["A"]["number"], [1, 9])
    np.testing.assert_array_equal(data["one"]["leaf level"]["above"], [3.0, 2.75, 1.0])
    axes = drawn(figure).axes
    assert [ax.get_title() for ax in axes] == ["one", "two"]
    leaf = axes[0].collections[3]
    np.testing.assert_array_equal(leaf.get_segments()[0], [[4, 4.0], [4, 3.0]])
    marked = next(line for line in axes[0].lines if line.get_label() == "leaf level")
    assert sorted(zip(*marked.get_data(), strict=True)) == [(4, 3.0), (5, 2.75), (6, 1.0)]


def test_descent_against_ascent_shows_what_is_above_the_best(drawn):
    ascent = {"step": [1, 2, 3], "seconds": [0.1, 0.2, 0.3], "free energy": [5.0, 2.0, 1.0]}
    descent = {"gradient": {"step": [1, 100], "seconds": [0.1, 9.0], "free energy": [6.0, 1.5]}}
    figure, data = figures.descent_against_ascent(ascent, descent, best=1.0)
    np.testing.assert_array_equal(data["gradient"]["above"], [5.0, 0.5])
    np.testing.assert_array_equal(data["coordinate ascent"]["above"][:2], [4.0, 1.0])
    left, right = drawn(figure).axes
    for ax, along in ((left, "step"), (right, "seconds")):
        line = next(line for line in ax.lines if line.get_label() == "gradient")
        np.testing.assert_array_equal(line.get_xdata(), descent["gradient"][along])
        np.testing.assert_array_equal(line.get_ydata(), [5.0, 0.5])
