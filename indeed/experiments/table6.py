"""Tables 6 and 7: detection of anomalies, of test images as they are and with noise, cell by cell.

``python -m indeed.experiments.table6 --help``. A cell is one data set, one method and one level of noise, and has a row
for each class of defects. The protocol is that of :mod:`indeed.images.detection_metrics`: the pixels of the images of a
class and of all good test images of its category count, at the side that the networks are trained at. Noise is added to
the test images only and is the same for every method. Classical methods are fitted to each data set by itself; learned
ones are unified over the sets of `PARTS`.
"""

import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import cast

import torch

from indeed.bayes.anomaly_maps import smoothed
from indeed.data.anomaly_readers import READERS, anomaly_set
from indeed.data.anomaly_sets import GOOD, AnomalyItem, AnomalySet, load
from indeed.experiments.methods import TABLE6_METHODS
from indeed.experiments.program import Cell, Job, Key, Table, Values, on_disk
from indeed.experiments.table6_summary import lines
from indeed.figures.anomaly_detection import detection_scores
from indeed.images.detection_metrics import DetectionMetrics, class_rank, image_score
from indeed.images.noise import seeded_gaussian
from indeed.images.pixels import eight_bit
from indeed.learning.loading import sample_seed
from indeed.networks.checkpoint import shipped_checkpoint
from indeed.recipes.choice import MapOf
from indeed.recipes.good_images import SIDE, texture_set_for_tests
from indeed.recipes.rivals import (
    OPTIONS,
    PARTS,
    Choice,
    Learned,
    checkpoint_path,
    classical,
    held_out_anomalies,
    runs_folder,
    train_rival,
    trained,
)
from indeed.record import Profile
from indeed.types import Image

NOISES = (0, 1)
"""Standard deviations of the noise in per cent of white: none, and the 2.55 grey levels of the paper."""
SEED = 0


def cells(profile: Profile) -> list[Values]:
    """Cells of a profile: (dataset, method, noise), for the textures and the sets that are on disk.

    ``smoke``: the textures, by the fast methods and tiny networks. ``cpu``: all sets by all methods, those of `PARTS`
    by an InDeed for each alone, too.
    """
    names = ["textures"] if profile == "smoke" else ["textures", *on_disk(READERS, anomaly_set)]
    return [
        (name, method, noise)
        for name in names
        for method in TABLE6_METHODS
        if method != ("rpca" if profile == "smoke" else "")
        if method != "indeed_separate" or name in PARTS.split("+")
        for noise in NOISES
    ]


def networks(key: Key, profile: Profile) -> dict[Path, str]:
    """Checkpoint of a learned method, and the command that makes it.

    The sets of `PARTS` share one network, except that of ``indeed_separate``.
    """
    method, sets = str(key["method"]), _sets(str(key["method"]), str(key["dataset"]))
    if method in OPTIONS:
        return {}
    if method == "indeed" and profile != "smoke" and sets in ("textures", "parts"):
        return {shipped_checkpoint("detect_textures" if sets == "textures" else "detect_parts"): ""}
    model = method.removesuffix("_separate")
    command = f"python -m indeed.experiments.table6 train {model} --data {sets} --profile {profile}"
    return {checkpoint_path(model, sets, runs_folder(profile)): command}


def cell(job: Job, dataset: str, method: str, noise: int) -> Cell:
    """Make ready a cell.

    Parameters
    ----------
    job
        What it is measured with. The tiny networks of ``smoke`` are trained where they are missing. The classical
        methods run on the CPU.
    dataset
        ``textures`` or a name in :data:`indeed.data.anomaly_readers.READERS`.
    method
        Name in :data:`indeed.experiments.methods.TABLE6_METHODS`.
    noise
        Standard deviation of the noise in per cent of white, one of `NOISES`.

    Returns
    -------
    A row for each class, ``category`` and ``defect``: ``average_precision``, ``auroc`` and ``base_rate`` of the pixels,
    ``image_auroc``, the number of ``images``, their ``rank`` without noise, ``option`` and ``smoothing`` of the map
    and the ``synthetic_average_precision`` that they were chosen for, with its ``synthetic_base_rate``, and
    ``seconds_per_image``.

    Raises
    ------
    DataError, DataMissingError
        If the images are not good or missing.
    """
    data = images_of(dataset)
    model = cast(Learned, method.removesuffix("_separate"))
    if job.profile == "smoke" and job.networks and not job.networks[0].is_file():
        train_rival(model, data=_sets(method, dataset), profile=job.profile, device=job.device, progress=False)

    def compute() -> list[dict[str, float | str]]:
        if job.networks:
            map_of, choice = trained(model, job.networks[0], job.device)
        else:
            map_of, choice = classical(method, dataset, OPTIONS[method][:1] if job.profile == "smoke" else None)
        found = scores(data, map_of, choice, noise, side=None if dataset == "textures" else SIDE)
        return [row | {"synthetic_base_rate": _synthetic_base_rate(method, dataset)} for row in found]

    return Cell(
        compute,
        f"{dataset} ({len(data.test)} images)",
        {*files_of(data.train + data.test), *job.networks},
        SEED,
        job.device if job.networks else "cpu",
    )


def images_of(dataset: str) -> AnomalySet:
    """Images of a data set of the table.

    Raises
    ------
    DataError, DataMissingError
        If they are not good or missing.
    """
    return texture_set_for_tests() if dataset == "textures" else anomaly_set(dataset)


def files_of(items: Iterable[AnomalyItem]) -> set[Path]:
    """Files of images and of their masks."""
    return {path for item in items for path in (item.file, item.mask_file) if path}


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


def _sets(method: str, dataset: str) -> str:
    """Name of what a method was fitted to for a data set: ``parts``, or the set itself."""
    unified = method not in OPTIONS and method != "indeed_separate" and dataset in PARTS.split("+")
    return "parts" if unified else dataset


def _synthetic_base_rate(method: str, dataset: str) -> float:
    """Share of the pixels that are anomalous where the settings of a method were chosen."""
    samples = held_out_anomalies(_sets(method, dataset), tiles=method in OPTIONS)
    return sum(int(sample.mask.sum()) for sample in samples) / sum(sample.mask.numel() for sample in samples)


def _claims(
    profile: Profile = "cpu", folder: Path | None = None, runs: Path | None = None, device: str = "cpu"
) -> None:
    """Measure what InDeed claims of the defects of the sets of the unified model, and write claims.csv."""
    from indeed.experiments import claims

    claims.TABLE.print_table(profile, folder, runs, device)


TABLE = Table(
    name="table6",
    key={"dataset": ("textures", *READERS), "method": TABLE6_METHODS, "noise": NOISES},
    example="textures-pca-1",
    cells=cells,
    measure=cell,
    networks=networks,
    report=lines,
    drawings={
        "table6_ap.svg": partial(detection_scores, value="average_precision"),
        "table6_auroc.svg": partial(detection_scores, value="auroc"),
    },
    profiles=("smoke", "cpu"),
    commands={"train": train_rival, "claims": _claims},
)

if __name__ == "__main__":
    TABLE.main()
