"""The low-rank part before and after the refinement of its factors, on whole images of a test set.

``python -m indeed.experiments.refinement --help``. A cell is one test set, one noise level and one number of sweeps of
:func:`indeed.bayes.refinement.refine`; no sweep is the network alone. The tiles of an image are blended as always.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from indeed.data.benchmarks import evenly
from indeed.experiments.cells import cell_name, run_cell, run_command
from indeed.experiments.table4 import DATA_SETS, SEED
from indeed.images.metrics import psnr
from indeed.images.noise import seeded_gaussian
from indeed.networks.checkpoint import load_checkpoint, shipped_checkpoint
from indeed.networks.whole_image import decompose
from indeed.recipes.equal_budget import Profile
from indeed.record import records_folder
from indeed.tables import Row, write_table

Key = dict[str, str | int]
SIGMA = 25


def cells(profile: Profile) -> list[Key]:
    """Keys (dataset, sigma, sweeps, images) of a profile: CBSD68, or for ``smoke`` two embedded photographs.

    Raises
    ------
    DataMissingError
        If CBSD68 is not on disk.
    """
    dataset = "embedded_color" if profile == "smoke" else "cbsd68"
    images = len(DATA_SETS[dataset].files())
    return [
        {"dataset": dataset, "sigma": SIGMA, "sweeps": sweeps, "images": images}
        for sweeps in ((0, 2) if profile == "smoke" else (0, 1, 10))
    ]


def cell(dataset: str, sigma: int, sweeps: int, images: int, *, profile: Profile, runs: Path | None = None) -> Row:
    """Measure one cell, or read what was measured before.

    Returns
    -------
    Means over the images of ``psnr_low_rank`` and ``psnr`` (of L and of L + S, in dB) and ``seconds_per_image``, with
    the columns of :func:`indeed.experiments.cells.run_cell`.

    Raises
    ------
    DataMissingError, CheckpointError
        If the images or the trained network are missing.
    ValueError
        If an argument is out of range, or the file of the cell is damaged.
    """
    if dataset not in DATA_SETS:
        raise ValueError(f"dataset must be one of {', '.join(DATA_SETS)}, got {dataset!r}")
    data = DATA_SETS[dataset]
    files = data.files()
    chosen = evenly(files, images)
    network = shipped_checkpoint("denoise_grey" if data.channels == 1 else "denoise_color")

    def compute() -> dict[str, float]:
        model, _ = load_checkpoint(network)
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
        return {"psnr_low_rank": low_rank, "psnr": both, "seconds_per_image": seconds}

    key: Key = {"dataset": dataset, "sigma": sigma, "sweeps": sweeps, "images": images}
    return run_cell(
        (runs or Path("runs") / "refinement" / profile) / f"{cell_name(key)}.csv",
        key,
        compute,
        profile=profile,
        seed=SEED,
        data=f"{dataset} ({images} of {len(files)} images)",
        files=[*chosen, network],
    )


def table(profile: Profile, folder: Path | None = None, *, runs: Path | None = None) -> list[Row]:
    """All cells of a profile, computed where they are missing, and written to ``<folder>/refinement.csv``.

    ``folder`` is by default that of fresh records (:func:`indeed.record.records_folder`), with the name of the profile.

    Raises
    ------
    DataMissingError
        If CBSD68 is not on disk.
    """
    rows = [cell(**key, profile=profile, runs=runs) for key in cells(profile)]  # type: ignore[arg-type]
    folder = folder or records_folder() / profile
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "refinement.csv", rows)
    return rows


def _print_table(profile: Profile = "cpu", folder: Path | None = None, runs: Path | None = None) -> None:
    """Compute the cells that are missing, write refinement.csv, and print it."""
    for row in table(profile, folder, runs=runs):
        merits = f"L {float(row['psnr_low_rank']):.2f} dB, L + S {float(row['psnr']):.2f} dB"
        print(f"{row['dataset']}, sigma {row['sigma']}, {row['sweeps']} sweeps: {merits}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``python -m indeed.experiments.refinement``."""
    run_command("refinement", {"table": _print_table}, arguments)


if __name__ == "__main__":
    main()
