"""Build the book: ``python book/build.py`` runs what has changed, writes ``_build/html`` and fails on any warning."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "_build"
CACHE = BUILD / ".jupyter_cache"
RECORDS = BUILD / "records"
INPUTS_STAMP = BUILD / ".inputs"  # what the cached chapters were run with
PAGES_STAMP = BUILD / ".pages"  # what the HTML was made of, written when that went well


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


def main() -> int:
    """Build what has changed, and return the exit code of the build."""
    # The cache of executed chapters looks at their code cells only: without this, an edit of the library
    # would leave old figures standing.
    now = fingerprint(inputs())
    if not INPUTS_STAMP.is_file() or INPUTS_STAMP.read_text() != now or not RECORDS.is_dir():
        shutil.rmtree(CACHE, ignore_errors=True)
        shutil.rmtree(RECORDS, ignore_errors=True)
        RECORDS.mkdir(parents=True)
        INPUTS_STAMP.write_text(now)
        PAGES_STAMP.unlink(missing_ok=True)
    made_of = fingerprint(pages())
    index = BUILD / "html" / "index.html"
    if PAGES_STAMP.is_file() and PAGES_STAMP.read_text() == made_of and index.is_file():
        print(f"Nothing has changed. Open {index.as_uri()}")
        return 0
    PAGES_STAMP.unlink(missing_ok=True)
    # A second build forgets the warnings of pages it does not read again, and leaves pages that are no more.
    for stale in (BUILD / ".doctrees", BUILD / "html"):
        shutil.rmtree(stale, ignore_errors=True)

    environment = os.environ | {
        "INDEED_RECORDS": str(RECORDS),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(min(2, os.cpu_count() or 1))),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # the kernel's debugger would warn in the middle of the log
    }
    command = [Path(sys.executable).with_name("jupyter-book"), "build", "book/", "-W", "-n", "--keep-going"]
    run = subprocess.run(command, cwd=ROOT, env=environment, check=False)
    if run.returncode:
        print(f"The book was not built (exit code {run.returncode}); see above.", file=sys.stderr)
        for report in sorted((BUILD / "html" / "reports").glob("*.log")):
            print(f"--- {report.name}\n{report.read_text()}", file=sys.stderr)
    else:
        PAGES_STAMP.write_text(made_of)
        print(f"\nThe book is ready. Open {index.as_uri()}")
    return run.returncode


if __name__ == "__main__":
    sys.exit(main())
