"""Cells of a table: each is computed once, kept in a file of its own, and gathered into one tidy table.

A killed run therefore continues where it was, and the cells of one table can be computed by different machines.
"""

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch

from indeed.record import Provenance, provenance
from indeed.tables import Row, data_hash, read_table, write_table

_PROVENANCE = (*(field.name for field in fields(Provenance)), "data_hash")


def run_cell(
    path: Path,
    key: Mapping[str, str | int | float],
    compute: Callable[[], Mapping[str, float]],
    *,
    profile: str,
    seed: int,
    data: str,
    device: torch.device | str = "cpu",
    files: Sequence[Path] = (),
) -> Row:
    """Row of a cell: read from its file if it was computed before, else computed, timed and written.

    Parameters
    ----------
    path
        File of the cell, ``*.csv``; its folder is made.
    key
        What tells this cell from the others of its table. A name that is also one of the columns of provenance (such
        as ``seed``) must have that value.
    compute
        Measures the values. NaN and infinity are values too: a diverged training is a result.
    profile, seed, data, device
        As in :func:`indeed.record.provenance`.
    files
        What the cell is computed from (images, a checkpoint). A cell computed from other files is stale, and is
        computed again.

    Returns
    -------
    The columns of the key, the values, ``seconds`` (the duration of ``compute``), the columns of
    :class:`indeed.record.Provenance`, and the ``data_hash`` of the files.

    Raises
    ------
    ValueError
        If the file holds another cell (key, profile or seed) or is damaged: it is left as it is, and to delete it is up
        to its owner. If names of key and values clash.
    """
    (row,) = run_rows(path, key, lambda: [compute()], profile=profile, seed=seed, data=data, device=device, files=files)
    return row


def run_rows(
    path: Path,
    key: Mapping[str, str | int | float],
    compute: Callable[[], Sequence[Mapping[str, float | str]]],
    *,
    profile: str,
    seed: int,
    data: str,
    device: torch.device | str = "cpu",
    files: Sequence[Path] = (),
) -> list[Row]:
    """Rows of a cell that has several, such as one for each class of a data set; else as `run_cell`.

    The rows that ``compute`` gives, at least one, may have words among their values, which tell one from the other.

    Raises
    ------
    ValueError
        As `run_cell`.
    """
    label = {name: str(value) for name, value in key.items()}
    fixed = label | {"profile": profile, "seed": str(seed)}
    if different := [name for name, value in label.items() if fixed[name] != value]:
        raise ValueError(
            f"key: {different[0]} is {label[different[0]]}, expected {fixed[different[0]]} as passed beside"
        )
    inputs = data_hash(files)
    if path.exists():
        rows = _read_cell(path, fixed)
        if rows[0]["data_hash"] == inputs:
            return rows
    start = time.perf_counter()
    found = compute()
    seconds = time.perf_counter() - start
    reserved = {"seconds", *_PROVENANCE, *label}
    if clash := sorted(reserved & {name for values in found for name in values}):
        raise ValueError(f"compute: returned {', '.join(clash)}, a name that the row already has")
    origin = {name: str(value) for name, value in asdict(provenance(profile, seed, data, device)).items()}
    rows = []
    for values in found:
        measured = {name: value if isinstance(value, str) else repr(float(value)) for name, value in values.items()}
        rows.append(label | measured | {"seconds": f"{seconds:.3f}"} | origin | {"data_hash": inputs})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(path, rows)
    return rows


def cell_name(key: Mapping[str, str | int]) -> str:
    """Name of a cell, which is also that of its file.

    >>> cell_name({"dataset": "set12", "method": "bm3d", "sigma": 25, "images": 12})
    'set12-bm3d-25-12'
    """
    return "-".join(str(value) for value in key.values())


def gather(paths: Iterable[Path]) -> list[Row]:
    """Rows of finished cells, in the order of the paths.

    Raises
    ------
    FileNotFoundError
        If cells are missing; says how many and which is the first.
    ValueError
        If a file is damaged.
    """
    paths = list(paths)
    if missing := [path for path in paths if not path.exists()]:
        raise FileNotFoundError(f"{len(missing)} of {len(paths)} cells are not computed yet, the first is {missing[0]}")
    return [row for path in paths for row in _read_cell(path, {})]


def run_command(
    program: str, commands: Mapping[str, Callable[..., Any]], arguments: Sequence[str] | None = None
) -> None:
    """Run one of the commands of a module from its arguments; parameters without a default are positional.

    What is missing or wrong is one line on the standard error stream and exit code 2.
    """
    import tyro

    try:
        tyro.extras.subcommand_cli_from_dict(
            dict(commands), prog=program, args=arguments, config=(tyro.conf.PositionalRequiredArgs,)
        )
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"{program}: {' '.join(str(error).split())[:400]}", file=sys.stderr)
        sys.exit(2)


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
