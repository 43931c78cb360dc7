"""Table 4: denoising of test sets at four noise levels, cell by cell.

``python -m indeed.experiments.table4 --help``. A cell is one test set (or a stated number of its images), one method
and one noise level. The protocol is that of :mod:`indeed.images.metrics`; the noise is unclipped and the same for every
method.
"""

import csv
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from indeed.baselines import dncnn
from indeed.baselines.denoisers import denoise as denoise_classically
from indeed.data.benchmarks import DataMissingError, benchmark, evenly
from indeed.data.files import read_image
from indeed.data.samples import sample_names, sample_path
from indeed.experiments.cells import cell_name, run_cell, run_command
from indeed.experiments.equal_budget import Model, Profile, checkpoint_path
from indeed.experiments.equal_budget import runs_folder as budget_folder
from indeed.images.metrics import psnr, ssim
from indeed.images.noise import GREY_LEVEL, seeded_gaussian
from indeed.networks.checkpoint import CheckpointError, Shipped, load_checkpoint, shipped_checkpoint
from indeed.networks.whole_image import decompose
from indeed.record import Recorder, records_folder, results_folder
from indeed.tables import Row, read_table, write_table
from indeed.types import Image

Key = dict[str, str | int]
Denoiser = Callable[[Image, int], tuple[Image, Image | None]]
"""Observation and sigma (in grey levels) to the estimate and, where the method has one, its low-rank part."""


