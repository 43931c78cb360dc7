"""Table 5, summarised: gains over the network as it is, means, the paper's beside, and how sets are told apart."""

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any, NamedTuple

import torch

from indeed.experiments.methods import ORACLE, TABLE5_SETS, TABLE5_SUMMARISED
from indeed.experiments.table5_methods import DEFAULT
from indeed.learning.diagnostics.discrepancy import (
    FeatureTable,
    permutation_p_value,
    squared_mmd,
    standardised_features,
)
from indeed.record import results_folder
from indeed.tables import Row, read_table

ALL = "all"


Gains = dict[str, dict[str, list[float]]]
"""PSNR minus that of ``indeed`` on each image, in dB, by group of images and method."""


def gains(rows: Sequence[Mapping[str, str]], dataset: str | None = None) -> Gains:
    """Gains over the network as it is, with seed 0, on the images that all methods of a data set have been put through.

    Parameters
    ----------
    rows
        As `table` returns them.
    dataset
        The set whose cameras are the groups; None: the groups are the data sets.

    Examples
    --------
    >>> row = {"dataset": "white", "seed": "0", "image": "coffee", "camera": "photograph"}
    >>> gains([row | {"method": "indeed", "psnr": "30.5"}, row | {"method": "tv", "psnr": "28.0"}])
    {'white': {'indeed': [0.0], 'tv': [-2.5]}}
    """
    found: Gains = {}
    for row, gain in _with_gains(_with_oracle(_common(rows))):
        if dataset in (None, row["dataset"]):
            group = found.setdefault(row["dataset"] if dataset is None else row["camera"], {})
            group.setdefault(row["method"], []).append(gain)
    return found


def summary(rows: Sequence[Mapping[str, str]], *, common: bool = False) -> list[dict[str, Any]]:
    """Means over the images of each data set and method: over `ALL` of them, and over those of each camera.

    Parameters
    ----------
    rows
        As `table` returns them.
    common
        Whether only images count that all methods of the data set have been put through.

    Returns
    -------
    ``dataset``, ``method``, ``camera`` and the number of ``images``; with seed 0 the means of ``psnr``, ``ssim``,
    ``image_seconds``, ``steps`` and ``forwards``, of the ``gain`` in PSNR over ``indeed`` and ``over_noisy``, over the
    observation, on the same images (NaN if one is missing); and ``spread``, the standard deviation over the seeds of
    the mean PSNR on the images that all seeds have (NaN for a single seed). After the default stands its `ORACLE`.

    Examples
    --------
    >>> row = {"dataset": "white", "seed": "0", "image": "coffee", "camera": "photograph", "psnr": "30.5"}
    >>> row |= dict.fromkeys(("ssim", "image_seconds", "steps", "forwards"), "1")
    >>> found = summary([row | {"method": "indeed"}, row | {"method": "tv", "psnr": "28.0"}])
    >>> [(mean["method"], mean["camera"], mean["gain"]) for mean in found if mean["camera"] == ALL]
    [('indeed', 'all', 0.0), ('tv', 'all', -2.5)]
    """
    chosen = _common(rows) if common else list(rows)
    members: dict[tuple[str, str, str], list[tuple[Mapping[str, str], float, float]]] = {}
    both = (_with_gains(_with_oracle(chosen), over) for over in ("indeed", "noisy"))
    for (row, gain), (_, over_noisy) in zip(*both, strict=True):
        for camera in (ALL, row["camera"]):
            members.setdefault((row["dataset"], row["method"], camera), []).append((row, gain, over_noisy))
    means = []
    for (dataset, method, camera), some in members.items():
        entry: dict[str, Any] = {"dataset": dataset, "method": method, "camera": camera, "images": len(some)}
        for value in ("psnr", "ssim", "image_seconds", "steps", "forwards"):
            entry[value] = fmean(float(row[value]) for row, *_ in some)
        entry |= {"gain": fmean(gain for _, gain, _ in some), "over_noisy": fmean(over for *_, over in some)}
        means.append(entry | {"spread": _spread(rows, dataset, method, camera)})
    return means


