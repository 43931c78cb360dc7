import numpy as np
import pytest

from indeed import figures
from indeed.learning.diagnostics.roofline import Kernel, Machine


def test_kernels_lie_at_their_intensity_and_rate_under_a_roof_with_its_edge_at_the_ridge(drawn):
    machines = [Machine("float32", 1e11, 1e10), Machine("bfloat16", 4e11, 1e10)]
    kernels = [Kernel("relu", 1e6, 8e6, 1e-3), Kernel("convolution", 1e10, 1e8, 0.2)]
    figure, data = figures.roofline([(machine, kernels) for machine in machines])
    assert data["float32"] == {"relu": (0.125, 1e9), "convolution": (100.0, 5e10)}
    for ax, machine in zip(drawn(figure).axes, machines, strict=True):
        roof, ridge, *points = ax.lines
        x, y = roof.get_data()
        assert np.all(y <= machine.peak / 1e9)
        assert y[x > machine.ridge] == pytest.approx(machine.peak / 1e9)
        assert y[0] == pytest.approx(machine.bandwidth * x[0] / 1e9)
        assert set(ridge.get_xdata()) == {machine.ridge}
        assert [tuple(point.get_xydata()[0]) for point in points] == [(0.125, 1.0), (100.0, 50.0)]