@dataclass(frozen=True)
class DataSet:
    """A test set: where its images are, their channels, and the side of the centre that is taken (None: all)."""

    source: str
    channels: Literal[1, 3]
    crop: int | None = None
    paper: str = ""
    """Its name in the paper's table, where it is one of the paper's."""
    size: int = 0
    """Images of the whole set: the paper's means are over all of them."""

    def files(self) -> list[Path]:
        """Sorted image files.

        Raises
        ------
        DataMissingError
            If they are not on disk.
        """
        if self.source == "embedded":
            return [sample_path(name) for name in sample_names(self.channels)[:2]]
        return benchmark(self.source)

    def image(self, file: Path) -> Image:
        """Clean image in [0, 1]."""
        image = read_image(file).tensor()
        if self.crop is None:
            return image
        top, left = ((size - self.crop) // 2 for size in image.shape[1:])
        return image[:, top : top + self.crop, left : left + self.crop].contiguous()


DATA_SETS = {
    "cbsd68": DataSet("cbsd68", 3, paper="CBSD68", size=68),
    "kodak24": DataSet("kodak24", 3, paper="Kodak24", size=24),
    "kodak24_500": DataSet("kodak24", 3, crop=500, paper="Kodak24", size=24),
    "mcmaster": DataSet("mcmaster", 3, paper="McMaster", size=18),
    "set12": DataSet("set12", 1),
    "bsd68": DataSet("bsd68", 1),
    "embedded_grey": DataSet("embedded", 1, crop=64),
    "embedded_color": DataSet("embedded", 3, crop=64),
}
"""The test sets. The paper does not say which Kodak images it has; its sources have the centres of 500 pixels."""

METHODS: dict[str, str | None] = {
    "noisy": None,
    "tv": None,
    "nlm": None,
    "wavelet": None,
    "bm3d": "CBM3D",
    "dncnn": "CDnCNN",
    "indeed_budget": None,
    "indeed": "InDeed",
}
"""The methods by name, and the paper's name for its colour numbers.

``dncnn`` and ``indeed_budget`` are the two of :mod:`indeed.experiments.equal_budget`, ``indeed`` is the shipped model.
"""

SIGMAS = (15, 25, 35, 50)
SUBSET = 8
"""Images of a set, spread evenly, on which BM3D and beside it InDeed are measured where all would take too long."""
SEED = 0


def cells(profile: Profile) -> list[Key]:
    """Keys of the cells of a profile: (dataset, method, sigma, images), for the sets that are on disk.

    ``smoke``: two embedded photographs. ``cpu``: all images (of Kodak's, the centres) and noise levels for the fast
    methods; BM3D, if it is installed, on all of Set12, and at sigma 25 on `SUBSET` images of the others. ``paper``: all
    for every method. The networks of equal budget are grey.
    """
    if profile == "smoke":
        present = {name: data.files() for name, data in DATA_SETS.items() if data.source == "embedded"}
    else:
        # whole Kodak images are two and a half times as large as their centres, by which the paper's sources measure
        skipped = () if profile == "paper" else ("kodak24",)
        present = {name: files for name, files in _present() if files and name not in skipped}
    slow = ["bm3d"] if find_spec("bm3d") else []
    keys: list[Key] = []
    for name, files in present.items():
        learned = ["dncnn", "indeed_budget"] if DATA_SETS[name].channels == 1 else []
        fast = ["noisy", "tv", "nlm", "wavelet", *learned, "indeed"]
        whole = profile == "paper" or name == "set12"
        for sigma in (25,) if profile == "smoke" else SIGMAS:
            keys += [_key(name, method, sigma, len(files)) for method in fast]
            if profile != "smoke" and whole:
                keys += [_key(name, method, sigma, len(files)) for method in slow]
        if profile != "smoke" and not whole:
            keys += [_key(name, method, 25, SUBSET) for method in (*slow, *(["indeed"] if slow else []))]
    return keys


def cell_key(name: str) -> Key:
    """Key of a cell from its name.

    Raises
    ------
    ValueError
        If the name has not the form of `cell_name`.
    """
    parts = name.split("-")
    if len(parts) != 4 or not (parts[2].isdecimal() and parts[3].isdecimal()):
        raise ValueError(f"name must be dataset-method-sigma-images, such as set12-bm3d-25-12, got {name!r}")
    return _key(parts[0], parts[1], int(parts[2]), int(parts[3]))


def cell(
    dataset: str,
    method: str,
    sigma: int,
    images: int,
    *,
    profile: Profile,
    runs: Path | None = None,
    device: str = "cpu",
) -> Row:
    """Measure one cell, or read what was measured before.

    Parameters
    ----------
    dataset, method
        Names in `DATA_SETS` and `METHODS`.
    sigma
        Standard deviation of the noise in 8-bit grey levels.
    images
        Number of images, spread evenly over the sorted set.
    profile
        Which trained networks are measured: those that ship, or those of the paper's size.
    runs
        Folder of the cells; None: `cells_folder`.
    device
        Where the networks run; the classical methods run on the CPU.

    Returns
    -------
    Means over the images of ``psnr`` (dB), ``ssim``, ``psnr_low_rank`` (of L alone, NaN where there is none) and
    ``seconds_per_image`` of the denoising alone, with the columns of :func:`indeed.experiments.cells.run_cell`.

    Raises
    ------
    DataMissingError, CheckpointError, ModuleNotFoundError
        If the images, the trained network or the package of the method are missing.
    ValueError
        If an argument is out of range, or the file of the cell is damaged.
    """
    for name, value, known in (("dataset", dataset, DATA_SETS), ("method", method, METHODS)):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
    if sigma < 1:
        raise ValueError(f"sigma must be at least 1 grey level, got {sigma}")
    data = DATA_SETS[dataset]
    files = data.files()
    chosen = evenly(files, images)
    network = _network(method, data.channels, profile)
    if network and not network.is_file():
        model = "dncnn" if method == "dncnn" else "indeed"
        how = f"python -m indeed.experiments.equal_budget train {model} --profile {profile}"
        how = f"indeed train --preset {profile} --channels {data.channels}" if method == "indeed" else how
        raise CheckpointError(f"{network}: is not there, it is made by: {how}")

    def compute() -> dict[str, float]:
        denoiser = _denoiser(method, network, device)
        denoiser(
            seeded_gaussian(data.image(chosen[0])[:, :64, :64].contiguous(), sigma, SEED), sigma
        )  # imports, first calls
        return _means(_measure(denoiser, data.image(file), sigma) for file in chosen)

    key = _key(dataset, method, sigma, images)
    return run_cell(
        (runs or cells_folder(profile)) / f"{cell_name(key)}.csv",
        key,
        compute,
        profile=profile,
        seed=SEED,
        data=f"{dataset} ({images} of {len(files)} images)",
        device=device if network else "cpu",
        files=[*chosen, network] if network else chosen,
    )


def cells_folder(profile: Profile) -> Path:
    """Where the cells of a profile are kept, unless another folder is chosen."""
    return Path("runs") / "table4" / profile


def table(profile: Profile, folder: Path | None = None, *, runs: Path | None = None, device: str = "cpu") -> list[Row]:
    """All cells of a profile, computed where they are missing, and written to ``<folder>/table4.csv``.

    ``folder`` is by default that of fresh records (:func:`indeed.record.records_folder`), with the name of the profile.

    Raises
    ------
    DataMissingError
        If no test set is on disk.
    """
    keys = cells(profile)
    if not keys:
        raise DataMissingError("no test set is on disk; set INDEED_DATA or see data_scripts/README.md")
    rows = [cell(**key, profile=profile, runs=runs, device=device) for key in keys]  # type: ignore[arg-type]
    folder = folder or records_folder() / profile
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "table4.csv", rows)
    return rows


