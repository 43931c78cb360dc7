"""Rerun the chapters for the record: ``python book/records.py`` rewrites what is in ``results``.

A published number changes only where a run differs from it by more than its tolerance. A notebook changes only with its
text, its code or its numbers: pictures of times, or of the last digits of another machine, are no reason (to draw one
again, remove it). The chapters run without benchmark images, none of which may be committed.
"""

import hashlib
import re
import sys
from collections import Counter

import build
import chapters
import export
import nbformat
from execution import Job, execute_all, is_injected

from indeed import record

NO_IMAGES = {"INDEED_DATA": "none"}  # a folder that is not there


def deterministic(executed: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Take out of an executed notebook what is drawn anew or timed in each run: names of cells, tables and widgets."""
    seen: Counter[str] = Counter()
    tables: dict[str, str] = {}
    for cell in executed.cells:
        name = hashlib.sha256(cell.source.encode()).hexdigest()[:8]
        seen[name] += 1
        cell.id = f"{name}-{seen[name]}"
        cell.metadata.pop("execution", None)
        for data in (output.data for output in cell.get("outputs", []) if "data" in output):
            if "text/plain" in data:  # an object without a text of its own shows its address
                data["text/plain"] = re.sub(r" at 0x[0-9a-f]+>", ">", data["text/plain"])
            if "text/html" in data:  # pandas calls a styled table T_ and five hexadecimal digits
                data["text/html"] = re.sub(
                    r"\bT_[0-9a-f]{5}(?=[_\s\"])",
                    lambda match: tables.setdefault(match[0], f"T_{len(tables):05}"),
                    data["text/html"],
                )
    widgets = executed.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {})
    # In the order in which the chapter made them; a file lists them by name.
    names = {name: f"{number:032}" for number, name in enumerate(widgets.get("state", {}))}
    text = nbformat.writes(executed)
    if names:
        text = re.sub("|".join(names), lambda match: names[match[0]], text)
    return nbformat.reads(text, as_version=nbformat.NO_CONVERT)


def _sources(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def main() -> int:
    """Run every chapter in both profiles and publish what differs; return 1 where a chapter failed."""
    fresh = build.ROOT / "_build" / "publish"
    jobs = [
        Job(chapter, fresh / profile / f"{chapter.stem}.ipynb", fresh / "records", {"profile": profile}, NO_IMAGES)
        for chapter in chapters.chapters()
        for profile in ("smoke", "cpu")
    ]

    def publish(job: Job, executed: nbformat.NotebookNode) -> None:
        name = f"{job.parameters['profile']}/{job.chapter.stem}.csv"
        changed = record.publish(job.records / name, chapters.MEASURED / name)
        if job.parameters["profile"] == "cpu":
            executed.cells = [cell for cell in executed.cells if not is_injected(cell)]
            executed = export.readable(executed, job.chapter.stem, chapters.shown(executed))
            path = chapters.NOTEBOOKS / f"{job.chapter.stem}.ipynb"
            if (
                changed
                or not path.is_file()
                or _sources(executed) != _sources(nbformat.read(path, nbformat.NO_CONVERT))
            ):
                nbformat.write(deterministic(executed), path)

    return 0 if execute_all(jobs, build.ROOT / "_build" / "seconds.json", publish) else 1


if __name__ == "__main__":
    sys.exit(main())
