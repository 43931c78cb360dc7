"""Every chapter, executed at its smallest size: its numbers are the published ones, its pictures have a text."""

import os
import subprocess
import sys

import chapters
import nbformat
import pytest

from indeed import record

CHAPTERS = chapters.chapters()
PRINTED = [chapter for chapter in CHAPTERS if "nbval-check-output" in chapter.read_text(encoding="utf-8")]
every_chapter = pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.stem)


def published(chapter, profile):
    path = chapters.MEASURED / profile / f"{chapter.stem}.csv"
    assert path.is_file(), "not published yet: run `make records`"
    return record.read(path)


def executed(book, chapter):
    return nbformat.read(book / "executed" / f"{chapter.stem}.ipynb", as_version=nbformat.NO_CONVERT).cells


@every_chapter
def test_the_numbers_are_the_published_ones(book, chapter):
    fresh = record.read(book / "records" / "smoke" / f"{chapter.stem}.csv")
    assert fresh, "a chapter records what it claims"
    difference = record.compare(fresh.values(), published(chapter, "smoke").values())
    assert not difference, difference


@every_chapter
def test_every_number_of_the_prose_is_shown_by_a_cell(book, chapter):
    outputs = [output for cell in executed(book, chapter) for output in cell.get("outputs", [])]
    shown = {output.metadata.scrapbook.name for output in outputs if "scrapbook" in output.get("metadata", {})}
    assert set(chapters.glued(chapter)) <= shown


@every_chapter
def test_the_prose_finds_at_full_size_what_it_finds_at_the_smallest(chapter):
    small, full = ({f"{chapter.stem}_{name}" for name in published(chapter, profile)} for profile in ("smoke", "cpu"))
    assert set(chapters.glued(chapter)) & small <= full


@every_chapter
def test_every_picture_has_an_alternative_text(book, chapter):
    for cell in executed(book, chapter):
        outputs = cell.get("outputs", [])
        if any(kind.startswith("image/") for output in outputs for kind in output.get("data", {})):
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            assert len(alt) > 20, f"no alternative text on the cell\n{cell.source}"


@every_chapter
def test_nothing_is_written_to_standard_error(book, chapter):
    outputs = [output for cell in executed(book, chapter) for output in cell.get("outputs", [])]
    assert not [output.text for output in outputs if output.get("name") == "stderr"]


@pytest.mark.parametrize("chapter", PRINTED, ids=lambda chapter: chapter.stem)
def test_the_tagged_cells_print_the_same_again(book, chapter, tmp_path):
    path = tmp_path / f"{chapter.stem}.ipynb"
    ran = nbformat.read(book / "executed" / path.name, as_version=nbformat.NO_CONVERT)
    tagged = [k for k, cell in enumerate(ran.cells) if "nbval-check-output" in cell.metadata.get("tags", [])]
    del ran.cells[tagged[-1] + 1 :]  # what comes after them is not run again
    nbformat.write(ran, path)
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", str(path.parent), "-q"]
    command += ["-p", "no:cacheprovider", "--nbval-lax", "--nbval-current-env", str(path)]
    environment = os.environ | {"INDEED_RECORDS": str(tmp_path), "PYTEST_ADDOPTS": ""}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-4000:]
    assert " passed" in run.stdout
