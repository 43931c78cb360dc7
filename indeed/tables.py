"""Tables as CSV files: rows of text that are read back as they were written, and a hash of what they were made from."""

import csv
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from indeed.files import atomic_write

Row = dict[str, str]
"""One line of a table as it is in the file, so that a row just computed and one read back are equal."""


def write_table(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Write rows as CSV, whole or not at all; a row that lacks a column of another is empty there."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def publish_table(path: Path, rows: Sequence[Mapping[str, str]], run: Sequence[str]) -> None:
    """Write rows as CSV, and what they say of the runs that measured them once for each run, as JSON beside it.

    Parameters
    ----------
    path
        The CSV file; the other is called the same, with ``.json``.
    rows
        Rows with all their columns; `read_table` gives them back.
    run
        The columns that describe the run. In the CSV file one column stands for them, ``run``: a hash of what they say.
    """
    runs: dict[str, Row] = {}
    short = []
    for row in rows:
        about = {name: row[name] for name in run if name in row}
        key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:8]
        runs[key] = about
        short.append({name: value for name, value in row.items() if name not in about} | {"run": key})
    with atomic_write(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(runs, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    write_table(path, short)


def read_table(path: Path) -> list[Row]:
    """Rows of a CSV file with a header; the columns that `publish_table` has put beside it are there again.

    Raises
    ------
    ValueError
        If the file has no rows, no end, or a row with more or fewer fields than the header, or names an unknown run.
    """
    rows = _read_csv(path)
    if "run" not in rows[0]:
        return rows
    runs = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    unknown = {row["run"] for row in rows} - set(runs)
    if unknown:
        raise ValueError(f"{path}: damaged, expected the run {min(unknown)} in {path.with_suffix('.json').name}")
    return [{name: value for name, value in row.items() if name != "run"} | runs[row["run"]] for row in rows]


def _read_csv(path: Path) -> list[Row]:
    text = Path(path).read_bytes().decode("utf-8", errors="replace")
    header, *lines = list(csv.reader(text.splitlines(keepends=True))) or [[]]
    if not lines or not text.endswith("\n") or any(len(line) != len(header) for line in lines):
        raise ValueError(
            f"{path}: damaged, expected a table with a header and whole rows; delete it to compute it anew"
        )
    return [dict(zip(header, line, strict=True)) for line in lines]


def data_hash(files: Iterable[Path]) -> str:
    """First 12 hexadecimal digits of the SHA-256 over names and bytes of files, in any order; empty for none.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    """
    parts = sorted((path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12] if parts else ""


class ResumableTable:
    """Table of results of a checkpoint, a row an image, found by its name or, with ``stem``, by that without ending.

    The file is whole after each row. Rows of another checkpoint are dropped, as they cannot be compared, and so is the
    row of an image that has changed.
    """

    def __init__(self, path: Path, checkpoint: str, columns: set[str], *, by: Literal["name", "stem"]) -> None:
        self.path = path
        self.checkpoint = checkpoint
        self.by = by
        rows = read_table(path) if path.exists() else []
        if rows and not columns <= rows[0].keys():
            raise ValueError(f"{path}: is no table of this command, expected another folder")
        self.rows = {self._key(Path(row["file"])): row for row in rows if row["checkpoint"] == checkpoint}
        if len(self.rows) < len(rows):
            self._write()

    def find(self, path: Path, **values: object) -> Row | None:
        """Row of an image, if it is there, with these values and from the very same image."""
        row = self.rows.get(self._key(path))
        if row and not row.items() >= self._row(path, values).items():
            del self.rows[self._key(path)]
            self._write()
        return self.rows.get(self._key(path))

    def put(self, path: Path, **values: object) -> Row:
        """Write the row of an image, unless it is there."""
        row = self._row(path, values)
        if self.rows.get(self._key(path)) != row:
            self.rows[self._key(path)] = row
            self._write()
        return row

    def _key(self, path: Path) -> str:
        return path.name if self.by == "name" else path.stem

    def _write(self) -> None:
        if self.rows:
            write_table(self.path, list(self.rows.values()))
        else:
            self.path.unlink()

    def _row(self, path: Path, values: dict[str, object]) -> Row:
        texts = {name: "" if value is None else str(value) for name, value in values.items()}
        return {"file": path.name} | texts | {"image": data_hash([path]), "checkpoint": self.checkpoint}


def rank_correlation(rows: Sequence[Mapping[str, Any]], first: str, second: str) -> float:
    """Spearman's rank correlation of two columns.

    >>> rows = [{"loss": str(x), "psnr": -x} for x in (1.0, 2.0, 4.0)]
    >>> round(rank_correlation(rows, "loss", "psnr"), 6)
    -1.0
    """
    from scipy.stats import spearmanr

    columns = ([float(row[name]) for row in rows] for name in (first, second))
    return float(spearmanr(*columns).statistic)
