"""Table 3: the ablation study of the paper, eleven models trained alike, cell by cell.

``python -m indeed.experiments.table3 --help``. A cell is one model, one kind of heads and one seed. What a model is
stands in the paper's table (``results/paper/table3_ablation.csv``); how large it is, what it is trained on and for how
long is the profile's. The norm of a row is that of all three modules. The paper does not give the widths: they are
those of :class:`indeed.networks.inference_network.NetworkConfig`, which meet its parameter counts.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, get_args

from torch import nn

from indeed.checks import expect
from indeed.data.benchmarks import SETS, benchmark, data_root, evenly, training_split
from indeed.data.image_files import read_image
from indeed.data.samples import sample_names, sample_path
from indeed.experiments.program import Cell, Job, Table, Values
from indeed.experiments.table3_conclusions import FIGURES, beside_paper, printed
from indeed.figures.ablations import ablation_study
from indeed.images.metrics import psnr, ssim
from indeed.images.noise import seeded_gaussian
from indeed.learning.training.config import TrainingConfig, training_preset
from indeed.learning.training.trainer import Trainer
from indeed.networks.backbones import Norm, parameter_count
from indeed.networks.inference_network import InDeed, NetworkConfig
from indeed.networks.whole_image import decompose
from indeed.recipes.denoiser import training_images
from indeed.recipes.small import small_trainer
from indeed.record import Profile
from indeed.tables import Row

Heads = Literal["mean", "moments"]
"""What the heads of f_A and f_B see: the mean of the averaged axis, which is the paper's form as we read it, or 16
cosine moments of it and 32 positions along the other."""
SIGMA = 25
"""Noise level of the table in 8-bit grey levels; the noise of every image has seed 0."""
_NORMS: dict[str, Norm] = {"GroupNorm": "group", "BatchNorm": "batch", "": "none"}


@dataclass(frozen=True)
class Size:
    """What a profile makes of the paper's models."""

    width: int
    """Divisor of all widths: of convolutions, tokens and features."""
    depth: int
    """Divisor of all depths, in layers: the result is the nearest depth that the form allows (an odd one; a block)."""
    unshuffle: int
    """f_S works on images pixel-unshuffled by this factor (not the transformer, whose patches do the same)."""
    heads: Heads
    """Heads of all eleven models."""
    contrast: tuple[int, ...]
    """Models that are trained with the other heads too."""
    training: TrainingConfig
    train: str
    """Training images: ``embedded``, ``bsd`` (cbsd432 without its validation images), or a data set."""
    test: str
    """Data set that is measured, or ``embedded``."""
    images: int | None
    """Images of it, spread evenly over the sorted names; None: all."""
    seeds: tuple[int, ...]


SIZES: dict[Profile, Size] = {
    "smoke": Size(
        width=8,
        depth=12,
        unshuffle=2,
        heads="moments",
        contrast=(3, 4),
        training=TrainingConfig(steps=2, batch_size=2, warmup_steps=1),
        train="embedded",
        test="embedded",
        images=1,
        seeds=(0,),
    ),
    "cpu": Size(
        width=4,
        depth=3,
        unshuffle=2,
        heads="moments",
        contrast=(3, 4),
        training=TrainingConfig(steps=500, batch_size=2, warmup_steps=30, precision="bfloat16", save_every_seconds=30),
        train="bsd",
        test="cbsd68",
        images=17,
        seeds=(0, 1),
    ),
    "paper": Size(
        width=1,
        depth=1,
        unshuffle=1,
        heads="mean",
        contrast=(),
        training=replace(training_preset("paper"), precision="bfloat16"),
        train="div2k",
        test="div2k_valid",
        images=None,
        seeds=(0,),
    ),
}
"""The profiles. ``cpu`` is a quarter of the width, a third of the depth, and 500 steps of two patches of 128 pixels.

A third of the depth is a third of the receptive field: the features no longer reach the borders of a patch, by which
the paper's networks can know where along an axis they are. So the heads are those that see where: ``moments``.
"""


def network(model: int, profile: Profile, heads: Heads | None = None) -> NetworkConfig:
    """Make the configuration of a model of the table at the size of a profile; by default with its heads.

    Examples
    --------
    Depth times kernel size is the same (105) in the first three models, and nearly so at a third of the depth:

    >>> [2 * network(model, "paper").factor_blocks + 1 for model in (1, 2, 3)]
    [15, 21, 35]
    >>> [2 * network(model, "cpu").factor_blocks + 1 for model in (1, 2, 3)]
    [5, 7, 11]

    Raises
    ------
    ValueError
        If the table has no such model.
    """
    expect(model in printed(), "model", model, f"1 to {len(printed())}")
    row, size, paper = printed()[model], SIZES[profile], NetworkConfig()
    moments, positions = (16, 32) if (heads or size.heads) == "moments" else (1, 0)
    config = NetworkConfig(
        max_rank=int(row["max_rank"]),
        norm=_NORMS[row["norm"]],
        factor_width=paper.factor_width // size.width,
        factor_moments=moments,
        factor_positions=positions,
        sparse_width=paper.sparse_width // size.width,
        sparse_blocks=_blocks(2 * paper.sparse_blocks + 1, size.depth),
        sparse_unshuffle=size.unshuffle,
    )
    if row["backbone"] == "Transformer":
        return replace(
            config,
            backbone="transformer",
            transformer_width=paper.transformer_width // size.width,
            transformer_blocks=max(1, round(paper.transformer_blocks / size.depth)),
            sparse_width=config.factor_width,
            sparse_unshuffle=1,
        )
    blocks = _blocks(int(row["depth"]), size.depth)
    return replace(config, factor_blocks=blocks, factor_kernel_size=int(row["kernel_size"]))


