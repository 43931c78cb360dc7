"""The one program of all tables: a `Table` says what its cells are, the rest is done here once.

A cell is computed once, kept in a file of its own (``runs/<table>/<profile>/<cell>.csv``), and gathered into one tidy
table. A killed run therefore continues where it was, and the cells of one table can be computed by different machines.
"""

import os
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from indeed.checks import expect, one_of
from indeed.data.benchmarks import DataMissingError
from indeed.figures.canvas import Drawn
from indeed.networks.checkpoint import CheckpointError, Shipped, shipped_checkpoint
from indeed.record import Profile, Provenance, provenance, records_folder
from indeed.tables import Row, data_hash, publish_table, read_table, write_table

Key = Mapping[str, str | int]
"""What tells a cell from the others of its table: the values of its fields, by name."""
Values = tuple[str | int, ...]
"""The same without the names, in the order of the fields."""
Measured = Mapping[str, float | str]
"""One measured row: numbers, and words that tell it from the other rows of its cell."""
T = TypeVar("T")

_PROVENANCE = (*(column.name for column in fields(Provenance)), "data_hash")
_RESERVED = {"seconds", "run", *_PROVENANCE}


@dataclass(frozen=True)
class Job:
    """What a cell is measured with."""

    profile: Profile
    device: str
    state: Path
    """Folder in which a training that the cell needs keeps its state."""
    networks: Sequence[Path]
    """Trained networks that the cell measures, as `Table.networks` gives them."""


@dataclass(frozen=True)
class Cell:
    """A cell that is ready to be measured."""

    compute: Callable[[], Sequence[Measured]]
    """Gives at least one row. NaN and infinity are values too: a diverged training is a result."""
    data: str
    """What is measured on, in words."""
    files: Collection[Path] = ()
    """What it is computed from (images, checkpoints): a cell that was computed from others is computed again."""
    seed: int = 0
    device: str = "cpu"


