r"""Training of the inference network: the alternation of Eq. 13 with detached leaves, resumable to the bit.

Each step solves sub-problem 1 at the network's current output, detaches it, and takes one optimiser step on sub-problem
2. All randomness of step k comes from a generator seeded by (seed, k), so a resumed run needs no generator state.
"""

import csv
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from indeed.bayes.generative_model import Hyperpriors, Image, PerSample
from indeed.bayes.objectives import LossTerms, amortised_terms, denoising_supervision, training_loss
from indeed.bayes.variational_family import Draw
from indeed.files import atomic_write
from indeed.images.noise import GREY_LEVEL, gaussian
from indeed.networks.inference_network import InDeed, NetworkConfig

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class TrainingConfig:
    """Everything a training run depends on besides the network and the images."""

    steps: int
    batch_size: int = 8
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
    orthogonality_weight: float = 1.0
    """The paper's tau."""
    orthogonality_form: Literal["literal", "cosine"] = "literal"
    residual: Literal["sampled", "expected"] = "sampled"
    variational: bool = True
    """Whether fidelity, rank and sparsity are learned from; without them only the supervision is (model 9, Table 3)."""
    hyperpriors: Hyperpriors = field(default_factory=Hyperpriors)
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Type the ResNets compute in (autocast); the heads, the closed forms and the loss stay in float32."""
    seed: int = 0
    validate_every: int = 1000
    log_every: int = 100
    save_every_seconds: float = 120.0

    def __post_init__(self) -> None:  # noqa: D105
        for name in ("steps", "batch_size", "validate_every", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be in [0, 2^32), got {self.seed}")
        for name in ("learning_rate", "gradient_clip", "target_precision"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}")
        if self.schedule not in ("cosine", "halving"):
            raise ValueError(f"schedule must be 'cosine' or 'halving', got {self.schedule!r}")
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be in [0, 1) or None, got {self.ema_decay}")
        if not 0 <= self.noise_low < self.noise_high:
            raise ValueError(f"0 <= noise_low < noise_high must hold, got {self.noise_low}, {self.noise_high}")


def training_preset(name: Literal["tiny", "cpu", "paper"]) -> TrainingConfig:
    """Named training runs, to go with the network preset of the same name.

    ``tiny``: seconds, for tests. ``cpu``: at most two hours on one core; noise up to 55 grey levels, a little above
    the highest of Table 4. ``paper``: 2000 passes over the 800 images of
    DIV2K at batch 4, Adam 1e-4 halved every tenth (section 4.1; batch size and clipping are not stated there).
    """
    if name == "tiny":
        return TrainingConfig(steps=20, batch_size=4, warmup_steps=5, validate_every=10, log_every=5)
    if name == "cpu":
        return TrainingConfig(
            steps=36_000, learning_rate=2e-3, noise_high=55 * GREY_LEVEL, precision="bfloat16", save_every_seconds=60.0
        )
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


class Batch(NamedTuple):
    """Observed images and the supervision of a draw of their decomposition."""

    observed: Image
    supervision: Callable[[Draw], PerSample]


BatchSource = Callable[[torch.Generator], Batch]
"""Draws one training batch; all its randomness comes from the generator."""


def denoising_batches(
    clean_patches: Callable[[torch.Generator], Float[Tensor, "batch channel height width"]], config: TrainingConfig
) -> BatchSource:
    """Batches of the denoising task: clean patches, unclipped Gaussian noise of a random level, Eq. 44."""

    def draw(generator: torch.Generator) -> Batch:
        clean = clean_patches(generator)
        observed = gaussian(clean, (config.noise_low, config.noise_high), generator)
        return Batch(
            observed,
            lambda sample: denoising_supervision(sample, clean.to(sample.S.device), config.target_precision),
        )

    return draw


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Learning rate of step ``step`` (from 0), a pure function of the configuration."""
    warmup = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    if config.schedule == "halving":
        return config.learning_rate * warmup * 0.5 ** (10 * step // config.steps)
    return config.learning_rate * warmup * 0.5 * (1 + math.cos(math.pi * step / config.steps))


def train_step(
    model: InDeed,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    config: TrainingConfig,
    generator: torch.Generator,
) -> tuple[LossTerms, bool]:
    """One alternation of the two sub-problems on one batch (Eq. 13): leaves in closed form, then a gradient step.

    Returns
    -------
    terms
        Detached per-sample loss terms, summed over pixels.
    applied
        False if the loss or the gradient was not finite; the network is then left as it was.
    """
    buffers = [buffer.clone() for buffer in model.buffers()]  # running statistics, where there are any
    with torch.autocast(batch.observed.device.type, PRECISIONS[config.precision], config.precision != "float32"):
        middle, draw = model(batch.observed, generator)
    terms = amortised_terms(
        batch.observed,
        middle,
        draw,
        batch.supervision(draw),
        config.hyperpriors,
        residual=config.residual,
        orthogonality_form=config.orthogonality_form,
    )
    loss = training_loss(
        terms,
        orthogonality_weight=config.orthogonality_weight,
        elements=batch.observed[0].numel(),
        variational=config.variational,
    )
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clip)
    applied = bool(torch.isfinite(loss) & torch.isfinite(norm))
    if applied:
        optimizer.step()
    else:
        for buffer, before in zip(model.buffers(), buffers, strict=True):
            buffer.copy_(before)
    return LossTerms(*(term.detach() for term in terms)), applied


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
    batches
        Source of training batches, on the CPU; all randomness is drawn there too.
    folder
        Where the state and the log are kept.
    start
        Weights to start from; None: random ones.
    validate
        Measures the averaged network for the log, every ``validate_every`` steps and at the end.
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
        If the run in ``folder`` was started with another configuration, or its state is damaged.
    """

    def __init__(
        self,
        network: NetworkConfig,
        training: TrainingConfig,
        batches: BatchSource,
        folder: Path,
        *,
        start: Mapping[str, Tensor] | None = None,
        validate: Callable[[InDeed], Validation] | None = None,
        resume: bool = False,
        description: dict[str, Any] | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.config = training
        self.batches = batches
        self.folder = Path(folder)
        self.validate = validate
        self.device = torch.device(device)
        self.identity = _plain({"network": asdict(network), "training": _identity(training)} | (description or {}))
        self.step = 0
        self.skipped = 0
        self.seconds = 0.0
        # Sums of the loss terms since the last row of the log, and how many steps they hold.
        self.sums = torch.zeros(len(LossTerms._fields), dtype=torch.float64)
        self.counted = 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            self.model = InDeed(network).to(self.device)
            self.average = InDeed(network).to(self.device)
        if start is not None:
            self.model.load_state_dict(start)
        self.average.load_state_dict(self.model.state_dict())
        self.average.requires_grad_(False).eval()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=training.learning_rate, fused=True)

        state_path = self.folder / "state.pt"
        if state_path.exists():
            if not resume:
                raise FileExistsError(f"{state_path} exists: resume the run or choose another folder")
            self._load(state_path)
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.folder / "config.json") as temporary:
            temporary.write_text(json.dumps(self.identity, indent=2))
        self._truncate_log()

    def run(self, stop_at: int | None = None, progress: bool = True) -> None:
        """Train to the end of the schedule, or to step ``stop_at``; saves as it goes and when it ends."""
        from tqdm import tqdm

        config = self.config
        last = config.steps if stop_at is None else min(stop_at, config.steps)
        started, saved = time.monotonic() - self.seconds, time.monotonic()
        with tqdm(total=config.steps, initial=self.step, disable=not progress, unit="step", dynamic_ncols=True) as bar:
            while self.step < last:
                self._advance()
                bar.update()
                self.seconds = time.monotonic() - started
                if self.step % config.log_every == 0 or self.step == config.steps:
                    bar.set_postfix(self._log() | {"skipped": str(self.skipped)})
                if time.monotonic() - saved > config.save_every_seconds:
                    self.save()
                    saved = time.monotonic()
        self.save()

    def save(self) -> None:
        """Write the whole state of the run, atomically."""
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

    def _advance(self) -> None:
        """Take one training step."""
        self.model.train()
        generator = torch.Generator().manual_seed(step_seed(self.config.seed, self.step))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.step)
        batch = self.batches(generator)
        observed = batch.observed.to(self.device)
        terms, applied = train_step(
            self.model, self.optimizer, batch._replace(observed=observed), self.config, generator
        )
        self.step += 1
        if applied:
            self.update_average()
            self.sums += torch.stack([term.double().mean() for term in terms]).cpu() / observed[0].numel()
            self.counted += 1
        else:
            self.skipped += 1

    def _log(self) -> dict[str, str]:
        """Append a row to the log; return the loss terms for the progress bar."""
        means = dict(zip(LossTerms._fields, (self.sums / max(self.counted, 1)).tolist(), strict=True))
        self.sums.zero_()
        self.counted = 0
        row: dict[str, float] = {"step": self.step, "learning_rate": learning_rate(self.config, self.step - 1)} | means
        if self.validate and (self.step % self.config.validate_every == 0 or self.step == self.config.steps):
            row |= self.validate(self.average)._asdict()
        row |= {"skipped": self.skipped, "seconds": round(self.seconds, 1)}
        path = self.folder / "log.csv"
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, LOG_COLUMNS, restval="")
            if new:
                writer.writeheader()
            writer.writerow(row)
        return {name: f"{value:.3g}" for name, value in means.items()}

    def _load(self, path: Path) -> None:
        try:
            state = torch.load(path, weights_only=True, map_location="cpu")
            identity = json.loads(state["identity"])
            if identity == self.identity:
                self.step, self.skipped, self.seconds = state["step"], state["skipped"], state["seconds"]
                self.sums, self.counted = state["sums"], state["counted"]
                self.model.load_state_dict(state["model"])
                self.average.load_state_dict(state["average"])
                self.optimizer.load_state_dict(state["optimizer"])
        except Exception as error:  # whatever a damaged file makes torch raise
            raise ValueError(f"{path}: not a whole training state ({' '.join(str(error).split())[:200]})") from error
        different = sorted(key for key in self.identity | identity if self.identity.get(key) != identity.get(key))
        if different:
            raise ValueError(f"{path}: the run was started with another configuration ({', '.join(different)})")

    def _truncate_log(self) -> None:
        """Drop log rows past the state: a killed run may have logged steps that the state does not hold."""
        path = self.folder / "log.csv"
        if not path.exists():
            return
        with path.open(newline="") as file:
            rows = list(csv.reader(file))
        # A kill in the middle of a write leaves a short last line, or no whole header.
        whole = [row for row in rows if len(row) == len(LOG_COLUMNS) and row != list(LOG_COLUMNS)]
        with atomic_write(path) as temporary, temporary.open("w", newline="") as file:
            csv.writer(file).writerows([LOG_COLUMNS] + [row for row in whole if int(row[0]) <= self.step])


LOG_COLUMNS = ("step", "learning_rate", *LossTerms._fields, *Validation._fields, "skipped", "seconds")
"""Columns of ``log.csv``: loss terms are means over steps, samples and pixels; PSNR is empty between validations."""


def _identity(training: TrainingConfig) -> dict[str, Any]:
    """Return the configuration without what may change between the parts of one run."""
    return asdict(replace(training, save_every_seconds=0.0))


def _plain(value: Any) -> Any:
    """Value as it comes back from JSON."""
    return json.loads(json.dumps(value))


def step_seed(seed: int, step: int) -> int:
    """Seed of the generator of one step: 32 bits, all that the CPU generator looks at.

    >>> step_seed(0, 7), step_seed(1, 7) != step_seed(2, 7)
    (7, True)
    """
    # An odd multiplier (2^32 over the golden ratio) spreads the runs of different seeds over all sequences of steps.
    return (step + seed * 0x9E3779B1) % 2**32
