"""Figures of active generalisation: gains over the network as it is, parts before and after, progress."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from indeed.checks import expect
from indeed.experiments.methods import TABLE5_SETS, TABLE5_SUMMARISED, titles
from indeed.figures.canvas import LINES, Drawn, Points, blank, list_down, name_axes, page, palette
from indeed.figures.images import ImageArray, picture_table, signed_display
from indeed.types import Image

if TYPE_CHECKING:
    from indeed.networks.whole_image import Decomposition

NAMES, SETS = titles(TABLE5_SUMMARISED), titles(TABLE5_SETS)
KINDS = {"not adapted": (7, "s"), "the paper's terms": (0, "^"), "controls": (1, "D"), "matched replay": (3, "o")}
"""Colour, as its place in the palette, and marker of each kind of methods."""


def adaptation_gains(
    gains: Mapping[str, Mapping[str, Sequence[float]]],
) -> Drawn[dict[tuple[str, str], tuple[float, float, float, int]]]:
    """Gain in PSNR over the network as it is: a point for the mean over the images, a bar for its 95 % interval.

    The interval is Student's, of independent images; a single image has none. A mean beyond the ends of the axis is
    an arrow at its border, with its value.

    Parameters
    ----------
    gains
        Gains of the images in dB, by group (a panel each) and method; the network as it was is the line at zero.

    Returns
    -------
    figure, data
        Mean, lower and upper end of the interval (NaN for a single image) and number of images, by group and method.

    Raises
    ------
    ValueError
        If there is no gain.
    """
    from matplotlib.lines import Line2D

    expect(any(values for methods in gains.values() for values in methods.values()), "gains", "none", "at least one")
    data = {
        (group, method): (*_interval(values), len(values))
        for group, methods in gains.items()
        for method, values in methods.items()
        if values and method != "indeed"
    }
    groups = {group: [m for m in NAMES if (group, m) in data] for group in gains}
    groups = {group: methods for group, methods in groups.items() if methods}
    colours = palette()
    heights = [len(methods) for methods in groups.values()]
    figure = blank(6.2, 1.0 + 0.36 * len(heights) + 0.2 * sum(heights))
    axes = figure.subplots(len(groups), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    shown = [value for mean, low, high, _ in data.values() for value in (mean, low, high) if abs(value) <= 4.0]
    left, right = min([*shown, -0.2]) - 0.15, max([*shown, 0.2]) + 0.15
    for ax, (group, methods) in zip(axes, groups.items(), strict=True):
        for place, method in enumerate(methods):
            mean, low, high, _ = data[group, method]
            place_in_palette, mark = KINDS[TABLE5_SUMMARISED[method].kind]
            colour = colours[place_in_palette]
            if left <= mean <= right:
                if not np.isnan(low):
                    ax.plot([low, high], [place, place], color=colour, linewidth=1.6, clip_on=True)
                ax.plot(
                    [mean],
                    [place],
                    mark,
                    color=colour,
                    markersize=5,
                    fillstyle="none" if method == "oracle" else "full",
                )
            else:
                end, marker, side = (left, "<", "left") if mean < left else (right, ">", "right")
                ax.plot([end], [place], marker, color=colour, markersize=6, clip_on=False)
                text = f"  {mean:+.1f}  ".replace("-", "−")
                ax.text(end, place, text, ha=side, va="center", fontsize=8, color=colour)
        ax.axvline(0, color="0.4", linestyle="--", linewidth=1)
        images = max(data[group, method][3] for method in methods)
        plural = "image" if images == 1 else "images"
        list_down(
            ax, [NAMES[method] for method in methods], f"{SETS.get(group, group)} ({images} {plural})", margin=0.6
        )
    axes[0].set_xlim(left, right)
    axes[-1].set_xlabel("gain over the network as it is (dB)")
    used = {TABLE5_SUMMARISED[method].kind for _, method in data}
    figure.legend(
        handles=[
            Line2D([], [], color=colours[k], marker=mark, label=name)
            for name, (k, mark) in KINDS.items()
            if name in used
        ],
        loc="outside upper center",
        ncols=4,
        fontsize=8.5,
    )
    return figure, data


def decompositions_before_after(
    observed: Image, parts: Mapping[str, "Decomposition"]
) -> Drawn[dict[tuple[str, str], ImageArray]]:
    """Decompositions of one image, a row for each: Y, L, S, N and L + S, as in Fig. 5.

    Mid grey is zero in S and N. Each of the two has one contrast for all rows, so that rows can be compared.

    Parameters
    ----------
    observed
        The image, in [0, 1] up to noise.
    parts
        Decompositions by the title of their row, such as before and after the adaptation.

    Returns
    -------
    figure, data
        What each panel shows, (height, width, channel) in [0, 1], by row and column.
    """
    signed: dict[str, tuple[Tensor, ...]] = {}
    limits = {}
    for name in "SN":
        together, limits[name] = signed_display(torch.cat([getattr(part, name) for part in parts.values()], 1))
        signed[name] = torch.split(together, observed.shape[1], 1)
    data: dict[tuple[str, str], ImageArray] = {}
    titles = ["observed Y", "low rank L", f"sparse S (±{limits['S']:.2g})", f"noise N (±{limits['N']:.2g})", "L + S"]
    for k, (row, part) in enumerate(parts.items()):
        pictures = (observed, part.L, signed["S"][k], signed["N"][k], part.L + part.S)
        for title, picture in zip(titles, pictures, strict=True):
            data[row, title] = picture.detach().cpu().clamp(0, 1).permute(1, 2, 0).numpy()
    height, width = observed.shape[1:]
    inches = 1.5
    figure = blank(inches * 5, len(parts) * inches * height / width + 0.4)
    picture_table(figure, data, list(parts), {title: title for title in titles}, fontsize=9)
    return figure, data


def coordinate_distributions(
    sets: Mapping[str, Float[Tensor, "_ 2"]], p_value: float, auroc: float
) -> Drawn[dict[str, list[tuple[float, float]]]]:
    """Joint distribution of the two loss coordinates in several sets of images, with marginal densities (Fig. 6 a, b).

    A star is the mean of a set. How well two of the sets are told apart stands in the corner.

    Parameters
    ----------
    sets
        Rank and sparsity term of each image, in nats per pixel and channel, by the name of the set.
    p_value
        Of a test that two of the sets are from one law.
    auroc
        Of a score that says to which of the two an image belongs.

    Returns
    -------
    figure, data
        The points (rank term, sparsity term) of each set.
    """
    import seaborn

    data = {name: [(float(x), float(y)) for x, y in values.tolist()] for name, values in sets.items()}
    figure, grid = page(5.4, 4.6, 2, 2, sharex="col", sharey="row", width_ratios=(4, 1), height_ratios=(1, 4))
    (above, corner), (ax, beside) = grid
    corner.set_axis_off()
    for (name, points), colour, marker, line in zip(data.items(), palette(), "os^Dv", cycle(LINES), strict=False):
        x, y = (np.array(column) for column in zip(*points, strict=True))
        ax.scatter(x, y, color=colour, marker=marker, s=18, alpha=0.7, label=name, linewidths=0)
        ax.plot([x.mean()], [y.mean()], "*", color=colour, markersize=14, markeredgecolor="black")
        if x.std() > 0 and y.std() > 0:
            seaborn.kdeplot(x=x, ax=above, color=colour, fill=True, alpha=0.25, linestyle=line)
            seaborn.kdeplot(y=y, ax=beside, color=colour, fill=True, alpha=0.25, linestyle=line)
    for density in (above, beside):
        density.set(xlabel="", ylabel="")
        for spine in density.spines.values():
            spine.set_visible(False)
    above.tick_params(left=False, labelleft=False, bottom=False)
    beside.tick_params(bottom=False, labelbottom=False, left=False)
    name_axes(ax, "rank term (nats per pixel)", "sparsity term (nats per pixel)")
    below = "p < 0.01" if p_value < 0.01 else f"p = {p_value:.2f}"
    corner.text(0.5, 0.5, f"{below}\nAUROC {auroc:.2f}", ha="center", va="center", fontsize=9)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=len(data), fontsize=9)
    return figure, data


def gain_against_sparsity(changes: Mapping[str, Points]) -> Drawn[dict[str, list[tuple[float, float]]]]:
    """Change of each image by an adaptation: the gain in PSNR against the sparsity term, and the mean as a star.

    Above the horizontal line an image has gained, left of the vertical one its sparsity term has fallen. In Fig. 6 (c)
    the mean moves up and to the left.

    Parameters
    ----------
    changes
        Points (change of the sparsity term in nats per pixel and channel, gain in dB) by the name of the group.

    Returns
    -------
    figure, data
        The points of each group, and the mean of all of them as ``mean``.

    Raises
    ------
    ValueError
        If there is no image.
    """
    expect(any(changes.values()), "changes", "none", "at least one image")
    data = {name: [(float(x), float(y)) for x, y in points] for name, points in changes.items()}
    mean = np.mean([point for points in data.values() for point in points], axis=0)
    figure, ax = page(5.6, 3.8)
    for (name, points), colour, marker in zip(data.items(), palette(), "os^Dv", strict=False):
        ax.plot(*zip(*points, strict=True), marker, color=colour, markersize=5, alpha=0.8, label=name)
    for line in (ax.axhline, ax.axvline):
        line(0, color="0.4", linestyle="--", linewidth=1, zorder=0)
    data["mean"] = [(float(mean[0]), float(mean[1]))]
    ax.plot(*mean, "*", color="white", markersize=15, markeredgecolor="black", label="mean of all")
    name_axes(ax, "change of the sparsity term (nats per pixel)", "gain in PSNR (dB)")
    ax.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncol=3)
    return figure, data


def adaptation_progress(
    psnr: Mapping[str, Points], stops: Mapping[str, tuple[str, int]]
) -> Drawn[dict[str, list[tuple[float, float]]]]:
    """PSNR after each step of several adaptations, with the steps at which rules would have stopped.

    Parameters
    ----------
    psnr
        Points (step, PSNR in dB) by the name of the line, the first before any step.
    stops
        By the name of the rule the line that it looked at, and the step whose weights it kept.

    Returns
    -------
    figure, data
        The points of each line and of each rule: of a rule the one that it kept.

    Raises
    ------
    ValueError
        If a rule kept a step of a line where there is no point.
    """
    data = {name: [(float(step), float(value)) for step, value in points] for name, points in psnr.items()}
    for rule, (line, step) in stops.items():
        expect(step in dict(data.get(line, [])), f"stops[{rule!r}]", f"step {step} of {line!r}", "one with a point")
    figure, ax = page(6.2, 3.8)
    colours = palette()
    for (name, points), colour, line in zip(psnr.items(), colours, cycle(LINES), strict=False):
        ax.plot(*zip(*points, strict=True), line, color=colour, label=name)
    start = next(iter(data.values()))[0][1]
    ax.axhline(start, color="0.4", dashes=(8, 2, 1, 2, 1, 2), linewidth=1, label="not adapted")
    for (rule, (line, step)), marker in zip(stops.items(), "o^sDvP*X", strict=False):
        kept = (float(step), dict(data[line])[step])
        colour = colours[list(psnr).index(line)]
        ax.plot(*([value] for value in kept), marker, color=colour, markeredgecolor="black", markersize=8, label=rule)
        data[rule] = [kept]
    name_axes(ax, "step", "PSNR of L + S (dB)")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8.5)
    return figure, data


def _interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and the ends of its 95 % interval."""
    from scipy.stats import t

    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return mean, float("nan"), float("nan")
    half = float(t.ppf(0.975, count - 1) * np.std(values, ddof=1) / np.sqrt(count))
    return mean, mean - half, mean + half
