"""Adapted anomaly maps (section 4.4.2): the detectors go on learning on the noisy test images, cell by cell.

``python -m indeed.experiments.adapted_detection --help``. A cell is one data set, one method and one seed, and has a
row for each class of defects. Images, noise and scores are those of :mod:`indeed.experiments.table6` with noise of 1 %.
Every setting was chosen on synthetic anomalies over good images that are held out of training.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from indeed.bayes.generative_model import Hyperpriors
from indeed.checks import expect
from indeed.data.anomaly_sets import AnomalySet, load
from indeed.data.benchmarks import evenly
from indeed.experiments.adapted_detection_summary import gains, lines, lines_and_gains, with_checked
from indeed.experiments.methods import ADAPTED_METHODS
from indeed.experiments.program import Cell, Job, Key, Table, Values, on_disk
from indeed.experiments.table6 import files_of, images_of, scores, with_noise
from indeed.figures.anomaly_detection import detection_gains
from indeed.images.detection_metrics import DetectionMetrics
from indeed.images.noise_estimation import NoiseLaw, estimate_noise
from indeed.images.pixels import eight_bit
from indeed.learning.adaptation.config import AdaptationConfig
from indeed.learning.adaptation.engine import Adapted, adapt
from indeed.learning.loading import SampleSource
from indeed.learning.training.config import TrainingConfig
from indeed.learning.training.sources import anomaly_samples
from indeed.learning.training.task import DETECTION
from indeed.networks.anomaly_detection import anomaly_maps, map_settings
from indeed.networks.checkpoint import Shipped, load_checkpoint, shipped_checkpoint
from indeed.networks.inference_network import InDeed
from indeed.recipes.choice import synthetic_anomalies
from indeed.recipes.detector import surface_of
from indeed.recipes.good_images import SEED, SIDE, good_images
from indeed.recipes.rivals import Choice
from indeed.record import Profile
from indeed.types import Image, Images, Maps

MODELS: dict[str, Shipped] = {
    "textures": "detect_textures",
    "mvtec_screw_256": "detect_parts",
    "magnetic_tile": "detect_parts",
}
"""The shipped detector of each data set."""
NOISE = 1
"""Noise in the test images in per cent of white, the 2.55 grey levels of the paper."""
ESTIMATED = 32
"""Images of a set that the law of the noise is estimated from."""
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
"""What each method does; the steps are for each image with the paper's terms, for the whole set with replay."""
REPEATED = ("ag_s", "replay")
"""Methods that are measured with `SEEDS` seeds."""


def cells(profile: Profile) -> list[Values]:
    """Cells of a profile: (dataset, method, seed), for the textures and the sets that are on disk.

    ``smoke``: every method on the bricks of the textures, two steps. ``cpu``: every method on all sets, the `REPEATED`
    ones with `SEEDS` seeds.

    On one free core about 20 minutes, of which the tiles take 12: a step of the paper's terms takes 0.04 s, one
    of replay 0.12 s, a map of 256 x 256 pixels 0.1 s.
    """
    if profile == "smoke":
        return [("textures", method, 0) for method in ADAPTED_METHODS]
    return [
        (dataset, method, seed)
        for dataset in on_disk(MODELS, lambda name: set_of_profile(name, "cpu"))
        for method in ADAPTED_METHODS
        for seed in range(SEEDS if method in REPEATED else 1)
    ]


def networks(key: Key, profile: Profile) -> dict[Path, str]:
    """Shipped detector of the data set."""
    return {shipped_checkpoint(MODELS[str(key["dataset"])]): ""}


def cell(job: Job, dataset: str, method: str, seed: int) -> Cell:
    """Make ready a cell.

    Parameters
    ----------
    job
        What it is measured with.
    dataset, method
        Names in `MODELS` and :data:`indeed.experiments.methods.ADAPTED_METHODS`.
    seed
        Seed of the adaptation; the noise is the same for all seeds and methods.

    Returns
    -------
    A row for each class of defects as of :func:`indeed.experiments.table6.scores`, with ``adaptation_seconds``,
    ``steps`` and ``forwards`` (passes of a patch, a backward pass counted as two) of all adaptations of the cell, and
    ``check`` and ``check_before``, the average precision of `synthetic_precision` of the network that was adapted to
    the set and of that as it is (NaN for ``indeed`` and ``oag_s``).

    Raises
    ------
    DataError, DataMissingError
        If the images are not good or missing.
    """
    data, side = set_of_profile(dataset, job.profile), None if dataset == "textures" else SIDE
    config = adaptation_of(method, job.profile)

    def compute() -> list[dict[str, float | str]]:
        model, record = load_checkpoint(job.networks[0], job.device)
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

    files = {*files_of(data.train + data.test), *job.networks}
    return Cell(compute, f"{dataset} ({len(data.test)} images)", files, seed, job.device)


def adaptation_of(method: str, profile: Profile) -> AdaptationConfig | None:
    """Return what a method does at a profile; None for the detector as it is."""
    config = ADAPTATIONS.get(method)
    return replace(config, steps=2) if config is not None and profile == "smoke" else config


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
        What is adapted; its steps of replay are for all images together.
    seed
        Seed of the patches, the draws and the replayed samples.
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
    training, size = training_of(record), model.config.patch_size
    source: SampleSource | None = None
    if config.replay_weight:
        good = surface_of(data).patches(good_images(data, 1, size).train, size, training=True)
        source = anomaly_samples(good, training, surface_of(data).synthesis, noise_of_set(images) if matched else None)
    seen = images if config.objective else images[:1]
    generator = torch.Generator().manual_seed(seed)
    return adapt(model, seen, replace(config, training=training), generator, replay=source)


def training_of(record: Mapping[str, Any]) -> TrainingConfig:
    """Read how a network was trained out of its record."""
    made = record["training"]
    return TrainingConfig(**{**made, "hyperpriors": Hyperpriors(**made["hyperpriors"])})


def noise_of_set(images: Sequence[Image]) -> NoiseLaw:
    """Law of the noise that images of one camera share: of `ESTIMATED` estimates that of the lowest level.

    What an image repeats everywhere, such as grass, is taken for noise: a texture can only raise the level.

    Raises
    ------
    ValueError
        As :func:`indeed.images.noise_estimation.estimate_noise`, or if there is no image.
    """
    expect(images, "images", "none", "at least one")
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


def set_of_profile(dataset: str, profile: Profile) -> AnomalySet:
    """Images as of :func:`indeed.experiments.table6.images_of`; of the textures ``smoke`` has the bricks alone."""
    whole = images_of(dataset)
    if dataset != "textures" or profile != "smoke":
        return whole
    bricks = [tuple(item for item in items if item.category == "brick") for items in (whole.train, whole.test)]
    return AnomalySet("textures", *bricks)


TABLE = Table(
    name="adapted_detection",
    key={"dataset": MODELS, "method": ADAPTED_METHODS, "seed": int},
    example="textures-replay-0",
    cells=cells,
    measure=cell,
    networks=networks,
    report=lines,
    summarise=lines_and_gains,
    drawings={"adapted_detection.svg": lambda rows: detection_gains(gains(with_checked(rows)))},
    profiles=("smoke", "cpu"),
)

if __name__ == "__main__":
    TABLE.main()
