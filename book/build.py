"""Build the book: ``python book/build.py`` runs what has changed, writes ``_build/html`` and fails on any warning.

``python book/build.py smoke`` does the same with chapters at their smallest size, in ``_build/smoke/_build``.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import chapters
import execution
import export
import nbformat
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn

from indeed import record

ROOT = chapters.ROOT


def folder(profile: str) -> Path:
    """Return where the book is built: ``.jupyter_cache``, ``html``, ``records``, ``executed`` (the notebooks)."""
    return ROOT / "_build" if profile == "cpu" else ROOT / "_build" / profile / "_build"


def inputs() -> Iterator[Path]:
    """List everything a chapter can read besides itself: the library, the results it shows, the pins."""
    for pattern in ("indeed/**/*.py", "results/*/**/*", "book/_data/**/*"):
        for path in sorted(ROOT.glob(pattern)):
            if path.is_file() and "notebooks" not in path.relative_to(ROOT).parts and path.name != "README.md":
                yield path
    yield ROOT / "constraints.txt"


def pages() -> Iterator[Path]:
    """List what the build reads besides the inputs of the chapters; the equation index shows tests."""
    yield ROOT / "_config.yml"
    for path in sorted([*(ROOT / "book").rglob("*"), *(ROOT / "tests").rglob("*.py")]):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


def fingerprint(paths: Iterable[Path]) -> str:
    """One hash of files, of the interpreter and of where the benchmark images are looked for."""
    total = hashlib.sha256(f"{sys.version} {os.environ.get('INDEED_DATA', '')}".encode())
    for path in paths:
        total.update(str(path.relative_to(ROOT)).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def run_chapters(profile: str) -> bool:
    """Execute what the cache does not have, so that Sphinx finds every chapter there; return whether all went well."""
    build = folder(profile)
    cache = get_cache(build / ".jupyter_cache")

    def keep(job: execution.Job, executed: nbformat.NotebookNode) -> None:
        # Sphinx looks for the chapter as it is written, without what papermill adds to it.
        book = chapters.notebook(job.chapter)
        ran = [cell for cell in executed.cells if cell.cell_type == "code" and not execution.is_injected(cell)]
        for cell, same in zip((cell for cell in book.cells if cell.cell_type == "code"), ran, strict=True):
            cell.outputs, cell.execution_count = same.outputs, same.execution_count
        book.metadata |= {
            name: executed.metadata[name] for name in ("language_info", "widgets") if name in executed.metadata
        }
        cache.cache_notebook_bundle(CacheBundleIn(book, str(job.chapter)), check_validity=False, overwrite=True)

    jobs = []
    for chapter in chapters.chapters():
        try:
            cache.match_cache_notebook(chapters.notebook(chapter))
        except KeyError:
            parameters = {} if profile == "cpu" else {"profile": profile}
            output = build / "executed" / f"{chapter.stem}.ipynb"
            jobs.append(execution.Job(chapter, output, build / "records", parameters))
    return execution.execute_all(jobs, ROOT / "_build" / "seconds.json", keep)


def differences(profile: str) -> dict[str, record.Comparison]:
    """Compare the numbers of the chapters with the published ones: what differs, by chapter."""
    found = {}
    for chapter in chapters.chapters():
        names = [root / profile / f"{chapter.stem}.csv" for root in (folder(profile) / "records", chapters.MEASURED)]
        fresh, published = (record.read(name).values() if name.is_file() else () for name in names)
        if difference := record.compare(fresh, published):
            found[chapter.stem] = difference
    return found


def main(profile: str = "cpu") -> int:
    """Build what has changed, and return the exit code of the build."""
    build = folder(profile)
    cache, records = build / ".jupyter_cache", build / "records"
    inputs_stamp = build / ".inputs"  # what the cached chapters were run with
    pages_stamp = build / ".pages"  # what the HTML was made of, written when that went well
    # The cache of executed chapters looks at their code cells only: without this, an edit of the library
    # would leave old figures standing.
    now = fingerprint(inputs())
    if not inputs_stamp.is_file() or inputs_stamp.read_text() != now or not records.is_dir():
        shutil.rmtree(cache, ignore_errors=True)
        shutil.rmtree(records, ignore_errors=True)
        records.mkdir(parents=True)
        inputs_stamp.write_text(now)
        pages_stamp.unlink(missing_ok=True)
    made_of = fingerprint(pages())
    index = build / "html" / "index.html"
    if pages_stamp.is_file() and pages_stamp.read_text() == made_of and index.is_file():
        print(f"Nothing has changed. Open {index.as_uri()}")
        return 0
    pages_stamp.unlink(missing_ok=True)
    # A second build forgets the warnings of pages it does not read again, and leaves pages that are no more.
    for stale in (build / ".doctrees", build / "html"):
        shutil.rmtree(stale, ignore_errors=True)

    if not run_chapters(profile):
        print("The book was not built: a chapter failed; see above.", file=sys.stderr)
        return 1
    environment = execution.THREADS | os.environ | {"INDEED_RECORDS": str(records)}
    program = Path(sys.executable).with_name("jupyter-book")
    command = [str(program), "build", "book/", "-W", "-n", "--keep-going", "--path-output", str(build.parent)]
    run = subprocess.run(command, cwd=ROOT, env=environment, check=False)
    if run.returncode:
        print(f"The book was not built (exit code {run.returncode}); see above.", file=sys.stderr)
        for report in sorted((build / "html" / "reports").glob("*.log")):
            print(f"--- {report.name}\n{report.read_text()}", file=sys.stderr)
        return run.returncode
    for path in (build / "html" / "_sources").glob("*.ipynb"):  # what the download button offers
        executed = nbformat.read(build / "executed" / path.name, nbformat.NO_CONVERT)
        notebook = export.with_outputs(nbformat.read(path, nbformat.NO_CONVERT), executed)
        nbformat.write(export.readable(notebook, path.stem, chapters.shown(executed)), path)
    pages_stamp.write_text(made_of)
    for chapter, difference in differences(profile).items():
        print(f"{chapter}: other numbers than the published ones: {difference}")
    print(f"\nThe book is ready. Open {index.as_uri()}")
    return 0


if __name__ == "__main__":
    if sys.argv[1:] not in ([], ["smoke"]):
        sys.exit("usage: python book/build.py [smoke]")
    sys.exit(main(*sys.argv[1:]))
