"""Detection of anomalies: the scores that are drawn, and the maps of examples."""

import matplotlib.colors
import numpy as np
import pytest
import torch

from indeed import figures
from indeed.images.anomaly_synthesis import anomalous_sample


@pytest.mark.slow
def test_anomaly_families_shows_the_parts_of_each_sample(drawn):
    normal = 0.2 + 0.5 * torch.rand(3, 24, 20, generator=torch.Generator().manual_seed(0))
    samples = {
        name: anomalous_sample(
            normal,
            lambda _: normal.flip(1),
            torch.Generator().manual_seed(0),
            families=("cutpaste",),
            clean=float(name == "clean"),
        )
        for name in ("cutpaste", "clean")
    }
    figure, data = figures.anomaly_families(samples)
    panels = drawn(figure).axes
    assert [ax.get_title() for ax in panels] == list(data)
    assert len(panels) == 8
    for (title, shown), ax in zip(data.items(), panels, strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), shown.squeeze())
        sample = samples[title.split(":")[0]]
        part = title.split(": ")[1].split(" (")[0]
        if part == "mask":
            np.testing.assert_array_equal(shown[..., 0] != 0, sample.mask)
        elif part == "$U_A$":  # mid grey is no change
            np.testing.assert_array_equal((shown != 0.5).any(2), sample.mask)
            limit = samples["cutpaste"].anomaly.abs().max()
            np.testing.assert_allclose((2 * shown - 1) * limit.item(), sample.anomaly.permute(1, 2, 0), atol=1e-6)
        else:
            expected = {"normal $U_N$": sample.normal, "observed $Y$": sample.observed}[part]
            np.testing.assert_array_equal(shown, expected.permute(1, 2, 0))


def row(dataset, defect, method, noise, precision, base_rate=0.01):
    values = {"average_precision": str(precision), "auroc": "0.8", "base_rate": str(base_rate)}
    return {"dataset": dataset, "category": dataset, "defect": defect, "method": method, "noise": noise} | values


ROWS = [
    row("magnetic_tile", "crack", "indeed", "0", 0.5),
    row("magnetic_tile", "crack", "indeed", "1", 0.45),
    row("magnetic_tile", "break", "pca", "0", 0.05, 0.03),
    row("mvtec_screw_256", "thread_top", "indeed", "0", 0.2),
]


def points(ax):
    return [line for line in ax.lines if line.get_marker() not in ("", "None")]


def test_every_score_is_drawn_once_at_its_class_and_hollow_with_noise(drawn):
    figure, data = figures.detection_scores(ROWS)
    assert data["magnetic_tile", "magnetic_tile", "break", "pca", 0] == (0.05, 0.03)
    tile, screw = drawn(figure).axes
    assert [line.get_xdata()[0] for line in points(tile)] == [0.5, 0.45, 0.05]
    assert [round(float(line.get_ydata()[0])) for line in points(tile)] == [0, 0, 1]
    hollow = [matplotlib.colors.to_rgba(line.get_markerfacecolor())[3] == 0 for line in points(tile)]
    assert hollow == [False, True, False]
    assert [label.get_text() for label in tile.get_yticklabels()] == ["crack", "break"]
    assert len(points(screw)) == 1
    useless = [line.get_xdata()[0] for line in tile.lines if line.get_color() == "black"]
    assert useless == [0.01, 0.03]


def test_the_axis_holds_every_score_and_what_a_useless_map_has(drawn):
    for value, useless in (("average_precision", 0.01), ("auroc", 0.5)):
        figure, _ = figures.detection_scores(ROWS, value)
        low, high = drawn(figure).axes[0].get_xlim()
        assert low < useless < high
        assert all(low < line.get_xdata()[0] < high for ax in figure.axes for line in points(ax))


def test_scores_without_rows_or_of_another_value_are_refused():
    with pytest.raises(ValueError, match="rows: got none"):
        figures.detection_scores([])
    with pytest.raises(ValueError, match=r"^value: got 'seconds', expected one of average_precision"):
        figures.detection_scores(ROWS, "seconds")


def test_maps_of_a_method_have_one_scale_and_those_of_another_their_own(drawn):
    images = {name: torch.full((1, 8, 8), 0.5) for name in ("one", "other")}
    masks = {name: torch.zeros(8, 8, dtype=torch.bool) for name in images}
    masks["one"][2, 3] = True
    bright = torch.ones(8, 8)
    maps = {
        "pca": {"one": 10 * bright, "other": 5 * bright},
        "indeed": {"one": 0.1 * bright, "other": 0 * bright},
    }
    figure, data = figures.detection_maps(images, masks, maps)
    drawn(figure)
    assert len(figure.axes) == 2 * 4
    assert data["one", "mask"].sum() == 1
    np.testing.assert_array_equal(data["one", "pca"], data["one", "indeed"])  # both at the limit of their method
    assert data["other", "pca"].mean() < data["one", "pca"].mean()
    assert data["other", "indeed"].mean() < data["other", "pca"].mean()
    for name, parts in (("masks", (images, {}, maps)), (r"maps\['pca'\]", (images, masks, {"pca": {}}))):
        with pytest.raises(ValueError, match=f"^{name}: lacks one, other"):
            figures.detection_maps(*parts)
    with pytest.raises(ValueError, match="images: got none"):
        figures.detection_maps({}, {}, {})


def test_maps_of_one_network_before_and_after_have_one_scale(drawn):
    images, masks = {"one": torch.full((1, 8, 8), 0.5)}, {"one": torch.zeros(8, 8, dtype=torch.bool)}
    maps = {"before": {"one": torch.full((8, 8), 0.5)}, "after": {"one": torch.ones(8, 8)}}
    _, own = figures.detection_maps(images, masks, maps)
    figure, data = figures.detection_maps(images, masks, maps, common_scale=True)
    assert [ax.get_title() for ax in drawn(figure).axes] == ["image", "mask", "before", "after"]
    np.testing.assert_array_equal(own["one", "before"], own["one", "after"])
    np.testing.assert_array_equal(data["one", "after"], own["one", "after"])
    assert data["one", "before"].mean() < data["one", "after"].mean()


DETECTOR_GAINS = {
    ("textures", "replay"): {"brick scar": {"0": 0.02, "1": 0.04}, "gravel scar": {"0": 0.0, "1": -0.02}},
    ("magnetic_tile", "oag_s"): {"magnetic_tile crack": {"0": -0.01}},
}


def test_gains_are_drawn_with_their_range_over_seeds_and_the_mean_of_the_classes_last(drawn):
    figure, data = figures.detection_gains(DETECTOR_GAINS)
    assert data["textures", "brick scar", "replay"] == pytest.approx((0.03, 0.02, 0.04))
    assert data["textures", "mean", "replay"] == pytest.approx((0.01, 0.01, 0.01))
    textures, tile = drawn(figure).axes
    assert [label.get_text() for label in textures.get_yticklabels()] == ["brick scar", "gravel scar", "mean"]
    assert [label.get_text() for label in tile.get_yticklabels()] == ["crack", "mean"]
    assert [line.get_xdata()[0] for line in points(textures)] == pytest.approx([0.03, -0.01, 0.01])
    assert [round(float(line.get_ydata()[0])) for line in points(textures)] == [0, 1, 2]
    bars = [tuple(line.get_xdata()) for line in textures.lines if line.get_linewidth() == 1.4]
    assert bars[0] == pytest.approx((0.02, 0.04))
    with pytest.raises(ValueError, match="gains: got none"):
        figures.detection_gains({})
