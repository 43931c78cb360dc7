"""Training of a network that ships, whatever its task: a task in, a checkpoint with its record out."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from indeed.files import atomic_write
from indeed.learning.distributed import from_first, process_group, process_rank
from indeed.learning.loading import SampleSource
from indeed.learning.training import Supervision, Trainer, TrainingConfig
from indeed.networks.backbones import parameter_count
from indeed.networks.checkpoint import load_checkpoint, save_checkpoint
from indeed.networks.inference_network import NetworkConfig
from indeed.record import provenance

Preset = Literal["tiny", "cpu", "paper"]


@dataclass(frozen=True)
class Task:
    """What a network is trained for."""

    name: str
    data: str
    """Name of the data, for the record."""
    samples: SampleSource
    supervision: Supervision
    validate: Callable[[Any], Any]
    """Measures a network on what is held out of training; gives a named tuple."""
    measures: Sequence[str]
    """Names of what it measures."""
    validation: dict[str, Any] = field(default_factory=dict)
    """How it does so, for the record."""
    record: dict[str, Any] = field(default_factory=dict)
    """What else belongs into the record of the checkpoint."""
    examine: Callable[[Any], dict[str, Any]] = lambda model: {}
    """Finds out what belongs into the record of the trained network."""


def train(
    out: Path,
    task: Task,
    network: NetworkConfig,
    training: TrainingConfig,
    *,
    preset: Preset,
    start: Path | None,
    stop_at: int | None,
    resume: bool,
    folder: Path | None,
    device: str,
    progress: bool,
) -> Trainer:
    """Train a network, or continue its run, and save it as a checkpoint.

    Parameters
    ----------
    out
        Checkpoint to write, ``*.safetensors``.
    task, network, training
        What is trained.
    preset
        Name of the sizes, for the record.
    start, stop_at, resume, folder, device, progress
        As in :func:`indeed.experiments.denoiser.train_denoiser`.

    Raises
    ------
    FileExistsError
        If ``folder`` holds a run and ``resume`` is false.
    ValueError
        If ``out`` has another ending, or the run in ``folder`` or the network in ``start`` is another one.
    """
    if out.suffix != ".safetensors":
        raise ValueError(f"out must end in .safetensors, got {out}")
    with process_group(device) as own_device:
        weights, earlier = _weights(start, network) if start is not None else (None, None)
        trainer = Trainer(
            network,
            training,
            task.samples,
            folder or out.with_suffix(""),
            supervision=task.supervision,
            start=weights,
            validate=task.validate,
            measures=task.measures,
            resume=resume,
            description={"preset": preset, "data": task.data, "start": None if start is None else start.name},
            device=own_device,
        )
        origin = asdict(provenance(preset, training.seed, task.data, str(own_device)))
        started = from_first(lambda: _started(trainer.folder / "started.json", origin))
        trainer.run(stop_at, progress)
        if process_rank() != 0:
            return trainer
        record = {
            "task": task.name,
            "provenance": started[0],
            "commits": sorted({start["commit"] for start in started}),
            "training": asdict(training),
            "validation": task.validation | task.validate(trainer.average)._asdict(),
            "parameters": parameter_count(trainer.average),
            "steps": trainer.step,
            "skipped_steps": trainer.skipped,
            "seconds": round(trainer.seconds),
            "start": earlier,
        }
        record |= task.record | task.examine(trainer.average)
        if trainer.durations:
            record["throughput"] = trainer.throughput()._asdict()
        save_checkpoint(out, trainer.average, record)
    return trainer


def _weights(path: Path, network: NetworkConfig) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights of a checkpoint of the same network but for its patch size, and its record."""
    model, record = load_checkpoint(path)
    if replace(model.config, patch_size=network.patch_size) != network:
        raise ValueError(f"{path}: got a network of other sizes or forms than the run's")
    return model.state_dict(), record


def _started(path: Path, now: dict[str, Any]) -> list[dict[str, Any]]:
    """Provenance of every start of a run, the first one first; a resumed run may go on under another commit."""
    starts: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    starts.append(now)
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(starts, indent=2))
    return starts
