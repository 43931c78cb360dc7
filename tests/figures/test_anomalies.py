"""Pictures of anomalies: what they show."""

import numpy as np
import pytest
import torch

from indeed import figures
from indeed.images.anomalies import anomalous_sample


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


def test_heat_is_black_at_zero_ever_brighter_and_the_same_from_the_limit_on():
    values = torch.tensor([[-1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 9.0]])
    colours = figures.heat(values, limit=2.0)[:, 0].T
    brightness = colours.sum(1)
    assert torch.equal(colours[0], colours[1])
    assert brightness[0] < 0.05
    assert (brightness[1:-1].diff() > 0.1).all()
    assert torch.equal(colours[-1], colours[-2])


@pytest.mark.parametrize("channels", [1, 3])
def test_heat_covers_an_image_in_proportion_to_the_map(channels):
    image = torch.rand(channels, 1, 3, generator=torch.Generator().manual_seed(0))
    values = torch.tensor([[0.0, 0.5, 3.0]])
    shown, colours = figures.heat_overlay(image, values, limit=1.0), figures.heat(values, limit=1.0)
    for column, opacity in enumerate((0.0, 0.3, 0.6)):
        mixed = (1 - opacity) * image[..., column] + opacity * colours[..., column]
        torch.testing.assert_close(shown[..., column], mixed.expand(3, 1))


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan")])
def test_heat_needs_a_scale(limit):
    with pytest.raises(ValueError, match=r"^limit: got"):
        figures.heat(torch.zeros(2, 2), limit)
