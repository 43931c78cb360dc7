"""Every chapter, executed at its smallest size: its numbers are the published ones, its pictures have a text."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import chapters
import nbformat
import pytest

from indeed import record

PUBLISHED = chapters.ROOT / "results" / "measured"


class Executed(NamedTuple):
    chapter: Path
    path: Path
    records: Path
    cells: list[nbformat.NotebookNode]


@pytest.fixture(scope="module", params=chapters.chapters(), ids=lambda chapter: chapter.stem)
def executed(request, tmp_path_factory) -> Executed:
    folder = tmp_path_factory.mktemp(request.param.stem)
    path = folder / f"{request.param.stem}.ipynb"
    notebook = chapters.execute(request.param, path, {"profile": "smoke"}, folder / "records")
    return Executed(request.param, path, folder / "records", notebook.cells)


def test_the_numbers_are_the_published_ones(executed):
    name = f"smoke/{executed.chapter.stem}.csv"
    fresh = record.read(executed.records / name)
    assert fresh, "a chapter records what it claims"
    assert (PUBLISHED / name).is_file(), "not published yet: run `make records`"
    difference = record.compare(fresh.values(), record.read(PUBLISHED / name).values())
    assert not difference, difference


def test_every_number_of_the_prose_was_recorded(executed):
    recorded = record.read(executed.records / "smoke" / f"{executed.chapter.stem}.csv")
    keys = {f"{executed.chapter.stem}_{name}" for name in recorded}
    for published in (PUBLISHED / "cpu").glob("*.csv"):  # what a chapter quotes of an experiment
        numbers = published.read_text().startswith("name,")  # others are tables, which are not quoted
        if numbers and published.stem not in {chapter.stem for chapter in chapters.chapters()}:
            keys |= {f"{published.stem}_{name}" for name in record.read(published)}
    assert set(chapters.glued(executed.chapter)) <= keys


def test_every_picture_has_an_alternative_text(executed):
    for cell in executed.cells:
        outputs = cell.get("outputs", [])
        if any(kind.startswith("image/") for output in outputs for kind in output.get("data", {})):
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            assert len(alt) > 20, f"no alternative text on the cell\n{cell.source}"


def test_nothing_is_written_to_standard_error(executed):
    errors = [
        output.text for cell in executed.cells for output in cell.get("outputs", []) if output.get("name") == "stderr"
    ]
    assert not errors


def test_the_tagged_cells_print_the_same_again(executed):
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", str(executed.path.parent), "-q"]
    command += ["-p", "no:cacheprovider", "--nbval-lax", "--nbval-current-env", str(executed.path)]
    environment = os.environ | {"INDEED_RECORDS": str(executed.records.with_name("again")), "PYTEST_ADDOPTS": ""}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-4000:]
    assert " passed" in run.stdout


def test_a_parameter_that_the_chapter_does_not_have_is_refused(executed, tmp_path):
    with pytest.raises(ValueError, match="has no parameter porfile; it has"):
        chapters.execute(executed.chapter, tmp_path / "x.ipynb", {"porfile": "smoke"}, tmp_path)
    assert not list(tmp_path.iterdir())
