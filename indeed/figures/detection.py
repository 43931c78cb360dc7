"""Detection of anomalies by several methods: scores of each class, and maps of examples."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from indeed.experiments.methods import ADAPTED_SUMMARISED, TABLE6_METHODS, titles
from indeed.figures.anomalies import heat
from indeed.figures.images import ImageArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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


def detection_scores(
    rows: Sequence[Mapping[str, str]], value: str = "average_precision"
) -> tuple["Figure", dict[tuple[str, str, str, str, int], tuple[float, float]]]:
    """Scores of every class by every method: filled without noise, hollow with it.

    A black line is what a useless map has: the share of defective pixels for the average precision, whose axis is
    logarithmic so that equal distances are equal multiples of it, and one half for the AUROC.

    Parameters
    ----------
    rows
        As :func:`indeed.experiments.table6.table` returns them.
    value
        ``average_precision`` or ``auroc``.

    Returns
    -------
    figure
        A matplotlib figure.
    data
        The value and that of a useless map, by (data set, category, defect, method, noise).

    Raises
    ------
    ValueError
        If there is no row, or another value is asked for.
    """
    import seaborn
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    if value not in LABELS:
        raise ValueError(f"value must be one of {', '.join(LABELS)}, got {value!r}")
    if not rows:
        raise ValueError("rows: got none, expected at least one")
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
    palette = seaborn.color_palette("colorblind")
    styles: dict[str, dict[str, Any]] = {
        method: {"color": palette[colour], "marker": marker, "linestyle": "", "markersize": 5}
        for method, (colour, marker) in STYLES.items()
    }
    heights = [len(members) for members in classes.values()]
    figure = Figure(figsize=(6.2, 1.1 + 0.35 * len(heights) + 0.36 * sum(heights)), layout="constrained")
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
        ax.set_yticks(range(len(members)), names)
        ax.set_ylim(len(members) - 0.5, -0.5)
        ax.set_title(SETS.get(dataset, dataset), fontsize=9.5, loc="left")
        ax.grid(axis="x", alpha=0.3)
        ax.tick_params(labelsize=9)
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
    images: Mapping[str, Float[Tensor, "channel height width"]],
    masks: Mapping[str, Bool[Tensor, "height width"]],
    maps: Mapping[str, Mapping[str, Float[Tensor, "height width"]]],
    *,
    common_scale: bool = False,
) -> tuple["Figure", dict[tuple[str, str], ImageArray]]:
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
    figure
        A matplotlib figure.
    data
        What each panel shows, (height, width, channel) in [0, 1], by example and ``"image"``, ``"mask"`` or method.

    Raises
    ------
    ValueError
        If there is no example, or one has no mask or no map.
    """
    from matplotlib.figure import Figure

    if not images:
        raise ValueError("images: got none, expected at least one example")
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
    figure = Figure(figsize=(1.25 * len(columns), 1.25 * len(images) + 0.3), layout="constrained")
    axes = figure.subplots(len(images), len(columns), squeeze=False)
    for row, example in zip(axes, images, strict=True):
        for ax, column in zip(row, columns, strict=True):
            shown = data[example, column]
            ax.imshow(shown.squeeze(2) if shown.shape[2] == 1 else shown, cmap="gray", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
        row[0].set_ylabel(example, fontsize=8.5)
    for ax, column in zip(axes[0], columns, strict=True):
        ax.set_title(NAMES.get(column, column), fontsize=8.5)
    return figure, data


def detection_gains(
    gains: Mapping[tuple[str, str], Mapping[str, Mapping[str, float]]], label: str = "average precision"
) -> tuple["Figure", dict[tuple[str, str, str], tuple[float, float, float]]]:
    """Gains of adaptations over the detector as it is, a panel for each data set and a row for each class of defects.

    A marker is at the mean over the seeds, with a bar from the least to the largest; the last row is the mean of the
    classes. The panels have an axis each.

    Parameters
    ----------
    gains
        As :func:`indeed.experiments.adapted_detection.gains` returns them.
    label
        What is gained.

    Returns
    -------
    figure
        A matplotlib figure.
    data
        Mean, least and largest gain over the seeds, by data set, class and method; ``mean`` is the mean of the classes.

    Raises
    ------
    ValueError
        If there is no gain.
    """
    import seaborn
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    if not gains:
        raise ValueError("gains: got none, expected at least one")
    data: dict[tuple[str, str, str], tuple[float, float, float]] = {}
    for (dataset, method), classes in gains.items():
        seeds = next(iter(classes.values())).keys()
        means = {seed: float(np.mean([of[seed] for of in classes.values()])) for seed in seeds}
        for name, of in {**classes, "mean": means}.items():
            data[dataset, name, method] = (float(np.mean([*of.values()])), min(of.values()), max(of.values()))
    sets = {name: list(dict.fromkeys(key[1] for key in data if key[0] == name)) for name, _ in gains}
    methods = [method for method in ADAPTED if any(key[2] == method for key in data)]
    palette = seaborn.color_palette("colorblind")
    heights = [len(names) for names in sets.values()]
    figure = Figure(figsize=(6.2, 1.1 + 0.6 * len(heights) + 0.4 * sum(heights)), layout="constrained")
    axes = figure.subplots(len(sets), 1, squeeze=False, height_ratios=heights)[:, 0]
    for ax, (dataset, names) in zip(axes, sets.items(), strict=True):
        for (place, name), (index, method) in product(enumerate(names), enumerate(methods)):
            if (dataset, name, method) not in data:
                continue
            _, colour, marker = ADAPTED[method]
            mean, low, high = data[dataset, name, method]
            y = place + 0.7 * ((index + 0.5) / len(methods) - 0.5)
            ax.plot([low, high], [y, y], color=palette[colour], linewidth=1.4)
            ax.plot([mean], [y], marker, color=palette[colour], markersize=5)
        ax.axvline(0, color="0.4", linestyle="--", linewidth=1)
        for line in range(1, len(names)):
            ax.axhline(line - 0.5, color="0.3" if line == len(names) - 1 else "0.85", linewidth=0.6, zorder=0)
        shown = [name.removeprefix(f"{dataset} ").replace("_", " ") for name in names]
        ax.set_yticks(range(len(names)), shown)
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.set_title(SETS.get(dataset, dataset), fontsize=9.5, loc="left")
        ax.grid(axis="x", alpha=0.3)
        ax.tick_params(labelsize=8.5)
    axes[-1].set_xlabel(f"gain in {label} over the detector as it is")
    figure.legend(
        handles=[
            Line2D([], [], color=palette[colour], marker=marker, label=name)
            for name, colour, marker in (ADAPTED[method] for method in methods)
        ],
        loc="outside upper center",
        ncols=3,
        fontsize=8.5,
    )
    return figure, data
