"""Adapted anomaly maps (section 4.4.2): the detectors go on learning on the noisy test images, cell by cell.

``python -m indeed.experiments.adapted_detection --help``. A cell is one data set, one method and one seed, and has a
row for each class of defects. Images, noise and scores are those of :mod:`indeed.experiments.table6` with noise of 1 %.
Every setting was chosen on synthetic anomalies over good images that are held out of training.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal

import torch

from indeed.bayes.generative_model import Hyperpriors
from indeed.data.anomaly_readers import anomaly_set
from indeed.data.anomaly_sets import AnomalySet, load
from indeed.data.benchmarks import DataMissingError, evenly
from indeed.experiments.cells import cell_name, run_command, run_rows
from indeed.experiments.table6 import scores, with_noise
from indeed.images.detection_metrics import DetectionMetrics
from indeed.images.noise_estimation import NoiseLaw, estimate_noise
from indeed.images.pixels import eight_bit
from indeed.learning.adaptation.config import AdaptationConfig
from indeed.learning.adaptation.engine import Adapted, adapt
from indeed.learning.loading import SampleSource
from indeed.learning.training.config import TrainingConfig
from indeed.learning.training.samples import anomaly_samples
from indeed.learning.training.task import DETECTION
from indeed.networks.anomaly_detection import anomaly_maps, map_settings
from indeed.networks.checkpoint import Shipped, load_checkpoint, shipped_checkpoint
from indeed.networks.inference_network import InDeed
from indeed.recipes.choice import synthetic_anomalies
from indeed.recipes.detector import surface_of
from indeed.recipes.good_images import SEED, SIDE, good_images, texture_set_for_tests
from indeed.recipes.rivals import Choice
from indeed.record import records_folder
from indeed.tables import Row, read_table, write_table
from indeed.types import Image, Images, Maps

Key = dict[str, str | int]
Profile = Literal["smoke", "cpu"]

MODELS: dict[str, Shipped] = {
    "textures": "detect_textures",
    "mvtec_screw_256": "detect_parts",
    "magnetic_tile": "detect_parts",
}
"""The shipped detector of each data set."""
METHODS: dict[str, str | None] = {
    "indeed": "InDeed",
    "ag_s": "InDeedAG",
    "oag_s": "InDeedOAG",
    "ag_s_fast": None,
    "replay_training": None,
    "replay": None,
}
"""The methods by name, and the paper's name for them.

``ag_s``: the paper's terms for f_S over all images of a set, at its rate. ``oag_s``: over one image, from the original
weights each time. ``ag_s_fast``: as ``ag_s``, at the rate of replay. ``replay``: one adaptation to the set, on the
detector's own task over the good images of the set, with noise of the law that is estimated from the test images.
``replay_training``: the same with the noise of the training, a control.
"""
CHECKED = "checked"
"""The default: ``replay``, whose weights are kept only if they have the higher average precision on synthetic anomalies
over good images held out, with noise of the estimated law. A row of it is one of ``replay`` or of ``indeed``."""
NOISE = 1
"""Noise in the test images in per cent of white, the 2.55 grey levels of the paper."""
ESTIMATED = 32
"""Images of a set that the law of the noise is estimated from."""
VALUES = ("average_precision", "auroc", "image_auroc")
SEEDS = 3

_PAPER = AdaptationConfig(steps=3)
_REPLAY = AdaptationConfig(
    objective=None,
    modules="S",
    steps=100,
    learning_rate=3e-5,
    schedule="linear",
    patches=4,
    replay_weight=1.0,
    replay_patches=4,
    task=DETECTION,
)
ADAPTATIONS: dict[str, AdaptationConfig] = {
    "ag_s": _PAPER,
    "oag_s": replace(_PAPER, steps=5),
    "ag_s_fast": replace(_PAPER, learning_rate=_REPLAY.learning_rate, schedule="linear"),
    "replay_training": _REPLAY,
    "replay": _REPLAY,
}
"""What each method does; the paper's terms take so many steps for each image, replay so many for the set."""
REPEATED = ("ag_s", "replay")
"""Methods that are measured with `SEEDS` seeds."""