@dataclass(frozen=True, eq=False)
class Table:
    """A table: what its cells are, how one is measured, and how the rows are printed and drawn."""

    name: str
    """Name of its module, of its folder in ``runs`` and of its file."""
    key: Mapping[str, Collection[str] | Collection[int] | type[int]]
    """Fields of the key by name: the values there are, or ``int`` for any number that is not negative."""
    example: str
    """Name of a cell, for messages."""
    cells: Callable[[Profile], Iterable[Values]]
    """Cells of a profile."""
    measure: Callable[..., Cell]
    """Make ready a cell from a `Job` and, by name, the fields of its key."""
    report: Callable[[Sequence[Row]], Iterable[str]] = lambda rows: map(_every_value, rows)
    """Lines to print of the rows of one cell; by default every value by its name."""
    summarise: Callable[[Sequence[Row]], Iterable[str]] | None = None
    """Lines to print of all rows; None: as `report`."""
    drawings: Mapping[str, Callable[[Sequence[Row]], Drawn[Any]]] = field(default_factory=dict)
    """Figures of all rows by the names of their files."""
    networks: Callable[[Key, Profile], Mapping[Path, str]] = lambda key, profile: {}
    """Trained networks that a cell measures, each with the command that makes it (empty for one that ships)."""
    profiles: Collection[Profile] = ("smoke", "cpu", "paper")
    only_cpu: bool = False
    """Whether nothing of the table can run on another device."""
    commands: Mapping[str, Callable[..., object]] = field(default_factory=dict)
    """Commands beside those of all tables."""

    def __post_init__(self) -> None:
        """Refuse a field of the key that is called like a column of every table."""
        if clash := self.key.keys() & (_RESERVED - {"seed"}):
            raise ValueError(f"key: got {min(clash)}, expected no name of a column that says where a row is from")

    def keys(self, profile: Profile) -> list[Key]:
        """Keys of the cells of a profile.

        Raises
        ------
        ValueError
            If the table has no such profile.
        DataMissingError
            If it has no cell, because no data set is on disk.
        """
        one_of(self.profiles, profile=profile)
        keys: list[Key] = [dict(zip(self.key, values, strict=True)) for values in self.cells(profile)]
        if not keys:
            raise DataMissingError("no data set is on disk; set INDEED_DATA or see data_scripts/README.md")
        return keys

    def parse(self, name: str) -> Key:
        """Key of a cell from its name.

        Raises
        ------
        ValueError
            If the name has another form or a field another value.
        """
        words = name.split("-")
        numbers = [isinstance(of, type) or any(isinstance(value, int) for value in of) for of in self.key.values()]
        if len(words) != len(numbers) or not all(w.isdecimal() for w, n in zip(words, numbers, strict=True) if n):
            raise ValueError(f"name: got {name!r}, expected {'-'.join(self.key)}, such as {self.example}")
        return self._checked(*(int(w) if number else w for w, number in zip(words, numbers, strict=True)))

    def cell(self, *values: str | int, profile: Profile, runs: Path | None = None, device: str = "cpu") -> list[Row]:
        """Rows of one cell: read from its file if they were measured before from the same files, else measured.

        Parameters
        ----------
        *values
            The fields of its key.
        profile
            Sizes and data.
        runs
            Folder of the cells; None: ``runs/<table>/<profile>``.
        device
            Where networks run.

        Raises
        ------
        DataError, DataMissingError, CheckpointError, ModuleNotFoundError
            If images are not good, or they, a trained network or the package of a method are missing.
        ValueError
            If an argument is out of range, or the file of the cell is damaged or holds another one.
        """
        key = self._checked(*values)
        if self.only_cpu and device != "cpu":
            raise ValueError(f"device: got {device!r}, expected cpu, the only one that {self.name} is measured on")
        path = self.path(*values, profile=profile, runs=runs)
        networks = self.networks(key, profile)
        cell = self.measure(Job(profile, device, path.with_suffix(""), list(networks)), **key)
        for network, command in networks.items():
            if not network.is_file():
                raise CheckpointError(f"{network}: is not there, it is made by: {command}")
        return run_cell(path, key, cell, profile)

    def path(self, *values: str | int, profile: Profile, runs: Path | None = None) -> Path:
        """File of a cell."""
        return (runs or Path("runs") / self.name / profile) / f"{cell_name(values)}.csv"

    def table(
        self, profile: Profile, folder: Path | None = None, *, runs: Path | None = None, device: str = "cpu"
    ) -> list[Row]:
        """All cells of a profile, measured where they are missing, and published as ``<folder>/<table>.csv``.

        ``folder`` is by default that of fresh records (:func:`indeed.record.records_folder`), with the name of the
        profile. Errors are those of `keys` and `cell`.
        """
        keys = self.keys(profile)
        rows = [row for key in keys for row in self.cell(*key.values(), profile=profile, runs=runs, device=device)]
        folder = _records(folder, profile)
        folder.mkdir(parents=True, exist_ok=True)
        publish_table(folder / f"{self.name}.csv", rows, [name for name in _PROVENANCE if name != "seed"])
        return rows

    def main(self, arguments: Sequence[str] | None = None) -> None:
        """Run the command line of the table, ``python -m indeed.experiments.<table>``."""
        commands: dict[str, Callable[..., object]] = {"list": self._list, "cell": self._cell, "table": self.print_table}
        figure = {"figure": self._figure} if self.drawings else {}
        run_command(self.name, commands | figure | dict(self.commands), arguments)

    def _checked(self, *values: str | int) -> Key:
        key = dict(zip(self.key, values, strict=True))
        for (name, known), value in zip(self.key.items(), values, strict=True):
            if isinstance(known, type):
                expect(isinstance(value, int) and value >= 0, name, value, "a number that is not negative")
            elif value not in known:
                raise ValueError(f"{name}: got {value!r}, expected one of {', '.join(map(str, known))}")
        return key

    def _list(self, profile: Profile = "cpu") -> None:
        """Print the name of each cell of a profile, and after it the trained networks that it measures."""
        for key in self.keys(profile):
            print(cell_name(key.values()), *map(os.path.relpath, self.networks(key, profile)))

    def _cell(self, name: str, profile: Profile = "cpu", runs: Path | None = None, device: str = "cpu") -> None:
        """Measure one cell, by its name, unless it is there, and print it."""
        _say(self.report(self.cell(*self.parse(name).values(), profile=profile, runs=runs, device=device)))

    def print_table(
        self, profile: Profile = "cpu", folder: Path | None = None, runs: Path | None = None, device: str = "cpu"
    ) -> None:
        """Measure the cells that are missing, write the table, and print what it says."""
        _say((self.summarise or self.report)(self.table(profile, folder, runs=runs, device=device)))

    def _figure(self, profile: Profile = "cpu", folder: Path | None = None) -> None:
        """Draw the table that is in the folder."""
        folder = _records(folder, profile)
        rows = read_table(folder / f"{self.name}.csv")
        for name, draw in self.drawings.items():
            draw(rows)[0].savefig(folder / name)


def ships(name: Shipped) -> Callable[[Key, Profile], dict[Path, str]]:
    """Networks of a table whose cells all measure one model that ships."""
    return lambda key, profile: {shipped_checkpoint(name): ""}


