"""Adapted detectors, summarised: gains over the detector as it is, their spreads, and the checked default."""

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from indeed.experiments.methods import CHECKED
from indeed.tables import Row

VALUES = ("average_precision", "auroc", "image_auroc")


def with_checked(rows: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """Rows, and those of `CHECKED`: of ``replay`` where its check is passed, else of ``indeed`` on the same class."""
    place = ("dataset", "category", "defect")
    plain = {tuple(row[name] for name in place): row for row in rows if row["method"] == "indeed"}
    found = []
    for row in (row for row in rows if row["method"] == "replay"):
        passed = float(row["check"]) > float(row["check_before"])
        scored = row if passed else plain[tuple(row[name] for name in place)]
        found.append({**row, "method": CHECKED} | {value: scored[value] for value in VALUES})
    return [*rows, *found]


Gains = dict[tuple[str, str], dict[str, dict[str, float]]]
"""By (dataset, method), then class and seed."""


def gains(rows: Sequence[Mapping[str, str]], value: str = "average_precision") -> Gains:
    """Gains of each class over the detector as it is, on the same images with the same noise.

    Examples
    --------
    >>> row = {"dataset": "textures", "seed": "0", "category": "brick", "defect": "scar", "average_precision": "0.5"}
    >>> gains([row | {"method": "indeed"}, row | {"method": "replay", "average_precision": "0.75"}])
    {('textures', 'replay'): {'brick scar': {'0': 0.25}}}
    """
    base = {
        (row["dataset"], row["category"], row["defect"]): float(row[value]) for row in rows if row["method"] == "indeed"
    }
    found: Gains = {}
    for row in rows:
        if row["method"] != "indeed":
            gain = float(row[value]) - base[row["dataset"], row["category"], row["defect"]]
            classes = found.setdefault((row["dataset"], row["method"]), {})
            classes.setdefault(f"{row['category']} {row['defect']}", {})[row["seed"]] = gain
    return found


def summary(rows: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Means over the classes and seeds of each data set and method, with the gains and their spreads.

    Returns
    -------
    ``dataset``, ``method``, the numbers of ``classes`` and ``seeds``; the means of `VALUES`, ``base_rate``,
    ``adaptation_seconds``, ``steps`` and ``forwards``; and for the average precision and the AUROC the mean ``_gain``,
    its standard deviation ``_over_seeds`` (of means over the classes), ``_over_classes`` (of means over the seeds), and
    the ``_worst`` of the classes; NaN for the detector as it is, and for the deviation of a single one.
    """
    members: dict[tuple[str, str], list[Mapping[str, str]]] = {}
    for row in rows:
        members.setdefault((row["dataset"], row["method"]), []).append(row)
    summaries = []
    for (dataset, method), some in members.items():
        classes = {(row["category"], row["defect"]) for row in some}
        entry: dict[str, Any] = {"dataset": dataset, "method": method, "classes": len(classes)}
        entry["seeds"] = len({row["seed"] for row in some})
        for value in (*VALUES, "base_rate", "adaptation_seconds", "steps", "forwards"):
            entry[value] = fmean(float(row[value]) for row in some)
        for value in ("average_precision", "auroc"):
            found = list(gains(rows, value).get((dataset, method), {}).values())
            by_class = [fmean(of.values()) for of in found]
            by_seed = [fmean(of[seed] for of in found) for seed in found[0]] if found else []
            entry |= {
                f"{value}_gain": fmean(by_class) if by_class else math.nan,
                f"{value}_over_seeds": stdev(by_seed) if len(by_seed) > 1 else math.nan,
                f"{value}_over_classes": stdev(by_class) if len(by_class) > 1 else math.nan,
                f"{value}_worst": min(by_class, default=math.nan),
            }
        summaries.append(entry)
    return summaries


def lines(rows: Sequence[Row]) -> Iterator[str]:
    """Means over the classes of each data set, method and seed, as text."""
    members: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        members.setdefault((row["dataset"], row["method"], row["seed"]), []).append(row)
    for (dataset, method, seed), some in members.items():
        precision, auroc, seconds = (
            fmean(float(row[name]) for row in some) for name in ("average_precision", "auroc", "adaptation_seconds")
        )
        yield f"{dataset:<16} {method:<16} seed {seed} AP {precision:.4f} AUROC {auroc:.4f} {seconds:7.1f} s"


def lines_and_gains(rows: Sequence[Row]) -> Iterator[str]:
    """`lines`, and the gain of each method."""
    yield from lines(rows)
    for of in summary(with_checked(rows)):
        if of["method"] != "indeed":
            gain, over = of["average_precision_gain"], of["average_precision_over_seeds"]
            yield f"{of['dataset']:<16} {of['method']:<16} gain in AP {gain:+.4f}, over the seeds ±{over:.4f}"
