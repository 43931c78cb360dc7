"""The record of a published number."""

import csv
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from indeed import record
from indeed.record import Number, Recorder, compare, provenance, read
from indeed.tables import read_table


def number(value: float, tolerance: float = 0.0, name: str = "psnr") -> Number:
    return Number(name, value, tolerance, "dB", 2)


def test_what_is_recorded_is_read_back(tmp_path):
    recorder = Recorder("chapter", "smoke", 3, folder=tmp_path)
    assert recorder.add("psnr", torch.tensor(28.8341, dtype=torch.float64), tolerance=0.05, unit="dB") == 28.8341
    recorder.add("rank", 4, tolerance=0, digits=0)
    assert recorder.path == tmp_path / "smoke" / "chapter.csv"
    assert read(recorder.path) == recorder.numbers
    assert [str(one) for one in recorder.numbers.values()] == ["28.83", "4"]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_value_survives_the_file_to_the_bit(tmp_path_factory, value):
    recorder = Recorder("chapter", "smoke", 0, folder=tmp_path_factory.mktemp("records"))
    recorder.add("x", value, tolerance=0)
    assert read(recorder.path)["x"].value == value


def test_every_number_names_its_run_which_is_described_once(tmp_path):
    recorder = Recorder("chapter", "smoke", 3, data="Set12", folder=tmp_path)
    recorder.add("psnr", 1, tolerance=0)
    recorder.add("ssim", 1, tolerance=0)
    with recorder.path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["name", "value", "tolerance", "unit", "digits", "run"]
    runs = json.loads(recorder.path.with_suffix(".json").read_text())
    assert [row["run"] for row in rows] == 2 * list(runs)
    (run,) = runs.values()
    assert (run["profile"], run["seed"], run["data"]) == ("smoke", "3", "Set12")
    assert run["device"].startswith("cpu")
    assert int(run["threads"]) == torch.get_num_threads()
    assert f"torch={torch.__version__.split('+')[0]}" in run["versions"]
    assert run["commit"]
    assert run["date"]


def published_and_fresh(tmp_path, published, fresh):
    """Publish a record of one day over that of another, and return its rows."""
    paths = []
    for folder, numbers, date in (("published", published, "2026-01-01"), ("fresh", fresh, "2026-02-02")):
        recorder = Recorder("chapter", "cpu", 0, folder=tmp_path / folder)
        recorder.provenance = dataclasses.replace(recorder.provenance, date=date)
        for one in numbers:
            recorder.add(*dataclasses.astuple(one))
        paths.append(recorder.path)
    assert record.publish(paths[1], paths[0])
    return {row["name"]: (row["value"], row["date"]) for row in read_table(paths[0])}


def test_a_confirmed_number_stands_with_its_run_and_others_are_replaced(tmp_path):
    rows = published_and_fresh(
        tmp_path,
        [number(1, 0.1, "same"), number(2, 0.1, "off"), number(3, 0.1, "gone"), number(5, 0.1, "described")],
        [number(4, 0.1, "new"), number(1.05, 0.1, "same"), number(2.5, 0.1, "off"), number(5, 0.2, "described")],
    )
    assert rows == {
        "new": ("4.0", "2026-02-02"),
        "same": ("1.0", "2026-01-01"),
        "off": ("2.5", "2026-02-02"),
        "described": ("5.0", "2026-02-02"),
    }


def test_a_run_that_confirms_everything_changes_no_byte(tmp_path):
    published = Recorder("chapter", "cpu", 0, folder=tmp_path / "published")
    fresh = Recorder("chapter", "cpu", 0, folder=tmp_path / "fresh")
    fresh.provenance = dataclasses.replace(fresh.provenance, date="2030-01-01")
    for recorder, value in ((published, 1.0), (fresh, 1.001)):
        recorder.add("psnr", value, tolerance=0.01)
    files = [published.path, published.path.with_suffix(".json")]
    before = [file.read_bytes() for file in files]
    assert not record.publish(fresh.path, published.path)
    assert [file.read_bytes() for file in files] == before


