r"""Training of the inference network: the alternation of Eq. 13 with detached leaves, resumable to the bit.

Each step solves sub-problem 1 at the network's current output, detaches it, and takes one optimiser step on sub-problem
2. All randomness of a sample (crop, noise, draws of A, B and S) comes from generators seeded by (seed, index of the
sample in the run), so a resumed run needs no generator state, and the run is the same, up to rounding, on any number of
processes and in any number of micro-batches. On a CPU it is the same to the bit where these, the threads and the
machine are.
"""

import csv
import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.parallel import DistributedDataParallel

from indeed.bayes.generative_model import Hyperpriors
from indeed.bayes.objectives import (
    LossTerms,
    amortised_terms,
    anomaly_supervision,
    denoising_supervision,
    mask_supervision,
    training_loss,
)
from indeed.bayes.variational_family import Draw, MiddleLevel
from indeed.files import atomic_write
from indeed.images.anomalies import Synthesis, TextureSource, anomalous_sample, foreign_to
from indeed.images.noise import GREY_LEVEL, gaussian
from indeed.images.noise_estimation import NoiseLaw
from indeed.learning.distributed import (
    Preempted,
    from_first,
    mean_over_processes,
    process_count,
    process_rank,
    termination,
)
from indeed.learning.loading import Batch, Sample, SampleSource, ahead, draw_batch
from indeed.learning.throughput import Throughput, autocast, operations, seconds_of_networks
from indeed.networks.inference_network import InDeed
from indeed.types import PerSample

PRECISIONS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}


