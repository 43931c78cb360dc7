"""Training of a network, whatever it is for: a run and a recipe in, a checkpoint with its record out."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from indeed.checks import expect
from indeed.data.image_files import FORMATS
from indeed.data.white import Reader, White
from indeed.files import atomic_write
from indeed.learning.distributed import from_first, process_group, process_rank
from indeed.learning.loading import SampleSource
from indeed.learning.training.config import TrainingConfig, training_preset
from indeed.learning.training.task import Task
from indeed.learning.training.trainer import Trainer
from indeed.networks.backbones import parameter_count
from indeed.networks.checkpoint import load_checkpoint, save_checkpoint
from indeed.networks.inference_network import InDeed
from indeed.record import provenance

Preset = Literal["tiny", "cpu", "cpu-long", "paper"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """What is asked of one training run, whatever its recipe; None stands for what the recipe or preset has."""

    out: Path
    """Checkpoint to write, ``*.safetensors``."""
    preset: Preset = "cpu"
    """Sizes of the network and of the run."""
    channels: Literal[1, 3] = 1
    """1 (grey) or 3 (colour)."""
    data: str | None = None
    """Training images, in the words of the recipe."""
    white: White = None
    """Value of white in the 16-bit files of a folder; ``auto``: told from them; None: as each says."""
    patch_size: int | None = None
    """Side of the tiles in pixels."""
    max_rank: int | None = None
    """Largest rank of the low-rank part; for detectors."""
    halvings: int | None = None
    """Halvings of f_S, which is then a U-Net; for detectors."""
    start: Path | None = None
    """Checkpoint whose weights the run starts from: same network, whatever its patch size. Small patches first (many
    a step) and large ones at the end cost less than large ones throughout."""
    steps: int | None = None
    """Length of the run."""
    stop_at: int | None = None
    """Step to end at before the learning rate has come down, for weights that another run will start from."""
    seed: int = 0
    """Seed of the initial weights and of every batch."""
    resume: bool = False
    """Continue the run in the folder if there is one."""
    folder: Path | None = None
    """Where the run keeps its state and log; None: ``out`` without suffix."""
    device: str = "cpu"
    """Where the network is trained. Processes started by torchrun train it together; the first one writes."""
    progress: bool = True
    """Show a progress bar."""
    learning_rate: float | None = None
    batch_size: int | None = None
    accumulate: int = 1
    precision: Literal["float32", "bfloat16", "float16", "float64"] | None = None
    compile: bool = False
    """As in :class:`indeed.learning.training.config.TrainingConfig`, like the four fields above."""

    def training(self, **recipe: Any) -> TrainingConfig:
        """Training of the preset, with the fields that a recipe changes and those that this run asks for."""
        names = ("steps", "seed", "learning_rate", "batch_size", "accumulate", "precision", "compile")
        asked = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return replace(training_preset(self.preset), **recipe | asked)


@dataclass(frozen=True)
class Recipe:
    """How a network is made, up to the `Run`."""

    task: str
    """Name of what it is trained for, for the record."""
    data: str
    """Name of the data, for the record."""
    network: Any
    """Sizes of the network: a dataclass."""
    training: TrainingConfig
    samples: SampleSource
    learned: Task
    """What it learns: the loss."""
    validate: Callable[[Any], Any] | None = None
    """Measures a network on what is held out of training; gives a named tuple."""
    measures: Sequence[str] = ()
    """Names of what it measures."""
    validation: Mapping[str, Any] = field(default_factory=dict)
    """How it does so, for the record."""
    record: Mapping[str, Any] = field(default_factory=dict)
    """What else belongs into the record of the checkpoint."""
    examine: Callable[[Any], dict[str, Any]] = lambda model: {}
    """Finds out what belongs into the record of the trained network."""
    build: Callable[[Any], nn.Module] = InDeed
    """Makes the network from its sizes."""
    content: str | None = None
    """Hash of the training images: a run is not resumed on others."""
    description: Mapping[str, Any] | None = None
    """What tells this run from others besides sizes and training; None: preset, data and start."""
    renew_statistics: bool = False
    """Whether the BatchNorm of the averaged network gets running statistics of its own."""


def train(run: Run, recipe: Recipe) -> Trainer:
    """Train a network by a recipe, or continue its run, and save it as a checkpoint.

    Raises
    ------
    FileExistsError
        If the folder of the run holds one and ``run.resume`` is false.
    ValueError
        If ``run.out`` has another ending, or the run in its folder, network or task of ``run.start`` is another.
    """
    expect(run.out.suffix == ".safetensors", "out", run.out, "a file that ends in .safetensors")
    with process_group(run.device) as own_device:
        weights, earlier = _weights(run.start, recipe) if run.start is not None else (None, None)
        trainer = trainer_of(run, recipe, own_device, weights)
        origin = asdict(provenance(run.preset, recipe.training.seed, recipe.data, str(own_device)))
        started = from_first(lambda: _started(trainer.folder / "started.json", origin))
        trainer.run(run.stop_at, run.progress)
        if process_rank() != 0:
            return trainer
        if recipe.renew_statistics:
            trainer.renew_statistics()
        found = {} if recipe.validate is None else recipe.validate(trainer.average)._asdict()
        record = {
            "task": recipe.task,
            "provenance": started[0],
            "commits": sorted({start["commit"] for start in started}),
            "training": asdict(recipe.training),
            "validation": {**recipe.validation, **found},
            "parameters": parameter_count(trainer.average),
            "steps": trainer.step,
            "skipped_steps": trainer.skipped,
            "seconds": round(trainer.seconds),
            "start": earlier,
            **recipe.record,
            **recipe.examine(trainer.average),
        }
        if trainer.durations:
            record["throughput"] = trainer.throughput()._asdict()
        save_checkpoint(run.out, trainer.average, record)
    return trainer


def reader_of(run: Run) -> Reader:
    """Reader of the images of a run in a folder.

    Raises
    ------
    ValueError
        If white is asked for where the data are no folder: their files say what it is.
    """
    folder = Path(run.data) if run.data else None
    found = folder is not None and folder.is_dir()
    expect(run.white is None or found, "white", repr(run.white), "none, as the data are no folder")
    return Reader(run.white, _all_images(folder) if folder is not None and run.white == "auto" else ())


def _all_images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in FORMATS and path.is_file())


def content_of(images: Sequence[Tensor]) -> str:
    """Hash of training images, in their order: of their sizes and pixels."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(repr((tuple(image.shape), image.dtype)).encode())
        digest.update(image.contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def trainer_of(
    run: Run, recipe: Recipe, device: str | torch.device, weights: Mapping[str, Tensor] | None = None
) -> Trainer:
    """Trainer of a run on one device, which may start from the weights of another network; nothing is trained yet."""
    start = None if run.start is None else run.start.name
    description = dict(recipe.description or {"preset": run.preset, "data": recipe.data, "start": start})
    later = {"white": run.white, "content": recipe.content}
    return Trainer(
        recipe.network,
        recipe.training,
        recipe.samples,
        run.folder or run.out.with_suffix(""),
        build=recipe.build,
        start=weights,
        task=recipe.learned,
        validate=recipe.validate,
        measures=recipe.measures,
        resume=run.resume,
        description=description | {name: value for name, value in later.items() if value is not None},
        device=device,
    )


def _weights(path: Path, recipe: Recipe) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights of a checkpoint of the same task and network but for its patch size, and its record."""
    model, record = load_checkpoint(path)
    task = record.get("task", recipe.task)
    expect(task == recipe.task, str(path), f"a network of the task {task!r}", repr(recipe.task))
    if replace(model.config, patch_size=recipe.network.patch_size) != recipe.network:
        raise ValueError(f"{path}: got a network of other sizes or forms, expected those of the run")
    return model.state_dict(), record


def _started(path: Path, now: dict[str, Any]) -> list[dict[str, Any]]:
    """Provenance of every start of a run, the first one first; a resumed run may go on under another commit."""
    starts: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    starts.append(now)
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(starts, indent=2))
    return starts
