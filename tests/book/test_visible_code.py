"""Visible code: what a reader of a chapter sees of it without unfolding anything, at most 120 lines."""

import re

import chapters
import nbformat
import pytest

MOST = 120
FOLDED = {"hide-input", "remove-input", "hide-cell", "remove-cell"}


def visible_lines(notebook: nbformat.NotebookNode) -> int:
    """Count the lines of code that are neither blank, nor folded, nor in a solution, which is folded as a whole."""
    lines, in_solution = 0, False
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for kind in re.findall(r"\{solution-(start|end)\}", cell.source):
                in_solution = kind == "start"
        elif not in_solution and not FOLDED & set(cell.metadata.get("tags", [])):
            lines += sum(bool(line.strip()) for line in cell.source.splitlines())
    return lines


def code(lines: int, *tags: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_code_cell("x = 1\n\n" * lines, metadata={"tags": list(tags)})


def test_folded_cells_blank_lines_and_solutions_are_not_visible():
    text = nbformat.v4.new_markdown_cell
    cells = [code(1), *(code(2, tag) for tag in FOLDED), code(4, "nbval-check-output")]
    cells += [text("````{exercise-start}\n````"), code(8), text("````{exercise-end}\n````")]
    cells += [text("````{solution-start} a\n````"), code(16), text("````{solution-end}\n````"), code(32)]
    assert visible_lines(nbformat.v4.new_notebook(cells=cells)) == 1 + 4 + 8 + 32


@pytest.mark.parametrize("chapter", chapters.chapters(), ids=lambda chapter: chapter.stem)
def test_a_chapter_shows_no_more_code_than_a_reader_can_take(chapter):
    assert visible_lines(chapters.notebook(chapter)) <= MOST
