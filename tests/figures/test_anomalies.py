"""The figure of the families of anomalies shows each part of each sample."""

import numpy as np
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
