"""Stochastic regularisation, measured: networks trained with means or with draws of the leaf level (section 3.1.4).

``python -m indeed.experiments.leaf_sampling --help``. The paper expects draws to help a network generalise. So networks
are trained on all training images and on a few, where a gap between training and validation can open, there also with a
weaker supervision, beside which the draws weigh more. Each is measured on these few images and on the validation
images, and so is what the draws add to the noise of its gradient.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

from indeed.data.benchmarks import evenly, training_split
from indeed.data.samples import sample_names, sample_path
from indeed.experiments.program import Cell, Job, Table, Values
from indeed.learning.diagnostics.gradients import GradientNoise, gradient_noise
from indeed.learning.training.config import TrainingConfig
from indeed.networks.inference_network import NetworkConfig, network_preset
from indeed.recipes.denoiser import training_images, validation_on
from indeed.recipes.small import small_trainer
from indeed.record import Profile
from indeed.tables import Row

Leaf = Literal["mean", "sampled"]
LEAVES: tuple[Leaf, ...] = ("mean", "sampled")
CONDITIONS = {
    "all": "all training images",
    "few": "a few training images",
    "weak": "a few training images, a hundredth of the target precision",
}
"""What the networks are trained on, and how."""


@dataclass(frozen=True)
class Size:
    """What a profile is: network, run, data, how many images are few, seeds, batches the noise is measured on."""

    network: NetworkConfig
    training: TrainingConfig
    data: Literal["embedded", "bsd"]
    few: int
    seeds: tuple[int, ...]
    batches: int


SIZES: dict[Profile, Size] = {
    "smoke": Size(
        network_preset("tiny", 1),
        TrainingConfig(steps=4, batch_size=2, warmup_steps=1),
        data="embedded",
        few=1,
        seeds=(0,),
        batches=2,
    ),
    "cpu": Size(
        replace(network_preset("cpu", 1), max_rank=32, factor_blocks=4, sparse_width=32, sparse_blocks=4),
        TrainingConfig(steps=800, batch_size=4, warmup_steps=60, precision="bfloat16"),
        data="bsd",
        few=4,
        seeds=(0, 1, 2),
        batches=12,
    ),
    "paper": Size(
        network_preset("paper", 1),
        TrainingConfig(steps=20_000, batch_size=4, learning_rate=1e-4, precision="bfloat16"),
        data="bsd",
        few=4,
        seeds=(0, 1, 2),
        batches=24,
    ),
}
"""The profiles. ``cpu`` is a smaller network of the form of the `cpu` preset, a minute of one core for each run."""


def cells(profile: Profile) -> list[Values]:
    """Cells, (condition, leaf, seed): the two ways next to each other."""
    return [(condition, leaf, seed) for seed, condition, leaf in product(SIZES[profile].seeds, CONDITIONS, LEAVES)]


def cell(job: Job, condition: str, leaf: Leaf, seed: int) -> Cell:
    """Make ready a cell: one network, trained and measured; a killed training continues.

    Parameters
    ----------
    job
        What it is measured with.
    condition
        One of `CONDITIONS`.
    leaf
        Precisions of the leaf level by their means or by draws.
    seed
        Seed of the initial weights and of every batch: the same images and noise for both ways.

    Returns
    -------
    PSNR in dB of L and L + S on the validation images (``psnr_low_rank``, ``psnr``) and on the few training images
    (with ``_few``), the `GradientNoise` at the end of the run (``noise_batch``, ...), ``steps`` and ``skipped_steps``.

    Raises
    ------
    DataMissingError
        If the images are not on disk.
    """
    size = SIZES[job.profile]
    files = [path for part in training_split("bsd400_gray") for path in part] if size.data == "bsd" else []
    files = files or [sample_path(name) for name in sample_names()]
    patch = size.network.patch_size
    source, train, held_out = training_images(size.data, 1, patch)
    few = evenly(train, size.few)

    def compute() -> list[dict[str, float]]:
        config = replace(size.training, seed=seed, leaf=leaf, validate_every=size.training.steps)
        if condition == "weak":
            config = replace(config, target_precision=config.target_precision / 100)
        images = train if condition == "all" else few
        trainer = small_trainer(size.network, config, images, job.state, {"condition": condition})
        trainer.run(progress=False)
        on_validation, on_few = (validation_on(part, patch)(trainer.average) for part in (held_out, few))
        # batches that the run would have gone on with
        batches = [trainer.draw(config.steps + index)[0] for index in range(size.batches)]
        noise = gradient_noise(trainer.model, batches, config)
        values = {
            "psnr_low_rank": on_validation.psnr_low_rank,
            "psnr": on_validation.psnr,
            "psnr_low_rank_few": on_few.psnr_low_rank,
            "psnr_few": on_few.psnr,
            **{f"noise_{name}": value for name, value in noise._asdict().items()},
            "steps": trainer.step,
            "skipped_steps": trainer.skipped,
        }
        return [values]

    return Cell(compute, source, files, seed)


def _lines(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        names = ("psnr_low_rank", "psnr", "psnr_low_rank_few", "psnr_few")
        values = " ".join(f"{name} {float(row[name]):.3f}" for name in names)
        noise = ", ".join(f"{source} {float(row[f'noise_{source}']):.3g}" for source in GradientNoise._fields)
        label = f"{row['condition']}-{row['leaf']}-{row['seed']}"
        yield f"{label}: {values}; noise: {noise}; {float(row['seconds']):.0f} s"


TABLE = Table(
    name="leaf_sampling",
    key={"condition": CONDITIONS, "leaf": LEAVES, "seed": int},
    example="few-sampled-0",
    cells=cells,
    measure=cell,
    report=_lines,
    only_cpu=True,
)

if __name__ == "__main__":
    TABLE.main()
