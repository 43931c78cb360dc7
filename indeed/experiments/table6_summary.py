"""Tables 6 and 7, summarised: means over classes and groups of ranks, and the paper's numbers beside."""

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from indeed.experiments.methods import TABLE6_METHODS
from indeed.images.detection_metrics import rank_group
from indeed.record import results_folder
from indeed.tables import Row, read_table

VALUES = ("average_precision", "auroc", "base_rate", "image_auroc")
ALL = "all"


def summary(rows: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Means over the classes of each data set, method and noise: over all, and over each group of ranks.

    Returns
    -------
    ``dataset``, ``method``, ``noise``, ``group`` (`ALL`, Low, Mid or High, see
    :func:`indeed.images.detection_metrics.rank_group`), the number of ``classes``, the means of `VALUES`, and
    ``average_precision_drop`` and ``auroc_drop``, by how much they are lower than without noise (NaN if that is not
    among the rows).

    Examples
    --------
    >>> row = {"dataset": "textures", "method": "pca", "noise": "0", "rank": "50", "base_rate": "0.01"}
    >>> row |= {"average_precision": "0.5", "auroc": "0.9", "image_auroc": "0.8"}
    >>> noisy = row | {"noise": "1", "average_precision": "0.375"}
    >>> summary([row, noisy])[-1]["average_precision_drop"]
    0.125
    """
    members: dict[tuple[str, str, int, str], list[Mapping[str, str]]] = {}
    for row in rows:
        for group in (ALL, rank_group(float(row["rank"]))):
            members.setdefault((row["dataset"], row["method"], int(row["noise"]), group), []).append(row)
    means = {
        key: {value: fmean(float(row[value]) for row in some) for value in VALUES} for key, some in members.items()
    }
    summaries = []
    for (dataset, method, noise, group), mean in means.items():
        entry: dict[str, Any] = {"dataset": dataset, "method": method, "noise": noise, "group": group}
        entry |= {"classes": len(members[dataset, method, noise, group])} | mean
        clean = means.get((dataset, method, 0, group), {})
        for value in ("average_precision", "auroc"):
            entry[f"{value}_drop"] = clean.get(value, math.nan) - mean[value]
        summaries.append(entry)
    return summaries


PRINTED: dict[tuple[str, int, str], tuple[str, str]] = {
    ("mvtec_ad", 0, "Low"): ("table6_uad_mvtec.csv", "{}_low"),
    ("mvtec_ad", 0, "Mid"): ("table6_uad_mvtec.csv", "{}_mid"),
    ("mvtec_ad", 0, "High"): ("table6_uad_mvtec.csv", "{}_high"),
    ("mvtec_ad", 1, "Mid"): ("table7_uad_ood.csv", "noisy_mvtec_mid_{}"),
    ("severstal", 0, ALL): ("table7_uad_ood.csv", "severstal_{}"),
    ("mood", 0, ALL): ("table7_uad_ood.csv", "mood_{}"),
}
"""Where the paper has a mean: by data set, noise and group, the table and its column."""


def beside_paper(rows: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """`summary` with the paper's numbers beside, as shares of one: ``average_precision_paper``, ``auroc_paper``.

    NaN where the paper has no such number: it has neither the textures nor the magnetic tiles, and the screw, one of
    the categories of MVTec AD, not by itself. Where it has one, read it with care: the thresholds of the groups are
    ours, and of Severstal the paper takes 256 images, not saying which, and of MOOD all five toy cases, for models
    that were trained on MVTec AD.
    """
    printed: dict[tuple[str, str], Mapping[str, str]] = {}
    for name in sorted({name for name, _ in PRINTED.values()}):
        printed |= {(name, row["method"]): row for row in read_table(results_folder() / "paper" / name)}
    compared = []
    for entry in summary(rows):
        name, column = PRINTED.get((entry["dataset"], entry["noise"], entry["group"]), ("", "{}"))
        theirs = printed.get((name, TABLE6_METHODS[entry["method"]].paper or ""), {})
        for value, short in (("average_precision", "ap"), ("auroc", "auroc")):
            text = theirs.get(column.format(short), "")
            entry[f"{value}_paper"] = float(text) / 100 if text else math.nan
        compared.append(entry)
    return compared


def lines(rows: Sequence[Row]) -> Iterator[str]:
    """`summary` as text."""
    for mean in summary(rows):
        label = f"{mean['dataset']:<16} {mean['method']:<16} noise {mean['noise']} {mean['group']:<4}"
        figures = f"AP {mean['average_precision']:.4f} (base rate {mean['base_rate']:.4f}) AUROC {mean['auroc']:.4f}"
        yield f"{label} {mean['classes']:>2} classes {figures}"
