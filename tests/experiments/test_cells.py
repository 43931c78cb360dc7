"""Cells: computed once, whole or not there, and never taken for another."""

import math

import pytest

from indeed.experiments.cells import gather, run_cell, run_rows
from indeed.tables import data_hash, read_table, write_table

KEY = {"method": "tv", "sigma": 25}
RUN = {"profile": "smoke", "seed": 3, "data": "embedded"}


class Counter:
    """Computation that counts its calls."""

    def __init__(self, **values):
        self.values = values or {"psnr": 30.1}
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return self.values


def test_a_finished_cell_is_read_and_not_computed_again(tmp_path):
    path, compute = tmp_path / "deep" / "cell.csv", Counter(psnr=0.1 + 0.2)
    row = run_cell(path, KEY, compute, **RUN)
    assert run_cell(path, KEY, compute, **RUN) == row
    assert compute.calls == 1
    assert float(row["psnr"]) == 0.1 + 0.2  # to the bit


def test_row_has_key_values_duration_and_provenance_in_this_order(tmp_path):
    row = run_cell(tmp_path / "cell.csv", KEY, Counter(), **RUN)
    names = "method sigma psnr seconds profile seed device threads data commit versions date data_hash"
    assert list(row) == names.split()
    assert (row["method"], row["sigma"], row["profile"], row["seed"], row["data"]) == (
        "tv",
        "25",
        "smoke",
        "3",
        "embedded",
    )
    assert float(row["seconds"]) >= 0


def test_nothing_is_left_of_a_cell_that_fails(tmp_path):
    def fail():
        raise RuntimeError("diverged")

    with pytest.raises(RuntimeError):
        run_cell(tmp_path / "cell.csv", KEY, fail, **RUN)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("key", "run"),
    [
        (KEY | {"sigma": 50}, RUN),
        (KEY, RUN | {"seed": 4}),
        (KEY, RUN | {"profile": "cpu"}),
        (KEY | {"images": 4}, RUN),
    ],
)
def test_the_file_of_another_cell_is_refused_and_left_alone(tmp_path, key, run):
    path = tmp_path / "cell.csv"
    run_cell(path, KEY, Counter(), **RUN)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"cell\.csv"):
        run_cell(path, key, Counter(), **run)
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b[:-2], lambda b: b * 2])
def test_a_damaged_file_is_refused_and_left_alone(tmp_path, damage):
    path = tmp_path / "cell.csv"
    run_cell(path, KEY, Counter(), **RUN)
    path.write_bytes(damage(path.read_bytes()))
    before, compute = path.read_bytes(), Counter()
    with pytest.raises(ValueError, match="delete it to compute it anew"):
        run_cell(path, KEY, compute, **RUN)
    with pytest.raises(ValueError, match="damaged"):
        gather([path])
    assert (path.read_bytes(), compute.calls) == (before, 0)


def test_nan_and_infinity_are_results(tmp_path):
    path, compute = tmp_path / "cell.csv", Counter(psnr=math.nan, loss=math.inf)
    row = run_cell(path, KEY, compute, **RUN)
    assert (row["psnr"], row["loss"]) == ("nan", "inf")
    assert run_cell(path, KEY, compute, **RUN) == row
    assert compute.calls == 1


def test_a_cell_is_computed_again_when_its_files_change(tmp_path):
    path, image, compute = tmp_path / "cell.csv", tmp_path / "image.png", Counter()
    image.write_bytes(b"one")
    first = run_cell(path, KEY, compute, files=[image], **RUN)
    assert run_cell(path, KEY, compute, files=[image], **RUN) == first
    image.write_bytes(b"two")
    again = run_cell(path, KEY, compute, files=[image], **RUN)
    assert compute.calls == 2
    assert first["data_hash"] != again["data_hash"] == data_hash([image])


def test_names_that_clash_are_refused(tmp_path):
    with pytest.raises(ValueError, match="seconds"):
        run_cell(tmp_path / "cell.csv", KEY, Counter(seconds=1.0), **RUN)
    with pytest.raises(ValueError, match="sigma"):
        run_cell(tmp_path / "cell.csv", KEY, Counter(sigma=1.0), **RUN)
    with pytest.raises(ValueError, match="seed is 7, expected 3"):
        run_cell(tmp_path / "cell.csv", KEY | {"seed": 7}, Counter(), **RUN)
    row = run_cell(tmp_path / "cell.csv", KEY | {"seed": 3}, Counter(), **RUN)
    assert row["seed"] == "3"


def test_gather_keeps_the_order_and_says_what_is_missing(tmp_path):
    paths = [tmp_path / f"{sigma}.csv" for sigma in (50, 15)]
    for path in paths:
        run_cell(path, {"sigma": path.stem}, Counter(), **RUN)
    assert [row["sigma"] for row in gather(paths)] == ["50", "15"]
    with pytest.raises(FileNotFoundError, match=r"1 of 3 cells.*25\.csv"):
        gather([*paths, tmp_path / "25.csv"])


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


def test_a_cell_of_several_rows_keeps_their_order_and_their_words(tmp_path):
    path, calls = tmp_path / "cell.csv", []

    def compute():
        calls.append(1)
        return [{"defect": "crack", "auroc": 0.9}, {"defect": "break", "auroc": math.nan}]

    rows = run_rows(path, KEY, compute, **RUN)
    assert [(row["method"], row["defect"], row["auroc"]) for row in rows] == [
        ("tv", "crack", "0.9"),
        ("tv", "break", "nan"),
    ]
    assert run_rows(path, KEY, compute, **RUN) == gather([path]) == rows == read_table(path)
    assert len(calls) == 1
    with pytest.raises(ValueError, match="holds another cell"):
        run_rows(path, KEY | {"sigma": 50}, compute, **RUN)


def test_rows_of_two_computations_are_no_cell(tmp_path):
    path = tmp_path / "cell.csv"
    row = run_cell(path, KEY, Counter(), **RUN)
    write_table(path, [row, row | {"data_hash": "another"}])
    with pytest.raises(ValueError, match="delete it to compute it anew"):
        run_rows(path, KEY, lambda: [{}], **RUN)
