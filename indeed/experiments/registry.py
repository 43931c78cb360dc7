"""All tables by name, and the command behind each file of measured numbers.

``python -m indeed.experiments.registry table4 --profile smoke`` prints what the graph of jobs in ``workflow/`` is made
of.
"""

import json
import os
from importlib import import_module

from indeed.checks import one_of
from indeed.experiments.program import Table, cell_name, run_command
from indeed.record import Profile

TABLES = (
    "table3",
    "table4",
    "table5",
    "table6",
    "claims",
    "adapted_detection",
    "adapted_maps",
    "detector_gradients",
    "generalisation",
    "leaf_sampling",
    "refinement",
    "lipschitz_bounds",
    "leaf_noise",
    "one_photograph",
    "texture_draws",
    "factor_heads",
    "free_energy_alone",
    "design_search",
    "equal_budget",
    "ascent_ends",
)
"""Modules with a table of cells."""
OTHERS = {
    "large_image": "python benchmarks/large_image.py",
}
"""Measured numbers that are no table of cells and of no chapter, with their commands."""


def load_table(name: str) -> Table:
    """Table of a module, which is imported now.

    Raises
    ------
    ValueError
        If there is no such table.
    """
    one_of(TABLES, name=name)
    table: Table = import_module(f"indeed.experiments.{name}").TABLE
    return table


def commands() -> dict[str, str]:
    """Command behind each file of measured numbers that is no chapter's, by the name of the file."""
    return OTHERS | {name: f"python -m indeed.experiments.{name} table" for name in TABLES}


def graph(*names: str, profile: Profile = "cpu") -> dict[str, dict[str, object]]:
    """Describe tables as jobs.

    Returns
    -------
    By table: ``cells``, the trained networks of each by its name; ``trained``, the commands that make those that do not
    ship; and ``drawings``, the names of the files. Errors are those of :meth:`indeed.experiments.program.Table.keys`.
    """
    described: dict[str, dict[str, object]] = {}
    for name in names:
        table = load_table(name)
        needed = {
            cell_name(key.values()): {os.path.relpath(path): how for path, how in table.networks(key, profile).items()}
            for key in table.keys(profile)
        }
        described[name] = {
            "cells": {cell: list(networks) for cell, networks in needed.items()},
            "trained": {path: how for networks in needed.values() for path, how in networks.items() if how},
            "drawings": list(table.drawings),
        }
    return described


def print_graph(tables: tuple[str, ...], profile: Profile = "cpu") -> None:
    """Print tables as jobs, in JSON."""
    print(json.dumps(graph(*tables, profile=profile), indent=1))


if __name__ == "__main__":
    run_command("registry", print_graph)