def _blocks(depth: int, divisor: int) -> int:
    """Residual blocks of a network of about ``depth / divisor`` layers: the stem and two a block."""
    return max(1, round((depth / divisor - 1) / 2))


def training(model: int, profile: Profile, seed: int) -> TrainingConfig:
    """Training of a model: the same for all but model 9, which lacks the terms of the loss that the table says."""
    base = SIZES[profile].training
    variational = printed()[model]["loss"] == "L_DEN"
    return replace(
        base, seed=seed, variational=variational, validate_every=base.steps, log_every=max(1, base.steps // 20)
    )


def cells(profile: Profile) -> list[Values]:
    """Cells, (model, heads, seed): all models with one seed before any with the next."""
    size = SIZES[profile]
    other: Heads = "mean" if size.heads == "moments" else "moments"
    found: list[Values] = []
    for seed in size.seeds:
        found += [(model, size.heads, seed) for model in printed()]
        found += [(model, other, seed) for model in size.contrast]
    return found


def cell(job: Job, model: int, heads: Heads, seed: int) -> Cell:
    """Make ready a cell: one model, trained and measured; a killed training goes on where it was.

    Parameters
    ----------
    job
        With what it is trained and measured.
    model
        Number in the paper's table.
    heads
        What the heads of f_A and f_B see.
    seed
        Seed of the initial weights and of every batch.

    Returns
    -------
    Means over the images of `FIGURES`, and ``parameters_million``. For the model with BatchNorm also
    ``<figure>_own_statistics``: measured with the statistics of the tiles of each image, not those kept from the
    training.

    Raises
    ------
    DataMissingError
        If the images are not on disk.
    """
    size, config = SIZES[job.profile], network(model, job.profile, heads)
    train_files, test_files = _files(size)

    def compute() -> list[dict[str, float]]:
        key = {"model": model, "heads": heads, "seed": seed}
        average = train_model(key, profile=job.profile, folder=job.state, device=job.device).average
        crop = config.patch_size if job.profile == "smoke" else None
        values = measure(average, test_files, crop)
        if config.norm == "batch":
            own = measure(_without_running_statistics(average), test_files, crop)
            values |= {f"{name}_own_statistics": value for name, value in own.items()}
        return [values | {"parameters_million": parameter_count(average) / 1e6}]

    data = f"{size.train} for training, {size.test} ({len(test_files)} images)"
    return Cell(compute, data, [*train_files, *test_files], seed, job.device)


def train_model(
    key: Mapping[str, Any], *, profile: Profile, folder: Path, device: str = "cpu", stop_at: int | None = None
) -> Trainer:
    """Train a model in a folder, to the end or to step ``stop_at``; the average is then ready to be measured."""
    config = network(key["model"], profile, key["heads"])
    settings = training(key["model"], profile, key["seed"])
    source = SIZES[profile].train
    source = source if source in ("embedded", "bsd") else str(data_root() / SETS[source])
    name, images, _ = training_images(source, config.channels, config.patch_size)
    trainer = small_trainer(config, settings, images, folder, {"data": name}, device)
    trainer.run(stop_at=stop_at, progress=False)
    trainer.renew_statistics()
    return trainer


def _without_running_statistics(model: InDeed) -> InDeed:
    """Copy whose BatchNorm takes the statistics of the tiles at hand, as in training."""
    model = deepcopy(model)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean = part.running_var = None
    return model


def measure(model: InDeed, files: Sequence[Path], crop: int | None = None) -> dict[str, float]:
    """Means of `FIGURES` over images with noise of `SIGMA`, in tiles that overlap only where the image makes them.

    ``crop`` cuts an image to its upper left corner of that side.
    """
    rows = []
    for file in files:
        clean = read_image(file).tensor()[:, :crop, :crop].contiguous()
        parts = decompose(model, seeded_gaussian(clean, SIGMA, seed=0), overlap=0)
        rows.append([f(x[None], clean[None]).item() for x in (parts.L, parts.L + parts.S) for f in (psnr, ssim)])
    return dict(zip(FIGURES, map(fmean, zip(*rows, strict=True)), strict=True))


def _files(size: Size) -> tuple[list[Path], list[Path]]:
    """Training and test images of a profile."""
    embedded = [sample_path(name) for name in sample_names(3)]
    train_files = {"embedded": lambda: embedded, "bsd": lambda: training_split("cbsd432")[0]}
    train = train_files.get(size.train, lambda: benchmark(size.train))()
    test = embedded if size.test == "embedded" else benchmark(size.test)
    count = size.images or len(test)
    return train, evenly(test, count)


def _lines(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        quality = " ".join(f"{name} {float(row[name]):.4f}" for name in FIGURES)
        yield f"#{row['model']} {row['heads']} seed {row['seed']}: {quality}, {float(row['seconds']):.0f} s"


def _beside_paper(rows: Sequence[Row]) -> Iterator[str]:
    for row in beside_paper(rows):
        figures = "  ".join(f"{row[figure]:.2f} ({row[f'{figure}_paper']:.2f})" for figure in ("psnr_low_rank", "psnr"))
        yield f"#{row['model']:<2} {row['label']:<32} {figures}"


TABLE = Table(
    name="table3",
    key={"model": range(1, 12), "heads": get_args(Heads), "seed": int},
    example="3-mean-0",
    cells=cells,
    measure=cell,
    report=_lines,
    summarise=_beside_paper,
    drawings={"table3.svg": lambda rows: ablation_study(beside_paper(rows))},
)

if __name__ == "__main__":
    TABLE.main()
