"""The low-rank part before and after the refinement of its factors, on whole images of a test set.

``python -m indeed.experiments.refinement --help``. A cell is one test set, one noise level and one number of sweeps of
:func:`indeed.bayes.factor_refinement.refine`; no sweep is the network alone. The tiles are blended as always.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

from indeed.data.benchmarks import evenly
from indeed.experiments.program import Cell, Job, Key, Table, Values
from indeed.experiments.table4 import DATA_SETS, SEED
from indeed.images.metrics import psnr
from indeed.images.noise import seeded_gaussian
from indeed.networks.checkpoint import load_checkpoint, shipped_checkpoint
from indeed.networks.whole_image import decompose
from indeed.record import Profile
from indeed.tables import Row

SIGMA = 25


def cells(profile: Profile) -> list[Values]:
    """Cells, (dataset, sigma, sweeps, images): CBSD68, or for ``smoke`` two embedded photographs.

    Raises
    ------
    DataMissingError
        If CBSD68 is not on disk.
    """
    dataset = "embedded_color" if profile == "smoke" else "cbsd68"
    images = len(DATA_SETS[dataset].files())
    return [(dataset, SIGMA, sweeps, images) for sweeps in ((0, 2) if profile == "smoke" else (0, 1, 10))]


def networks(key: Key, profile: Profile) -> dict[Path, str]:
    """Shipped denoiser, the same for every profile."""
    return {shipped_checkpoint("denoise_grey" if DATA_SETS[str(key["dataset"])].channels == 1 else "denoise_color"): ""}


def cell(job: Job, dataset: str, sigma: int, sweeps: int, images: int) -> Cell:
    """Make ready a cell.

    Returns
    -------
    Means over the images of ``psnr_low_rank`` and ``psnr`` (of L and of L + S, in dB) and ``seconds_per_image``.

    Raises
    ------
    DataMissingError
        If the images are missing.
    ValueError
        If there are not so many.
    """
    data = DATA_SETS[dataset]
    files = data.files()
    chosen = evenly(files, images)

    def compute() -> list[dict[str, float]]:
        model, _ = load_checkpoint(job.networks[0])
        rows = []
        for file in chosen:
            clean = data.image(file)
            noisy = seeded_gaussian(clean, sigma, SEED)
            start = time.perf_counter()
            parts = decompose(model, noisy, refine=sweeps)
            seconds = time.perf_counter() - start
            low_rank, both = (psnr(part[None], clean[None]).item() for part in (parts.L, parts.L + parts.S))
            rows.append((low_rank, both, seconds))
        low_rank, both, seconds = map(fmean, zip(*rows, strict=True))
        return [{"psnr_low_rank": low_rank, "psnr": both, "seconds_per_image": seconds}]

    return Cell(compute, f"{dataset} ({images} of {len(files)} images)", [*chosen, *job.networks], SEED)


def _lines(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        merits = f"L {float(row['psnr_low_rank']):.2f} dB, L + S {float(row['psnr']):.2f} dB"
        yield f"{row['dataset']}, sigma {row['sigma']}, {row['sweeps']} sweeps: {merits}"


TABLE = Table(
    name="refinement",
    key={"dataset": DATA_SETS, "sigma": int, "sweeps": int, "images": int},
    example="cbsd68-25-10-68",
    cells=cells,
    measure=cell,
    networks=networks,
    report=_lines,
    only_cpu=True,
)

if __name__ == "__main__":
    TABLE.main()
