"""Table 3: the ablation study of the paper, eleven models trained alike, cell by cell.

``python -m indeed.experiments.table3 --help``. A cell is one model, one kind of heads and one seed. What a model is
stands in the paper's table (``results/paper/table3_ablation.csv``); how large it is, what it is trained on and for how
long is the profile's. The norm of a row is that of all three modules. The paper does not give the widths: they are
those of :class:`indeed.networks.inference_network.NetworkConfig`, which meet its parameter counts.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, get_args

from torch import nn

from indeed.data.benchmarks import SETS, benchmark, data_root, evenly, training_split
from indeed.data.files import read_image
from indeed.data.patches import PatchSampler
from indeed.data.samples import sample_names, sample_path
from indeed.experiments.cells import cell_name, run_cell, run_command
from indeed.images.metrics import psnr, ssim
from indeed.images.noise import seeded_gaussian
from indeed.learning.training.config import TrainingConfig, training_preset
from indeed.learning.training.samples import denoising_samples
from indeed.learning.training.trainer import Trainer
from indeed.networks.backbones import Norm, parameter_count
from indeed.networks.inference_network import InDeed, NetworkConfig
from indeed.networks.whole_image import decompose
from indeed.recipes.denoiser import training_images
from indeed.record import records_folder, results_folder
from indeed.tables import Row, read_table, write_table

Profile = Literal["smoke", "cpu", "paper"]
Heads = Literal["mean", "moments"]
"""What the heads of f_A and f_B see: the mean of the averaged axis, which is the paper's form as we read it, or 16
cosine moments of it and 32 positions along the other."""
SIGMA = 25
"""Noise level of the table in 8-bit grey levels; the noise of every image has seed 0."""
FIGURES = ("psnr_low_rank", "ssim_low_rank", "psnr", "ssim")
"""What is measured: PSNR in dB and SSIM, of L and of L + S."""
_PAPER_FIGURES = ("psnr_L", "ssim_L", "psnr_L_plus_S", "ssim_L_plus_S")
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


def printed() -> dict[int, dict[str, str]]:
    """Read the rows of the paper's table by model number."""
    with (results_folder() / "paper" / "table3_ablation.csv").open(newline="", encoding="utf-8") as file:
        return {int(row["model"]): row for row in csv.DictReader(file)}


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
    if model not in printed():
        raise ValueError(f"model must be a number from 1 to {len(printed())}, got {model}")
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


Key = dict[str, str | int]


def cells(profile: Profile) -> list[Key]:
    """Keys of the cells, (model, heads, seed): all models with one seed before any with the next."""
    size = SIZES[profile]
    other: Heads = "mean" if size.heads == "moments" else "moments"
    keys = []
    for seed in size.seeds:
        keys += [_key(model, size.heads, seed) for model in printed()]
        keys += [_key(model, other, seed) for model in size.contrast]
    return keys


def _key(model: int, heads: Heads, seed: int) -> Key:
    return {"model": model, "heads": heads, "seed": seed}


def cell_key(name: str) -> Key:
    """Key of a cell from its name.

    Raises
    ------
    ValueError
        If the name has not the form of `cell_name`.
    """
    model, heads, seed = (*name.split("-"), "", "")[:3]
    if not (model.isdecimal() and heads in get_args(Heads) and seed.isdecimal()):
        raise ValueError(f"name must be model-heads-seed, such as 3-mean-0, got {name!r}")
    return _key(int(model), heads, int(seed))  # type: ignore[arg-type]


def cell(
    model: int, heads: Heads, seed: int, *, profile: Profile, runs: Path | None = None, device: str = "cpu"
) -> Row:
    """Train one model and measure it, or read what was measured before; a killed training goes on where it was.

    Parameters
    ----------
    model
        Number in the paper's table.
    heads
        What the heads of f_A and f_B see.
    seed
        Seed of the initial weights and of every batch.
    profile
        Sizes and data.
    runs
        Folder of the cells and of the state of their training; None: ``runs/table3/<profile>``.
    device
        Where the network is trained and measured.

    Returns
    -------
    Means over the images of `FIGURES`, and ``parameters_million``, with the columns of
    :func:`indeed.experiments.cells.run_cell`. For the model with BatchNorm also ``<figure>_own_statistics``: measured
    with the statistics of the tiles of each image, not those kept from the training.

    Raises
    ------
    DataMissingError
        If the images are not on disk.
    ValueError
        If the table has no such model, or a file in the folder is damaged or of another run.
    """
    size, config, folder = SIZES[profile], network(model, profile, heads), runs or Path("runs") / "table3" / profile
    key = _key(model, heads, seed)
    train_files, test_files = _files(size)

    def compute() -> dict[str, float]:
        average = train(key, profile=profile, folder=folder / cell_name(key), device=device).average
        crop = config.patch_size if profile == "smoke" else None
        values = measure(average, test_files, crop)
        if config.norm == "batch":
            own = measure(_without_running_statistics(average), test_files, crop)
            values |= {f"{name}_own_statistics": value for name, value in own.items()}
        return values | {"parameters_million": parameter_count(average) / 1e6}

    return run_cell(
        folder / f"{cell_name(key)}.csv",
        key,
        compute,
        profile=profile,
        seed=seed,
        data=f"{size.train} for training, {size.test} ({len(test_files)} images)",
        device=device,
        files=[*train_files, *test_files],
    )


