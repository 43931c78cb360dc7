"""Settings shared by all tests."""

import os

# Before torch is imported: threads that wait sleep (the reason is in book/execution.py).
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
import safetensors
from hypothesis import settings

# No deadline: a first call imports and compiles. Derandomised: the same commit gives the same verdict.
settings.register_profile("indeed", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("indeed")

SHIPPED = Path(__file__).resolve().parents[1] / "results" / "checkpoints"


@pytest.fixture(scope="session")
def book() -> Path:
    """Build the book with its chapters at their smallest size, and return the folder (see `build.folder`)."""
    import build  # here, because it imports the library, which pytest is to watch from the start

    command = [sys.executable, build.__file__, "smoke"]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert run.returncode == 0, run.stdout[-6000:]
    return build.folder("smoke")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what builds the book, and keep tests that share fixtures in one process.

    So early, because xdist reads the marks before `pytest_collection_modifyitems` of this file is called.
    """
    if needs_book := "book" in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.book)
    item.add_marker(pytest.mark.xdist_group("book" if needs_book else str(item.path.stem)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put first what builds the book: it takes longest."""
    items.sort(key=lambda item: item.get_closest_marker("book") is None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Refuse a shipped network to a test, and to its fixtures, unless it is marked as ``shipped``."""
    safe_open = safetensors.safe_open

    def guarded(path, *args, **kwargs):
        assert SHIPPED not in Path(path).resolve().parents, f"mark this test as shipped: it reads {path}"
        return safe_open(path, *args, **kwargs)

    with mock.patch.object(safetensors, "safe_open", safe_open if item.get_closest_marker("shipped") else guarded):
        return (yield)
