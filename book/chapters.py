"""The chapters as notebooks: listed, opened in JupyterLab, executed for the record.

``python book/chapters.py notebooks`` writes them to ``notebooks/`` and keeps what a reader has edited there;
``python book/chapters.py records`` reruns them and rewrites the published numbers in ``results/measured``.
"""

import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import yaml

BOOK = Path(__file__).resolve().parent
ROOT = BOOK.parent
PROFILES = ("smoke", "cpu")


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
    return re.findall(r"\{glue:text\}`(\w+)", chapter.read_text(encoding="utf-8"))


def notebook(chapter: Path) -> nbformat.NotebookNode:
    """Read a chapter as a notebook without outputs."""
    return jupytext.read(chapter, fmt="md:myst")


def execute(chapter: Path, output: Path, parameters: Mapping[str, Any], records: Path) -> nbformat.NotebookNode:
    """Run a chapter with papermill; ``output`` is the executed notebook, ``records`` the folder of its numbers.

    Raises ValueError for a parameter that the chapter's ``parameters`` cell does not have.
    """
    import papermill

    output.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook(chapter), output)
    known = papermill.inspect_notebook(output)
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        output.unlink()
        raise ValueError(f"{chapter.name} has no parameter {', '.join(unknown)}; it has {', '.join(known) or 'none'}")
    before = os.environ.get("INDEED_RECORDS")
    os.environ["INDEED_RECORDS"] = str(records)
    try:
        executed = papermill.execute_notebook(
            output, output, dict(parameters), kernel_name="python3", progress_bar=False, log_output=False
        )
    finally:
        if before is None:
            del os.environ["INDEED_RECORDS"]
        else:
            os.environ["INDEED_RECORDS"] = before
    # Its own metadata hold paths and times of this machine, which belong in no record.
    for part in (executed, *executed.cells):
        part.metadata.pop("papermill", None)
    nbformat.write(executed, output)
    return executed


def write_notebooks(folder: Path = ROOT / "notebooks") -> None:
    """Write the chapters as notebooks; one that was edited or run by its reader is kept as it is."""
    folder.mkdir(exist_ok=True)
    ledger = folder / ".generated.json"
    written = json.loads(ledger.read_text()) if ledger.is_file() else {}
    for chapter in chapters():
        target = folder / f"{chapter.stem}.ipynb"
        text = nbformat.writes(notebook(chapter))
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


def write_records() -> None:
    """Rerun every chapter in every profile; rewrite ``results/measured`` and the last profile's notebooks."""
    for chapter in chapters():
        for profile in PROFILES:
            print(f"{chapter.stem}, {profile}")
            output = ROOT / "results" / "notebooks" / f"{chapter.stem}.ipynb"
            execute(chapter, output, {"profile": profile}, ROOT / "results" / "measured")


if __name__ == "__main__":
    commands = {"notebooks": write_notebooks, "records": write_records}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        sys.exit(f"usage: python book/chapters.py {'|'.join(commands)}")
    commands[sys.argv[1]]()
