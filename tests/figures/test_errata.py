"""The figure of the errata: the moments that it shows."""

import numpy as np
import torch

from indeed import figures


def test_moments_against_samples_puts_a_right_formula_on_the_diagonal(drawn):
    generator = torch.Generator().manual_seed(0)
    samples = 3 + 2 * torch.randn(50_000, 1, 2, 3, generator=generator, dtype=torch.float64)
    right = torch.full((1, 1, 2, 3), 3.0).double(), torch.full((1, 1, 2, 3), 4.0).double()
    wrong = torch.zeros(1, 1, 2, 3).double(), torch.ones(1, 1, 2, 3).double()
    figure, data = figures.moments_against_samples(samples, {"right": right, "wrong": wrong})
    for quantity in ("mean", "standard deviation"):
        np.testing.assert_allclose(data["right"][quantity], data["samples"][quantity], rtol=0.02)
        assert np.abs(data["wrong"][quantity] - data["samples"][quantity]).min() > 0.9
    for ax, quantity in zip(drawn(figure).axes, ("mean", "standard deviation"), strict=True):
        diagonal, *points = ax.lines
        np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())
        assert quantity in ax.get_xlabel()
        for line, name in zip(points, ("right", "wrong"), strict=True):
            assert line.get_label() == name
            np.testing.assert_array_equal(line.get_xdata(), data["samples"][quantity])
            np.testing.assert_array_equal(line.get_ydata(), data[name][quantity])
