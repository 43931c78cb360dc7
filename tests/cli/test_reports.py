"""Reports lose nothing: any name, several processes, a killed process, a full disk, closed streams."""

import csv
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from indeed.data.image_files import write_image
from indeed.data.picture import Picture
from indeed.tables import ResumableTable, read_table, write_table

NAMES = ["a,b.png", 'a"b.png', "a\nb.png", "a\rb.png", os.fsdecode(b"\xff\xfe.png"), "a\u2028b.png", " a .png"]


def test_any_name_survives_a_table(tmp_path):
    rows = [{"file": name, "x": "1"} for name in NAMES]
    write_table(tmp_path / "t.csv", rows)
    assert read_table(tmp_path / "t.csv") == rows
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        assert list(csv.DictReader(file)) == rows


def test_two_writers_of_a_table_keep_the_rows_of_each_other(tmp_path):
    image = tmp_path / "a.png"
    image.write_bytes(b"a")
    first, second = (ResumableTable(tmp_path / "t.csv", "made", {"x"}, by="name") for _ in range(2))
    for index, table in enumerate((first, second, first, second)):
        table.put(image, f"{index}.png", x=index)
    assert [row["file"] for row in read_table(tmp_path / "t.csv")] == ["0.png", "1.png", "2.png", "3.png"]
    assert first.find(image, "3.png", x=3) == second.find(image, "3.png", x=3) is not None


def test_a_row_that_a_full_disk_refuses_is_not_kept_and_the_others_are(tmp_path, monkeypatch):
    from indeed import tables

    image = tmp_path / "a.png"
    image.write_bytes(b"a")
    table = ResumableTable(tmp_path / "t.csv", "made", {"x"}, by="name")
    table.put(image, "a.png", x=1)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(tables, "write_table", full)
        with pytest.raises(OSError, match="No space"):
            table.put(image, "b.png", x=2)
    table.put(image, "c.png", x=3)
    assert [row["file"] for row in read_table(tmp_path / "t.csv")] == ["a.png", "c.png"]
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "t.csv"}


@pytest.mark.skipif(os.name != "posix", reason="locks are POSIX")
def test_processes_that_write_at_once_lose_no_row(tmp_path):
    (tmp_path / "a.png").write_bytes(b"a")
    writes = """
import sys
from pathlib import Path
from indeed.tables import ResumableTable
folder = Path(sys.argv[1])
table = ResumableTable(folder / "t.csv", "made", {"x"}, by="name")
for index in range(25):
    table.put(folder / "a.png", f"{sys.argv[2]} {index}", x=index)
"""
    workers = [subprocess.Popen([sys.executable, "-c", writes, tmp_path, str(worker)]) for worker in range(3)]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0, 0]
    assert len(read_table(tmp_path / "t.csv")) == 75


def test_an_evaluation_goes_on_where_it_was_stopped(run, tmp_path, monkeypatch, random_picture):
    from indeed.networks import figures_of_merit as module

    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        write_image(tmp_path / "in" / name, random_picture(24, 24, 1))
    arguments = ["evaluate", tmp_path / "in", "--csv", tmp_path / "t.csv"]
    first = run(*arguments)
    assert first[0] == 0

    def never(*_: object, **__: object) -> None:
        raise AssertionError("computed again")

    with monkeypatch.context() as patched:
        patched.setattr(module, "figures_of_merit", never)
        assert run(*arguments) == first
    assert run(*arguments, "--sigma", 10)[0] == 0
    assert {row["sigma"] for row in read_table(tmp_path / "t.csv")} == {"10.0"}


def test_a_table_of_another_kind_is_not_written_over(run, tmp_path, photo):
    (tmp_path / "t.csv").write_text("name,size\na,1\n")
    code, _, errors = run("evaluate", photo.parent, "--csv", tmp_path / "t.csv")
    assert (code, len(errors)) == (2, 1)
    assert "is no table of this command" in errors[0]


COMMAND = [sys.executable, "-m", "indeed.cli"]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
@pytest.mark.parametrize("command", ["denoise", "decompose"])
def test_sigterm_leaves_no_scratch(tmp_path, checkpoints, command, contents):
    pixels = np.random.default_rng(0).integers(0, 256, (160, 160, 1), dtype=np.uint8)
    write_image(tmp_path / "large.png", Picture(pixels))
    speaks = """
import sys
from indeed.cli import main
from indeed.networks.inference_network import InDeed
forward = InDeed.forward
InDeed.forward = lambda *given: (print("tiles", flush=True), forward(*given))[1]
sys.exit(main(sys.argv[1:]))
"""
    out = "out.png" if command == "denoise" else "out"
    arguments = [command, "large.png", "-o", out, "--checkpoint", checkpoints["denoise_grey"], "--overlap", "15"]
    with subprocess.Popen(
        [sys.executable, "-c", speaks, *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "tiles\n"
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (143, "indeed: terminated\n")
    assert contents(tmp_path) == {"large.png"}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a full device")
@pytest.mark.parametrize(("stream", "code"), [(">&-", 0), ("> /dev/full", 2), (">&- 2>&- <&-", 0)])
def test_a_standard_output_that_takes_nothing_is_no_traceback(checkpoints, stream, code):
    line = f'"$0" -m indeed.cli info "$1" {stream}'
    done = subprocess.run(
        ["sh", "-c", line, sys.executable, checkpoints["denoise_grey"]], capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    # A buffer that fills before the end fails inside the command, one that does not at the end.
    lines = ("indeed: no space left on device\n", "indeed: standard output: no space left on device\n")
    assert done.stderr in (lines if code else ("",))
