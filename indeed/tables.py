"""Tables as CSV files: rows of text that are read back as they were written, and a hash of what they were made from."""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, Literal

from indeed.files import atomic_write, locked

Row = dict[str, str]
"""One line of a table as it is in the file, so that a row just computed and one read back are equal."""


def write_table(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Write rows as CSV, whole or not at all; a row that lacks a column of another is empty there.

    Names of files that are not UTF-8 are written byte by byte as they are.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    # A carriage return is quoted by newer versions of Python only.
    returns = any("\r" in value for row in rows for value in row.values())
    quoting: Literal[0, 1] = csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL
    with (
        atomic_write(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n", quoting=quoting)
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
    text = Path(path).read_bytes().decode("utf-8", errors="surrogateescape")
    header, *lines = list(csv.reader(io.StringIO(text, newline=""))) or [[]]
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

    The file is whole after each row, and several processes may write into it: each adds its rows to those that are
    there. Rows of another checkpoint are dropped at the start, as they do not compare, and so is that of an image that
    has changed.
    """

    def __init__(
        self,
        path: Path,
        checkpoint: str,
        columns: set[str],
        *,
        by: Literal["name", "stem"],
        file: str = "file",
        content: str = "image",
    ) -> None:
        """Open the table.

        Parameters
        ----------
        path
            The CSV file; its folder is there.
        checkpoint
            Hash of what the rows are made by.
        columns
            Some that a table of this kind has.
        by
            What tells images apart.
        file, content
            Columns of the name and of the hash of an image.

        Raises
        ------
        ValueError
            If the file is another table, or damaged.
        """
        self.path = path
        self.checkpoint = checkpoint
        self.columns = columns | {file}
        self.by = by
        self.file = file
        self.content = content
        self._seen: tuple[int, ...] | None = None
        self._rows: dict[str, Row] = {}
        with locked(path.parent):
            rows = self._read()
            kept = {key: row for key, row in rows.items() if row.get("checkpoint") == checkpoint}
            if len(kept) < len(rows):
                self._write(kept)

    def find(self, path: Path, name: str, **values: object) -> Row | None:
        """Row of an image of that name, if it is there, with these values and from the very same file."""
        if not path.is_file():  # who reads it says why not; a pipe would be waited for
            return None
        with locked(self.path.parent):
            rows, key = self._read(), self._key(name)
            expected = self._row(path, name, values)
            if key in rows and any(rows[key].get(column, "") != value for column, value in expected.items()):
                self._write({other: row for other, row in rows.items() if other != key})
            return self._rows.get(key)

    def put(self, path: Path, name: str, **values: object) -> Row:
        """Write the row of an image, unless it is there."""
        row, key = self._row(path, name, values), self._key(name)
        with locked(self.path.parent):
            rows = self._read()
            if rows.get(key) != row:
                self._write(rows | {key: row})
        return row

    def _key(self, name: str) -> str:
        return name if self.by == "name" else str(PurePath(name).with_suffix(""))

    def _read(self) -> dict[str, Row]:
        """Rows by their keys; the file is read again where another process has written it."""
        now = self._state()
        if now != self._seen:
            rows = read_table(self.path) if now else []
            if rows and not self.columns <= rows[0].keys():
                raise ValueError(f"{self.path}: is no table of this command, expected another name or folder")
            self._rows = {self._key(row[self.file]): row for row in rows}
            self._seen = now
        return self._rows

    def _write(self, rows: dict[str, Row]) -> None:
        if rows:
            write_table(self.path, list(rows.values()))
        else:
            self.path.unlink()
        self._rows, self._seen = rows, self._state()

    def _state(self) -> tuple[int, ...] | None:
        try:
            state = self.path.stat()
        except FileNotFoundError:
            return None
        return state.st_ino, state.st_mtime_ns, state.st_size

    def _row(self, path: Path, name: str, values: dict[str, object]) -> Row:
        texts = {column: "" if value is None else str(value) for column, value in values.items()}
        return {self.file: name} | texts | {self.content: data_hash([path]), "checkpoint": self.checkpoint}


def rank_correlation(rows: Sequence[Mapping[str, Any]], first: str, second: str) -> float:
    """Spearman's rank correlation of two columns.

    >>> rows = [{"loss": str(x), "psnr": -x} for x in (1.0, 2.0, 4.0)]
    >>> round(rank_correlation(rows, "loss", "psnr"), 6)
    -1.0
    """
    from scipy.stats import spearmanr

    columns = ([float(row[name]) for row in rows] for name in (first, second))
    return float(spearmanr(*columns).statistic)
