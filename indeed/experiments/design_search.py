"""The search behind the `cpu` preset: one choice at a time is changed, each at the same small budget of arithmetic.

Equal steps would favour large networks, equal seconds would depend on the machine. So each form gets as many steps as
cost, forward and backward, what the steps of the base cost. Choices are made on the validation images.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from indeed.experiments.program import Cell, Job, Table
from indeed.learning.training.config import TrainingConfig, training_preset
from indeed.networks.backbones import parameter_count
from indeed.networks.inference_network import InDeed, NetworkConfig, network_preset
from indeed.recipes.denoiser import training_images, validation_on
from indeed.recipes.run import Preset
from indeed.recipes.small import small_trainer
from indeed.record import Profile
from indeed.tables import Row


@dataclass(frozen=True)
class Form:
    """One variant of the preset: its name, what it is, and the fields of the network and of the run that differ."""

    name: str
    meaning: str
    network: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)


FORMS = (
    Form("preset", "the preset"),
    Form("factors_group_norm", "GroupNorm in f_A and f_B", {"factor_norm": "group"}),
    Form("group_norm", "GroupNorm in all three, as in the paper", {"norm": "group"}),
    Form(
        "plain_mean",
        "heads of f_A and f_B see the mean of the other axis, as in the paper",
        {"factor_moments": 1, "factor_positions": 0},
    ),
    Form("no_positions", "heads of f_A and f_B see moments, no positions", {"factor_positions": 0}),
    Form("no_moments", "heads of f_A and f_B see positions, one moment", {"factor_moments": 1}),
    Form("more_moments", "twice as many moments", {"factor_moments": 32}),
    Form("factors_whole", "f_A and f_B on images not unshuffled", {"factor_unshuffle": 1}),
    Form("full_factors", "f_A and f_B keep the averaged axis, as in the paper", {"factor_halving": False}),
    Form("factors_wide", "f_A and f_B twice as wide", {"factor_width": 48}),
    Form("sparse_output", "f_S outputs the mean of S, as in the paper", {"sparse_output": "sparse"}),
    Form("residual_input", "f_S sees Y - L, as in the paper", {"sparse_input": "residual"}),
    Form("full_pixels", "f_S works on full pixels, as in the paper", {"sparse_unshuffle": 1}),
    Form("narrow", "f_S 48 wide", {"sparse_width": 48}),
    Form("wide", "f_S 96 wide", {"sparse_width": 96}),
    Form("shallow", "f_S of 4 blocks", {"sparse_blocks": 4}),
    Form("deep", "f_S of 10 blocks", {"sparse_blocks": 10}),
    Form("patch_128", "patches of 128 pixels, a quarter as many", {"patch_size": 128}),
    Form("loose_draws", "standard deviations of A, B and S that start at exp(-3)", {"log_variance_init": -6.0}),
    Form("target_1e4", "target precision 1e4", training={"target_precision": 1e4}),
    Form("target_1e6", "target precision 1e6, as in the paper", training={"target_precision": 1e6}),
    Form("cosine_gram", "orthogonality of unit columns", training={"orthogonality_form": "cosine"}),
    Form("halving_schedule", "learning rate halved each tenth, as in the paper", training={"schedule": "halving"}),
    Form("fast", "learning rate 2e-3", training={"learning_rate": 2e-3}),
    Form("slow", "learning rate 5e-4", training={"learning_rate": 5e-4}),
    Form("no_average", "the last weights, not their moving average", training={"ema_decay": None}),
    Form("noise_75", "noise up to 75 grey levels, as in the paper", training={"noise_high": 75 / 255}),
)
"""The preset and its variants; "as in the paper" where the paper says so or its closest code does."""
VARIANTS = {form.name: form for form in FORMS}


def configurations(form: Form, preset: Preset, channels: int, steps: int) -> tuple[NetworkConfig, TrainingConfig]:
    """Network and run of a form; `steps` are those of the preset, a form gets what the same arithmetic pays for.

    Raises
    ------
    ValueError
        If the form has a field that the preset has not.
    """
    base = network_preset(preset, channels)
    network = replace(base, **form.network)
    training = replace(training_preset(preset), **form.training)
    # A batch always holds the same number of pixels.
    training = replace(training, batch_size=training.batch_size * base.patch_size**2 // network.patch_size**2)
    budget = flops(base, training_preset(preset).batch_size) * steps
    affordable = affordable_steps(network, training.batch_size, budget)
    return network, replace(training, steps=affordable, validate_every=affordable)


def affordable_steps(network: NetworkConfig, batch: int, budget: float) -> int:
    """Count the steps, at least one, that so many floating-point operations pay for."""
    return max(1, round(budget / flops(network, batch)))


def flops(network: NetworkConfig, batch: int) -> int:
    """Floating-point operations of one forward and backward pass (two for each multiplication with its addition)."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.random.fork_rng(devices=[]):
        model = InDeed(network)
    y = torch.zeros(batch, network.channels, network.patch_size, network.patch_size)
    with FlopCounterMode(display=False) as counter:
        middle, _ = model(y)
        sum(part.sum() for factor in middle for part in factor).backward()
    return int(counter.get_total_flops())


SIZES: dict[Profile, tuple[Preset, int, str]] = {"smoke": ("tiny", 4, "embedded"), "cpu": ("cpu", 400, "bsd")}
"""The preset that a profile varies, the steps that it gets, and the training images."""


def measure(job: Job, form: str) -> Cell:
    """Make ready a cell: one form, trained and validated, with what it cost; a killed training continues.

    Raises
    ------
    DataMissingError
        If the data are not on disk.
    """
    preset, steps, data = SIZES[job.profile]
    network, training = configurations(VARIANTS[form], preset, 1, steps)
    source, train, held_out = training_images(data, 1, network.patch_size)

    def compute() -> list[dict[str, float]]:
        trainer = small_trainer(network, training, train, job.state, {"data": source})
        trainer.run(progress=False)
        merits = validation_on(held_out, network.patch_size)(trainer.average)
        return [
            {
                "psnr": merits.psnr,
                "psnr_low_rank": merits.psnr_low_rank,
                "steps": training.steps,
                "batch": training.batch_size,
                "parameters": parameter_count(trainer.model),
                "gflop_per_step": flops(network, training.batch_size) / 1e9,
            }
        ]

    return Cell(compute, source)


def _lines(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        yield f"{row['form']}: {float(row['psnr']):.3f} L {float(row['psnr_low_rank']):.3f}; {row['seconds']} s"


TABLE = Table(
    name="design_search",
    key={"form": VARIANTS},
    example="factors_wide",
    cells=lambda profile: [(name,) for name in (("preset", "narrow") if profile == "smoke" else VARIANTS)],
    measure=measure,
    report=_lines,
    profiles=("smoke", "cpu"),
    only_cpu=True,
)

if __name__ == "__main__":
    TABLE.main()