def compare(rows: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Measured beside printed: PSNR and SSIM here, in the paper's Table 4, and the difference (here minus paper).

    NaN where the paper has no such number: for grey sets, parts of a set, and methods or noise levels that it has not.

    Examples
    --------
    >>> row = {"dataset": "cbsd68", "method": "indeed", "sigma": "25", "images": "68", "psnr": "31.0", "ssim": "0.88"}
    >>> round(compare([row])[0]["psnr_difference"], 2)
    -0.67
    """
    with (results_folder() / "paper" / "table4_denoising.csv").open(newline="", encoding="utf-8") as file:
        printed = {(row["dataset"], row["method"], row["sigma"]): row for row in csv.DictReader(file)}
    compared = []
    for row in rows:
        data, method = DATA_SETS[row["dataset"]], METHODS[row["method"]]
        theirs = printed.get((data.paper, method or "", row["sigma"])) if int(row["images"]) == data.size else None
        entry: dict[str, Any] = {name: row[name] for name in ("dataset", "method")}
        entry |= {name: int(row[name]) for name in ("sigma", "images")}
        for value, column in (("psnr", "psnr_db"), ("ssim", "ssim")):
            here, paper = float(row[value]), float(theirs[column]) if theirs else math.nan
            entry |= {value: here, f"{value}_paper": paper, f"{value}_difference": here - paper}
        compared.append(entry)
    return compared


SHIPPED: dict[Shipped, str] = {"denoise_grey": "set12", "denoise_color": "cbsd68"}
"""The shipped models and the test set that each is quoted on."""


def record_shipped(
    name: Shipped, *, sigma: int = 25, runs: Path | None = None, records: Path | None = None
) -> Recorder:
    """Record the cells of a shipped model on its whole test set, for the prose of the chapters.

    Raises
    ------
    DataMissingError
        If the test set is not on disk.
    """
    dataset = SHIPPED[name]
    images = len(DATA_SETS[dataset].files())
    noisy, ours = (cell(dataset, method, sigma, images, profile="cpu", runs=runs) for method in ("noisy", "indeed"))
    numbers = Recorder(name, "cpu", SEED, f"{dataset} ({images} images)", folder=records)
    for figure, value in (
        ("psnr_noisy", noisy["psnr"]),
        ("psnr_low_rank", ours["psnr_low_rank"]),
        ("psnr", ours["psnr"]),
    ):
        numbers.add(f"{figure}_sigma{sigma}", float(value), tolerance=0.02, unit="dB")
    numbers.add(f"ssim_sigma{sigma}", float(ours["ssim"]), tolerance=0.001, digits=4)
    return numbers


def _key(dataset: str, method: str, sigma: int, images: int) -> Key:
    return {"dataset": dataset, "method": method, "sigma": sigma, "images": images}


def _present() -> Iterator[tuple[str, list[Path]]]:
    for name, data in DATA_SETS.items():
        if data.source != "embedded":
            try:
                yield name, data.files()
            except DataMissingError:
                continue


def _network(method: str, channels: int, profile: Profile) -> Path | None:
    """Checkpoint of a learned method."""
    if method in ("dncnn", "indeed_budget"):
        model: Model = "dncnn" if method == "dncnn" else "indeed"
        return checkpoint_path(model, channels, budget_folder(profile))
    if method == "indeed":
        shipped = shipped_checkpoint("denoise_grey" if channels == 1 else "denoise_color")
        return shipped.with_name(shipped.name.replace("_cpu", "_paper")) if profile == "paper" else shipped
    return None


def _denoiser(method: str, network: Path | None, device: str) -> Denoiser:
    if method == "noisy":
        return lambda noisy, sigma: (noisy, None)
    if network is None:
        return lambda noisy, sigma: (denoise_classically(noisy[None], method, sigma * GREY_LEVEL)[0], None)
    if method == "dncnn":
        plain, _ = dncnn.load_dncnn(network, device)
        return lambda noisy, sigma: (dncnn.denoise(plain, noisy.to(device)).cpu(), None)
    model, _ = load_checkpoint(network, device)

    def by_decomposition(noisy: Image, sigma: int) -> tuple[Image, Image]:
        parts = decompose(model, noisy)
        return parts.L + parts.S, parts.L

    return by_decomposition


def _measure(denoiser: Denoiser, clean: Image, sigma: int) -> dict[str, float]:
    noisy = seeded_gaussian(clean, sigma, SEED)
    start = time.perf_counter()
    estimate, low_rank = denoiser(noisy, sigma)
    seconds = time.perf_counter() - start
    return {
        "psnr": psnr(estimate[None], clean[None]).item(),
        "ssim": ssim(estimate[None], clean[None]).item(),
        "psnr_low_rank": math.nan if low_rank is None else psnr(low_rank[None], clean[None]).item(),
        "seconds_per_image": seconds,
    }


def _means(rows: Iterator[dict[str, float]]) -> dict[str, float]:
    measured = list(rows)
    return {name: fmean(row[name] for row in measured) for name in measured[0]}


def _print_names(profile: Profile = "cpu") -> None:
    """Print the name of each cell of a profile, and after a space the trained network that it measures."""
    for key in cells(profile):
        network = _network(str(key["method"]), DATA_SETS[str(key["dataset"])].channels, profile)
        print(cell_name(key), *([os.path.relpath(network)] if network else []))


def _print_cell(name: str, profile: Profile = "cpu", runs: Path | None = None, device: str = "cpu") -> None:
    """Compute one cell, unless it is there, and print it."""
    _print_row(cell(**cell_key(name), profile=profile, runs=runs, device=device))  # type: ignore[arg-type]


def _print_table(
    profile: Profile = "cpu", folder: Path | None = None, runs: Path | None = None, device: str = "cpu"
) -> None:
    """Compute the cells that are missing, write table4.csv, and print it."""
    for row in table(profile, folder, runs=runs, device=device):
        _print_row(row)


def _print_row(row: Row) -> None:
    label = f"{row['dataset']:<14} {row['method']:<14} {row['sigma']:>3} {row['images']:>4} images"
    quality = f"{float(row['psnr']):6.2f} dB {float(row['ssim']):7.4f} {float(row['seconds_per_image']):8.3f} s"
    print(f"{label} {quality}", flush=True)


def _draw(profile: Profile = "cpu", folder: Path | None = None) -> None:
    """Draw table4.csv with the differences to the paper coloured: table4_psnr.svg and table4_ssim.svg."""
    from indeed.figures import denoising_table

    folder = folder or records_folder() / profile
    compared = compare(read_table(folder / "table4.csv"))
    for value in ("psnr", "ssim"):
        denoising_table(compared, value)[0].savefig(folder / f"table4_{value}.svg")


def _record(runs: Path | None = None, records: Path | None = None) -> None:
    """Record what the chapters quote of the shipped models."""
    for name in SHIPPED:
        print(record_shipped(name, runs=runs, records=records).path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``python -m indeed.experiments.table4``."""
    run_command(
        "table4",
        {"list": _print_names, "cell": _print_cell, "table": _print_table, "figure": _draw, "record": _record},
        arguments,
    )


if __name__ == "__main__":
    main()
