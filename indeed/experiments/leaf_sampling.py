"""Stochastic regularisation, measured: networks trained with means or with draws of the leaf level (section 3.1.4).

``python -m indeed.experiments.leaf_sampling --help``. The paper expects draws to help a network generalise. So networks
are trained on all training images and on a few, where a gap between training and validation can open, there also with a
weaker supervision, beside which the draws weigh more. Each is measured on these few images and on the validation
images, and so is what the draws add to the noise of its gradient.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Literal

from indeed.data.benchmarks import evenly, training_split
from indeed.data.patches import PatchSampler
from indeed.data.samples import sample_names, sample_path
from indeed.experiments.cells import run_cell, run_command
from indeed.learning.diagnostics.gradients import GradientNoise, gradient_noise
from indeed.learning.training.config import TrainingConfig
from indeed.learning.training.samples import denoising_samples
from indeed.learning.training.trainer import Trainer
from indeed.networks.inference_network import NetworkConfig, network_preset
from indeed.recipes.denoiser import training_images, validation_on
from indeed.record import records_folder
from indeed.tables import Row, write_table

Profile = Literal["smoke", "cpu", "paper"]
Leaf = Literal["mean", "sampled"]
Condition = Literal["all", "few", "weak"]
CONDITIONS: dict[Condition, str] = {
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


def cells(profile: Profile) -> list[dict[str, str | int]]:
    """Keys of the cells: images, leaf and seed, the two ways next to each other."""
    seeds = SIZES[profile].seeds
    return [
        {"condition": condition, "leaf": leaf, "seed": seed}
        for seed, condition, leaf in product(seeds, CONDITIONS, ("mean", "sampled"))
    ]


def cell(condition: Condition, leaf: Leaf, seed: int, *, profile: Profile, runs: Path | None = None) -> Row:
    """Train one network and measure it, or read what was measured before; a killed training continues.

    Parameters
    ----------
    condition
        One of `CONDITIONS`.
    leaf
        Precisions of the leaf level by their means or by draws.
    seed
        Seed of the initial weights and of every batch: the same images and noise for both ways.
    profile
        Sizes and data.
    runs
        Folder of the cells; None: ``runs/leaf_sampling/<profile>``.

    Returns
    -------
    PSNR in dB of L and L + S on the validation images (``psnr_low_rank``, ``psnr``) and on the few training images
    (with ``_few``), the `GradientNoise` at the end of the run (``noise_batch``, ...), ``steps`` and ``skipped_steps``.

    Raises
    ------
    DataMissingError
        If the images are not on disk.
    ValueError
        If ``condition`` or ``leaf`` is another word.
    """
    for name, value, known in (("condition", condition, CONDITIONS), ("leaf", leaf, ("mean", "sampled"))):
        if value not in known:
            raise ValueError(f"{name}: got {value!r}, expected one of {', '.join(known)}")
    size, folder = SIZES[profile], runs or Path("runs") / "leaf_sampling" / profile
    files = [path for part in training_split("bsd400_gray") for path in part] if size.data == "bsd" else []
    files = files or [sample_path(name) for name in sample_names()]
    patch = size.network.patch_size
    source, train, held_out = training_images(size.data, 1, patch)
    few = evenly(train, size.few)

    def compute() -> dict[str, float]:
        config = replace(size.training, seed=seed, leaf=leaf, validate_every=size.training.steps)
        if condition == "weak":
            config = replace(config, target_precision=config.target_precision / 100)
        samples = denoising_samples(PatchSampler(train if condition == "all" else few, patch), config)
        run = folder / f"{condition}-{leaf}-{seed}"
        trainer = Trainer(size.network, config, samples, run, resume=True, description={"condition": condition})
        trainer.run(progress=False)
        on_validation, on_few = (validation_on(part, patch)(trainer.average) for part in (held_out, few))
        # batches that the run would have gone on with
        batches = [trainer.draw(config.steps + index)[0] for index in range(size.batches)]
        noise = gradient_noise(trainer.model, batches, config)
        return {
            "psnr_low_rank": on_validation.psnr_low_rank,
            "psnr": on_validation.psnr,
            "psnr_low_rank_few": on_few.psnr_low_rank,
            "psnr_few": on_few.psnr,
            **{f"noise_{name}": value for name, value in noise._asdict().items()},
            "steps": trainer.step,
            "skipped_steps": trainer.skipped,
        }

    path = folder / f"{condition}-{leaf}-{seed}.csv"
    key = {"condition": condition, "leaf": leaf, "seed": seed}
    return run_cell(path, key, compute, profile=profile, seed=seed, data=source, files=files)


def table(profile: Profile, folder: Path | None = None, *, runs: Path | None = None) -> list[Row]:
    """All cells of a profile, computed where they are missing, and written to ``<folder>/leaf_sampling.csv``.

    ``folder`` is by default that of fresh records (:func:`indeed.record.records_folder`), with the name of the profile.

    Raises
    ------
    DataMissingError
        If the images are not on disk.
    """
    rows = [cell(**key, profile=profile, runs=runs) for key in cells(profile)]  # type: ignore[arg-type]
    folder = folder or records_folder() / profile
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "leaf_sampling.csv", rows)
    return rows


def _list(profile: Profile = "cpu") -> None:
    """Print the name of each cell of a profile: condition-leaf-seed."""
    for key in cells(profile):
        print("{condition}-{leaf}-{seed}".format(**key))


def _cell(name: str, profile: Profile = "cpu", runs: Path | None = None) -> None:
    """Train and measure one cell (condition-leaf-seed, such as few-sampled-0), unless it is there, and print it."""
    by_name = {"{condition}-{leaf}-{seed}".format(**key): key for key in cells(profile)}
    if name not in by_name:
        raise ValueError(f"name: got {name!r}, expected one of {', '.join(by_name)}")
    _print(cell(**by_name[name], profile=profile, runs=runs))  # type: ignore[arg-type]


def _table(profile: Profile = "cpu", folder: Path | None = None, runs: Path | None = None) -> None:
    """Compute the cells that are missing, write leaf_sampling.csv, and print it."""
    for row in table(profile, folder, runs=runs):
        _print(row)


def _print(row: Row) -> None:
    values = (f"{name} {float(row[name]):.3f}" for name in ("psnr_low_rank", "psnr", "psnr_low_rank_few", "psnr_few"))
    noise = ", ".join(f"{source} {float(row[f'noise_{source}']):.3g}" for source in GradientNoise._fields)
    label = f"{row['condition']}-{row['leaf']}-{row['seed']}"
    print(f"{label}: {' '.join(values)}; noise: {noise}; {float(row['seconds']):.0f} s", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``python -m indeed.experiments.leaf_sampling``."""
    run_command("leaf_sampling", {"list": _list, "cell": _cell, "table": _table}, arguments)


if __name__ == "__main__":
    main()
