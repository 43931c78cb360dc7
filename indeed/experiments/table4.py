"""Table 4: denoising of test sets at four noise levels, cell by cell.

``python -m indeed.experiments.table4 --help``. A cell is one test set (or a stated number of its images), one method
and one noise level. The protocol is that of :mod:`indeed.images.metrics`; the noise is unclipped and the same for every
method.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from indeed.baselines import dncnn
from indeed.baselines.classical_denoisers import denoise_classically
from indeed.checks import expect
from indeed.data.benchmarks import benchmark, evenly
from indeed.data.image_files import read_image
from indeed.data.samples import sample_names, sample_path
from indeed.experiments.methods import TABLE4_METHODS
from indeed.experiments.program import Cell, Job, Key, Table, Values, on_disk
from indeed.figures.denoising import denoising_table
from indeed.images.metrics import psnr, ssim
from indeed.images.noise import GREY_LEVEL, seeded_gaussian
from indeed.networks.checkpoint import load_checkpoint, shipped_checkpoint
from indeed.networks.whole_image import decompose
from indeed.recipes.equal_budget import Model, checkpoint_path
from indeed.recipes.equal_budget import runs_folder as budget_folder
from indeed.record import Profile, results_folder
from indeed.tables import Row, read_table
from indeed.types import Image

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

SIGMAS = (15, 25, 35, 50)
SUBSET = 8
"""Images of a set, spread evenly, on which BM3D and beside it InDeed are measured where all would take too long."""
SEED = 0


def cells(profile: Profile) -> list[Values]:
    """Cells of a profile: (dataset, method, sigma, images), for the sets that are on disk.

    ``smoke``: two embedded photographs. ``cpu``: all images (of Kodak's, the centres) and noise levels for the fast
    methods; BM3D, if it is installed, on all of Set12, and at sigma 25 on `SUBSET` images of the others. ``paper``: all
    for every method. The networks of equal budget are grey.
    """
    # whole Kodak images are two and a half times as large as their centres, which the paper's sources measure
    skipped = () if profile == "paper" else ("kodak24",)
    embedded = [name for name, data in DATA_SETS.items() if data.source == "embedded"]
    others = [name for name in DATA_SETS if name not in (*embedded, *skipped)]
    present = on_disk(embedded if profile == "smoke" else others, lambda name: DATA_SETS[name].files())
    slow = ["bm3d"] if find_spec("bm3d") else []
    found: list[Values] = []
    for name, files in present.items():
        learned = ["dncnn", "indeed_budget"] if DATA_SETS[name].channels == 1 else []
        fast = ["noisy", "tv", "nlm", "wavelet", *learned, "indeed"]
        whole = profile == "paper" or name == "set12"
        for sigma in (25,) if profile == "smoke" else SIGMAS:
            found += [(name, method, sigma, len(files)) for method in fast]
            if profile != "smoke" and whole:
                found += [(name, method, sigma, len(files)) for method in slow]
        if profile != "smoke" and not whole:
            found += [(name, method, 25, SUBSET) for method in (*slow, *(["indeed"] if slow else []))]
    return found


def networks(key: Key, profile: Profile) -> dict[Path, str]:
    """Checkpoint of a learned method, and the command that makes it."""
    method, channels = key["method"], DATA_SETS[str(key["dataset"])].channels
    if method in ("dncnn", "indeed_budget"):
        model: Model = "dncnn" if method == "dncnn" else "indeed"
        command = f"python -m indeed.experiments.equal_budget train {model} --profile {profile}"
        return {checkpoint_path(model, channels, budget_folder(profile)): command}
    if method == "indeed":
        shipped = shipped_checkpoint("denoise_grey" if channels == 1 else "denoise_color")
        if profile != "paper":
            return {shipped: ""}
        command = f"indeed train --preset paper --channels {channels}"
        return {shipped.with_name(shipped.name.replace("_cpu", "_paper")): command}
    return {}


def cell(job: Job, dataset: str, method: str, sigma: int, images: int) -> Cell:
    """Make ready a cell.

    Parameters
    ----------
    job
        What it is measured with. The classical methods run on the CPU.
    dataset, method
        Names in `DATA_SETS` and :data:`indeed.experiments.methods.TABLE4_METHODS`.
    sigma
        Standard deviation of the noise in 8-bit grey levels.
    images
        Number of images, spread evenly over the sorted set.

    Returns
    -------
    Means over the images of ``psnr`` (dB), ``ssim``, ``psnr_low_rank`` (of L alone, NaN where there is none) and
    ``seconds_per_image`` of the denoising alone.

    Raises
    ------
    DataMissingError
        If the images are missing.
    ValueError
        If there is no noise, or if there are not so many images.
    """
    expect(sigma >= 1, "sigma", sigma, "at least 1 grey level")
    data = DATA_SETS[dataset]
    files = data.files()
    chosen = evenly(files, images)

    def compute() -> list[dict[str, float]]:
        denoiser = _denoiser(method, *job.networks, device=job.device)
        denoiser(
            seeded_gaussian(data.image(chosen[0])[:, :64, :64].contiguous(), sigma, SEED), sigma
        )  # imports, first calls
        return [_means(_measure(denoiser, data.image(file), sigma) for file in chosen)]

    return Cell(
        compute,
        f"{dataset} ({images} of {len(files)} images)",
        [*chosen, *job.networks],
        SEED,
        job.device if job.networks else "cpu",
    )


def beside_paper(rows: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Measured beside printed: PSNR and SSIM here, in the paper's Table 4, and the difference (here minus paper).

    NaN where the paper has no such number: for grey sets, parts of a set, and methods or noise levels that it has not.

    Examples
    --------
    >>> row = {"dataset": "cbsd68", "method": "indeed", "sigma": "25", "images": "68", "psnr": "31.0", "ssim": "0.88"}
    >>> round(beside_paper([row])[0]["psnr_difference"], 2)
    -0.67
    """
    table = read_table(results_folder() / "paper" / "table4_denoising.csv")
    printed = {(row["dataset"], row["method"], row["sigma"]): row for row in table}
    compared = []
    for row in rows:
        data, method = DATA_SETS[row["dataset"]], TABLE4_METHODS[row["method"]].paper
        theirs = printed.get((data.paper, method or "", row["sigma"])) if int(row["images"]) == data.size else None
        entry: dict[str, Any] = {name: row[name] for name in ("dataset", "method")}
        entry |= {name: int(row[name]) for name in ("sigma", "images")}
        for value, column in (("psnr", "psnr_db"), ("ssim", "ssim")):
            here, paper = float(row[value]), float(theirs[column]) if theirs else math.nan
            entry |= {value: here, f"{value}_paper": paper, f"{value}_difference": here - paper}
        compared.append(entry)
    return compared


def _denoiser(method: str, network: Path | None = None, *, device: str) -> Denoiser:
    if method == "noisy":
        return lambda noisy, sigma: (noisy, None)
    if network is None:
        return lambda noisy, sigma: (denoise_classically(noisy[None], method, sigma * GREY_LEVEL)[0], None)
    if method == "dncnn":
        plain, _ = dncnn.load_dncnn(network, device)
        return lambda noisy, sigma: (dncnn.dncnn_denoise(plain, noisy.to(device)).cpu(), None)
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


def _lines(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        label = f"{row['dataset']:<14} {row['method']:<14} {row['sigma']:>3} {row['images']:>4} images"
        quality = f"{float(row['psnr']):6.2f} dB {float(row['ssim']):7.4f} {float(row['seconds_per_image']):8.3f} s"
        yield f"{label} {quality}"


TABLE = Table(
    name="table4",
    key={"dataset": DATA_SETS, "method": TABLE4_METHODS, "sigma": int, "images": int},
    example="set12-bm3d-25-12",
    cells=cells,
    measure=cell,
    networks=networks,
    report=_lines,
    drawings={
        "table4_psnr.svg": lambda rows: denoising_table(beside_paper(rows), "psnr"),
        "table4_ssim.svg": lambda rows: denoising_table(beside_paper(rows), "ssim"),
    },
)

if __name__ == "__main__":
    TABLE.main()