@dataclass(frozen=True)
class TrainingConfig:
    """Everything a training run depends on besides the network and the images."""

    steps: int
    batch_size: int = 8
    """Samples of a step, over all processes and micro-batches."""
    accumulate: int = 1
    """Micro-batches into which a process divides its part of the batch, one after the other, to need less memory."""
    learning_rate: float = 1e-3
    schedule: Literal["cosine", "halving"] = "cosine"
    """``cosine`` to zero over the run after a linear warm-up; ``halving`` by 0.5 per tenth of the run (section 4.1)."""
    warmup_steps: int = 200
    gradient_clip: float = 1.0
    """Largest allowed norm of the gradient."""
    ema_decay: float | None = 0.999
    """Decay of the exponential moving average of the weights that is validated and saved; None: the last weights."""
    noise_low: float = 0.0
    noise_high: float = 75 * GREY_LEVEL
    """Range of the noise's standard deviation in the unit of [0, 1] images; section 4.1 has (0, 75] of 255."""
    target_precision: float = 1e5
    """Precision sigma_0 of Eq. 44 and 45, in 1 / intensity²."""
    mask_weight: float = 0.0
    """Weight, in nats a pixel, of the cross-entropy of the anomaly map beside Eq. 45; only detectors have a mask."""
    orthogonality_weight: float = 1.0
    """The paper's tau."""
    orthogonality_form: Literal["literal", "cosine"] = "literal"
    residual: Literal["sampled", "expected"] = "sampled"
    leaf: Literal["mean", "sampled"] = "mean"
    """Whether the precisions enter the loss by their means, or by a draw: the stochastic regularisation of 3.1.4."""
    variational: bool = True
    """Whether fidelity, rank and sparsity are learned from; without, only the supervision is (model 9 of Table 3)."""
    hyperpriors: Hyperpriors = field(default_factory=Hyperpriors)
    precision: Literal["float32", "bfloat16", "float16", "float64"] = "float32"
    """Type the ResNets compute in (autocast); the heads, the closed forms and the loss stay in float32. On a GPU the
    convolutions of ``float32`` are TF32, which is PyTorch's default; the product of the factors is not, since residuals
    of 1e-4 count. With ``float16`` the loss is scaled. ``float64`` is everything in double precision, for checks."""
    compile: bool = False
    """Whether each module of the network is compiled; does not pay for small networks on a CPU."""
    seed: int = 0
    validate_every: int = 1000
    log_every: int = 100
    save_every_seconds: float = 120.0

    def __post_init__(self) -> None:  # noqa: D105
        for name in ("steps", "batch_size", "accumulate", "validate_every", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be in [0, 2^32), got {self.seed}")
        for name in ("learning_rate", "gradient_clip", "target_precision"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}")
        if self.leaf not in ("mean", "sampled"):
            raise ValueError(f"leaf must be 'mean' or 'sampled', got {self.leaf!r}")
        if self.schedule not in ("cosine", "halving"):
            raise ValueError(f"schedule must be 'cosine' or 'halving', got {self.schedule!r}")
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be in [0, 1) or None, got {self.ema_decay}")
        if not 0 <= self.noise_low < self.noise_high:
            raise ValueError(f"0 <= noise_low < noise_high must hold, got {self.noise_low}, {self.noise_high}")


def training_preset(name: Literal["tiny", "cpu", "paper"]) -> TrainingConfig:
    """Named training runs, to go with the network preset of the same name.

    ``tiny``: seconds, for tests. ``cpu``: about an hour on one core; noise up to 55 grey levels, a little above
    the highest of Table 4. ``paper``: 2000 passes over the 800 images of
    DIV2K at batch 4, Adam 1e-4 halved every tenth (section 4.1; batch size and clipping are not stated there).

    The work of ``paper`` is 400,000 steps of 4 patches of 0.57 TFLOP, 9.1e17 operations. That is 6.3 hours at a rate of
    40 TFLOP/s and 3.2 hours at 80, guesses for bfloat16 on one A100 and one H100: an estimate, not a measurement.
    """
    if name == "tiny":
        return TrainingConfig(steps=20, batch_size=4, warmup_steps=5, validate_every=10, log_every=5)
    if name == "cpu":
        return TrainingConfig(steps=24_000, noise_high=55 * GREY_LEVEL, precision="bfloat16", save_every_seconds=60.0)
    if name == "paper":
        return TrainingConfig(
            steps=400_000,
            batch_size=4,
            learning_rate=1e-4,
            schedule="halving",
            warmup_steps=0,
            ema_decay=None,
            target_precision=1e6,
        )
    raise ValueError(f"name must be 'tiny', 'cpu' or 'paper', got {name!r}")


Supervision = Callable[[MiddleLevel, Draw, Batch, TrainingConfig], PerSample]
"""Task-specific part of the loss: the supervision of the posterior of each sample, and of a draw of it."""


def denoising_samples(
    clean_patch: Callable[[torch.Generator], Float[Tensor, "channel height width"]], config: TrainingConfig
) -> SampleSource:
    """Make a source for the denoising task: a clean patch, and it with unclipped Gaussian noise of a random level."""

    def draw(generator: torch.Generator) -> Sample:
        clean = clean_patch(generator)
        return Sample(gaussian(clean[None], (config.noise_low, config.noise_high), generator)[0], clean)

    return draw


def matched_replay(
    clean_patch: Callable[[torch.Generator], Float[Tensor, "channel height width"]],
    law: NoiseLaw,
    spread: tuple[float, float] = (1.0, 1.0),
) -> SampleSource:
    """Make a source for the denoising task: a clean patch, and it with unclipped noise of a law, as of a test image.

    The noise is scaled by a factor that is uniform on ``spread``: a network that has seen levels around the law's can
    tell the level by itself.

    Raises
    ------
    ValueError
        Unless ``0 < low <= high < inf``; on a draw, if the patches have another number of channels than the law.
    """
    low, high = spread
    if not 0 < low <= high < math.inf:
        raise ValueError(f"spread: got {spread}, expected 0 < low <= high < inf")

    def draw(generator: torch.Generator) -> Sample:
        clean = clean_patch(generator)
        scale = low + (high - low) * torch.rand((), generator=generator).item()
        return Sample(clean + scale * (law.sample(clean[None], generator)[0] - clean), clean)

    return draw


def supervised_denoising(middle: MiddleLevel, draw: Draw, batch: Batch, config: TrainingConfig) -> PerSample:
    """Supervision of the denoising task, that of Eq. 44."""
    return denoising_supervision(draw, batch.target, config.target_precision)


def anomaly_samples(
    surfaces: Sequence[TextureSource],
    config: TrainingConfig,
    synthesis: Synthesis,
    law: NoiseLaw | None = None,
) -> SampleSource:
    """Make a source for anomaly detection: a good patch, and it with a synthetic anomaly or, one in four, without.

    Each of the surfaces gives good patches of itself, and is equally probable. The textures of an anomaly are those
    that are foreign to its surface (:func:`indeed.images.anomalies.foreign_to`).

    Both have the same noise, of a random level or, to adapt a network to test images, of their law: it belongs to
    neither L nor S, and their difference is the anomaly.
    """

    def draw(generator: torch.Generator) -> Sample:
        which = int(torch.randint(len(surfaces), (), generator=generator))
        textures = foreign_to(surfaces, which)
        sample = anomalous_sample(surfaces[which](generator), textures, generator, **synthesis._asdict())
        normal = sample.normal[None]
        if law is None:
            noise = gaussian(torch.zeros_like(normal), (config.noise_low, config.noise_high), generator)[0]
        else:
            noise = (law.sample(normal, generator) - normal)[0]
        return Sample(sample.observed + noise, sample.normal + noise)

    return draw


def supervised_anomaly(middle: MiddleLevel, draw: Draw, batch: Batch, config: TrainingConfig) -> PerSample:
    """Supervision of anomaly detection: that of Eq. 45, and ``config.mask_weight`` times that of the mask.

    The mask is where the observed image differs from the normal one in any colour: noise is added to both or to none.
    """
    supervision = anomaly_supervision(draw, batch.target, batch.observed - batch.target, config.target_precision)
    if not config.mask_weight:
        return supervision
    mask = (batch.observed != batch.target).any(1)
    return supervision + config.mask_weight * mask_supervision(batch.observed, middle, mask)


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Learning rate of step ``step`` (from 0), a pure function of the configuration."""
    warmup = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    if config.schedule == "halving":
        return config.learning_rate * warmup * 0.5 ** (10 * step // config.steps)
    return config.learning_rate * warmup * 0.5 * (1 + math.cos(math.pi * step / config.steps))


class Step(NamedTuple):
    """What a training step did, the same in all processes."""

    terms: tuple[float, ...]
    """Loss terms in the order of `LossTerms`: means over the samples of the whole batch and their pixels."""
    applied: bool
    """False if the loss or the gradient was not finite; the network is then left as it was."""
    signalled: bool
    """Whether a process had been told to stop."""


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[Batch],
    config: TrainingConfig,
    *,
    supervision: Supervision = supervised_denoising,
    scaler: GradScaler | None = None,
    signalled: bool = False,
) -> Step:
    """One alternation of the two sub-problems on one batch (Eq. 13): leaves in closed form, then a gradient step.

    Parameters
    ----------
    model
        The network; wrapped for data-parallel training where there are several processes.
    optimizer
        Its optimiser.
    batches
        Micro-batches of this process, all of one size, on the device of the network.
    config
        What the step depends on.
    supervision
        Task-specific part of the loss.
    scaler
        Scales the loss of float16; None: no scaling.
    signalled
        Whether this process has been told to stop.
    """
    scaler = scaler or GradScaler(enabled=False)
    buffers = [buffer.clone() for buffer in model.buffers()]  # running statistics, where there are any
    optimizer.zero_grad(set_to_none=True)
    means = torch.zeros(len(LossTerms._fields), dtype=torch.float64, device=batches[0].observed.device)
    for index, batch in enumerate(batches, start=1):
        # Processes exchange the sum of the micro-batches' gradients, not each of them.
        alone = isinstance(model, DistributedDataParallel) and index < len(batches)
        with model.no_sync() if alone else nullcontext():  # type: ignore[operator]
            terms = _loss_terms(model, batch, config, supervision)
            elements = batch.observed[0].numel()
            loss = training_loss(
                terms,
                orthogonality_weight=config.orthogonality_weight,
                elements=elements,
                variational=config.variational,
            )
            # The gradient is what processes exchange: a loss that is not finite shows in it, in all of them.
            loss = loss * torch.where(loss.detach().isfinite(), 1.0, math.nan)
            scaler.scale(loss / len(batches)).backward()  # type: ignore[no-untyped-call]
        means += torch.stack([term.detach().double().mean() for term in terms]) / (elements * len(batches))
    scaler.unscale_(optimizer)
    norm = nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clip)
    *means_everywhere, norm_everywhere, stop = mean_over_processes(
        torch.cat([means, norm.double()[None], norm.new_tensor([signalled], dtype=torch.float64)])
    )
    applied = math.isfinite(norm_everywhere)
    if applied:
        scaler.step(optimizer)
    else:
        for buffer, before in zip(model.buffers(), buffers, strict=True):
            buffer.copy_(before)
    scaler.update()
    return Step(tuple(means_everywhere), applied, stop > 0)


def _loss_terms(model: nn.Module, batch: Batch, config: TrainingConfig, supervision: Supervision) -> LossTerms:
    generators = batch.generators()
    with autocast(batch.observed.device, PRECISIONS[config.precision]):
        middle, draw = model(batch.observed, generators)
    return amortised_terms(
        batch.observed,
        middle,
        draw,
        supervision(middle, draw, batch, config),
        config.hyperpriors,
        residual=config.residual,
        orthogonality_form=config.orthogonality_form,
        leaf_generator=generators if config.leaf == "sampled" else None,
    )


class Validation(NamedTuple):
    """PSNR in dB of L and of L + S against clean images held out of training."""

    psnr_low_rank: float
    psnr: float


class Trainer:
    """A training run: one network in the place of one optimisation per image (Eq. 11).

    It lives in a folder: ``state.pt`` to resume from, ``log.csv``, and ``config.json`` for its reader.

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
    supervision
        Task-specific part of the loss.
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
        supervision: Supervision = supervised_denoising,
        validate: Callable[[Any], Any] | None = None,
        measures: Sequence[str] = Validation._fields,
        resume: bool = False,
        description: dict[str, Any] | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        parts = process_count() * training.accumulate
        if training.batch_size % parts:
            raise ValueError(
                f"batch_size must be a multiple of {parts}, the processes times accumulate, got {training.batch_size}"
            )
        self.config = training
        self.samples = samples
        self.folder = Path(folder)
        self.supervision = supervision
        self.validate = validate
        self.columns = log_columns(measures)
        self.device = torch.device(device)
        self.dtype = torch.float64 if training.precision == "float64" else torch.float32
        self.identity = _plain({"network": asdict(network), "training": _identity(training)} | (description or {}))
        self.step = 0
        self.skipped = 0
        self.seconds = 0.0
        # Sums of the loss terms since the last row of the log, and how many steps they hold.
        self.sums = torch.zeros(len(LossTerms._fields), dtype=torch.float64)
        self.counted = 0
        # Durations of the last steps, for the throughput only.
        self.durations: deque[float] = deque(maxlen=100)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            # Any: of the class that `build` makes, which the reader of a trainer knows.
            self.model: Any = build(network).to(self.device, self.dtype)
            self.average: Any = build(network).to(self.device, self.dtype)
        if start is not None:
            self.model.load_state_dict(start)
        self.average.load_state_dict(self.model.state_dict())
        self.average.requires_grad_(False).eval()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=training.learning_rate, fused=True)
        # From one on: at the usual 2^16 the gradient of a loss in units of sigma_0 overflows.
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
        if not self.durations:
            raise ValueError("no step was taken yet, so there is no speed")
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
            supervision=self.supervision,
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
        means = dict(zip(LossTerms._fields, (self.sums / max(self.counted, 1)).tolist(), strict=True))
        self.sums.zero_()
        self.counted = 0
        if process_rank() != 0:
            return {}
        row: dict[str, float] = {"step": self.step, "learning_rate": learning_rate(self.config, self.step - 1)} | means
        if self.validate and (self.step % self.config.validate_every == 0 or self.step == self.config.steps):
            row |= self.validate(self.average)._asdict()
        patches = self.config.batch_size / median(self.durations)
        row |= {"skipped": self.skipped, "patches_per_second": round(patches, 1), "seconds": round(self.seconds, 1)}
        path = self.folder / "log.csv"
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, self.columns, restval="")
            if new:
                writer.writeheader()
            writer.writerow(row)
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
            different = sorted(key for key in self.identity | identity if self.identity.get(key) != identity.get(key))
            if different:
                raise ValueError(f"{path}: the run was started with another configuration ({', '.join(different)})")
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.folder / "config.json") as temporary:
            temporary.write_text(json.dumps(self.identity, indent=2))
        self._truncate_log(step)
        return state

    def _restore(self, state: dict[str, Any] | None) -> None:
        if state is None:
            return
        with self._reading():
            self.step, self.skipped, self.seconds = state["step"], state["skipped"], state["seconds"]
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
            raise ValueError(f"{self.folder / 'state.pt'}: not a whole training state ({message})") from error

    def _truncate_log(self, step: int) -> None:
        """Drop log rows past the state: a killed run may have logged steps that the state does not hold."""
        path = self.folder / "log.csv"
        if not path.exists():
            return
        with path.open(newline="") as file:
            rows = list(csv.reader(file))
        # A kill in the middle of a write leaves a short last line, or no whole header.
        whole = [row for row in rows if len(row) == len(self.columns) and row != list(self.columns)]
        with atomic_write(path) as temporary, temporary.open("w", newline="") as file:
            csv.writer(file).writerows([self.columns] + [row for row in whole if int(row[0]) <= step])


