r"""A training run: the alternation of Eq. 13 with detached leaves, resumable to the bit.

Each step of an inference network solves sub-problem 1 at its current output, detaches it, and takes one optimiser step
on sub-problem 2. All randomness of a sample (crop, noise, draws of A, B and S) comes from generators seeded by (seed,
index of the sample in the run), so a resumed run needs no generator state, and the run is the same, up to rounding, on
any number of processes and in any number of micro-batches. On a CPU it is the same to the bit if these, the threads and
the machine are the same.
"""

import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from copy import deepcopy
from dataclasses import MISSING, asdict, fields, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import update_bn

from indeed.checks import expect
from indeed.files import atomic_write
from indeed.learning.diagnostics.throughput import Throughput, operations, seconds_of_networks
from indeed.learning.distributed import Preempted, from_first, process_count, process_rank, termination
from indeed.learning.loading import Batch, SampleSource, ahead, draw_batch
from indeed.learning.training.config import PRECISIONS, TrainingConfig
from indeed.learning.training.log import Validation, append_row, log_columns, truncate_log
from indeed.learning.training.step import Step, learning_rate, train_step
from indeed.learning.training.task import DENOISING, Task
from indeed.networks.inference_network import InDeed


class Trainer:
    """A training run: one network in the place of one optimisation per image (Eq. 11).

    It lives in a folder: ``state.pt`` to resume from, ``log.csv``, and ``config.json`` for people to read.

    Parameters
    ----------
    network, training
        Configurations of the network and of the run.
    samples
        Source of training samples, on the CPU.
    folder
        Where the state and the log are kept; only the first of several processes touches it.
    build
        Makes the network from its configuration.
    start
        Weights to start from; None: random ones.
    task
        What is learned.
    validate
        Measures the averaged network for the log, every ``validate_every`` steps and at the end.
    measures
        Names of what it measures.
    resume
        Continue from ``state.pt`` in ``folder`` if there is one.
    description
        What else the run depends on (data, preset); stored and compared on resume.
    device
        Where the network is trained.

    Raises
    ------
    FileExistsError
        If ``folder`` holds a run and ``resume`` is false.
    ValueError
        If the run in ``folder`` was started with another configuration, or its state is damaged; if the batch cannot be
        divided evenly.

    Notes
    -----
    Under :func:`indeed.learning.distributed.process_group` the processes share each batch, and any number of them may
    go on where another number stopped. BatchNorm is the exception to "any number": it normalises by the statistics of
    a micro-batch of one process, and the running statistics that are kept are those of the first one.
    """

    def __init__(
        self,
        network: Any,
        training: TrainingConfig,
        samples: SampleSource,
        folder: Path,
        *,
        build: Callable[[Any], nn.Module] = InDeed,
        start: Mapping[str, Tensor] | None = None,
        task: Task = DENOISING,
        validate: Callable[[Any], Any] | None = None,
        measures: Sequence[str] = Validation._fields,
        resume: bool = False,
        description: dict[str, Any] | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        parts = process_count() * training.accumulate
        multiple = f"a multiple of {parts}, the processes times accumulate"
        expect(training.batch_size % parts == 0, "batch_size", training.batch_size, multiple)
        self.config = training
        self.samples = samples
        self.folder = Path(folder)
        self.task = task
        self.validate = validate
        self.columns = log_columns(measures, task.terms)
        self.device = torch.device(device)
        self.dtype = torch.float64 if training.precision == "float64" else torch.float32
        self.identity = _plain({"network": asdict(network), "training": _identity(training)} | (description or {}))
        self.defaults = _plain({"network": _defaults(network), "training": _defaults(training)})
        self.step = 0
        self.skipped = 0
        self.seconds = 0.0
        # Sums of the loss terms since the last row of the log, and how many steps they hold.
        self.sums = torch.zeros(len(task.terms), dtype=torch.float64)
        self.counted = 0
        # Durations of the last steps, for the throughput only.
        self.durations: deque[float] = deque(maxlen=100)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            # Any: the class is the one that `build` makes.
            self.model: Any = build(network).to(self.device, self.dtype)
            self.average: Any = build(network).to(self.device, self.dtype)
        if start is not None:
            self.model.load_state_dict(start)
        self.average.load_state_dict(self.model.state_dict())
        self.average.requires_grad_(False).eval()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=training.learning_rate, fused=True)
        # It starts at one: at the usual 2^16 the gradient of a loss in units of sigma_0 overflows.
        self.scaler = GradScaler(self.device.type, init_scale=1.0, enabled=training.precision == "float16")
        self._restore(from_first(lambda: self._open(resume)))
        if training.compile:
            for module in self.model.children():
                module.compile()
        self.parallel = DistributedDataParallel(self.model) if process_count() > 1 else self.model

    def run(self, stop_at: int | None = None, progress: bool = True) -> None:
        """Train to the end of the schedule, or to step ``stop_at``; saves as it goes and when it ends.

        Raises
        ------
        Preempted
            If a process got SIGTERM; the step that all had begun is finished and saved.
        """
        from tqdm import tqdm

        config = self.config
        last = config.steps if stop_at is None else min(stop_at, config.steps)
        hidden = not progress or process_rank() != 0
        started, saved = time.monotonic() - self.seconds, time.monotonic()
        threads = 1 if self.device.type == "cpu" else 4
        loaded = ahead(self.draw, range(self.step, last), threads)
        with (
            termination() as seen,
            closing(loaded),  # type: ignore[type-var]
            tqdm(total=config.steps, initial=self.step, disable=hidden, unit="step", dynamic_ncols=True) as bar,
        ):
            begun = time.perf_counter()
            for batches in loaded:
                step = self.advance(batches, seen.is_set())
                bar.update()
                self.durations.append(time.perf_counter() - begun)
                self.seconds = time.monotonic() - started
                if self.step % config.log_every == 0 or self.step == config.steps:
                    means = self._log()
                    bar.set_postfix(means | {"skipped": str(self.skipped)})
                if time.monotonic() - saved > config.save_every_seconds:
                    self.save()
                    saved = time.monotonic()
                if step.signalled and self.step < last:
                    self.save()
                    raise Preempted
                begun = time.perf_counter()
        self.save()

    def draw(self, step: int) -> list[Batch]:
        """Draw the micro-batches of a step that are this process's part of it, on the CPU."""
        size = self.config.batch_size // (process_count() * self.config.accumulate)
        first = step * self.config.batch_size + process_rank() * self.config.accumulate * size
        starts = range(first, first + self.config.accumulate * size, size)
        batches = [draw_batch(self.samples, range(start, start + size), self.config.seed) for start in starts]
        return [batch.pinned() for batch in batches] if self.device.type == "cuda" else batches

    def throughput(self) -> Throughput:
        """Measure the speed of the last steps, and that of the networks alone: three bare passes now.

        Raises
        ------
        ValueError
            If no step was taken since the trainer was made.
        """
        expect(self.durations, "throughput", "no step yet", "at least one")
        observed = self.draw(self.step)[0].to(self.device, self.dtype).observed
        seconds = median(self.durations)
        networks = seconds_of_networks(self.model, observed, PRECISIONS[self.config.precision])
        patch = operations(deepcopy(self.average).requires_grad_(True).train(), observed[:1])
        patches = self.config.batch_size / seconds
        outside = 1 - networks * self.config.accumulate / seconds
        return Throughput(patches, patches * patch / 1e12, outside)

    def save(self) -> None:
        """Write the whole state of the run, atomically; of several processes the first one does."""
        if process_rank() != 0:
            return
        state = {
            "identity": json.dumps(self.identity),
            "step": self.step,
            "skipped": self.skipped,
            "seconds": self.seconds,
            "sums": self.sums,
            "counted": self.counted,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        with atomic_write(self.folder / "state.pt") as temporary:
            torch.save(state, temporary)

    def renew_statistics(self, steps: int = 64) -> None:
        """Give the BatchNorm of the averaged network running statistics of its own, from the batches of some steps.

        Those that it has belong to the last weights, not to the average.
        """
        batches = [self.draw(step)[0].observed.to(self.device) for step in range(min(steps, self.step))]
        with torch.no_grad():
            update_bn(batches, self.average)

    def update_average(self) -> None:
        """Move the averaged weights; early on the decay is smaller, so that the start is forgotten."""
        decay = self.config.ema_decay
        if decay is None:
            self.average.load_state_dict(self.model.state_dict())
            return
        decay = min(decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)
            for mean, current in zip(self.average.buffers(), self.model.buffers(), strict=True):
                mean.copy_(current)

    def advance(self, batches: Sequence[Batch], signalled: bool = False) -> Step:
        """Take one training step, with the micro-batches that `draw` gave for it."""
        self.parallel.train()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.step)
        step = train_step(
            self.parallel,
            self.optimizer,
            [batch.to(self.device, self.dtype) for batch in batches],
            self.config,
            task=self.task,
            scaler=self.scaler,
            signalled=signalled,
        )
        self.step += 1
        if step.applied:
            self.update_average()
            self.sums += torch.tensor(step.terms, dtype=torch.float64)
            self.counted += 1
        else:
            self.skipped += 1
        return step

    def _log(self) -> dict[str, str]:
        """Append a row to the log, in the first process; return the loss terms for the progress bar."""
        means = dict(zip(self.task.terms, (self.sums / max(self.counted, 1)).tolist(), strict=True))
        self.sums.zero_()
        self.counted = 0
        if process_rank() != 0:
            return {}
        row: dict[str, float] = {"step": self.step, "learning_rate": learning_rate(self.config, self.step - 1)} | means
        if self.validate and (self.step % self.config.validate_every == 0 or self.step == self.config.steps):
            row |= self.validate(self.average)._asdict()
        patches = self.config.batch_size / median(self.durations)
        row |= {"skipped": self.skipped, "patches_per_second": round(patches, 1), "seconds": round(self.seconds, 1)}
        append_row(self.folder / "log.csv", self.columns, row)
        return {name: f"{value:.3g}" for name, value in means.items()}

    def _open(self, resume: bool) -> dict[str, Any] | None:
        """Prepare the folder; return the state that it holds."""
        path = self.folder / "state.pt"
        state, step = None, 0
        if path.exists():
            if not resume:
                raise FileExistsError(f"{path} exists: resume the run or choose another folder")
            with self._reading():
                state = torch.load(path, weights_only=True, map_location="cpu")
                identity, step = json.loads(state["identity"]), state["step"]
                # What a run from before a choice was there has chosen is what the choice starts with.
                for part in ("network", "training"):
                    identity[part] = self.defaults[part] | identity[part]
            # Earlier states say nothing of the content of the data.
            identity = {key: value for key, value in self.identity.items() if key == "content"} | identity
            different = sorted(key for key in self.identity | identity if self.identity.get(key) != identity.get(key))
            if different:
                raise ValueError(f"{path}: got another {', '.join(different)}, expected the configuration of the run")
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.folder / "config.json") as temporary:
            temporary.write_text(json.dumps(self.identity, indent=2))
        truncate_log(self.folder / "log.csv", self.columns, step)
        return state

    def _restore(self, state: dict[str, Any] | None) -> None:
        if state is None:
            return
        with self._reading():
            self.step, self.skipped, self.seconds = state["step"], state["skipped"], state["seconds"]
            # A run from before tasks had their own terms can go on: the next row of its log holds the steps from here.
            if state["sums"].shape == self.sums.shape:
                self.sums, self.counted = state["sums"], state["counted"]
            self.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever a damaged file makes torch raise
            message = " ".join(str(error).split())[:200]
            raise ValueError(f"{self.folder / 'state.pt'}: got damage ({message}), expected a whole state") from error


def _identity(training: TrainingConfig) -> dict[str, Any]:
    """Return the configuration without what may change between the parts of one run."""
    return asdict(replace(training, save_every_seconds=0.0, accumulate=1, compile=False))


def _defaults(config: Any) -> dict[str, Any]:
    return {field.name: field.default for field in fields(config) if field.default is not MISSING}


def _plain(value: Any) -> Any:
    """Value as it comes back from JSON."""
    return json.loads(json.dumps(value))
