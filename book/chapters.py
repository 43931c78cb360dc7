"""The chapters: listed, and as notebooks for JupyterLab.

``python book/chapters.py`` writes them to ``notebooks/``, with the published numbers in the prose, and keeps what a
reader has edited there.
"""

import ast
import hashlib
import json
import re
from collections.abc import Mapping
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


def fill_in(notebook: nbformat.NotebookNode, numbers: Mapping[str, str]) -> None:
    """Write the numbers into the prose of a notebook: outside the book nothing reads the roles that stand for them."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(ROLE, lambda match: numbers.get(match[1], match[0]), cell.source)


def write_notebooks(folder: Path = ROOT / "notebooks") -> None:
    """Write the chapters as notebooks; one that was edited or run by its reader is kept as it is."""
    folder.mkdir(exist_ok=True)
    ledger = folder / ".generated.json"
    written = json.loads(ledger.read_text()) if ledger.is_file() else {}
    for chapter in chapters():
        target = folder / f"{chapter.stem}.ipynb"
        fresh, published = notebook(chapter), NOTEBOOKS / target.name
        if published.is_file():
            fill_in(fresh, shown(nbformat.read(published, nbformat.NO_CONVERT)))
        text = nbformat.writes(fresh)
        if target.is_file() and _hash(target.read_text(encoding="utf-8")) != written.get(target.name):
            if written.get(f"{target.name} from") != _hash(text, ids=False):
                print(f"Kept {target}, which you changed; the chapter has changed too. Remove it for a fresh copy.")
            continue
        target.write_text(text, encoding="utf-8")
        written |= {target.name: _hash(text), f"{target.name} from": _hash(text, ids=False)}
    ledger.write_text(json.dumps(written, indent=1))


def _hash(text: str, ids: bool = True) -> str:
    # Cell ids are drawn anew at each conversion.
    if not ids:
        text = json.dumps([[cell["cell_type"], cell["source"]] for cell in json.loads(text)["cells"]])
    return hashlib.sha256(text.encode()).hexdigest()


if __name__ == "__main__":
    write_notebooks()