def cells(profile: Profile) -> list[Key]:
    """Keys of the cells of a profile: (dataset, method, seed), for the textures and the sets that are on disk.

    ``smoke``: every method on the bricks of the textures, two steps. ``cpu``: every method on all sets, the `REPEATED`
    ones with `SEEDS` seeds.

    On one free core about 20 minutes, of which the tiles take 12: a step of the paper's terms takes 0.04 s, one
    of replay 0.12 s, a map of 256 x 256 pixels 0.1 s.
    """
    if profile == "smoke":
        return [_key("textures", method, 0) for method in METHODS]
    return [
        _key(dataset, method, seed)
        for dataset in MODELS
        if _present(dataset)
        for method in METHODS
        for seed in range(SEEDS if method in REPEATED else 1)
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
        raise ValueError(f"name must be dataset-method-seed, such as textures-replay-0, got {name!r}")
    return _key(parts[0], parts[1], int(parts[2]))


def cell(
    dataset: str, method: str, seed: int, *, profile: Profile, runs: Path | None = None, device: str = "cpu"
) -> list[Row]:
    """Measure one cell, or read what was measured before.

    Parameters
    ----------
    dataset, method
        Names in `MODELS` and `METHODS`.
    seed
        Of the adaptation; the noise is the same for all seeds and methods.
    profile
        Size of the set and of the adaptation.
    runs
        Folder of the cells; None: `cells_folder`.
    device
        Where the network runs.

    Returns
    -------
    A row for each class of defects as of :func:`indeed.experiments.table6.scores`, with ``adaptation_seconds``,
    ``steps`` and ``forwards`` (passes of a patch, a backward pass counted as two) of all adaptations of the cell,
    ``check`` and ``check_before``, the average precision of `synthetic_precision` of the network that was adapted to
    the set and of that as it is (NaN for ``indeed`` and ``oag_s``), and the columns of
    :func:`indeed.experiments.cells.run_rows`.

    Raises
    ------
    DataError, DataMissingError
        If the images are not good or missing.
    ValueError
        If an argument is out of range, or the file of the cell is damaged.
    """
    for name, value, known in (("dataset", dataset, MODELS), ("method", method, METHODS)):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
    data, side = _data(dataset, profile), None if dataset == "textures" else SIDE
    network = shipped_checkpoint(MODELS[dataset])

    config = ADAPTATIONS.get(method)
    if config is not None and profile == "smoke":
        config = replace(config, steps=2)

    def compute() -> list[dict[str, float | str]]:
        model, record = load_checkpoint(network, device)
        made, done = record["map"], list[Adapted]()
        unsmoothed = map_settings(made)._replace(smoothing=0.0)._asdict()
        check = check_before = math.nan

        def adapted_to(images: Sequence[Image]) -> None:
            if config is not None:
                matched = method != "replay_training"
                done.append(adapt_detector(model, record, images, config, seed, data=dataset, matched=matched))

        def map_of(observed: Images) -> Maps:
            if method == "oag_s":
                adapted_to(list(observed))
            return anomaly_maps(done[-1].model if done else model, observed, **unsmoothed)

        if config is not None and method != "oag_s":
            images = noisy_images(data, side)
            adapted_to(images)
            law = noise_of_set(images)
            check, check_before = (synthetic_precision(it, record, dataset, law) for it in (done[0].model, model))
        synthetic = made["average_precision"][f"{made['form']}_{made['smoothing']:g}"]
        rows = scores(data, map_of, Choice(made["form"], made["smoothing"], synthetic), NOISE, side=side)
        if method == "oag_s":
            del done[0]  # that of the warm-up
        cost: dict[str, float | str] = {
            "adaptation_seconds": sum(one.seconds for one in done),
            "steps": sum(one.steps for one in done),
            "forwards": sum(one.patch_forwards for one in done),
            "check": check,
            "check_before": check_before,
        }
        return [row | cost for row in rows]

    key = _key(dataset, method, seed)
    files = {path for item in data.train + data.test for path in (item.file, item.mask_file) if path} | {network}
    return run_rows(
        (runs or cells_folder(profile)) / f"{cell_name(key)}.csv",
        key,
        compute,
        profile=profile,
        seed=seed,
        data=f"{dataset} ({len(data.test)} images)",
        device=device,
        files=sorted(files),
    )


def noisy_images(data: AnomalySet, side: int | None) -> list[Image]:
    """All test images of a set as the detector sees them: in grey, at a side (None: their own), with the noise."""
    clean = (eight_bit(load(item, side, channels=1).image, 1).float() / 255 for item in data.test)
    return [with_noise(image, NOISE, index) for index, image in enumerate(clean)]


def adapt_detector(
    model: InDeed,
    record: Mapping[str, Any],
    images: Sequence[Image],
    config: AdaptationConfig,
    seed: int,
    *,
    data: str = "textures",
    matched: bool = True,
) -> Adapted:
    """Adapt a copy of a detector to noisy images.

    Parameters
    ----------
    model, record
        As :func:`indeed.networks.checkpoint.load_checkpoint` returns them; the priors are those of the training.
    images
        In grey. Without an objective nothing but the law of their noise is taken from them.
    config
        What is done; of replay so many steps for all images together.
    seed
        Of the patches, the draws and the replayed samples.
    data
        Good images that are replayed, as in :func:`indeed.recipes.good_images.good_images`.
    matched
        Whether these have noise of the law of the images, or that of the training.

    Raises
    ------
    DataError, DataMissingError
        If good images are to be replayed that are not on disk, or not good.
    ValueError
        As :func:`indeed.learning.adaptation.engine.adapt` and :func:`noise_of_set`.
    """
    made, size = record["training"], model.config.patch_size
    training = TrainingConfig(**{**made, "hyperpriors": Hyperpriors(**made["hyperpriors"])})
    source: SampleSource | None = None
    if config.replay_weight:
        good = surface_of(data).patches(good_images(data, 1, size).train, size, training=True)
        source = anomaly_samples(good, training, surface_of(data).synthesis, noise_of_set(images) if matched else None)
    seen = images if config.objective else images[:1]
    generator = torch.Generator().manual_seed(seed)
    return adapt(model, seen, replace(config, training=training), generator, replay=source)


def noise_of_set(images: Sequence[Image]) -> NoiseLaw:
    """Law of the noise that images of one camera share: of `ESTIMATED` estimates that of the lowest level.

    What an image repeats everywhere, such as grass, is taken for noise: a texture can only raise the level.

    Raises
    ------
    ValueError
        As :func:`indeed.images.noise_estimation.estimate_noise`, or if there is no image.
    """
    if not images:
        raise ValueError("images: got none, expected at least one")
    laws = [estimate_noise(image) for image in evenly(images, min(ESTIMATED, len(images)))]
    grey = torch.full((1, 1, 1, 1), 0.5)
    return min(laws, key=lambda law: law.sigma(grey).item())


def synthetic_precision(model: InDeed, record: Mapping[str, Any], data: str, law: NoiseLaw) -> float:
    """Average precision on synthetic anomalies over good images held out of `adapt_detector`, with noise of a law."""
    settings, generator = map_settings(record["map"])._asdict(), torch.Generator().manual_seed(SEED)
    metrics = DetectionMetrics()
    held_out = [image.float() / 255 for image in good_images(data, 1, model.config.patch_size).held_out]
    for sample in synthetic_anomalies(held_out, surface_of(data).synthesis):
        noisy = law.sample(sample.observed, generator)
        metrics.update(anomaly_maps(model, noisy, **settings), sample.mask)
    return metrics.average_precision()


def cells_folder(profile: Profile) -> Path:
    """Where the cells of a profile are kept, unless another folder is chosen."""
    return Path("runs") / "adapted_detection" / profile


def table(profile: Profile, folder: Path | None = None, *, runs: Path | None = None, device: str = "cpu") -> list[Row]:
    """All cells of a profile, computed where they are missing, and written to ``<folder>/adapted_detection.csv``.

    ``folder`` is by default that of fresh records (:func:`indeed.record.records_folder`), with the name of the profile.
    """
    rows = [row for key in cells(profile) for row in cell(**key, profile=profile, runs=runs, device=device)]  # type: ignore[arg-type]
    folder = folder or records_folder() / profile
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "adapted_detection.csv", rows)
    return rows


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


