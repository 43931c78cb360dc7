"""One published number: its name, value, tolerance and unit, and where it came from.

A chapter records each number it claims. The prose shows it, the tests compare it with the committed one in
``results/measured``, and the reviewer reads the same line of the same file.
"""

import math
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal, NamedTuple, SupportsFloat

import torch

from indeed import __version__
from indeed.checks import expect
from indeed.tables import Row, publish_table, read_table

Profile = Literal["smoke", "cpu", "paper"]
"""One experiment in three sizes: seconds, for tests; what the book shows; the paper's."""

_ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Provenance:
    """Where a number came from: enough to make it again."""

    profile: str
    seed: int
    device: str
    threads: int
    data: str
    commit: str
    versions: str
    date: str


RUN = tuple(field.name for field in fields(Provenance))
"""What a record says of its run, once for all numbers of the run."""


@dataclass(frozen=True)
class Number:
    """A number as it is published; two runs agree where they differ by at most ``tolerance`` (absolute)."""

    name: str
    value: float
    tolerance: float
    unit: str
    digits: int

    def __str__(self) -> str:
        """Return the value as the prose shows it.

        >>> str(Number("psnr", 28.834, 0.05, "dB", 2))
        '28.83'
        """
        return f"{self.value:.{self.digits}f}"


class Comparison(NamedTuple):
    """What differs between two records; empty (false) where they agree."""

    off: tuple[str, ...]
    missing: tuple[str, ...]
    new: tuple[str, ...]

    def __bool__(self) -> bool:
        """Return whether anything differs."""
        return bool(self.off or self.missing or self.new)


def provenance(profile: str, seed: int, data: str, device: torch.device | str = "cpu") -> Provenance:
    """Describe the run that is going on: profile, seed, data, device, threads, commit, versions and date (UTC).

    The commit is "unknown" outside a clone of the repository, and ends in "-dirty" where tracked files were changed.
    """
    device = torch.device(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    packages = " ".join(f"{package}={version(package)}" for package in ("torch", "numpy", "scikit-image"))
    return Provenance(
        profile=profile,
        seed=seed,
        device=f"{device.type} ({name})",
        threads=torch.get_num_threads(),
        data=data,
        commit=_commit(),
        versions=f"indeed={__version__} python={platform.python_version()} {packages}",
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
    )


def _commit() -> str:
    # Without this, a package installed into the repository of somebody else would report a commit of theirs.
    if not (_ROOT / ".git").exists():
        return "unknown"
    # What is in results/ does not count as a change: measuring rewrites it.
    commands = (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "-uno", "--", ".", ":!results"])
    try:
        commit, changes = (
            subprocess.run(["git", *command], cwd=_ROOT, capture_output=True, text=True, check=True).stdout.strip()
            for command in commands
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}-dirty" if changes else commit


def records_folder() -> Path:
    """Return the folder of fresh records: ``INDEED_RECORDS``, or ``_build/records`` of the clone.

    Never ``results/measured``: the published numbers change on purpose only, by ``make records``.
    """
    chosen = os.environ.get("INDEED_RECORDS")
    if chosen:
        return Path(chosen)
    base = _ROOT if (_ROOT / "pyproject.toml").is_file() else Path.cwd()
    return base / "_build" / "records"


class Recorder:
    """The numbers of one chapter or experiment, kept in ``<records folder>/<profile>/<chapter>.csv``.

    The run that measured them is described in the file beside it, ``<chapter>.json``.

    Parameters
    ----------
    chapter
        Name of the chapter's file, without ``.md``. It is also the prefix of the keys of ``{glue:text}``.
    profile
        ``smoke``, ``cpu`` or ``paper``.
    seed
        The seed of the run.
    data
        What the numbers were measured on.
    device
        Where they were computed.
    folder
        The records folder, where it is not the usual one (see `records_folder`).

    Examples
    --------
    In a chapter, ``{glue:text}`first_decomposition_psnr_noisy``` then shows 20.17 in the prose:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     record = Recorder("first_decomposition", profile="smoke", seed=0, folder=folder)
    ...     psnr = record.add("psnr_noisy", 20.1712, tolerance=0.05, unit="dB")
    ...     print(read(record.path)["psnr_noisy"])
    20.17
    """

    def __init__(
        self,
        chapter: str,
        profile: str,
        seed: int,
        data: str = "embedded images",
        device: torch.device | str = "cpu",
        folder: str | Path | None = None,
    ) -> None:
        self.chapter = chapter
        self.path = Path(folder or records_folder()) / profile / f"{chapter}.csv"
        self.provenance = provenance(profile, seed, data, device)
        self.numbers: dict[str, Number] = {}

    def add(self, name: str, value: SupportsFloat, tolerance: float, unit: str = "", digits: int = 2) -> float:
        """Record a number, show it to the prose of the chapter, and return it.

        Parameters
        ----------
        name
            An identifier, unique in the chapter; adding it again replaces it.
        value
            A finite number (or a tensor with one element).
        tolerance
            The greatest absolute difference from another run, on another machine, that is not a difference.
        unit
            The unit, empty for a pure number.
        digits
            Digits after the point that the prose shows.

        Raises
        ------
        ValueError
            If the name is no identifier, the value not finite, the tolerance negative or not finite.
        """
        value, tolerance = float(value), float(tolerance)
        expect(name.isidentifier(), "name", repr(name), "an identifier such as psnr_noisy")
        expect(math.isfinite(value), f"value of {name}", value, "a finite number")
        if not (math.isfinite(tolerance) and tolerance >= 0):
            raise ValueError(f"tolerance of {name}: got {tolerance}, expected a finite number that is not negative")
        number = self.numbers[name] = Number(name, value, tolerance, unit, digits)
        self._write()
        _glue(f"{self.chapter}_{name}", str(number))
        return value

    def show(self, name: str, value: SupportsFloat | str, digits: int = 2) -> None:
        """Show a number to the prose of the chapter that has its one record elsewhere, such as a cell of a table."""
        _glue(f"{self.chapter}_{name}", f"{float(value):.{digits}f}")

    def standing(self, name: str) -> float:
        """Return a number that was added, as it is published where this run confirms it: for a timing that is drawn."""
        number = self.numbers[name]
        path = results_folder() / "measured" / self.provenance.profile / f"{self.chapter}.csv"
        published = read(path).get(name, number) if path.is_file() else number
        return (published if _confirms(number, published) else number).value

    def _write(self) -> None:
        # After every number, so that a chapter that fails half way leaves what it had measured.
        self.path.parent.mkdir(parents=True, exist_ok=True)
        rows = [asdict(number) | asdict(self.provenance) for number in self.numbers.values()]
        publish_table(self.path, [{name: str(value) for name, value in row.items()} for row in rows], RUN)


