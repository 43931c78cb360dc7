"""The roofline of a machine, with the layers of a network under it."""

from collections.abc import Sequence

import numpy as np

from indeed.figures.canvas import Drawn, page, palette
from indeed.learning.diagnostics.roofline import Kernel, Machine


def roofline(panels: Sequence[tuple[Machine, Sequence[Kernel]]]) -> Drawn[dict[str, dict[str, tuple[float, float]]]]:
    """Rate against arithmetic intensity, both logarithmic: the roof of each machine, and kernels under it.

    Parameters
    ----------
    panels
        A machine and what was measured on it, for each panel.

    Returns
    -------
    figure, data
        Intensity (operations per byte) and rate (operations per second) of the kernels, by machine and name.
    """
    data = {
        machine.name: {kernel.name: (kernel.intensity, kernel.rate) for kernel in kernels}
        for machine, kernels in panels
    }
    names = list(dict.fromkeys(name for points in data.values() for name in points))
    colours = palette(len(names))
    styles = {name: (colours[i], "osD^vPX*"[i % 8]) for i, name in enumerate(names)}
    figure, (axes,) = page(7.2, 3.7, 1, len(panels), sharex=True, sharey=True, squeeze=False)
    everything = [point for points in data.values() for point in points.values()]
    low = min(intensity for intensity, _ in everything) / 2
    high = max(4 * max(intensity for intensity, _ in everything), *(4 * machine.ridge for machine, _ in panels))
    intensities = np.geomspace(low, high, 200)
    for ax, (machine, _) in zip(axes, panels, strict=True):
        ax.loglog(intensities, np.minimum(machine.peak, machine.bandwidth * intensities) / 1e9, color="0.2")
        ax.axvline(machine.ridge, color="0.6", linestyle=":", linewidth=1)
        for name, (intensity, rate) in data[machine.name].items():
            colour, marker = styles[name]
            ax.plot(intensity, rate / 1e9, marker, color=colour, markersize=7, label=name, linestyle="none")
        title = f"{machine.name}: {machine.peak / 1e9:.0f} GFLOP/s, {machine.bandwidth / 1e9:.0f} GB/s"
        ax.set_title(title, fontsize=9)
        ax.set_xlabel("arithmetic intensity (FLOP per byte)", fontsize=9)
        ax.tick_params(labelsize=8)
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("achieved (GFLOP/s)", fontsize=9)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure, data
