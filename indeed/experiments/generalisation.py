"""Loss against measured generalisation error, over the number of training images (section 3.5.1).

``python -m indeed.experiments.generalisation --help``. A cell is one number of training images and one seed, which also
chooses the images. A small denoiser is trained on their patches; then what Theorem 1 speaks of is measured on patches
of the same images and of images held out, with noise that neither has had: risk, divergences, the error against the
clean images, the Lipschitz constant from both sides, and proxies of the discrepancy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Literal

import torch
from torch import Tensor

from indeed.bayes.conjugate_updates import solve_leaf_level
from indeed.bayes.generative_model import Hyperpriors
from indeed.bayes.pac_bayes import empirical_loss, empirical_terms
from indeed.data.benchmarks import hold_out, training_split
from indeed.data.files import read_image
from indeed.data.patches import PatchSampler
from indeed.data.samples import sample_names, sample_path
from indeed.experiments.cells import cell_name, run_cell, run_command
from indeed.images.metrics import psnr
from indeed.images.noise import GREY_LEVEL
from indeed.images.pixels import eight_bit
from indeed.learning.diagnostics.discrepancy import (
    mean_distance,
    patch_statistics,
    permutation_p_value,
    sliced_wasserstein,
    squared_mmd,
    standardised_features,
)
from indeed.learning.loading import Batch, draw_batch
from indeed.learning.training.config import TrainingConfig
from indeed.learning.training.samples import denoising_samples
from indeed.learning.training.trainer import Trainer
from indeed.networks.inference_network import InDeed, NetworkConfig, network_preset
from indeed.networks.lipschitz import lipschitz_bound, lipschitz_estimate, region
from indeed.record import records_folder
from indeed.tables import Row, read_table, write_table

Profile = Literal["smoke", "cpu", "paper"]
Key = dict[str, int]
PARTS = ("train", "held_out")
MEASURES = ("risk", "middle_kl", "leaf_kl", "loss", "psnr")
"""What is measured on patches of both parts: nats per pixel, and dB."""


@dataclass(frozen=True)
class Size:
    """What a profile is."""

    network: NetworkConfig
    training: TrainingConfig
    data: Literal["embedded", "bsd"]
    images: tuple[int, ...]
    """Numbers of training images."""
    seeds: tuple[int, ...]
    patches: int
    """Patches of each part that are measured, an even number."""
    directions: int
    """Patches at which the largest stretching is looked for, and steps of that search."""


SIZES: dict[Profile, Size] = {
    "smoke": Size(
        network_preset("tiny", 1),
        TrainingConfig(steps=4, batch_size=2, warmup_steps=1, noise_high=55 * GREY_LEVEL),
        data="embedded",
        images=(1, 4),
        seeds=(0,),
        patches=8,
        directions=2,
    ),
    "cpu": Size(
        replace(network_preset("cpu", 1), max_rank=32, factor_blocks=4, sparse_width=32, sparse_blocks=4),
        TrainingConfig(
            steps=500, batch_size=4, warmup_steps=40, noise_high=55 * GREY_LEVEL, precision="bfloat16", log_every=50
        ),
        data="bsd",
        images=(1, 4, 16, 64, 360),
        seeds=(0, 1, 2),
        patches=128,
        directions=8,
    ),
    "paper": Size(
        network_preset("paper", 1),
        TrainingConfig(
            steps=20_000, batch_size=4, learning_rate=1e-4, noise_high=55 * GREY_LEVEL, precision="bfloat16"
        ),
        data="bsd",
        images=(1, 4, 16, 64, 360),
        seeds=(0, 1, 2),
        patches=128,
        directions=8,
    ),
}
"""The profiles. ``cpu`` is a smaller network of the form of the `cpu` preset, less than a minute of one core a cell."""


def cells(profile: Profile) -> list[Key]:
    """Keys of the cells: all numbers of images with one seed before any with the next."""
    size = SIZES[profile]
    return [{"images": images, "seed": seed} for seed, images in product(size.seeds, size.images)]


def cell_key(name: str) -> Key:
    """Key of a cell from its name.

    Raises
    ------
    ValueError
        If the name has not the form of `cell_name`.
    """
    parts = name.split("-")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise ValueError(f"name must be images-seed, such as 16-0, got {name!r}")
    return {"images": int(parts[0]), "seed": int(parts[1])}


def cell(images: int, seed: int, *, profile: Profile, runs: Path | None = None) -> Row:
    """Train one network and measure it, or read what was measured before; a killed training continues.

    Parameters
    ----------
    images
        Number of training images.
    seed
        Seed of their choice, of the initial weights and of every batch. Fewer images are a part of more.
    profile
        Sizes and data.
    runs
        Folder of the cells; None: ``runs/generalisation/<profile>``.

    Returns
    -------
    `MEASURES` of both `PARTS` (``risk_train``, ...); ``lipschitz_lower`` and ``lipschitz_upper`` of L + S; and the
    discrepancy of the parts: ``wasserstein``, ``mmd`` and ``p_value`` of its permutation test, on the standardised
    `patch_statistics`, and the ``mean_distance`` of the patches themselves. The test takes the patches for independent,
    which those of one image are not: with few images a small p-value says that a few images are not all images.

    Raises
    ------
    DataMissingError
        If the images are not on disk.
    ValueError
        If there are not so many training images.
    """
    size, folder = SIZES[profile], runs or Path("runs") / "generalisation" / profile
    key = {"images": images, "seed": seed}
    train_files, held_out_files = _files(size.data)
    if not 1 <= images <= len(train_files):
        raise ValueError(f"images must be between 1 and {len(train_files)}, got {images}")
    chosen = torch.randperm(len(train_files), generator=torch.Generator().manual_seed(seed))[:images]
    train_files = [train_files[index] for index in chosen.tolist()]

    def compute() -> dict[str, float]:
        config = replace(size.training, seed=seed, validate_every=size.training.steps)
        patch = size.network.patch_size
        train, held_out = (
            denoising_samples(PatchSampler([_grey(path) for path in files], patch), config)
            for files in (train_files, held_out_files)
        )
        trainer = Trainer(size.network, config, train, folder / cell_name(key), resume=True, description=key)
        trainer.run(progress=False)
        # After those of the training. The same noise for both parts, so that they differ in the images alone.
        indices = range(config.steps * config.batch_size, config.steps * config.batch_size + size.patches)
        batches = {
            part: draw_batch(source, indices, seed) for part, source in zip(PARTS, (train, held_out), strict=True)
        }
        return measure(trainer.average, batches, config.hyperpriors, size.directions, seed)

    return run_cell(
        folder / f"{cell_name(key)}.csv",
        key,
        compute,
        profile=profile,
        seed=seed,
        data=f"{size.data}: {images} for training, {len(held_out_files)} held out",
        files=[*train_files, *held_out_files],
    )


def measure(
    model: InDeed, batches: Mapping[str, Batch], hyperpriors: Hyperpriors, directions: int, seed: int
) -> dict[str, float]:
    """Measure a network on patches of both `PARTS`; the values of `cell`.

    ``directions`` is the number of patches, and of steps, of the search for the largest stretching; all random numbers
    are from ``seed``.
    """
    values: dict[str, float] = {}
    for part, batch in batches.items():
        found = [measure_patches(model, y, clean, hyperpriors) for y, clean in _chunks(batch)]
        values |= {f"{name}_{part}": fmean(one[name] for one in found) for name in MEASURES}
    observed = [batches[part].observed for part in PARTS]
    within = region(model, torch.cat(observed))
    generator = partial(torch.Generator().manual_seed, seed)
    some = observed[1][:directions]
    values["lipschitz_lower"] = lipschitz_estimate(model, some, steps=directions, generator=generator()).L_plus_S
    height, width = some.shape[-2:]
    values["lipschitz_upper"] = lipschitz_bound(model, height, width, within)[0].L_plus_S
    # Different halves: with the same noise the two sets would not be independent.
    half = len(observed[0]) // 2
    first, second = observed[0][:half], observed[1][half:]
    values["mean_distance"] = mean_distance(first.flatten(1), second.flatten(1))
    features = standardised_features(patch_statistics(first), patch_statistics(second))
    values["wasserstein"] = sliced_wasserstein(*features, generator=generator())
    values["mmd"] = squared_mmd(*features)
    values["p_value"] = permutation_p_value(*features, squared_mmd, generator=generator())
    return values


@torch.no_grad()
def measure_patches(model: InDeed, y: Tensor, clean: Tensor, hyperpriors: Hyperpriors) -> dict[str, float]:
    """Means of `MEASURES` over patches, with the leaf level solved for the expected residual."""
    middle, means = model(y)
    leaf = solve_leaf_level(y, middle, hyperpriors)
    terms = empirical_terms(y, middle, leaf, hyperpriors)
    nats = [x.mean().item() / y[0].numel() for x in (terms.risk, terms.middle_kl, terms.leaf_kl, empirical_loss(terms))]
    return dict(zip(MEASURES, [*nats, psnr(means.low_rank + means.S, clean).mean().item()], strict=True))


def _chunks(batch: Batch, size: int = 8) -> list[tuple[Tensor, Tensor]]:
    if len(batch.observed) % size:
        raise ValueError(f"batch: got {len(batch.observed)} patches, expected a multiple of {size}")
    return list(zip(torch.split(batch.observed, size), torch.split(batch.target, size), strict=True))


def _files(data: Literal["embedded", "bsd"]) -> tuple[list[Path], list[Path]]:
    """Training and held-out images; no image is on both sides."""
    if data == "bsd":
        return training_split("bsd400_gray")
    return hold_out([sample_path(name) for name in sample_names()], 4)


def _grey(path: Path) -> Tensor:
    return eight_bit(read_image(path).tensor(), 1)


def table(profile: Profile, folder: Path | None = None, *, runs: Path | None = None) -> list[Row]:
    """All cells of a profile, computed where they are missing, and written to ``<folder>/generalisation.csv``.

    ``folder`` is by default that of fresh records (:func:`indeed.record.records_folder`), with the name of the profile.

    Raises
    ------
    DataMissingError
        If the images are not on disk.
    """
    rows = [cell(**key, profile=profile, runs=runs) for key in cells(profile)]
    folder = folder or records_folder() / profile
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "generalisation.csv", rows)
    return rows


def rank_correlation(rows: Sequence[Mapping[str, str]], first: str, second: str) -> float:
    """Spearman's rank correlation of two columns over the cells.

    >>> rows = [{"loss_train": str(x), "psnr_held_out": str(-x)} for x in (1.0, 2.0, 4.0)]
    >>> round(rank_correlation(rows, "loss_train", "psnr_held_out"), 6)
    -1.0
    """
    from scipy.stats import spearmanr

    columns = ([float(row[name]) for row in rows] for name in (first, second))
    return float(spearmanr(*columns).statistic)


def _print_names(profile: Profile = "cpu") -> None:
    """Print the name of each cell of a profile: images-seed."""
    for key in cells(profile):
        print(cell_name(key))


def _print_cell(name: str, profile: Profile = "cpu", runs: Path | None = None) -> None:
    """Train and measure one cell (images-seed, such as 16-0), unless it is there, and print it."""
    _print_row(cell(**cell_key(name), profile=profile, runs=runs))


def _print_table(profile: Profile = "cpu", folder: Path | None = None, runs: Path | None = None) -> None:
    """Compute the cells that are missing, write generalisation.csv, and print it."""
    for row in table(profile, folder, runs=runs):
        _print_row(row)


def _print_row(row: Row) -> None:
    pairs = (f"{name} {float(row[f'{name}_train']):.3f} {float(row[f'{name}_held_out']):.3f}" for name in MEASURES)
    label = f"{row['images']} images, seed {row['seed']}"
    print(f"{label}: {', '.join(pairs)} (training, held out), {float(row['seconds']):.0f} s", flush=True)


def _draw(profile: Profile = "cpu", folder: Path | None = None) -> None:
    """Draw generalisation.csv: generalisation.svg (over the number of images) and generalisation_loss.svg."""
    from indeed.figures import generalisation_curves, loss_against_error

    folder = folder or records_folder() / profile
    rows = read_table(folder / "generalisation.csv")
    generalisation_curves(rows)[0].savefig(folder / "generalisation.svg")
    loss_against_error(rows)[0].savefig(folder / "generalisation_loss.svg")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``python -m indeed.experiments.generalisation``."""
    run_command(
        "generalisation",
        {"list": _print_names, "cell": _print_cell, "table": _print_table, "figure": _draw},
        arguments,
    )


if __name__ == "__main__":
    main()
