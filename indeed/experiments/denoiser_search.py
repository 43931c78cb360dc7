"""Search for the preset `cpu-long`: forms of f_S and of its training, in rounds of ever longer runs.

Until it is done that preset is on trial.
``python -m indeed.experiments.denoiser_search --help``. What is sought is the best denoiser after half a day of one
core that costs no more than the `cpu` preset when it is used. All runs of a round have the same floating-point
operations, forward and backward, in batches of the same number of pixels; a round keeps the best forms of the one
before. They are compared on the centres of photographs that were held out of training; no test set took part.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from indeed.experiments.design_search import Form, affordable_steps, flops
from indeed.experiments.program import Cell, Job, Table, Values
from indeed.images.metrics import psnr
from indeed.images.noise import GREY_LEVEL, seeded_gaussian
from indeed.learning.training.config import TrainingConfig, training_preset
from indeed.networks.backbones import parameter_count
from indeed.networks.inference_network import InDeed, NetworkConfig, network_preset
from indeed.networks.whole_image import decompose
from indeed.recipes.denoiser import training_images
from indeed.recipes.small import small_trainer
from indeed.record import Profile
from indeed.tables import Row

UNET = {"sparse_halvings": 2, "sparse_blocks": 2, "sparse_widest": 128, "sparse_residual": True}
CANDIDATES = (
    Form("residual_unet", "a residual U-Net on 2x unshuffled pixels, 64, 128 and 128 wide", UNET),
    Form("cpu", "the preset cpu: a ResNet 64 wide", {}),
    Form("unet", "a U-Net that concatenates", {"sparse_halvings": 2, "sparse_blocks": 2}),
    Form("observation", "the residual U-Net sees Y alone", UNET | {"sparse_input": "observation"}),
    Form("bias_free", "the residual U-Net without biases", UNET | {"sparse_bias": False}),
    Form("patch_128", "the residual U-Net on patches of 128 pixels, a quarter as many", UNET | {"patch_size": 128}),
    Form("wide", "the residual U-Net, 96 and 128 wide", UNET | {"sparse_width": 96}),
    Form("one_halving", "one halving, three blocks", UNET | {"sparse_halvings": 1, "sparse_blocks": 3}),
    Form("small", "the residual U-Net, 48, 96 and 144 wide", UNET | {"sparse_width": 48, "sparse_widest": 144}),
    Form("deep_resnet", "a ResNet of 13 blocks", {"sparse_blocks": 13}),
    Form("slow", "the residual U-Net, learning rate 5e-4", UNET, {"learning_rate": 5e-4}),
    Form("fast", "the residual U-Net, learning rate 2e-3", UNET, {"learning_rate": 2e-3}),
    Form("long_average", "the residual U-Net, decay of the average 0.9995", UNET, {"ema_decay": 0.9995}),
)
"""Forms, the first one being what the others are variants of."""
FORMS_BY_NAME = {form.name: form for form in CANDIDATES}


@dataclass(frozen=True)
class Round:
    """How long the runs of a round are, and of what."""

    teraflop: float
    """Operations of a run, 10^12."""
    forms: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Size:
    """What a profile is: the network and the run that the forms change, the data, the rounds."""

    network: NetworkConfig
    training: TrainingConfig
    data: str
    rounds: tuple[Round, ...]
    images: int | None = None
    """Images to measure on; None: all that are held out."""


SIZES: dict[Profile, Size] = {
    "smoke": Size(
        network_preset("tiny", 3),
        training_preset("tiny"),
        "embedded",
        (Round(2e-4, ("residual_unet", "observation")),),
        1,
    ),
    "cpu": Size(
        network_preset("cpu", 3),
        replace(training_preset("cpu"), noise_high=75 * GREY_LEVEL),
        "bsd",
        (Round(60.0, tuple(FORMS_BY_NAME)),),
    ),
}
LEVELS = (15, 25, 50)
"""Noise that is measured at, in grey levels."""
SIDE = 256
"""Side in pixels of the centres that are measured on."""


def cells(profile: Profile) -> list[Values]:
    """Cells, (round, form, seed), the shorter rounds first."""
    rounds = enumerate(SIZES[profile].rounds, start=1)
    return [(number, form, seed) for number, one in rounds for form in one.forms for seed in one.seeds]


def cell(job: Job, round: int, form: str, seed: int) -> Cell:
    """Make ready a cell: one run, measured at its end; a killed run continues.

    Returns
    -------
    PSNR in dB of L + S at each of the `LEVELS` (``psnr_15``, ...) and of L at 25; ``gflop_megapixel``, what a megapixel
    costs when the network is used; ``seconds_per_step``, of the processor; steps, parameters and operations of a step.

    Raises
    ------
    DataMissingError
        If the images are not on disk.
    ValueError
        If there is no such round.
    """
    size = SIZES[job.profile]
    if not 1 <= round <= len(size.rounds):
        raise ValueError(f"round: got {round}, expected 1 to {len(size.rounds)}")
    network, training = replace(size.network, **FORMS_BY_NAME[form].network), size.training
    training = replace(training, batch_size=training.batch_size * size.network.patch_size**2 // network.patch_size**2)
    training = replace(training, seed=seed, **FORMS_BY_NAME[form].training)
    steps = affordable_steps(network, training.batch_size, 1e12 * size.rounds[round - 1].teraflop)
    training = replace(training, steps=steps, warmup_steps=min(training.warmup_steps, steps), validate_every=steps)
    source, train, held_out = training_images(size.data, network.channels, network.patch_size)

    def compute() -> list[dict[str, float]]:
        trainer = small_trainer(network, training, train, job.state, {"data": source})
        start, before = time.process_time(), trainer.step
        trainer.run(progress=False)
        seconds = (time.process_time() - start) / max(1, trainer.step - before)
        return [
            measured(trainer.average, held_out[: size.images])
            | {
                "gflop_megapixel": gflop_megapixel(network),
                "seconds_per_step": seconds,
                "steps": steps,
                "batch": training.batch_size,
                "parameters": parameter_count(trainer.model),
                "gflop_per_step": flops(network, training.batch_size) / 1e9,
            }
        ]

    return Cell(compute, source, seed=seed)


def measured(model: InDeed, images: Sequence[Tensor]) -> dict[str, float]:
    """Mean PSNR of L + S at each level, and of L at 25, on the centres of images; the noise of an image is fixed."""
    found: dict[str, list[float]] = {name: [] for name in (*(f"psnr_{level}" for level in LEVELS), "psnr_low_rank")}
    for index, image in enumerate(images):
        top, left = (max(0, length - SIDE) // 2 for length in image.shape[1:])
        clean = image[:, top : top + SIDE, left : left + SIDE].float() / 255
        for level in LEVELS:
            parts = decompose(model, seeded_gaussian(clean, level, seed=index))
            found[f"psnr_{level}"].append(psnr((parts.L + parts.S)[None], clean[None]).item())
            if level == 25:
                found["psnr_low_rank"].append(psnr(parts.L[None], clean[None]).item())
    return {name: sum(values) / len(values) for name, values in found.items()}


def gflop_megapixel(network: NetworkConfig) -> float:
    """Operations, 10^9, of a megapixel: f_A and f_B on tiles that share a quarter of their sides, f_S once."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        model, y = InDeed(network), torch.zeros(1, network.channels, network.patch_size, network.patch_size)
        with FlopCounterMode(display=False) as factors:
            _ = model.f_A(y), model.f_B(y)
        with FlopCounterMode(display=False) as sparse:
            model.f_S(y, y)
    operations = factors.get_total_flops() / 0.75**2 + sparse.get_total_flops()
    return float(operations / network.patch_size**2 / 1e3)


def _lines(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        values = " ".join(f"{float(row[f'psnr_{level}']):.3f}" for level in LEVELS)
        cost = f"{float(row['gflop_megapixel']):.0f} GFLOP/Mpx, {float(row['seconds_per_step']):.3f} s/step"
        cell = f"{row['round']}-{row['form']}-{row['seed']}"
        yield f"{cell}: {values} L {float(row['psnr_low_rank']):.2f}; {cost}, {float(row['steps']):.0f} steps"


TABLE = Table(
    name="denoiser_search",
    key={"round": int, "form": FORMS_BY_NAME, "seed": int},
    example="1-cpu-0",
    cells=cells,
    measure=cell,
    report=_lines,
    profiles=("smoke", "cpu"),
    only_cpu=True,
)

if __name__ == "__main__":
    TABLE.main()