def train(
    key: Mapping[str, Any], *, profile: Profile, folder: Path, device: str = "cpu", stop_at: int | None = None
) -> Trainer:
    """Train a model in a folder, to the end or to step ``stop_at``; the average is then ready to be measured."""
    config = network(key["model"], profile, key["heads"])
    settings = training(key["model"], profile, key["seed"])
    source = SIZES[profile].train
    source = source if source in ("embedded", "bsd") else str(data_root() / SETS[source])
    name, images, _ = training_images(source, config.channels, config.patch_size)
    samples = denoising_samples(PatchSampler(images, config.patch_size), settings)
    trainer = Trainer(config, settings, samples, folder, resume=True, description={"data": name}, device=device)
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


def table(profile: Profile, folder: Path | None = None, *, runs: Path | None = None, device: str = "cpu") -> list[Row]:
    """All cells of a profile, computed where they are missing, and written to ``<folder>/table3.csv``.

    ``folder`` is by default that of fresh records (:func:`indeed.record.records_folder`), with the name of the profile.

    Raises
    ------
    DataMissingError
        If the images are not on disk.
    """
    rows = [cell(**key, profile=profile, runs=runs, device=device) for key in cells(profile)]  # type: ignore[arg-type]
    folder = folder or records_folder() / profile
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "table3.csv", rows)
    return rows


def compare(rows: Sequence[Mapping[str, str]], heads: Heads | None = None) -> list[dict[str, Any]]:
    """Measured beside printed, one row a model: mean over the seeds, range over the seeds, paper, and difference.

    For each of `FIGURES` there are ``<figure>``, ``<figure>_range``, ``<figure>_paper`` and ``<figure>_difference``
    (here minus paper). Only models that were measured with these heads (None: those of the first row) are there.
    """
    compared = []
    for model, row in printed().items():
        chosen = heads or rows[0]["heads"]
        seeds = [measured for measured in rows if (measured["model"], measured["heads"]) == (str(model), chosen)]
        if not seeds:
            continue
        entry: dict[str, Any] = {"model": model, "label": _label(row), "seeds": len(seeds)}
        for figure, column in zip(FIGURES, _PAPER_FIGURES, strict=True):
            values = [float(measured[figure]) for measured in seeds]
            here, paper = fmean(values), float(row[column])
            entry |= {figure: here, f"{figure}_range": max(values) - min(values)}
            entry |= {f"{figure}_paper": paper, f"{figure}_difference": here - paper}
        entry |= {"parameters_million": float(seeds[0]["parameters_million"])}
        entry |= {"parameters_million_paper": float(row["params_million"])}
        compared.append(entry)
    return compared


def _label(row: Mapping[str, str]) -> str:
    """Say in short what distinguishes a model."""
    if row["backbone"] == "Transformer":
        return "transformer"
    parts = [f"({row['depth']}, {row['kernel_size']})", f"r0 = {row['max_rank']}"]
    parts += ["BatchNorm"] if row["norm"] == "BatchNorm" else []
    parts += ["supervision only"] if row["loss"] != "L_DEN" else []
    return ", ".join(parts)


def rank_correlation(compared: Sequence[Mapping[str, Any]], figure: str) -> float:
    """Spearman's rank correlation of a figure of merit here and in the paper, over the models.

    >>> rows = [{"psnr": here, "psnr_paper": paper} for here, paper in ((20.0, 31.0), (21.0, 32.0), (25.0, 33.0))]
    >>> round(rank_correlation(rows, "psnr"), 6)
    1.0
    """
    from scipy.stats import spearmanr

    here, paper = ([row[name] for row in compared] for name in (figure, f"{figure}_paper"))
    return float(spearmanr(here, paper).statistic)


Value = Callable[[int, str], float]
"""Value of a figure of merit: of a model's number and the figure's name."""


@dataclass(frozen=True)
class Claim:
    """A conclusion of section 4.2, as a margin in dB that is positive where it holds."""

    name: str
    meaning: str
    models: tuple[int, ...]
    figures: tuple[str, ...]
    margin: Callable[[Value], float]