def _glue(key: str, text: str) -> None:
    # Only a running kernel can glue: elsewhere myst_nb need not be installed, and would print the number.
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None and getattr(shell, "kernel", None) is not None:
        try:
            from myst_nb import glue
        except ImportError:  # a reader's own JupyterLab, without the tools that build the book
            return
        glue(key, text, display=False)  # a string, not a number: the prose would drop its trailing zeros


def read(path: str | Path) -> dict[str, Number]:
    """Read a record: its numbers by name."""
    return {row["name"]: _number(row) for row in read_table(Path(path))}


def _number(row: Row) -> Number:
    return Number(row["name"], float(row["value"]), float(row["tolerance"]), row["unit"], int(row["digits"]))


def publish(fresh: Path, published: Path) -> bool:
    """Bring a published record up to date with a fresh one of the same chapter; return whether anything changed.

    A number that the fresh run confirms within its published tolerance stands, with the run that measured it; one that
    is off, new or described in another way comes from the fresh run, and one that is gone is dropped.
    """
    standing = {row["name"]: row for row in read_table(published)} if published.is_file() else {}
    rows = [
        old if (old := standing.get(row["name"])) and _confirms(_number(row), _number(old)) else row
        for row in read_table(fresh)
    ]
    published.parent.mkdir(parents=True, exist_ok=True)
    publish_table(published, rows, RUN)
    return rows != list(standing.values())


def _confirms(fresh: Number, published: Number) -> bool:
    # A tolerance may be a share of the value, which is another number on each machine.
    shares = (fresh.tolerance * published.value, published.tolerance * fresh.value)
    if published.value and math.isclose(*shares, rel_tol=1e-6):
        fresh = replace(fresh, tolerance=published.tolerance)
    same_claim = replace(fresh, value=0.0) == replace(published, value=0.0)
    return same_claim and not compare([fresh], [published])


def results_folder() -> Path:
    """Return the folder ``results`` of the clone, with the paper's tables and the published numbers."""
    return _ROOT / "results"


def quote(name: str, profile: str = "cpu") -> dict[str, Number]:
    """Read a published record of ``results/measured`` and show its numbers to the prose, under ``<name>_<number>``.

    For numbers that take too long to measure in a chapter: they keep their one record.

    Raises
    ------
    FileNotFoundError
        If nothing was published under that name and profile.
    """
    numbers = read(results_folder() / "measured" / profile / f"{name}.csv")
    for number in numbers.values():
        _glue(f"{name}_{number.name}", str(number))
    return numbers


def compare(fresh: Iterable[Number], published: Iterable[Number]) -> Comparison:
    """Compare a run with the published numbers, each within its published tolerance.

    >>> published = [Number("psnr", 28.80, 0.05, "dB", 2), Number("rank", 4, 0, "", 0)]
    >>> bool(compare([Number("psnr", 28.84, 0.05, "dB", 2), Number("rank", 4, 0, "", 0)], published))
    False
    >>> compare([Number("psnr", 28.90, 0.05, "dB", 2)], published)
    Comparison(off=('psnr: 28.9 dB, published 28.8 ± 0.05',), missing=('rank',), new=())
    """
    now = {number.name: number for number in fresh}
    then = {number.name: number for number in published}
    off = tuple(
        f"{name}: {now[name].value:g} {old.unit}".rstrip() + f", published {old.value:g} ± {old.tolerance:g}"
        for name, old in then.items()
        # A few units in the last place allow for the decimal form, not for the measurement.
        if name in now and abs(now[name].value - old.value) > old.tolerance * (1 + 1e-9) + 1e-12 * abs(old.value)
    )
    missing = tuple(name for name in then if name not in now)
    return Comparison(off, missing, tuple(name for name in now if name not in then))