def test_a_first_record_is_published_as_it_is(tmp_path):
    fresh = Recorder("chapter", "cpu", 0, folder=tmp_path / "fresh")
    fresh.add("psnr", 1, tolerance=0)
    record.publish(fresh.path, tmp_path / "published" / "cpu" / "chapter.csv")
    assert read(tmp_path / "published" / "cpu" / "chapter.csv") == fresh.numbers


def test_adding_a_name_again_replaces_it(tmp_path):
    recorder = Recorder("chapter", "smoke", 0, folder=tmp_path)
    recorder.add("x", 1, tolerance=0)
    recorder.add("x", 2, tolerance=0)
    assert [one.value for one in read(recorder.path).values()] == [2]


def test_a_new_run_keeps_nothing_of_the_old_one(tmp_path):
    Recorder("chapter", "smoke", 0, folder=tmp_path).add("old", 1, tolerance=0)
    recorder = Recorder("chapter", "smoke", 0, folder=tmp_path)
    recorder.add("new", 1, tolerance=0)
    assert list(read(recorder.path)) == ["new"]


def test_a_write_that_fails_leaves_the_record_whole(tmp_path, monkeypatch):
    recorder = Recorder("chapter", "smoke", 0, folder=tmp_path)
    recorder.add("x", 1, tolerance=0)
    before = recorder.path.read_bytes()

    def full_disk(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(csv.DictWriter, "writerows", full_disk)
    with pytest.raises(OSError, match="No space"):
        recorder.add("y", 2, tolerance=0)
    assert recorder.path.read_bytes() == before
    assert sorted(recorder.path.parent.iterdir()) == [recorder.path, recorder.path.with_suffix(".json")]


@pytest.mark.parametrize(
    ("name", "value", "tolerance", "message"),
    [
        ("two words", 1, 0, "name: got 'two words', expected an identifier"),
        ("x", float("nan"), 0, "value of x: got nan, expected a finite number"),
        ("x", float("inf"), 0, "value of x: got inf, expected a finite number"),
        ("x", 1, -0.1, "tolerance of x: got -0.1, expected a finite number that is not negative"),
        ("x", 1, float("nan"), "tolerance of x: got nan, expected a finite"),
    ],
)
def test_what_cannot_be_published_is_refused(tmp_path, name, value, tolerance, message):
    recorder = Recorder("chapter", "smoke", 0, folder=tmp_path)
    with pytest.raises(ValueError, match=message):
        recorder.add(name, value, tolerance)
    assert not recorder.path.exists()


def test_the_folder_is_the_one_of_the_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("INDEED_RECORDS", str(tmp_path))
    assert record.records_folder() == tmp_path


def test_the_folder_is_never_the_published_one_unless_asked(monkeypatch):
    monkeypatch.delenv("INDEED_RECORDS", raising=False)
    assert record.records_folder().parts[-2:] == ("_build", "records")


@given(st.floats(-1e6, 1e6), st.floats(0, 1e3), st.floats(0, 1))
def test_two_runs_agree_within_the_published_tolerance(value, tolerance, share):
    assert not compare([number(value + share * tolerance)], [number(value, tolerance)])


@given(st.floats(-1e3, 1e3), st.floats(1e-6, 1e3), st.sampled_from([-1, 1]))
def test_two_runs_differ_beyond_the_published_tolerance(value, tolerance, sign):
    assert compare([number(value + 1.01 * sign * tolerance)], [number(value, tolerance)]).off


def test_the_tolerance_of_the_fresh_run_does_not_count():
    assert compare([number(2, tolerance=10)], [number(1, tolerance=0.1)]).off


def test_missing_and_new_numbers_are_differences():
    difference = compare([number(1, name="a"), number(1, name="b")], [number(1, name="b"), number(1, name="c")])
    assert difference == ((), ("c",), ("a",))
    assert difference


def test_the_commit_is_unknown_outside_a_clone(monkeypatch, tmp_path):
    monkeypatch.setattr(record, "_ROOT", tmp_path)
    assert provenance("smoke", 0, "none").commit == "unknown"


def test_the_commit_is_unknown_without_git(monkeypatch, tmp_path):
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(record, "_ROOT", tmp_path)
    monkeypatch.setenv("PATH", "")
    assert provenance("smoke", 0, "none").commit == "unknown"


def test_the_commit_says_that_files_were_changed(monkeypatch, tmp_path):
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    (tmp_path / "file").write_text("1")
    git("init")
    git("add", "file")
    git("commit", "-m", "first")
    monkeypatch.setattr(record, "_ROOT", tmp_path)
    assert len(provenance("smoke", 0, "none").commit) == 12
    (tmp_path / "file").write_text("2")
    assert provenance("smoke", 0, "none").commit.endswith("-dirty")


@pytest.mark.slow
def test_outside_a_notebook_nothing_is_glued_or_printed(tmp_path):
    code = f"from indeed.record import Recorder; Recorder('c', 'smoke', 0, folder={str(tmp_path)!r}).add('x', 1, 0)"
    code += "; import sys; assert 'myst_nb' not in sys.modules and 'IPython' not in sys.modules"
    root = Path(__file__).resolve().parents[1]
    run = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


@pytest.mark.slow
def test_in_a_notebook_the_number_is_glued_as_the_prose_shows_it(tmp_path, monkeypatch):
    from nbclient import NotebookClient

    monkeypatch.setenv("INDEED_RECORDS", str(tmp_path))
    code = "from indeed.record import Recorder\n_ = Recorder('chapter', 'smoke', 0).add('psnr', 28.8041, 0.05, 'dB')"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    root = Path(__file__).resolve().parents[1]
    NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(root)}}).execute()
    (output,) = notebook.cells[0].outputs
    assert output.metadata["scrapbook"]["name"] == "chapter_psnr"
    assert list(output.data.values()) == ["'28.80'"]
    assert read(tmp_path / "smoke" / "chapter.csv")["psnr"].value == 28.8041


