"""Tables are read as they were written, with what their rows share, and hashed by names and bytes."""

import csv
import json

import pytest

from indeed.tables import data_hash, publish_table, read_table, write_table

ROWS = [
    {"method": "a", "psnr": "28.10", "commit": "1", "date": "2026-01-01"},
    {"method": "b", "psnr": "28.20", "commit": "1", "date": "2026-01-01"},
    {"method": "c", "psnr": "28.30", "commit": "2", "date": "2026-01-02"},
]


def test_a_table_is_read_as_it_was_written_with_its_gaps(tmp_path):
    path = tmp_path / "table.csv"
    write_table(path, [{"a": "1", "b": 'with "quotes", commas\nand lines'}, {"a": "2", "c": "3"}])
    assert read_table(path) == [
        {"a": "1", "b": 'with "quotes", commas\nand lines', "c": ""},
        {"a": "2", "b": "", "c": "3"},
    ]


def test_hash_depends_on_names_and_bytes_only(tmp_path):
    for folder, content in (("a", b"x"), ("b", b"x"), ("c", b"y")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.png").write_bytes(content)
        (tmp_path / folder / "2.png").write_bytes(b"z")
    a, b, c = ([tmp_path / folder / f"{i}.png" for i in (1, 2)] for folder in "abc")
    assert data_hash(a) == data_hash(b) == data_hash(a[::-1])
    assert len({data_hash(a), data_hash(c), data_hash(a[:1]), data_hash([])}) == 4


def test_what_is_published_is_read_back_with_its_runs(tmp_path):
    publish_table(tmp_path / "x.csv", ROWS, ("commit", "date"))
    assert read_table(tmp_path / "x.csv") == ROWS


def test_each_run_is_described_once_under_a_name_that_does_not_depend_on_the_rows(tmp_path):
    publish_table(tmp_path / "x.csv", ROWS, ("commit", "date"))
    publish_table(tmp_path / "y.csv", ROWS[2:], ("date", "commit"))
    with (tmp_path / "x.csv").open(newline="") as file:
        runs = [row["run"] for row in csv.DictReader(file)]
    described = json.loads((tmp_path / "x.json").read_text())
    assert runs[0] == runs[1] != runs[2]
    assert described == {
        runs[0]: {"commit": "1", "date": "2026-01-01"},
        runs[2]: {"commit": "2", "date": "2026-01-02"},
    }
    assert json.loads((tmp_path / "y.json").read_text()) == {runs[2]: described[runs[2]]}


def test_a_run_that_is_not_described_is_damage(tmp_path):
    publish_table(tmp_path / "x.csv", ROWS, ("commit", "date"))
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(ValueError, match=r"x\.csv: damaged, expected the run \w{8} in x\.json"):
        read_table(tmp_path / "x.csv")