def log_columns(measures: Sequence[str] = Validation._fields) -> tuple[str, ...]:
    """Columns of ``log.csv``: loss terms are means over steps, samples and pixels; measures are empty in between."""
    return (
        "step",
        "learning_rate",
        *LossTerms._fields,
        *measures,
        "skipped",
        "patches_per_second",
        "seconds",
    )


def read_log(path: Path) -> list[dict[str, str]]:
    r"""Rows of a ``log.csv``, with the rows of the run whose weights it started from before them, if they are kept.

    The log of that earlier run is ``<name>_start.csv`` beside ``<name>.csv``. The steps of the later run count on.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "denoiser_start.csv").write_text("step,psnr\n100,25.0\n200,26.0\n")
    ...     _ = (Path(folder) / "denoiser.csv").write_text("step,psnr\n50,27.0\n")
    ...     [row["step"] for row in read_log(Path(folder) / "denoiser.csv")]
    ['100', '200', '250']
    """
    earlier = path.with_name(f"{path.stem}_start{path.suffix}")
    rows: list[dict[str, str]] = read_log(earlier) if earlier.is_file() else []
    done = int(rows[-1]["step"]) if rows else 0
    with path.open(newline="", encoding="utf-8") as file:
        return rows + [row | {"step": str(int(row["step"]) + done)} for row in csv.DictReader(file)]


def _identity(training: TrainingConfig) -> dict[str, Any]:
    """Return the configuration without what may change between the parts of one run."""
    return asdict(replace(training, save_every_seconds=0.0, accumulate=1, compile=False))


def _plain(value: Any) -> Any:
    """Value as it comes back from JSON."""
    return json.loads(json.dumps(value))
