"""A DnCNN and an InDeed beside it: the same loop, the same images, the same time on one core.

``python -m indeed.experiments.equal_budget --help``. The length of each run is the budget over the time of a step. That
time is measured first, for both in turn, and kept: from then on a run is a number of steps, which can be killed and
resumed and does not depend on what else the machine does.
"""

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from indeed.baselines.dncnn import DNCNN_TASK, DnCNN, DnCNNConfig
from indeed.data.patches import PatchSampler
from indeed.experiments.cells import run_command
from indeed.files import atomic_write
from indeed.learning.training.config import training_preset
from indeed.learning.training.samples import denoising_samples
from indeed.learning.training.task import DENOISING
from indeed.learning.training.trainer import Trainer
from indeed.networks.backbones import parameter_count
from indeed.networks.checkpoint import read_record, save_checkpoint
from indeed.networks.inference_network import InDeed, network_preset
from indeed.recipes.denoiser import VALIDATION_SIGMA, parts_of, training_images, validation_on
from indeed.recipes.run import Preset
from indeed.record import Recorder, provenance
from indeed.types import Images

Profile = Literal["smoke", "cpu", "paper"]
Model = Literal["dncnn", "indeed"]
MODELS: tuple[Model, ...] = ("dncnn", "indeed")


@dataclass(frozen=True)
class Size:
    """What a profile is: the preset of the InDeed, the DnCNN, the budget, and the steps of a trial."""

    preset: Preset
    depth: int
    width: int
    patch: int
    batch: int
    """Side and number of the patches of a step of the DnCNN: as many pixels as the InDeed's, in smaller patches."""
    seconds: float
    trial: int


SIZES: dict[Profile, Size] = {
    "smoke": Size("tiny", depth=3, width=8, patch=16, batch=4, seconds=1.0, trial=2),
    "cpu": Size("cpu", depth=17, width=64, patch=64, batch=8, seconds=1800.0, trial=5),
    "paper": Size("paper", depth=17, width=64, patch=64, batch=16, seconds=1800.0, trial=20),
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
        trainers = {
            model: _trainer(model, 10**6, profile, channels, 0, data, Path(trial) / model, device)[0]
            for model in MODELS
        }
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


def train(
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
    path = checkpoint_path(model, channels, folder)
    budget = measure_budget(profile=profile, channels=channels, data=data, folder=folder, device=device)[model]
    trainer, source, validate = _trainer(
        model, int(budget["steps"]), profile, channels, seed, data, path.with_suffix(""), device
    )
    made = asdict(provenance(profile, seed, source, device))
    trainer.run(progress=progress)
    # The running statistics in the average are those of the last weights: BatchNorm needs those of the averaged ones.
    batches = [trainer.draw(step)[0].observed.to(trainer.device) for step in range(min(64, trainer.step))]
    with torch.no_grad():
        update_bn(batches, trainer.average)
    record = {
        "task": "denoise",
        "provenance": made,
        "training": asdict(trainer.config),
        "validation": {"sigma": VALIDATION_SIGMA} | validate(trainer.average)._asdict(),
        "parameters": parameter_count(trainer.average),
        "skipped_steps": trainer.skipped,
        "seconds": round(trainer.seconds),
    } | budget
    save_checkpoint(path, trainer.average, record)
    return path


def record(
    *, profile: Profile = "cpu", channels: int = 1, folder: Path | None = None, records: Path | None = None
) -> Recorder:
    """Record what the budget bought each of the two trained networks: steps, parameters, validation PSNR.

    Raises
    ------
    CheckpointError
        If one of them is not trained yet.
    """
    folder = folder or runs_folder(profile)
    made = {model: read_record(checkpoint_path(model, channels, folder))["record"] for model in MODELS}
    first = made["indeed"]["provenance"]
    numbers = Recorder("equal_budget", profile, first["seed"], first["data"], folder=records)
    numbers.add("minutes", made["indeed"]["budget_seconds"] / 60, tolerance=0, unit="min", digits=0)
    for model, history in made.items():
        # Times, and with them the number of steps, belong to the machine.
        steps, seconds = history["steps"], history["seconds_per_step"]
        numbers.add(f"steps_{model}", steps, tolerance=steps, digits=0)
        numbers.add(f"milliseconds_per_step_{model}", 1e3 * seconds, tolerance=1e3 * seconds, unit="ms", digits=0)
        numbers.add(f"parameters_{model}", history["parameters"], tolerance=0, digits=0)
        numbers.add(f"psnr_{model}", history["validation"]["psnr"], tolerance=0.5, unit="dB")
    return numbers


def _trainer(
    model: Model, steps: int, profile: Profile, channels: Literal[1, 3], seed: int, data: str, folder: Path, device: str
) -> tuple[Trainer, str, Callable[[nn.Module], Any]]:
    """Trainer of one network in a folder, the name of its data, and its validation."""
    size = SIZES[profile]
    beside = network_preset(size.preset, channels)
    training = replace(
        training_preset(size.preset),
        steps=steps,
        seed=seed,
        warmup_steps=min(200, steps // 20),
        validate_every=max(1, steps // 10),
    )
    network: Any = beside
    build: Callable[[Any], nn.Module] = InDeed
    patch = beside.patch_size
    if model == "dncnn":
        network, build, patch = DnCNNConfig(channels, size.depth, size.width), DnCNN, size.patch
        # The squared error alone: a DnCNN has no decomposition to be regularised.
        training = replace(training, batch_size=size.batch, variational=False, orthogonality_weight=0.0)
    source, images, held_out = training_images(data, channels, beside.patch_size)
    validate = validation_on(held_out, beside.patch_size, _denoised_alone if model == "dncnn" else parts_of)
    samples = denoising_samples(PatchSampler(images, patch), training)
    trainer = Trainer(
        network,
        training,
        samples,
        folder,
        build=build,
        task=DNCNN_TASK if model == "dncnn" else DENOISING,
        validate=validate,
        resume=True,
        description={"model": model, "data": source},
        device=device,
    )
    return trainer, source, validate


def _denoised_alone(model: nn.Module, observed: Images) -> tuple[Images, Images]:
    """Empty low-rank part of a DnCNN, and its denoised images."""
    return torch.zeros_like(observed), model(observed)


def _clock(device: str) -> float:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``python -m indeed.experiments.equal_budget``."""
    run_command("equal_budget", {"measure": measure_budget, "train": train, "record": record}, arguments)


if __name__ == "__main__":
    main()