def cell_name(values: Iterable[str | int]) -> str:
    """Name of a cell, which is also that of its file.

    >>> cell_name(("set12", "bm3d", 25, 12))
    'set12-bm3d-25-12'
    """
    return "-".join(map(str, values))


def on_disk(names: Iterable[str], look: Callable[[str], T]) -> dict[str, T]:
    """Look for each name; a data set that is missing is left out, and named on the standard error stream."""
    found = {}
    for name in names:
        try:
            found[name] = look(name)
        except DataMissingError as error:
            print(f"left out: {error}", file=sys.stderr)
    return found


def run_cell(path: Path, key: Key, cell: Cell, profile: str) -> list[Row]:
    """Rows of a cell: read from its file if it was computed before, else computed, timed and written.

    Parameters
    ----------
    path
        File of the cell, ``*.csv``; its folder is made.
    key
        What tells this cell from the others of its table. A name that is also one of the columns of provenance (such
        as ``seed``) must have that value.
    cell
        What is computed, and from what.
    profile
        As in :func:`indeed.record.provenance`.

    Returns
    -------
    Rows with the columns of the key, the values, ``seconds`` (the duration of the computation of all of them), the
    columns of :class:`indeed.record.Provenance`, and the ``data_hash`` of the files.

    Raises
    ------
    ValueError
        If the file holds another cell (key, profile or seed) or is damaged: it is left as it is, and deleting it is
        up to its owner. If names of key and values clash.
    """
    label = {name: str(value) for name, value in key.items()}
    fixed = label | {"profile": profile, "seed": str(cell.seed)}
    if different := [name for name, value in label.items() if fixed[name] != value]:
        raise ValueError(f"{different[0]}: got {label[different[0]]}, expected {fixed[different[0]]} as passed beside")
    inputs = data_hash(cell.files)
    if path.exists():
        rows = _read_cell(path, fixed)
        if rows[0]["data_hash"] == inputs:
            return rows
    start = time.perf_counter()
    found = cell.compute()
    seconds = time.perf_counter() - start
    if clash := sorted((_RESERVED | label.keys()) & {name for values in found for name in values}):
        raise ValueError(f"compute: got {', '.join(clash)}, expected no name that the row already has")
    run = provenance(profile, cell.seed, cell.data, cell.device)
    origin = {name: str(value) for name, value in asdict(run).items()} | {"data_hash": inputs}
    rows = []
    for values in found:
        measured = {name: value if isinstance(value, str) else repr(float(value)) for name, value in values.items()}
        rows.append(label | measured | {"seconds": f"{seconds:.3f}"} | origin)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(path, rows)
    return rows


def run_command(
    program: str,
    commands: Callable[..., object] | Mapping[str, Callable[..., object]],
    arguments: Sequence[str] | None = None,
) -> None:
    """Run the command of a module, or one of its commands, from its arguments.

    Parameters without a default are positional. What is missing or wrong is one line on the standard error stream and
    exit code 2.
    """
    import tyro

    how: dict[str, Any] = {"prog": program, "args": arguments, "config": (tyro.conf.PositionalRequiredArgs,)}
    try:
        if callable(commands):
            tyro.cli(commands, **how)
        else:
            tyro.extras.subcommand_cli_from_dict(dict(commands), **how)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"{program}: {' '.join(str(error).split())[:400]}", file=sys.stderr)
        sys.exit(2)


def _records(folder: Path | None, profile: str) -> Path:
    return folder or records_folder() / profile


def _every_value(row: Row) -> str:
    shown = {name: value for name, value in row.items() if name not in (_RESERVED - {"seed", "seconds"})}
    return "  ".join(f"{name} {float(v):.5g}" if _is_number(v) else f"{name} {v}" for name, v in shown.items())


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, flush=True)


def _read_cell(path: Path, expected: Mapping[str, str]) -> list[Row]:
    rows = read_table(path)
    lacking = {"seconds", *_PROVENANCE, *expected} - rows[0].keys()
    if lacking or any(row[name] != rows[0][name] for row in rows for name in ("seconds", *_PROVENANCE)):
        raise ValueError(
            f"{path}: damaged, expected rows with the columns of one cell"
            f"{' (lacks ' + ', '.join(sorted(lacking)) + ')' if lacking else ''}; delete it to compute it anew"
        )
    for row in rows:
        if different := [name for name, value in expected.items() if row[name] != value]:
            name = different[0]
            raise ValueError(
                f"{path}: holds another cell ({name} is {row[name]!r}, expected {expected[name]!r}); "
                "delete it or choose another folder"
            )
    return rows
