"""Settings shared by all tests."""

import os

# Before torch is imported: threads that wait sleep (the reason is in book/execution.py).
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# No deadline: a first call imports and compiles. Derandomised: the same commit gives the same verdict.
settings.register_profile("indeed", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("indeed")


@pytest.fixture(scope="session")
def book() -> Path:
    """Build the book with its chapters at their smallest size, and return the folder (see `build.folder`)."""
    import build  # here, because it imports the library, which pytest is to watch from the start

    command = [sys.executable, build.__file__, "smoke"]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert run.returncode == 0, run.stdout[-6000:]
    return build.folder("smoke")


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what builds the book, put it first, and keep tests that share fixtures in one process."""
    for item in items:
        needs_book = "book" in getattr(item, "fixturenames", ())
        if needs_book:
            item.add_marker(pytest.mark.book)
        item.add_marker(pytest.mark.xdist_group("book" if needs_book else str(item.path.stem)))
    items.sort(key=lambda item: item.get_closest_marker("book") is None)
