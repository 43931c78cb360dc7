"""What a training run depends on besides the network and the images."""

from dataclasses import dataclass, field
from typing import Literal

import torch

from indeed.bayes.generative_model import Hyperpriors
from indeed.checks import at_least, expect, one_of
from indeed.images.noise import GREY_LEVEL

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}


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
    clipped: float = 0.0
    """Share of the samples for denoising whose noisy image is clipped to [0, 1] and rounded to 8 bit, as in a file."""
    spread: float = 1.0
    saturation: float = 1.0
    varied: float = 1.0
    """How far, and how often, the patches for denoising differ in scale, gamma and saturation from the photographs they
    are cut from, as in :class:`indeed.data.patches.PatchSampler`."""
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
    """Whether fidelity, rank and sparsity are learned from; if false, only the supervision is (model 9 of Table 3)."""
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
        counts = ("steps", "batch_size", "accumulate", "validate_every", "log_every")
        at_least(1, **{name: getattr(self, name) for name in counts})
        expect(0 <= self.seed < 2**32, "seed", self.seed, "a number in [0, 2^32)")
        for name in ("learning_rate", "gradient_clip", "target_precision"):
            expect(getattr(self, name) > 0, name, getattr(self, name), "a positive number")
        one_of(PRECISIONS, precision=self.precision)
        one_of(("mean", "sampled"), leaf=self.leaf)
        one_of(("cosine", "halving"), schedule=self.schedule)
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay: got {self.ema_decay}, expected None or a number in [0, 1)")
        expect(0 <= self.clipped <= 1, "clipped", self.clipped, "a number in [0, 1]")
        below = f"at least 0 and less than noise_high, {self.noise_high}"
        expect(0 <= self.noise_low < self.noise_high, "noise_low", self.noise_low, below)


def training_preset(name: Literal["tiny", "cpu", "cpu-long", "paper"]) -> TrainingConfig:
    """Named training runs, to go with the network preset of the same name.

    ``tiny``: seconds, for tests. ``cpu``: about an hour on one core; noise up to 55 grey levels, a little above
    the highest of Table 4. ``cpu-long``: some five hours on one core, noise as in the paper, half of it as
    8-bit files have it, and a part of the patches varied. ``paper``: 2000 passes over the 800 images of
    DIV2K at batch 4, Adam 1e-4 halved every tenth (section 4.1; batch size and clipping are not stated there).

    The work of ``paper`` is 400,000 steps of 4 patches of 0.57 TFLOP, 9.1e17 operations. That is 6.3 hours at a rate of
    40 TFLOP/s and 3.2 hours at 80, guesses for bfloat16 on one A100 and one H100: an estimate, not a measurement.
    """
    if name == "tiny":
        return TrainingConfig(steps=20, batch_size=4, warmup_steps=5, validate_every=10, log_every=5)
    if name == "cpu":
        return TrainingConfig(steps=24_000, noise_high=55 * GREY_LEVEL, precision="bfloat16", save_every_seconds=60.0)
    if name == "cpu-long":
        return TrainingConfig(
            steps=70_000,
            batch_size=4,
            learning_rate=4e-4,  # at 1e-3 its loss went up a billionfold after 4600 steps
            warmup_steps=500,
            precision="bfloat16",
            clipped=0.5,
            spread=1.5,
            saturation=2.0,
            varied=0.3,
            validate_every=5000,
            save_every_seconds=60.0,
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
    raise ValueError(f"name: got {name!r}, expected 'tiny', 'cpu', 'cpu-long' or 'paper'")
