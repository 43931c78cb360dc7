"""Active generalisation: what is drawn of gains, parts, loss terms and progress."""

import numpy as np
import pytest
import torch
from scipy import stats

from indeed import figures
from indeed.bayes.variational_family import GaussianFactor, MiddleLevel
from indeed.images.noise import GREY_LEVEL
from indeed.networks.whole_image import Decomposition

GAINS = {
    "demosaicked": {"noisy": [-2.0, -1.0], "indeed": [0.0, 0.0], "ag_s": [0.1, -0.1, 0.3], "replay": [1.0, 2.0]},
    "Sony A7 II": {"tv": [-9.0, -9.5], "replay": [0.5], "oracle": [0.75]},
}


def test_a_gain_is_its_mean_with_the_interval_of_a_t_test(drawn):
    figure, data = figures.adaptation_gains(GAINS)
    assert set(data) == {
        *(("demosaicked", method) for method in ("noisy", "ag_s", "replay")),
        *(("Sony A7 II", method) for method in ("tv", "replay", "oracle")),
    }
    mean, low, high, count = data["demosaicked", "ag_s"]
    exact = stats.ttest_1samp(GAINS["demosaicked"]["ag_s"], 0).confidence_interval()
    assert (mean, low, high) == pytest.approx((0.1, exact.low, exact.high))
    assert count == 3
    assert np.isnan(data["Sony A7 II", "replay"][1])
    first, second = drawn(figure).axes
    assert [label.get_text() for label in first.get_yticklabels()] == [
        "noisy input",
        "AG (S)",
        "matched replay (default)",
    ]
    assert [ax.get_title("left") for ax in (first, second)] == ["demosaicked (3 images)", "Sony A7 II (2 images)"]


def test_a_gain_beyond_the_axis_is_an_arrow_with_its_value(drawn):
    figure, _ = figures.adaptation_gains(GAINS)
    second = drawn(figure).axes[1]
    assert [text.get_text().strip() for text in second.texts] == ["−9.2"]
    assert [line.get_marker() for line in second.lines].count("<") == 1
    assert second.get_xlim()[0] > -5


def test_gains_of_nothing_are_refused():
    with pytest.raises(ValueError, match=r"^gains: got none"):
        figures.adaptation_gains({"white": {}})


def decomposition(*parts):
    factor = GaussianFactor(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1))
    return Decomposition(*parts, MiddleLevel(factor, factor, factor), (0,), (0,))


def parts(scale):
    base = torch.linspace(-1, 1, 64).reshape(1, 8, 8)
    return decomposition(base.abs(), 0.1 * scale * base, 0.02 / scale * base)


def test_rows_before_and_after_have_one_contrast(drawn):
    observed = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0))
    figure, data = figures.decompositions_before_after(observed, {"before": parts(1), "after": parts(2)})
    panels = drawn(figure).axes
    assert len(panels) == len(data) == 10
    assert [ax.get_ylabel() for ax in panels if ax.get_ylabel()] == ["before", "after"]
    sparse = next(title for _, title in data if title.startswith("sparse"))
    before, after = (data[row, sparse] - 0.5 for row in ("before", "after"))
    inside = np.abs(after) < 0.45
    np.testing.assert_allclose(after[inside], 2 * before[inside], atol=1e-6)
    np.testing.assert_array_equal(data["before", "observed Y"], observed.permute(1, 2, 0).numpy())


def test_a_part_that_vanishes_looks_empty(drawn):
    zero = torch.zeros(3, 8, 8)
    figure, data = figures.decompositions_before_after(zero, {"before": decomposition(zero, zero, zero)})
    drawn(figure)
    assert np.ptp(data["before", f"sparse S (±{GREY_LEVEL:.2g})"]) == 0


def test_each_set_has_its_points_its_mean_and_its_densities(drawn):
    generator = torch.Generator().manual_seed(0)
    sets = {"white": torch.randn(30, 2, generator=generator), "camera": torch.randn(20, 2, generator=generator) + 2}
    figure, data = figures.coordinate_distributions(sets, 0.004, 0.93)
    assert data["white"] == [tuple(point) for point in sets["white"].tolist()]
    above, corner, joint, beside = drawn(figure).axes
    assert [len(points.get_offsets()) for points in joint.collections] == [30, 20]
    stars = [(line.get_xdata()[0], line.get_ydata()[0]) for line in joint.lines]
    np.testing.assert_allclose(stars, [values.mean(0) for values in sets.values()], rtol=1e-5)
    assert len(above.collections) == len(beside.collections) == 2
    assert corner.texts[0].get_text() == "p < 0.01\nAUROC 0.93"


def test_sets_of_one_image_have_no_density(drawn):
    figure, _ = figures.coordinate_distributions({"one": torch.ones(1, 2), "other": torch.zeros(1, 2)}, 0.5, 0.5)
    assert not drawn(figure).axes[0].collections
    assert figure.axes[1].texts[0].get_text() == "p = 0.50\nAUROC 0.50"


def test_a_star_is_the_mean_of_the_changes_of_all_groups(drawn):
    changes = {"Canon": [(0.5, 1.0), (-0.5, 3.0)], "Sony": [(0.3, -1.0)]}
    figure, data = figures.gain_against_sparsity(changes)
    assert data["Canon"] == changes["Canon"]
    assert data["mean"] == [pytest.approx((0.1, 1.0))]
    ax = drawn(figure).axes[0]
    shown = {line.get_label(): line.get_xydata().tolist() for line in ax.lines}
    assert shown["Sony"] == [[0.3, -1.0]]
    assert shown["mean of all"] == [pytest.approx([0.1, 1.0])]


def test_changes_of_nothing_are_refused():
    with pytest.raises(ValueError, match="changes: got none"):
        figures.gain_against_sparsity({"Canon": []})


def test_a_stop_is_marked_on_its_line_at_its_step(drawn):
    psnr = {"replay": [(0, 30.0), (10, 31.0), (20, 31.5)], "terms": [(0, 30.0), (10, 29.9), (20, 29.5)]}
    figure, data = figures.adaptation_progress(psnr, {"budget": ("replay", 20), "oracle": ("terms", 0)})
    assert (data["budget"], data["oracle"]) == ([(20.0, 31.5)], [(0.0, 30.0)])
    labels = [text.get_text() for text in drawn(figure).legends[0].get_texts()]
    assert labels == ["replay", "terms", "not adapted", "budget", "oracle"]
    with pytest.raises(ValueError, match="got step 7 of 'terms'"):
        figures.adaptation_progress(psnr, {"drift": ("terms", 7)})