def _better(name: str, meaning: str, figure: str, *others: int) -> Claim:
    """Claim that model 3 is better than all the others."""
    return Claim(
        name,
        meaning,
        (3, *others),
        (figure,),
        lambda value: value(3, figure) - max(value(model, figure) for model in others),
    )


def _more_sensitive(value: Value) -> float:
    """How much more the PSNR of L varies with the maximal rank than that of L + S."""
    ranges = []
    for figure in ("psnr_low_rank", "psnr"):
        values = [value(model, figure) for model in _RANKS]
        ranges.append(max(values) - min(values))
    return ranges[0] - ranges[1]


_RANKS = (4, 5, 6, 7, 3, 8)
"""Models of maximal rank 4, 8, 16, 32, 64 and 96, otherwise alike."""
CLAIMS = (
    _better("kernel_low_rank", "L: (35, 3) better than (21, 5), (15, 7)", "psnr_low_rank", 1, 2),
    _better("kernel", "L + S: (35, 3) better than (21, 5), (15, 7)", "psnr", 1, 2),
    _better("rank_rises", "L: r0 = 64 better than 4", "psnr_low_rank", 4),
    _better("rank_peaks", "L: r0 = 64 better than 96", "psnr_low_rank", 8),
    Claim("rank_matters", "r0 matters more for L than for L + S", _RANKS, ("psnr_low_rank", "psnr"), _more_sensitive),
    _better("loss", "L: whole loss better than supervision only", "psnr_low_rank", 9),
    _better("group_norm", "L: GroupNorm better than BatchNorm", "psnr_low_rank", 10),
    _better("transformer_low_rank", "L: ResNet better than transformer", "psnr_low_rank", 11),
    _better("transformer", "L + S: ResNet better than transformer", "psnr", 11),
)
"""What section 4.2 concludes from the table."""


def verdicts(compared: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each of `CLAIMS`: its margin in dB in the paper and here, and whether it holds here.

    ``verdict`` is ``undecided`` where the margin here is not greater than the largest range over the seeds of the
    models it compares, else ``holds`` or ``reversed``. A claim about a model that was not measured is left out.
    """
    by_model = {row["model"]: row for row in compared}
    results: list[dict[str, Any]] = []
    for claim in CLAIMS:
        if not by_model.keys() >= set(claim.models):
            continue
        here = claim.margin(lambda model, figure: by_model[model][figure])
        paper = claim.margin(lambda model, figure: by_model[model][f"{figure}_paper"])
        noise = max(by_model[model][f"{figure}_range"] for model in claim.models for figure in claim.figures)
        verdict = "undecided" if abs(here) <= noise else "holds" if here > 0 else "reversed"
        results.append(
            {"claim": claim.name, "meaning": claim.meaning, "paper": paper, "here": here, "noise": noise}
            | {"verdict": verdict}
        )
    return results


def _print_names(profile: Profile = "cpu") -> None:
    """Print the name of each cell of a profile: model-heads-seed."""
    for key in cells(profile):
        print(cell_name(key))


def _print_cell(name: str, profile: Profile = "cpu", runs: Path | None = None, device: str = "cpu") -> None:
    """Train and measure one cell (model-heads-seed, such as 3-mean-0), unless it is there, and print it."""
    _print_row(cell(**cell_key(name), profile=profile, runs=runs, device=device))  # type: ignore[arg-type]


def _print_table(
    profile: Profile = "cpu", folder: Path | None = None, runs: Path | None = None, device: str = "cpu"
) -> None:
    """Compute the cells that are missing, write table3.csv, and print it beside the paper's."""
    for row in compare(table(profile, folder, runs=runs, device=device)):
        figures = "  ".join(f"{row[figure]:.2f} ({row[f'{figure}_paper']:.2f})" for figure in ("psnr_low_rank", "psnr"))
        print(f"#{row['model']:<2} {row['label']:<32} {figures}", flush=True)


def _print_row(row: Row) -> None:
    quality = " ".join(f"{name} {float(row[name]):.4f}" for name in FIGURES)
    print(f"#{row['model']} {row['heads']} seed {row['seed']}: {quality}, {float(row['seconds']):.0f} s", flush=True)


def _draw(profile: Profile = "cpu", folder: Path | None = None) -> None:
    """Draw table3.csv beside the paper's numbers: table3.svg."""
    from indeed.figures import ablation_study

    folder = folder or records_folder() / profile
    ablation_study(compare(read_table(folder / "table3.csv")))[0].savefig(folder / "table3.svg")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``python -m indeed.experiments.table3``."""
    run_command(
        "table3", {"list": _print_names, "cell": _print_cell, "table": _print_table, "figure": _draw}, arguments
    )


if __name__ == "__main__":
    main()
