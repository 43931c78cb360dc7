"""The chapters: listed, and as notebooks without outputs."""

import ast
import re
from pathlib import Path

import jupytext
import nbformat
import yaml

BOOK = Path(__file__).resolve().parent
ROOT = BOOK.parent
MEASURED = ROOT / "results" / "measured"
NOTEBOOKS = ROOT / "results" / "notebooks"
ROLE = r"\{glue:text\}`(\w+)`"  # a number in the prose


def pages() -> list[Path]:
    """Return every page of the table of contents, in its order."""
    contents = yaml.safe_load((BOOK / "_toc.yml").read_text())
    files = [contents["root"]]
    stack = list(reversed(contents.get("parts", contents.get("chapters", []))))
    while stack:
        entry = stack.pop()
        if "file" in entry:
            files.append(entry["file"])
        stack.extend(reversed(entry.get("chapters", []) + entry.get("sections", [])))
    return [BOOK / f"{file}.md" for file in files]


def chapters() -> list[Path]:
    """Return the pages that compute: those with code cells."""
    return [page for page in pages() if "```{code-cell}" in page.read_text(encoding="utf-8")]


def glued(chapter: Path) -> list[str]:
    """Return the keys of the recorded numbers that the prose of a chapter shows."""
    return re.findall(ROLE, chapter.read_text(encoding="utf-8"))


def notebook(chapter: Path) -> nbformat.NotebookNode:
    """Read a chapter as a notebook without outputs."""
    return jupytext.read(chapter, fmt="md:myst")


def shown(executed: nbformat.NotebookNode) -> dict[str, str]:
    """Return the numbers that the cells of an executed chapter show to its prose, by key."""
    outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
    return {
        output.metadata.scrapbook.name: ast.literal_eval(output.data["application/papermill.record/text/plain"])
        for output in outputs
        if "scrapbook" in output.get("metadata", {})
    }
