"""Tables 6 and 7: detection of anomalies, of test images as they are and with noise, cell by cell.

``python -m indeed.experiments.table6 --help``. A cell is one data set, one method and one level of noise, and has a row
for each class of defects. The protocol is that of :mod:`indeed.images.detection_metrics`: the pixels of the images of a
class and of all good test images of its category count, at the side that the networks are trained at. Noise is added to
the test images only and is the same for every method. Classical methods are fitted to each data set by itself; learned
ones are unified over the sets of `PARTS`.
"""

import csv
import math
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import torch

from indeed.bayes.anomaly_maps import smoothed
from indeed.data.anomaly_readers import READERS, anomaly_set
from indeed.data.anomaly_sets import GOOD, AnomalySet, load
from indeed.data.benchmarks import DataMissingError
from indeed.experiments.cells import cell_name, run_command, run_rows
from indeed.images.detection_metrics import DetectionMetrics, class_rank, image_score, rank_group
from indeed.images.noise import GREY_LEVEL, seeded_gaussian
from indeed.images.pixels import eight_bit
from indeed.learning.loading import sample_seed
from indeed.networks.anomaly_detection import anomaly_maps
from indeed.networks.checkpoint import CheckpointError, load_checkpoint, shipped_checkpoint
from indeed.networks.whole_image import decompose
from indeed.recipes.choice import MapOf
from indeed.recipes.good_images import SIDE, texture_set_for_tests
from indeed.recipes.rivals import (
    OPTIONS,
    PARTS,
    Choice,
    Learned,
    Profile,
    checkpoint_path,
    classical,
    held_out_anomalies,
    runs_folder,
    train_rival,
    trained,
)
from indeed.record import records_folder, results_folder
from indeed.tables import Row, read_table, write_table
from indeed.types import Image

Key = dict[str, str | int]

METHODS: dict[str, str | None] = {
    "mean": None,
    "pca": None,
    "rpca": None,
    "autoencoder": None,
    "draem": "DRAEM",
    "indeed_separate": None,
    "indeed": "InDeed",
}
"""The methods by name, and the paper's name for them.

``indeed_separate`` is an InDeed for one of the sets of `PARTS` alone, to compare with the unified one.
"""
NOISES = (0, 1)
"""Standard deviations of the noise in per cent of white: none, and the 2.55 grey levels of the paper."""
VALUES = ("average_precision", "auroc", "base_rate", "image_auroc")
ALL = "all"
DETAIL = 8
"""Grey levels that L leaves of a pixel at least, if it is detail and no smooth surface."""
SEED = 0


def cells(profile: Profile) -> list[Key]:
    """Keys of the cells of a profile: (dataset, method, noise), for the textures and the sets that are on disk.

    ``smoke``: the textures, by the fast methods and tiny networks. ``cpu``: all sets by all methods, those of `PARTS`
    by an InDeed for each alone, too.
    """
    if profile == "smoke":
        chosen = [("textures", method) for method in METHODS if method != "rpca"]
    else:
        chosen = [(name, method) for name in ("textures", *_present()) for method in METHODS]
    return [
        _key(name, method, noise)
        for name, method in chosen
        if method != "indeed_separate" or name in PARTS.split("+")
        for noise in NOISES
    ]


def cell_key(name: str) -> Key:
    """Key of a cell from its name.

    Raises
    ------
    ValueError
        If the name has not the form of `cell_name`.
    """
    parts = name.split("-")
    if len(parts) != 3 or not parts[2].isdecimal():
        raise ValueError(f"name must be dataset-method-noise, such as textures-pca-1, got {name!r}")
    return _key(parts[0], parts[1], int(parts[2]))


