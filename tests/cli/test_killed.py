"""Whichever write kills a process, or finds the disk full: files are whole, and the next call makes the rest."""

import csv
import errno
import io
import os
import shutil
from pathlib import Path

import pytest
import torch

from indeed import cli
from indeed.data.image_files import write_image

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.skipif(torch.get_num_threads() > 1, reason="a fork of a process with OpenMP threads may hang"),
]

KILLED = 9
COMMANDS = {
    "denoise": ("denoise", "images", "-o", "out"),
    "adapt": ("adapt", "images/a.png", "-o", "out", "--steps", "1"),
    "detect": ("detect", "images/a.png", "-o", "out"),
    "evaluate": ("evaluate", "images", "--csv", "out/table.csv"),
    "decompose": ("decompose", "images/a.png", "-o", "out"),
}


def call(command: str, fault: str | None = None, at: int = 0) -> int:
    """Exit code of a command in a process of its own, which dies at a rename, or finds the disk full at a write."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    done = 0

    def once(function, fail):
        def counted(*arguments, **options):
            nonlocal done
            done += 1
            if done == at:
                fail()
            return function(*arguments, **options)

        return counted

    def full():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if fault == "killed":
        os.replace = once(os.replace, lambda: os._exit(KILLED))
        os.rename = once(os.rename, lambda: os._exit(KILLED))
    elif fault == "full disk":
        os.fsync = once(os.fsync, full)
    try:
        os._exit(cli.main(list(COMMANDS[command])))
    finally:
        os._exit(99)


def results(folder: Path) -> dict[str, bytes | set[str]]:
    """Content of all files but hidden ones, which a killed process leaves; of a table the rows without times."""
    found: dict[str, bytes | set[str]] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir() or any(part.startswith(".") for part in Path(name).parts):
            continue
        if path.suffix == ".csv":
            rows = csv.DictReader(io.StringIO(path.read_text()))
            found[name] = {repr([value for key, value in row.items() if "seconds" not in key]) for row in rows}
        else:
            found[name] = path.read_bytes()
    return found


@pytest.mark.parametrize("fault", ["killed", "full disk"])
@pytest.mark.parametrize("command", COMMANDS)
def test_whichever_write_fails_files_are_whole_and_the_next_call_makes_the_rest(
    command, fault, tmp_path, monkeypatch, random_picture
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png"):
        write_image(tmp_path / "images" / name, random_picture(40, 50, 1))
    out = tmp_path / "out"
    out.mkdir()
    assert cli.main(list(COMMANDS[command])) == 0  # here, so that what it imports is there for all that follow
    expected = results(out)
    assert expected
    for at in range(1, 20):
        shutil.rmtree(out)
        out.mkdir()
        code = call(command, fault, at)
        for name, content in results(out).items():
            assert content <= expected[name] if isinstance(content, set) else content == expected[name], name
        if code == 0:
            break
        assert code == (KILLED if fault == "killed" else 2)
        if fault == "full disk":
            assert not [path for path in out.rglob("*") if path.name.startswith(".")]
        assert call(command) == 0
        assert results(out) == expected
    assert 2 <= at < 19