def _key(dataset: str, method: str, seed: int) -> Key:
    return {"dataset": dataset, "method": method, "seed": seed}


def _data(dataset: str, profile: Profile) -> AnomalySet:
    if dataset != "textures":
        return anomaly_set(dataset)
    whole = texture_set_for_tests()
    if profile != "smoke":
        return whole
    bricks = [tuple(item for item in items if item.category == "brick") for items in (whole.train, whole.test)]
    return AnomalySet("textures", *bricks)


def _present(dataset: str) -> bool:
    try:
        _data(dataset, "cpu")
    except DataMissingError:
        return False
    return True


def _print_names(profile: Profile = "cpu") -> None:
    """Print the name of each cell of a profile, and after it the trained network that is adapted."""
    for key in cells(profile):
        print(cell_name(key), os.path.relpath(shipped_checkpoint(MODELS[str(key["dataset"])])))


def _print_cell(name: str, profile: Profile = "cpu", runs: Path | None = None, device: str = "cpu") -> None:
    """Compute one cell, unless it is there, and print its means."""
    _print_means(cell(**cell_key(name), profile=profile, runs=runs, device=device))  # type: ignore[arg-type]


def _print_table(
    profile: Profile = "cpu", folder: Path | None = None, runs: Path | None = None, device: str = "cpu"
) -> None:
    """Compute the cells that are missing, write adapted_detection.csv, and print the means and gains."""
    rows = table(profile, folder, runs=runs, device=device)
    _print_means(rows)
    for of in summary(with_checked(rows)):
        if of["method"] != "indeed":
            gain, over = of["average_precision_gain"], of["average_precision_over_seeds"]
            print(f"{of['dataset']:<16} {of['method']:<16} gain in AP {gain:+.4f}, over the seeds ±{over:.4f}")


def _print_means(rows: Sequence[Row]) -> None:
    members: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        members.setdefault((row["dataset"], row["method"], row["seed"]), []).append(row)
    for (dataset, method, seed), some in members.items():
        precision, auroc, seconds = (
            fmean(float(row[name]) for row in some) for name in ("average_precision", "auroc", "adaptation_seconds")
        )
        print(
            f"{dataset:<16} {method:<16} seed {seed} AP {precision:.4f} AUROC {auroc:.4f} {seconds:7.1f} s", flush=True
        )


def _draw(profile: Profile = "cpu", folder: Path | None = None) -> None:
    """Draw the gains in adapted_detection.csv: adapted_detection.svg."""
    from indeed.figures import detection_gains

    folder = folder or records_folder() / profile
    rows = read_table(folder / "adapted_detection.csv")
    detection_gains(gains(with_checked(rows)))[0].savefig(folder / "adapted_detection.svg")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``python -m indeed.experiments.adapted_detection``."""
    run_command(
        "adapted_detection",
        {"list": _print_names, "cell": _print_cell, "table": _print_table, "figure": _draw},
        arguments,
    )


if __name__ == "__main__":
    main()
