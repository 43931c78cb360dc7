"""Rivals of the detectors of anomalies: trained on the same good images, tuned on the same synthetic anomalies.

An autoencoder and DRAEM are trained by the loop that trains InDeed, on the same patches of good images. What a method
leaves open (what its map is made of, how it is smoothed, options of a fit) is chosen as for InDeed: by the average
precision on synthetic anomalies over good images held out of training. No real defect is seen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from indeed.baselines.classical_detectors import fit_detector
from indeed.baselines.reconstruction import (
    AUTOENCODER_TASK,
    DRAEM,
    DRAEM_TASK,
    Autoencoder,
    autoencoder_preset,
    draem_preset,
    load_autoencoder,
    load_draem,
)
from indeed.checks import expect
from indeed.data.patches import PatchSampler
from indeed.images.anomaly_synthesis import AnomalySample
from indeed.images.tiling import split
from indeed.learning.training.sources import anomaly_samples, denoising_samples
from indeed.networks.anomaly_detection import anomaly_maps, map_settings
from indeed.networks.checkpoint import CheckpointError, load_checkpoint, read_record
from indeed.recipes.choice import MapOf, precisions, synthetic_anomalies
from indeed.recipes.detector import NOISE_HIGH, surface_of, train_detector
from indeed.recipes.good_images import SEED, good_images
from indeed.recipes.run import Recipe, Run, train

Learned = Literal["autoencoder", "draem", "indeed"]

PARTS = "mvtec_screw_256+magnetic_tile"
"""The sets that one unified model is trained on."""
PATCH = 128
"""Side of the patches of training, and of the tiles of textures."""
STEPS: dict[tuple[str, str], int] = {
    ("smoke", "autoencoder"): 8,
    ("smoke", "draem"): 8,
    ("smoke", "indeed"): 8,
    ("cpu", "autoencoder"): 8000,
    ("cpu", "draem"): 6000,
    ("cpu", "indeed"): 14000,
}
"""Lengths of the runs. At ``cpu``, on one core, 10 minutes for the autoencoder and 40 for DRAEM, half of what the
InDeed of the textures takes: a step of 8 patches takes 0.07 s and 0.4 s. An InDeed for one set alone takes half of the
steps that the unified one of `PARTS` took in all its stages."""

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "mean": [{"standardise": standardise} for standardise in (True, False)],
    "pca": [{"patch": patch, "explained": share} for patch in (8, 16, None) for share in (0.95, 0.9, 0.99)],
    "rpca": [{"sparsity_weight": weight} for weight in (None, 0.15, 0.3, 0.6)],
}
"""What is chosen from for each classical method; a quick look takes the first."""


class Choice(NamedTuple):
    """Settings of a map, and the average precision on synthetic anomalies that they were chosen for."""

    option: str
    smoothing: float
    """Standard deviation of a Gaussian mean of the map in pixels; 0: none."""
    average_precision: float


def train_rival(
    model: Learned,
    *,
    data: str = "parts",
    profile: Literal["smoke", "cpu"] = "cpu",
    steps: int | None = None,
    seed: int = 0,
    folder: Path | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> Path:
    """Train a network on the good images of a set, or continue its run, and write its checkpoint.

    Parameters
    ----------
    model
        ``autoencoder`` or ``draem``; ``indeed``: one InDeed for this set alone.
    data
        ``parts``: one model for all of `PARTS`; else as in :func:`indeed.recipes.good_images.good_images`.
    profile
        Size of the network and of the run.
    steps
        Length of the run if it should differ from `STEPS`.
    seed, device
        As in :func:`indeed.recipes.detector.train_detector`.
    folder
        Where runs and checkpoints are kept; None: `runs_folder`.

    Raises
    ------
    DataError, DataMissingError
        If the data are not on disk, or not good.
    ValueError
        If the run in the folder is another one, or damaged.
    """
    if (profile, model) not in STEPS:
        raise ValueError(f"profile: got {profile!r}, expected smoke or cpu")
    run = Run(
        out=checkpoint_path(model, data, folder or runs_folder(profile)),
        preset="tiny" if profile == "smoke" else "cpu",
        data=_source(data),
        patch_size=PATCH,
        steps=steps or STEPS[profile, model],
        seed=seed,
        resume=True,
        device=device,
        progress=progress,
    )
    if model == "indeed":
        train_detector(run)
    else:
        train(run, _recipe(model, data, run))
    return run.out


def _recipe(model: Literal["autoencoder", "draem"], data: str, run: Run) -> Recipe:
    source = _source(data)
    preset: Literal["tiny", "cpu"] = "tiny" if run.preset == "tiny" else "cpu"
    good, surface = good_images(source, 1, PATCH), surface_of(source)
    training = run.training(noise_high=NOISE_HIGH, variational=False, orthogonality_weight=0.0)
    training = replace(training, warmup_steps=min(200, training.steps // 20))
    recipe = Recipe(
        "detect",
        source,
        autoencoder_preset(preset),
        training,
        denoising_samples(PatchSampler(good.train, PATCH), training),
        AUTOENCODER_TASK,
        validation=surface.synthesis._asdict() | {"seed": SEED},
        record={
            "model": model,
            "training_images": len(good.train),
            "validation_images": len(good.held_out),
            "side": good.side,
        },
        examine=lambda trained: {"map": choose(network_maps(trained), held_out_anomalies(data))._asdict()},
        build=Autoencoder,
        description={"model": model, "data": source},
        renew_statistics=True,
    )
    if model == "autoencoder":
        return recipe
    patches = surface.patches(good.train, PATCH, training=True)
    samples = anomaly_samples(patches, training, surface.synthesis)
    return replace(recipe, network=draem_preset(preset), samples=samples, learned=DRAEM_TASK, build=DRAEM)


def runs_folder(profile: str) -> Path:
    """Where the runs of a profile and their checkpoints are kept, unless another folder is chosen."""
    return Path("runs") / "table6" / profile / "networks"


def checkpoint_path(model: str, data: str, folder: Path) -> Path:
    """Checkpoint of a network that was trained on a set."""
    return folder / f"{model}_{data}.safetensors"


def classical(method: str, data: str, options: Sequence[Mapping[str, Any]] | None = None) -> tuple[MapOf, Choice]:
    """Classical detector that has seen the good images of a set that networks are trained on, and its settings.

    It is fitted once with each of the options and keeps the best. The textures are cut into the tiles of testing,
    half a side apart.

    Parameters
    ----------
    method
        Name in :data:`indeed.baselines.classical_detectors.DETECTORS`.
    data
        As in :func:`indeed.recipes.good_images.good_images`.
    options
        Options to choose from; None: `OPTIONS`.

    Raises
    ------
    DataError, DataMissingError
        If the data are not on disk, or not good.
    """
    train = [image.float() / 255 for image in good_images(data, 1, PATCH).train]
    if data == "textures":
        train = _tiles(train)
    maps: dict[str, MapOf] = {
        " ".join(f"{name}={value}" for name, value in chosen.items()): fit_detector(
            torch.stack(train), method, **chosen
        ).map
        for chosen in (OPTIONS[method] if options is None else options)
    }
    choice = choose(maps, held_out_anomalies(data, tiles=True))
    return maps[choice.option], choice


def held_out_anomalies(data: str, *, tiles: bool = False) -> list[AnomalySample]:
    """Synthetic anomalies over held-out good images that the settings of the detectors of a set are chosen on.

    Parameters
    ----------
    data
        As in `train`.
    tiles
        Whether the textures are cut into the tiles of testing, which some classical detectors need.

    Raises
    ------
    DataError, DataMissingError
        If the data are not on disk, or not good.
    """
    source = _source(data)
    held_out = [image.float() / 255 for image in good_images(source, 1, PATCH).held_out]
    if tiles and source == "textures":
        held_out = _tiles(held_out)
    return synthetic_anomalies(held_out, surface_of(source).synthesis)


def _source(data: str) -> str:
    return PARTS if data == "parts" else data


def _tiles(images: Sequence[Tensor]) -> list[Tensor]:
    return [piece for image in images for piece in split(image[None], PATCH, PATCH // 2)[:, 0]]


def trained(model: Learned, path: Path, device: str = "cpu") -> tuple[MapOf, Choice]:
    """Trained network as a detector, and the settings that it was saved with.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or holds another network, or one that is no detector.
    """
    record = read_record(path)["record"]
    if record.get("task") != "detect" or "map" not in record:
        raise CheckpointError(f"{path}: got task {record.get('task')!r}, expected a detector of anomalies")
    made = record["map"]
    if model == "indeed":
        network, _ = load_checkpoint(path, device)
        found = made["average_precision"][f"{made['form']}_{made['smoothing']:g}"]
        choice = Choice(made["form"], made["smoothing"], found)
        unsmoothed = map_settings(made)._replace(smoothing=0.0)._asdict()
        return lambda images: anomaly_maps(network, images, **unsmoothed), choice
    rival, _ = load_draem(path, device) if model == "draem" else load_autoencoder(path, device)
    return network_maps(rival)[made["option"]], Choice(**made)


def network_maps(model: Autoencoder | DRAEM) -> dict[str, MapOf]:
    """Return the maps that a network can give of images of any size, by name; a result stays on their device."""
    device = next(model.parameters()).device
    if isinstance(model, DRAEM):
        return {"probability": lambda images: model.map(images.to(device)).to(images.device)}
    return {
        "squared": lambda images: model.map(images.to(device), "squared").to(images.device),
        "ssim": lambda images: model.map(images.to(device), "ssim").to(images.device),
    }


def choose(maps: Mapping[str, MapOf], samples: Sequence[AnomalySample]) -> Choice:
    """Map and smoothing with the highest average precision over the pixels of all samples.

    Raises
    ------
    ValueError
        If there is no map, or no sample with and without an anomalous pixel.
    """
    expect(maps, "maps", "none", "at least one")
    found = [Choice(*setting, precision) for setting, precision in precisions(maps, samples).items()]
    return max(found, key=lambda choice: choice.average_precision)