def cell(
    dataset: str, method: str, noise: int, *, profile: Profile, runs: Path | None = None, device: str = "cpu"
) -> list[Row]:
    """Measure one cell, or read what was measured before.

    Parameters
    ----------
    dataset
        ``textures`` or a name in :data:`indeed.data.anomaly_readers.READERS`.
    method
        Name in `METHODS`.
    noise
        Standard deviation of the noise in per cent of white, one of `NOISES`.
    profile
        Which networks are measured. The tiny ones of ``smoke`` are trained where they are missing.
    runs
        Folder of the cells; None: `cells_folder`.
    device
        Where the networks run; the classical methods run on the CPU.

    Returns
    -------
    A row for each class, ``category`` and ``defect``: ``average_precision``, ``auroc`` and ``base_rate`` of the pixels,
    ``image_auroc``, the number of ``images``, their ``rank`` without noise, ``option`` and ``smoothing`` of the map
    and the ``synthetic_average_precision`` that they were chosen for, with its ``synthetic_base_rate``,
    ``seconds_per_image``, with the columns of :func:`indeed.experiments.cells.run_rows`.

    Raises
    ------
    DataError, DataMissingError, CheckpointError
        If the images are not good, or they or the trained network are missing.
    ValueError
        If an argument is out of range, or the file of the cell is damaged.
    """
    for name, value, known in (
        ("dataset", dataset, ("textures", *READERS)),
        ("method", method, METHODS),
        ("noise", noise, NOISES),
    ):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(map(str, known))}, got {value!r}")
    data = _textures() if dataset == "textures" else anomaly_set(dataset)
    files = {path for item in data.train + data.test for path in (item.file, item.mask_file) if path}
    learned = method not in OPTIONS
    if learned:
        network = _network(method, dataset, profile)
        model = cast(Learned, method.removesuffix("_separate"))
        sets = _sets(method, dataset)
        if not network.is_file() and profile == "smoke":
            train_rival(model, data=sets, profile=profile, device=device, progress=False)
        if not network.is_file():
            how = f"python -m indeed.experiments.table6 train {model} --data {sets} --profile {profile}"
            raise CheckpointError(f"{network}: is not there, it is made by: {how}")
        files.add(network)

    def compute() -> list[dict[str, float | str]]:
        if learned:
            map_of, choice = trained(model, network, device)
        else:
            map_of, choice = classical(method, dataset, OPTIONS[method][:1] if profile == "smoke" else None)
        found = scores(data, map_of, choice, noise, side=None if dataset == "textures" else SIDE)
        return [row | {"synthetic_base_rate": _synthetic_base_rate(method, dataset)} for row in found]

    key = _key(dataset, method, noise)
    return run_rows(
        (runs or cells_folder(profile)) / f"{cell_name(key)}.csv",
        key,
        compute,
        profile=profile,
        seed=SEED,
        data=f"{dataset} ({len(data.test)} images)",
        device=device if learned else "cpu",
        files=sorted(files),
    )


@dataclass
class _Class:
    """What a class is scored by."""

    pixels: DetectionMetrics = field(default_factory=DetectionMetrics)
    images: DetectionMetrics = field(default_factory=DetectionMetrics)
    ranks: list[float] = field(default_factory=list)


def scores(
    data: AnomalySet, map_of: MapOf, choice: Choice, noise: int = 0, *, side: int | None = SIDE
) -> list[dict[str, float | str]]:
    """Scores of a detector on the test images of a set, a row for each class of defects; see `cell`.

    Parameters
    ----------
    data
        The set; images are taken in grey.
    map_of
        The detector.
    choice
        Settings: the map is smoothed as they say.
    noise
        In per cent of white, unclipped; that of an image is a function of its place in the set.
    side
        Side to which images and masks are brought; None: they are taken as they are.
    """
    classes = {name: _Class() for name in data.classes}
    durations: list[float] = []
    for index, item in enumerate(data.test):
        loaded = load(item, side, channels=1)
        if item.defect != GOOD and not loaded.mask.any():
            warnings.warn(
                f"{item.mask_file or item.file}: no pixel of it is left at a side of {side}, all will count as good",
                stacklevel=2,
            )
        clean = eight_bit(loaded.image, 1).float() / 255
        observed = with_noise(clean, noise, index)[None]
        if not durations:
            map_of(observed)  # first calls are slower
        start = time.perf_counter()
        found = map_of(observed)
        found = smoothed(found, choice.smoothing) if choice.smoothing else found
        durations.append(time.perf_counter() - start)
        score, rank = image_score(found), class_rank([clean])
        for (category, defect), scored in classes.items():
            if category == item.category and item.defect in (GOOD, defect):
                scored.pixels.update(found[0], loaded.mask)
                scored.images.update(score, torch.tensor([item.defect != GOOD]))
                scored.ranks.append(rank)
    return [
        {
            "category": category,
            "defect": defect,
            "average_precision": scored.pixels.average_precision(),
            "auroc": scored.pixels.auroc(),
            "base_rate": scored.pixels.base_rate(),
            "image_auroc": scored.images.auroc(),
            "images": len(scored.ranks),
            "rank": fmean(scored.ranks),
            "option": choice.option,
            "smoothing": choice.smoothing,
            "synthetic_average_precision": choice.average_precision,
            "seconds_per_image": fmean(durations),
        }
        for (category, defect), scored in classes.items()
    ]