def test_a_number_of_a_table_is_shown_and_has_no_second_record(tmp_path, monkeypatch):
    shown = {}
    monkeypatch.setattr(record, "_glue", shown.__setitem__)
    recorder = Recorder("chapter", "cpu", 0, folder=tmp_path)
    recorder.show("psnr", 30.993014386381592)
    assert shown == {"chapter_psnr": "30.99"}
    assert not recorder.path.exists()


def test_a_timing_that_is_drawn_is_the_published_one_where_the_run_confirms_it(tmp_path, monkeypatch):
    published = Recorder("chapter", "cpu", 0, folder=tmp_path / "results" / "measured")
    published.add("step", 2.0, 1.0, "ms")
    published.add("sweep", 8.0, 4.0, "ms")  # half of it, on each machine
    monkeypatch.setattr(record, "_ROOT", tmp_path)
    fresh = Recorder("chapter", "cpu", 0, folder=tmp_path / "fresh")
    for name, value, tolerance in (("step", 2.5, 1.0), ("sweep", 6.0, 3.0), ("new", 1.0, 0.5)):
        fresh.add(name, value, tolerance, "ms")
    assert [fresh.standing(name) for name in fresh.numbers] == [2.0, 8.0, 1.0]
    fresh.add("step", 3.5, 1.0, "ms")
    assert fresh.standing("step") == 3.5
    record.publish(fresh.path, published.path)
    assert [(n.value, n.tolerance) for n in read(published.path).values()] == [(3.5, 1.0), (8.0, 4.0), (1.0, 0.5)]


def test_a_published_number_is_quoted_from_its_one_record(tmp_path, monkeypatch):
    published = tmp_path / "results" / "measured"
    Recorder("experiment", "cpu", 0, folder=published).add("psnr", 28.8341, 0.05, "dB")
    monkeypatch.setattr(record, "_ROOT", tmp_path)
    shown = {}
    monkeypatch.setattr(record, "_glue", shown.__setitem__)
    assert record.quote("experiment")["psnr"].value == 28.8341
    assert shown == {"experiment_psnr": "28.83"}
    with pytest.raises(FileNotFoundError):
        record.quote("experiment", profile="paper")
