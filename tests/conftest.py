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
from xdist.scheduler import LoadFileScheduling

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


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what builds the book, and put it first: it takes longest."""
    for item in items:
        if "book" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.book)
    items.sort(key=lambda item: item.get_closest_marker("book") is None)


class ByFile(LoadFileScheduling):
    """The tests of a file stay in one process, for the sake of its fixtures, and so do those that need the book."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        book = "book/test_built_book.py", "book/test_accessibility.py", "notebooks/test_chapters.py"
        return "book" if file.removeprefix("tests/") in book else file


@pytest.hookimpl(optionalhook=True)  # without xdist nobody asks
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByFile:
    """Distribute by file: xdist_group of xdist 3.8 groups nothing under pytest 9."""
    return ByFile(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Refuse a shipped network to a test, and to its fixtures, unless it is marked as ``shipped``."""
    safe_open = safetensors.safe_open

    def guarded(path, *args, **kwargs):
        assert SHIPPED not in Path(path).resolve().parents, f"mark this test as shipped: it reads {path}"
        return safe_open(path, *args, **kwargs)

    with mock.patch.object(safetensors, "safe_open", safe_open if item.get_closest_marker("shipped") else guarded):
        return (yield)