def with_noise(clean: Image, noise: int, index: int) -> Image:
    """Test image of a place in its set with noise, in per cent of white, unclipped: the same for every method."""
    return seeded_gaussian(clean, 2.55 * noise, sample_seed(SEED, index)) if noise else clean


def claims(dataset: str, *, profile: Profile = "cpu", runs: Path | None = None, device: str = "cpu") -> list[Row]:
    r"""Measure what L leaves of the defects of each class, and how much of that S claims: why InDeed misses some.

    Parameters
    ----------
    dataset, profile, runs, device
        As in `cell`. The detector is that of the method ``indeed``, and there is no noise.

    Returns
    -------
    A row for each class of defects, over their pixels, and one, of the class ``good``, over all pixels of good test
    images: ``pixels``, their number; ``residual``, the mean of :math:`|Y - \mu_L|` in grey levels; ``detail``, the
    share of the pixels of which L leaves at least `DETAIL`; ``claimed``, the mean of
    :func:`indeed.bayes.anomaly_maps.share` over those, in which defects and what is normal can be compared.

    Raises
    ------
    DataError, DataMissingError, CheckpointError
        As `cell`.
    """
    data = _textures() if dataset == "textures" else anomaly_set(dataset)
    network = _network("indeed", dataset, profile)

    def compute() -> list[dict[str, float | str]]:
        model, _ = load_checkpoint(network, device)
        sums: dict[tuple[str, str], list[float]] = {}
        for item in data.test:
            loaded = load(item, None if dataset == "textures" else SIDE, channels=1)
            observed = eight_bit(loaded.image, 1).float() / 255
            residual = (observed - decompose(model, observed).L)[0].abs() / GREY_LEVEL
            claimed = anomaly_maps(model, observed[None], form="share")[0]
            where = loaded.mask if item.defect != GOOD else torch.ones_like(loaded.mask)
            detail = where & (residual >= DETAIL)
            some = [where.sum().item(), residual[where].sum().item(), detail.sum().item(), claimed[detail].sum().item()]
            before = sums.get((item.category, item.defect), [0.0] * len(some))
            sums[item.category, item.defect] = [a + b for a, b in zip(before, some, strict=True)]
        return [
            {
                "category": category,
                "defect": defect,
                "pixels": count,
                "residual": left / count,
                "detail": detailed / count,
                "claimed": claim / detailed if detailed else math.nan,
            }
            for (category, defect), (count, left, detailed, claim) in sums.items()
        ]

    return run_rows(
        (runs or cells_folder(profile)) / f"{dataset}-claims.csv",
        {"dataset": dataset},
        compute,
        profile=profile,
        seed=SEED,
        data=f"{dataset} ({len(data.test)} images)",
        device=device,
        files=sorted({path for item in data.test for path in (item.file, item.mask_file) if path} | {network}),
    )


def cells_folder(profile: Profile) -> Path:
    """Where the cells of a profile are kept, unless another folder is chosen."""
    return Path("runs") / "table6" / profile


def table(profile: Profile, folder: Path | None = None, *, runs: Path | None = None, device: str = "cpu") -> list[Row]:
    """All cells of a profile, computed where they are missing, and written to ``<folder>/table6.csv``.

    ``folder`` is by default that of fresh records (:func:`indeed.record.records_folder`), with the name of the profile.
    """
    rows = [row for key in cells(profile) for row in cell(**key, profile=profile, runs=runs, device=device)]  # type: ignore[arg-type]
    folder = folder or records_folder() / profile
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "table6.csv", rows)
    return rows


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


