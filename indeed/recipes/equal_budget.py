"""A DnCNN and an InDeed beside it: the same loop, the same images, the same time on one core.

The length of each run is the budget over the time of a step. That time is measured first, for both in turn, and kept:
from then on a run is a number of steps, which can be killed and resumed and does not depend on what else the machine
does.
"""

import json
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Literal

import torch
from torch import nn

from indeed.baselines.dncnn import DNCNN_TASK, DnCNN, DnCNNConfig
from indeed.data.patches import PatchSampler
from indeed.files import atomic_write
from indeed.learning.training.log import Validation
from indeed.learning.training.sources import denoising_samples
from indeed.learning.training.task import DENOISING
from indeed.networks.inference_network import network_preset
from indeed.recipes.denoiser import VALIDATION_SIGMA, training_images, validation_on
from indeed.recipes.run import Preset, Recipe, Run, train, trainer_of
from indeed.record import Profile
from indeed.types import Images

Model = Literal["dncnn", "indeed"]
MODELS: tuple[Model, ...] = ("dncnn", "indeed")


@dataclass(frozen=True)
class BudgetSize:
    """What a profile is: the preset of the InDeed, the DnCNN, the budget, and the steps of a trial."""

    preset: Preset
    depth: int
    width: int
    patch: int
    batch: int
    """Side and number of the patches of a step of the DnCNN: as many pixels as the InDeed's, in smaller patches."""
    seconds: float
    trial: int


SIZES: dict[Profile, BudgetSize] = {
    "smoke": BudgetSize("tiny", depth=3, width=8, patch=16, batch=4, seconds=1.0, trial=2),
    "cpu": BudgetSize("cpu", depth=17, width=64, patch=64, batch=8, seconds=1800.0, trial=5),
    "paper": BudgetSize("paper", depth=17, width=64, patch=64, batch=16, seconds=1800.0, trial=20),
}


def runs_folder(profile: Profile) -> Path:
    """Where the runs of a profile and their checkpoints are kept, unless another folder is chosen."""
    return Path("runs") / "equal_budget" / profile


def checkpoint_path(model: Model, channels: int, folder: Path) -> Path:
    """Checkpoint of one of the two networks."""
    return folder / f"{model}_{'grey' if channels == 1 else 'color'}.safetensors"


def measure_budget(
    *,
    profile: Profile = "cpu",
    channels: Literal[1, 3] = 1,
    data: str = "auto",
    folder: Path | None = None,
    device: str = "cpu",
    rounds: int = 3,
) -> dict[Model, dict[str, float]]:
    """Seconds of a step and number of steps of each network, read from the folder if they were measured before.

    A step is timed as the loop takes it, with its batch, in short runs of the two in turn; the median counts. On the
    CPU it is the time of the processor, all threads together, so that a busy machine changes little; on a GPU it is the
    time of the clock.

    Raises
    ------
    DataMissingError
        If the data are not on disk.
    ValueError
        If the file in the folder is damaged.
    """
    folder = folder or runs_folder(profile)
    path = folder / f"budget_{'grey' if channels == 1 else 'color'}.json"
    if path.exists():
        try:
            return {model: dict(json.loads(path.read_text())[model]) for model in MODELS}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: damaged, expected what measure_budget wrote; delete it") from error
    size = SIZES[profile]
    seconds: dict[Model, list[float]] = {model: [] for model in MODELS}
    with tempfile.TemporaryDirectory() as trial:
        trainers = {}
        for model in MODELS:
            out = Path(trial) / f"{model}.safetensors"
            run = Run(out=out, preset=size.preset, channels=channels, data=data, steps=10**6)
            trainers[model] = trainer_of(run, _recipe(model, profile, run), device)
        for round_ in range(rounds + 1):
            for model, trainer in trainers.items():
                start = _clock(device)
                trainer.run(stop_at=trainer.step + size.trial, progress=False)
                if round_:  # the first is a warm-up
                    seconds[model].append((_clock(device) - start) / size.trial)
    budget = {
        model: {
            "budget_seconds": size.seconds,
            "seconds_per_step": median(times),
            "steps": max(2, round(size.seconds / median(times))),
        }
        for model, times in seconds.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(budget, indent=2))
    return budget


def train_within_budget(
    model: Model,
    *,
    profile: Profile = "cpu",
    channels: Literal[1, 3] = 1,
    seed: int = 0,
    data: str = "auto",
    folder: Path | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> Path:
    """Train one of the two networks within the budget, or continue its run, and write its checkpoint.

    Parameters
    ----------
    model
        ``dncnn`` or ``indeed``.
    profile
        Size of the networks and of the budget.
    channels
        1 (grey) or 3 (colour).
    seed, data, device
        As in :func:`indeed.recipes.denoiser.train_denoiser`.
    folder
        Where runs, measured times and checkpoints are kept; None: `runs_folder`.

    Raises
    ------
    DataMissingError
        If the data are not on disk.
    ValueError
        If the run in the folder is another one, or damaged.
    """
    folder = folder or runs_folder(profile)
    budget = measure_budget(profile=profile, channels=channels, data=data, folder=folder, device=device)[model]
    run = Run(
        out=checkpoint_path(model, channels, folder),
        preset=SIZES[profile].preset,
        channels=channels,
        data=data,
        steps=int(budget["steps"]),
        seed=seed,
        resume=True,
        device=device,
        progress=progress,
    )
    train(run, replace(_recipe(model, profile, run), record=budget))
    return run.out


def _recipe(model: Model, profile: Profile, run: Run) -> Recipe:
    size, beside = SIZES[profile], network_preset(run.preset, run.channels)
    training = run.training()
    steps = training.steps
    training = replace(training, warmup_steps=min(200, steps // 20), validate_every=max(1, steps // 10))
    source, images, held_out = training_images(run.data or "auto", run.channels, beside.patch_size)
    recipe = Recipe(
        "denoise",
        source,
        beside,
        training,
        denoising_samples(PatchSampler(images, beside.patch_size), training),
        DENOISING,
        validation_on(held_out, beside.patch_size),
        Validation._fields,
        validation={"sigma": VALIDATION_SIGMA},
        description={"model": model, "data": source},
        renew_statistics=True,
    )
    if model == "indeed":
        return recipe
    # A DnCNN has no decomposition to be regularised.
    training = replace(training, batch_size=size.batch, variational=False, orthogonality_weight=0.0)
    return replace(
        recipe,
        network=DnCNNConfig(run.channels, size.depth, size.width),
        training=training,
        samples=denoising_samples(PatchSampler(images, size.patch), training),
        learned=DNCNN_TASK,
        validate=validation_on(held_out, beside.patch_size, _denoised_alone),
        build=DnCNN,
    )


def _denoised_alone(model: nn.Module, observed: Images) -> tuple[Images, Images]:
    """Empty low-rank part of a DnCNN, and its denoised images."""
    return torch.zeros_like(observed), model(observed)


def _clock(device: str) -> float:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()
