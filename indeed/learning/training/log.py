"""The log of a training run: a row of loss terms and measures every so many steps."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from indeed.bayes.objectives import LossTerms
from indeed.files import atomic_write


class Validation(NamedTuple):
    """PSNR in dB of L and of L + S against clean images held out of training."""

    psnr_low_rank: float
    psnr: float


class ValidationOfFiles(NamedTuple):
    """As `Validation`; and PSNR in dB of L + S where the noisy images are clipped and rounded to 8 bit."""

    psnr_low_rank: float
    psnr: float
    psnr_clipped: float


def log_columns(
    measures: Sequence[str] = Validation._fields, terms: Sequence[str] = LossTerms._fields
) -> tuple[str, ...]:
    """Columns of ``log.csv``: loss terms are means over steps, samples and pixels; measures are empty in between."""
    return ("step", "learning_rate", *terms, *measures, "skipped", "patches_per_second", "seconds")


def append_row(path: Path, columns: Sequence[str], row: Mapping[str, Any]) -> None:
    """Append a row to a log, which begins with its header."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        if new:
            writer.writeheader()
        writer.writerow(row)


def truncate_log(path: Path, columns: Sequence[str], step: int) -> None:
    """Drop the rows of a log past a step: a killed run may have logged steps that its state does not hold."""
    if not path.exists():
        return
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    # A kill in the middle of a write leaves a short last line, or no whole header.
    whole = [row for row in rows if len(row) == len(columns) and row != list(columns)]
    with atomic_write(path) as temporary, temporary.open("w", newline="") as file:
        csv.writer(file).writerows([columns] + [row for row in whole if int(row[0]) <= step])


def read_log(path: Path) -> list[dict[str, str]]:
    r"""Rows of a ``log.csv``, with the rows of the run whose weights it started from before them, if they are kept.

    The log of that earlier run is ``<name>_start.csv`` beside ``<name>.csv``. The steps of the later run count on.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "denoiser_start.csv").write_text("step,psnr\n100,25.0\n200,26.0\n")
    ...     _ = (Path(folder) / "denoiser.csv").write_text("step,psnr\n50,27.0\n")
    ...     [row["step"] for row in read_log(Path(folder) / "denoiser.csv")]
    ['100', '200', '250']
    """
    earlier = path.with_name(f"{path.stem}_start{path.suffix}")
    rows: list[dict[str, str]] = read_log(earlier) if earlier.is_file() else []
    done = int(rows[-1]["step"]) if rows else 0
    with path.open(newline="", encoding="utf-8") as file:
        return rows + [row | {"step": str(int(row["step"]) + done)} for row in csv.DictReader(file)]