def compare(rows: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """`summary` with the paper's numbers beside, as shares of one: ``average_precision_paper``, ``auroc_paper``.

    NaN where the paper has no such number: it has neither the textures nor the magnetic tiles, and the screw, one of
    the categories of MVTec AD, not by itself. Where it has one, read it with care: the thresholds of the groups are
    ours, and of Severstal the paper takes 256 images, not saying which, and of MOOD all five toy cases, for models
    that were trained on MVTec AD.
    """
    paper = results_folder() / "paper"
    printed: dict[tuple[str, str], Mapping[str, str]] = {}
    for name in sorted({name for name, _ in PRINTED.values()}):
        with (paper / name).open(newline="", encoding="utf-8") as file:
            printed |= {(name, row["method"]): row for row in csv.DictReader(file)}
    compared = []
    for entry in summary(rows):
        name, column = PRINTED.get((entry["dataset"], entry["noise"], entry["group"]), ("", "{}"))
        theirs = printed.get((name, METHODS[entry["method"]] or ""), {})
        for value, short in (("average_precision", "ap"), ("auroc", "auroc")):
            text = theirs.get(column.format(short), "")
            entry[f"{value}_paper"] = float(text) / 100 if text else math.nan
        compared.append(entry)
    return compared


def _key(dataset: str, method: str, noise: int) -> Key:
    return {"dataset": dataset, "method": method, "noise": noise}


@cache
def _textures() -> AnomalySet:
    return texture_set_for_tests()


def _present() -> list[str]:
    present = []
    for name in READERS:
        try:
            anomaly_set(name)
        except DataMissingError:
            continue
        present.append(name)
    return present


def _network(method: str, dataset: str, profile: Profile) -> Path:
    """Checkpoint of a learned method: for the sets of `PARTS` one of them all, but for ``indeed_separate``."""
    sets = _sets(method, dataset)
    if method == "indeed" and profile != "smoke" and sets in ("textures", "parts"):
        return shipped_checkpoint("detect_textures" if sets == "textures" else "detect_parts")
    return checkpoint_path(method.removesuffix("_separate"), sets, runs_folder(profile))


def _sets(method: str, dataset: str) -> str:
    """Name of what a method was fitted to for a data set: ``parts``, or the set itself."""
    unified = method not in OPTIONS and method != "indeed_separate" and dataset in PARTS.split("+")
    return "parts" if unified else dataset


def _synthetic_base_rate(method: str, dataset: str) -> float:
    """Share of the pixels that are anomalous where the settings of a method were chosen."""
    samples = held_out_anomalies(_sets(method, dataset), tiles=method in OPTIONS)
    return sum(int(sample.mask.sum()) for sample in samples) / sum(sample.mask.numel() for sample in samples)


def _print_names(profile: Profile = "cpu") -> None:
    """Print the name of each cell of a profile, and after a space the trained network that it measures."""
    for key in cells(profile):
        method, dataset = str(key["method"]), str(key["dataset"])
        network = [] if method in OPTIONS else [os.path.relpath(_network(method, dataset, profile))]
        print(cell_name(key), *network)


def _print_cell(name: str, profile: Profile = "cpu", runs: Path | None = None, device: str = "cpu") -> None:
    """Compute one cell, unless it is there, and print it."""
    _print_rows(cell(**cell_key(name), profile=profile, runs=runs, device=device))  # type: ignore[arg-type]


def _print_table(
    profile: Profile = "cpu", folder: Path | None = None, runs: Path | None = None, device: str = "cpu"
) -> None:
    """Compute the cells that are missing, write table6.csv, and print the means over the classes."""
    _print_rows(table(profile, folder, runs=runs, device=device))


def _print_claims(
    profile: Profile = "cpu", folder: Path | None = None, runs: Path | None = None, device: str = "cpu"
) -> None:
    """Measure what InDeed claims of the defects of the sets of the unified model, and write claims.csv."""
    rows = [row for name in PARTS.split("+") for row in claims(name, profile=profile, runs=runs, device=device)]
    folder = folder or records_folder() / profile
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "claims.csv", rows)
    for row in rows:
        figures = f"residual {row['residual']:.5} detail {row['detail']:.5} claimed {row['claimed']:.5}"
        print(f"{row['dataset']:<16} {row['defect']:<18} {figures}")


def _print_rows(rows: Sequence[Row]) -> None:
    for mean in summary(rows):
        label = f"{mean['dataset']:<16} {mean['method']:<16} noise {mean['noise']} {mean['group']:<4}"
        figures = f"AP {mean['average_precision']:.4f} (base rate {mean['base_rate']:.4f}) AUROC {mean['auroc']:.4f}"
        print(f"{label} {mean['classes']:>2} classes {figures}", flush=True)


def _draw(profile: Profile = "cpu", folder: Path | None = None) -> None:
    """Draw table6.csv: table6_ap.svg and table6_auroc.svg."""
    from indeed.figures import detection_scores

    folder = folder or records_folder() / profile
    rows = read_table(folder / "table6.csv")
    detection_scores(rows, "average_precision")[0].savefig(folder / "table6_ap.svg")
    detection_scores(rows, "auroc")[0].savefig(folder / "table6_auroc.svg")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``python -m indeed.experiments.table6``."""
    run_command(
        "table6",
        {
            "train": train_rival,
            "list": _print_names,
            "cell": _print_cell,
            "table": _print_table,
            "claims": _print_claims,
            "figure": _draw,
        },
        arguments,
    )


if __name__ == "__main__":
    main()