def beside_paper(rows: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """`summary` over the cameras of each data set, with the paper's means beside.

    ``psnr_paper``, ``ssim_paper`` and ``gain_paper``, over its own model without adaptation, with ``psnr_difference``
    (here minus paper); NaN where the paper has no such row, and where the images are not all those of the set. The
    paper calls its cameras C1 to C5 and does not say which they are. ``worst_camera`` is that of the least gain, the
    ``worst_gain``.
    """
    printed = {
        (row["dataset"], row["method"], row["metric"]): float(row["value"])
        for row in read_table(results_folder() / "paper" / "table5_ood_denoising.csv")
        if row["camera"] == "mean"
    }
    means = summary(rows)
    compared = []
    for mean in (mean for mean in means if mean["camera"] == ALL):
        name, theirs = TABLE5_SETS[mean["dataset"]].paper, TABLE5_SUMMARISED[mean["method"]].paper
        found = {value: printed.get((name or "", theirs or "", value), math.nan) for value in ("PSNR", "SSIM")}
        entry = mean | {"psnr_paper": found["PSNR"], "ssim_paper": found["SSIM"]}
        entry["gain_paper"] = found["PSNR"] - printed.get((name or "", "InDeed", "PSNR"), math.nan)
        entry["psnr_difference"] = mean["psnr"] - found["PSNR"]
        cameras = [
            (other["gain"], other["camera"])
            for other in means
            if (other["dataset"], other["method"]) == (mean["dataset"], mean["method"]) and other["camera"] != ALL
        ]
        entry["worst_gain"], entry["worst_camera"] = min(cameras)
        compared.append(entry)
    return compared


class Separation(NamedTuple):
    """How well two sets are told apart by the coordinates of their images."""

    p_value: float
    """Of a permutation test on the maximum mean discrepancy: both are from one law."""
    auroc: float
    """Of a logistic regression on both coordinates, on images that it was not fitted to."""
    auroc_sparsity: float
    """Of the sparsity term alone, larger out of distribution, as the paper has it: nothing is fitted."""


def separation(inside: FeatureTable, outside: FeatureTable, *, seed: int = 0) -> Separation:
    """How well the images of an in- and an out-of-distribution set are told apart by two coordinates.

    The regression, fitted to examples of both sets, is scored by cross-validation with five folds, or as many as the
    smaller set has images. Without examples of the shift there is only the direction that the paper names. The images
    of the two sets must be different ones: a scene in both makes the test too cautious and the regression too good.

    Parameters
    ----------
    inside, outside
        Coordinates of at least two images each, (image, 2): rank term, sparsity term.
    seed
        Of the permutations and folds.

    Raises
    ------
    ValueError
        If a set has fewer than two images.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    first, second = standardised_features(inside.double(), outside.double())
    generator = torch.Generator().manual_seed(seed)
    p_value = permutation_p_value(first, second, squared_mmd, generator=generator)
    values, truth = torch.cat([first, second]).numpy(), [0] * len(first) + [1] * len(second)
    folds = StratifiedKFold(min(5, len(first), len(second)), shuffle=True, random_state=seed)
    scores = cross_val_predict(LogisticRegression(), values, truth, cv=folds, method="decision_function")
    return Separation(p_value, float(roc_auc_score(truth, scores)), float(roc_auc_score(truth, values[:, 1])))


def row_coordinates(rows: Sequence[Mapping[str, str]], dataset: str, method: str = "indeed") -> dict[str, list[float]]:
    """Rank term, sparsity term and PSNR of each image of a data set after a method, with seed 0, by image."""
    return {
        row["image"]: [float(row[name]) for name in ("rank_term", "sparsity_term", "psnr")]
        for row in rows
        if (row["dataset"], row["method"], row["seed"]) == (dataset, method, "0")
    }


def _common(rows: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """Rows of seed 0, of the images that every method of their data set has."""
    first = [row for row in rows if row["seed"] == "0"]
    having: dict[str, dict[str, set[str]]] = {}
    for row in first:
        having.setdefault(row["dataset"], {}).setdefault(row["method"], set()).add(row["image"])
    shared = {dataset: set.intersection(*of.values()) for dataset, of in having.items()}
    return [row for row in first if row["image"] in shared[row["dataset"]]]


def _with_oracle(rows: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """Rows, and those of the default once more at the best step that was looked at."""
    best = [
        dict(row) | {"method": ORACLE, "psnr": row["oracle_psnr"], "steps": row["oracle_step"], "ssim": "nan"}
        for row in rows
        if row["method"] == DEFAULT
    ]
    return [*rows, *best]


def _with_gains(rows: Sequence[Mapping[str, str]], over: str = "indeed") -> list[tuple[Mapping[str, str], float]]:
    """Rows of seed 0 with their PSNR minus that of another method on the same image; NaN if there is none."""
    first = [row for row in rows if row["seed"] == "0"]
    base = {(row["dataset"], row["image"]): float(row["psnr"]) for row in first if row["method"] == over}
    return [(row, float(row["psnr"]) - base.get((row["dataset"], row["image"]), math.nan)) for row in first]


def _spread(rows: Sequence[Mapping[str, str]], dataset: str, method: str, camera: str) -> float:
    by_seed: dict[str, dict[str, float]] = {}
    for row in rows:
        if (row["dataset"], row["method"]) == (dataset, method) and camera in (ALL, row["camera"]):
            by_seed.setdefault(row["seed"], {})[row["image"]] = float(row["psnr"])
    shared = set.intersection(*map(set, by_seed.values())) if by_seed else set()
    if len(by_seed) < 2 or not shared:
        return math.nan
    return stdev(fmean(found[image] for image in shared) for found in by_seed.values())


def lines(rows: Sequence[Row]) -> Iterator[str]:
    """Means over the images of each data set, method and seed, as text."""
    members: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        members.setdefault((row["dataset"], row["method"], row["seed"]), []).append(row)
    for (dataset, method, seed), some in members.items():
        quality, similarity, seconds = (
            fmean(float(row[name]) for row in some) for name in ("psnr", "ssim", "image_seconds")
        )
        label = f"{dataset:<16} {method:<16} seed {seed} {len(some):>3} images"
        yield f"{label} {quality:6.2f} dB {similarity:7.4f} {seconds:7.2f} s"
