"""Figures of anomaly detection: synthetic anomalies, scores of each class by several methods, gains by adaptation."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch

from indeed.checks import expect, one_of
from indeed.experiments.methods import ADAPTED_SUMMARISED, TABLE6_METHODS, titles
from indeed.figures.canvas import Drawn, blank, list_down, palette
from indeed.figures.images import ImageArray, heat, image_grid, picture_table
from indeed.images.anomaly_synthesis import AnomalySample
from indeed.images.noise import GREY_LEVEL
from indeed.types import Image, Map, Mask

NAMES = titles(TABLE6_METHODS)
SETS = {
    "textures": "textures, unseen synthetic defects",
    "magnetic_tile": "magnetic tile",
    "mvtec_screw_256": "screw (MVTec AD)",
    "mvtec_ad": "MVTec AD",
    "severstal": "Severstal",
    "mood": "MOOD",
    "visa": "VisA",
}
STYLES = dict(zip(TABLE6_METHODS, ((7, "o"), (0, "s"), (2, "^"), (5, "v"), (4, "P"), (9, "*"), (3, "D")), strict=True))
"""Colour, as its place in the palette, and marker of each method."""
ADAPTED = {
    method: (of.title, colour, marker)
    for (method, of), (colour, marker) in zip(
        ((method, of) for method, of in ADAPTED_SUMMARISED.items() if method != "indeed"),
        ((0, "o"), (2, "^"), (1, "s"), (4, "P"), (7, "v"), (3, "D")),
        strict=True,
    )
}
"""Name, colour and marker of each adaptation of a detector."""
LABELS = {"average_precision": "average precision of the pixels", "auroc": "AUROC of the pixels"}


def anomaly_families(samples: dict[str, AnomalySample]) -> Drawn[dict[str, ImageArray]]:
    """Synthetic anomalies: normal image, mask, observed image and anomaly, one row for each sample.

    The anomalies are shown as ``1/2 + value / (2 limit)``; the limit is the largest absolute value of all of them (at
    least one grey level), and in the titles in 8-bit grey levels.

    Parameters
    ----------
    samples
        By the name of the row, each of one image without a batch axis; all images of one size.

    Returns
    -------
    figure, data
        What each panel shows, by the name of the row and of the part, such as ``"scar: mask"``.
    """
    limit = max(GREY_LEVEL, *(sample.anomaly.abs().max().item() for sample in samples.values()))
    panels = {}
    for name, sample in samples.items():
        panels[f"{name}: normal $U_N$"] = sample.normal
        panels[f"{name}: mask"] = sample.mask[None].to(sample.normal)
        panels[f"{name}: observed $Y$"] = sample.observed
        panels[f"{name}: $U_A$ (white: {limit / GREY_LEVEL:.0f} grey levels)"] = 0.5 + sample.anomaly / (2 * limit)
    return image_grid(panels, columns=4)


def detection_scores(
    rows: Sequence[Mapping[str, str]], value: str = "average_precision"
) -> Drawn[dict[tuple[str, str, str, str, int], tuple[float, float]]]:
    """Scores of every class by every method: filled without noise, hollow with it.

    A black line is what a useless map has: the share of defective pixels for the average precision, whose axis is
    logarithmic so that equal distances are equal multiples of it, and one half for the AUROC.

    Parameters
    ----------
    rows
        As ``indeed.experiments.table6.TABLE`` gives them.
    value
        ``average_precision`` or ``auroc``.

    Returns
    -------
    figure, data
        The value and that of a useless map, by (data set, category, defect, method, noise).

    Raises
    ------
    ValueError
        If there is no row, or another value is asked for.
    """
    from matplotlib.lines import Line2D

    one_of(LABELS, value=value)
    expect(rows, "rows", "none", "at least one")
    data = {
        (row["dataset"], row["category"], row["defect"], row["method"], int(row["noise"])): (
            float(row[value]),
            float(row["base_rate"]) if value == "average_precision" else 0.5,
        )
        for row in rows
    }
    classes: dict[str, list[tuple[str, str]]] = {}
    for dataset, category, defect, *_ in data:
        if (category, defect) not in classes.setdefault(dataset, []):
            classes[dataset].append((category, defect))
    methods = [method for method in NAMES if any(key[3] == method for key in data)]
    colours = palette()
    styles: dict[str, dict[str, Any]] = {
        method: {"color": colours[colour], "marker": marker, "linestyle": "", "markersize": 5}
        for method, (colour, marker) in STYLES.items()
    }
    heights = [len(members) for members in classes.values()]
    figure = blank(6.2, 1.1 + 0.35 * len(heights) + 0.36 * sum(heights))
    axes = figure.subplots(len(classes), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for ax, (dataset, members) in zip(axes, classes.items(), strict=True):
        several = len({category for category, _ in members}) > 1
        for (name, category, defect, method, noise), (score, _) in data.items():
            if name != dataset:
                continue
            place = members.index((category, defect))
            shift = 0.7 * ((methods.index(method) + 0.5) / len(methods) - 0.5)
            ax.plot(
                [score],
                [place + shift],
                **styles[method],
                markerfacecolor="none" if noise else None,
                zorder=2 if noise else 3,
            )
        for place, (category, defect) in enumerate(members):
            useless = next(pair[1] for key, pair in data.items() if key[:3] == (dataset, category, defect))
            ax.plot([useless, useless], [place - 0.42, place + 0.42], color="black", linewidth=1.2, zorder=1)
        for line in range(1, len(members)):
            ax.axhline(line - 0.5, color="0.85", linewidth=0.6, zorder=0)
        names = [
            " ".join((category, defect) if several else (defect,)).replace("_", " ") for category, defect in members
        ]
        list_down(ax, names, SETS.get(dataset, dataset), size=9)
    if value == "average_precision":
        axes[0].set_xscale("log")
        axes[0].set_xlim(0.5 * min(min(pair) for pair in data.values()), 1.05)
    else:
        axes[0].set_xlim(min(0.45, min(score for score, _ in data.values()) - 0.02), 1.01)
    axes[-1].set_xlabel(LABELS[value])
    shown = [Line2D([], [], **styles[method], label=NAMES[method]) for method in methods]
    shown.append(Line2D([], [], color="black", label="useless map"))
    if any(noise for *_, noise in data):
        shown.append(
            Line2D([], [], marker="o", linestyle="", color="0.3", markerfacecolor="none", label="hollow: with noise")
        )
    figure.legend(handles=shown, loc="outside upper center", ncols=3, fontsize=8.5)
    return figure, data


def detection_maps(
    images: Mapping[str, Image],
    masks: Mapping[str, Mask],
    maps: Mapping[str, Mapping[str, Map]],
    *,
    common_scale: bool = False,
) -> Drawn[dict[tuple[str, str], ImageArray]]:
    """Examples, one a row: the image, its mask, and the map of each method.

    Maps have their methods' units: each method has one scale for all examples, from black at 0 to light yellow at the
    99.5 % quantile of its maps.

    Parameters
    ----------
    images, masks
        By the name of the example; images in [0, 1].
    maps
        By the method, and for each by the name of the example.
    common_scale
        Whether there is one scale for all maps, such as those of one network before and after its adaptation.

    Returns
    -------
    figure, data
        What each panel shows, (height, width, channel) in [0, 1], by example and ``"image"``, ``"mask"`` or method.

    Raises
    ------
    ValueError
        If there is no example, or one has no mask or no map.
    """
    expect(images, "images", "none", "at least one example")
    for name, parts in (("masks", masks), *((f"maps[{method!r}]", found) for method, found in maps.items())):
        if lacking := images.keys() - parts.keys():
            raise ValueError(f"{name}: lacks {', '.join(sorted(lacking))}, expected every example")
    data: dict[tuple[str, str], ImageArray] = {}
    for example, image in images.items():
        data[example, "image"] = image.detach().cpu().clamp(0, 1).permute(1, 2, 0).numpy()
        data[example, "mask"] = masks[example].cpu()[..., None].float().numpy()
    for group in [maps] if common_scale else [{method: found} for method, found in maps.items()]:
        values = torch.cat([found[example].detach().flatten().cpu() for found in group.values() for example in images])
        limit = max(float(np.quantile(values.numpy(), 0.995)), float(np.finfo(np.float32).tiny))
        for method, example in product(group, images):
            data[example, method] = heat(maps[method][example].detach().cpu(), limit).permute(1, 2, 0).numpy()
    columns = ["image", "mask", *maps]
    figure = blank(1.25 * len(columns), 1.25 * len(images) + 0.3)
    picture_table(figure, data, list(images), {name: NAMES.get(name, name) for name in columns}, fontsize=8.5)
    return figure, data


def detection_gains(
    gains: Mapping[tuple[str, str], Mapping[str, Mapping[str, float]]], label: str = "average precision"
) -> Drawn[dict[tuple[str, str, str], tuple[float, float, float]]]:
    """Gains of adaptations over the detector as it is, a panel for each data set and a row for each class of defects.

    A marker is at the mean over the seeds, with a bar from the least to the largest; the last row is the mean of the
    classes. The panels have an axis each.

    Parameters
    ----------
    gains
        As :func:`indeed.experiments.adapted_detection_summary.gains` returns them.
    label
        What is gained.

    Returns
    -------
    figure, data
        Mean, least and largest gain over the seeds, by data set, class and method; ``mean`` is the mean of the classes.

    Raises
    ------
    ValueError
        If there is no gain.
    """
    from matplotlib.lines import Line2D

    expect(gains, "gains", "none", "at least one")
    data: dict[tuple[str, str, str], tuple[float, float, float]] = {}
    for (dataset, method), classes in gains.items():
        seeds = next(iter(classes.values())).keys()
        means = {seed: float(np.mean([of[seed] for of in classes.values()])) for seed in seeds}
        for name, of in {**classes, "mean": means}.items():
            data[dataset, name, method] = (float(np.mean([*of.values()])), min(of.values()), max(of.values()))
    sets = {name: list(dict.fromkeys(key[1] for key in data if key[0] == name)) for name, _ in gains}
    methods = [method for method in ADAPTED if any(key[2] == method for key in data)]
    colours = palette()
    heights = [len(names) for names in sets.values()]
    figure = blank(6.2, 1.1 + 0.6 * len(heights) + 0.4 * sum(heights))
    axes = figure.subplots(len(sets), 1, squeeze=False, height_ratios=heights)[:, 0]
    for ax, (dataset, names) in zip(axes, sets.items(), strict=True):
        for (place, name), (index, method) in product(enumerate(names), enumerate(methods)):
            if (dataset, name, method) not in data:
                continue
            _, colour, marker = ADAPTED[method]
            mean, low, high = data[dataset, name, method]
            y = place + 0.7 * ((index + 0.5) / len(methods) - 0.5)
            ax.plot([low, high], [y, y], color=colours[colour], linewidth=1.4)
            ax.plot([mean], [y], marker, color=colours[colour], markersize=5)
        ax.axvline(0, color="0.4", linestyle="--", linewidth=1)
        for line in range(1, len(names)):
            ax.axhline(line - 0.5, color="0.3" if line == len(names) - 1 else "0.85", linewidth=0.6, zorder=0)
        shown = [name.removeprefix(f"{dataset} ").replace("_", " ") for name in names]
        list_down(ax, shown, SETS.get(dataset, dataset))
    axes[-1].set_xlabel(f"gain in {label} over the detector as it is")
    figure.legend(
        handles=[
            Line2D([], [], color=colours[colour], marker=marker, label=name)
            for name, colour, marker in (ADAPTED[method] for method in methods)
        ],
        loc="outside upper center",
        ncols=3,
        fontsize=8.5,
    )
    return figure, data
