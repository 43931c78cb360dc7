"""Loss against measured generalisation error, over the number of training images (section 3.5.1).

``python -m indeed.experiments.generalisation --help``. A cell is one number of training images and one seed, which also
chooses the images. A small denoiser is trained on their patches; then what Theorem 1 speaks of is measured on patches
of the same images and of images held out, with noise that neither has had: risk, divergences, the error against the
clean images, the Lipschitz constant from both sides, and proxies of the discrepancy.
"""

from collections.abc import Iterator, Mapping, Sequence
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
from indeed.checks import expect
from indeed.data.benchmarks import hold_out, training_split
from indeed.data.image_files import read_image
from indeed.data.patches import PatchSampler
from indeed.data.samples import sample_names, sample_path
from indeed.experiments.program import Cell, Job, Table, Values
from indeed.figures.pac_bayes import generalisation_curves, loss_against_error
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
from indeed.learning.training.sources import denoising_samples
from indeed.networks.inference_network import InDeed, NetworkConfig, network_preset
from indeed.networks.lipschitz import lipschitz_bound, lipschitz_estimate, region
from indeed.recipes.small import small_trainer
from indeed.record import Profile
from indeed.tables import Row

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


def cells(profile: Profile) -> list[Values]:
    """Cells, (images, seed): all numbers of images with one seed before any with the next."""
    size = SIZES[profile]
    return [(images, seed) for seed, images in product(size.seeds, size.images)]


def cell(job: Job, images: int, seed: int) -> Cell:
    """Make ready a cell: one network, trained and measured; a killed training continues.

    Parameters
    ----------
    job
        What it is measured with.
    images
        Number of training images.
    seed
        Seed of their choice, of the initial weights and of every batch. Fewer images are a part of more.

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
    size = SIZES[job.profile]
    train_files, held_out_files = _files(size.data)
    expect(1 <= images <= len(train_files), "images", images, f"1 to {len(train_files)}")
    chosen = torch.randperm(len(train_files), generator=torch.Generator().manual_seed(seed))[:images]
    train_files = [train_files[index] for index in chosen.tolist()]

    def compute() -> list[dict[str, float]]:
        config = replace(size.training, seed=seed, validate_every=size.training.steps)
        train, held_out = (
            [eight_bit(read_image(path).tensor(), 1) for path in files] for files in (train_files, held_out_files)
        )
        trainer = small_trainer(size.network, config, train, job.state, {"images": images, "seed": seed})
        trainer.run(progress=False)
        # Indices after those of the training. Both parts have the same noise, so that they differ in the images alone.
        indices = range(config.steps * config.batch_size, config.steps * config.batch_size + size.patches)
        sources = (trainer.samples, denoising_samples(PatchSampler(held_out, size.network.patch_size), config))
        batches = {part: draw_batch(source, indices, seed) for part, source in zip(PARTS, sources, strict=True)}
        return [measure(trainer.average, batches, config.hyperpriors, size.directions, seed)]

    data = f"{size.data}: {images} for training, {len(held_out_files)} held out"
    return Cell(compute, data, [*train_files, *held_out_files], seed)


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
    expect(len(batch.observed) % size == 0, "batch", f"{len(batch.observed)} patches", f"a multiple of {size}")
    return list(zip(torch.split(batch.observed, size), torch.split(batch.target, size), strict=True))


def _files(data: Literal["embedded", "bsd"]) -> tuple[list[Path], list[Path]]:
    """Training and held-out images; no image is on both sides."""
    if data == "bsd":
        return training_split("bsd400_gray")
    return hold_out([sample_path(name) for name in sample_names()], 4)


def _lines(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        pairs = (f"{name} {float(row[f'{name}_train']):.3f} {float(row[f'{name}_held_out']):.3f}" for name in MEASURES)
        label = f"{row['images']} images, seed {row['seed']}"
        yield f"{label}: {', '.join(pairs)} (training, held out), {float(row['seconds']):.0f} s"


TABLE = Table(
    name="generalisation",
    key={"images": int, "seed": int},
    example="16-0",
    cells=cells,
    measure=cell,
    report=_lines,
    drawings={"generalisation.svg": generalisation_curves, "generalisation_loss.svg": loss_against_error},
    only_cpu=True,
)

if __name__ == "__main__":
    TABLE.main()
