"""The program of all tables: cells are computed once, whole or not there, and never taken for another."""

import math
from dataclasses import replace

import pytest

from indeed.data.benchmarks import DataMissingError
from indeed.experiments.program import Cell, Table, cell_name, on_disk, run_cell
from indeed.networks.checkpoint import CheckpointError
from indeed.tables import data_hash, read_table, write_table

KEY = {"method": "tv", "sigma": 25}


class Counter:
    """Computation of one row that counts its calls."""

    def __init__(self, **values):
        self.values = values or {"psnr": 30.1}
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return [self.values]


def run(path, compute, key=KEY, profile="smoke", seed=3, files=()):
    return run_cell(path, key, Cell(compute, "embedded", files, seed), profile)


def test_a_finished_cell_is_read_and_not_computed_again(tmp_path):
    path, compute = tmp_path / "deep" / "cell.csv", Counter(psnr=0.1 + 0.2)
    rows = run(path, compute)
    assert run(path, compute) == rows
    assert compute.calls == 1
    assert float(rows[0]["psnr"]) == 0.1 + 0.2  # to the bit


def test_row_has_key_values_duration_and_provenance_in_this_order(tmp_path):
    (row,) = run(tmp_path / "cell.csv", Counter())
    names = "method sigma psnr seconds profile seed device threads data commit versions date data_hash"
    assert list(row) == names.split()
    values = [row[name] for name in ("method", "sigma", "profile", "seed", "data")]
    assert values == ["tv", "25", "smoke", "3", "embedded"]
    assert float(row["seconds"]) >= 0


def test_nothing_is_left_of_a_cell_that_fails(tmp_path):
    def fail():
        raise RuntimeError("diverged")

    with pytest.raises(RuntimeError):
        run(tmp_path / "cell.csv", fail)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "other", [{"key": KEY | {"sigma": 50}}, {"seed": 4}, {"profile": "cpu"}, {"key": KEY | {"images": 4}}]
)
def test_the_file_of_another_cell_is_refused_and_left_alone(tmp_path, other):
    path = tmp_path / "cell.csv"
    run(path, Counter())
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"cell\.csv"):
        run(path, Counter(), **other)
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b[:-2], lambda b: b * 2])
def test_a_damaged_file_is_refused_and_left_alone(tmp_path, damage):
    path = tmp_path / "cell.csv"
    run(path, Counter())
    path.write_bytes(damage(path.read_bytes()))
    before, compute = path.read_bytes(), Counter()
    with pytest.raises(ValueError, match=r"cell\.csv: damaged, .* delete it to compute it anew"):
        run(path, compute)
    assert (path.read_bytes(), compute.calls) == (before, 0)


def test_nan_and_infinity_are_results(tmp_path):
    path, compute = tmp_path / "cell.csv", Counter(psnr=math.nan, loss=math.inf)
    (row,) = run(path, compute)
    assert (row["psnr"], row["loss"]) == ("nan", "inf")
    assert run(path, compute) == [row]
    assert compute.calls == 1


def test_a_cell_is_computed_again_when_its_files_change(tmp_path):
    path, image, compute = tmp_path / "cell.csv", tmp_path / "image.png", Counter()
    image.write_bytes(b"one")
    (first,) = run(path, compute, files=[image])
    assert run(path, compute, files=[image]) == [first]
    image.write_bytes(b"two")
    (again,) = run(path, compute, files=[image])
    assert compute.calls == 2
    assert first["data_hash"] != again["data_hash"] == data_hash([image])


def test_names_that_clash_are_refused(tmp_path):
    for name in ("seconds", "run", "sigma"):
        with pytest.raises(ValueError, match=f"compute: got {name}, expected no name"):
            run(tmp_path / "cell.csv", Counter(**{name: 1.0}))
    with pytest.raises(ValueError, match="seed: got 7, expected 3"):
        run(tmp_path / "cell.csv", Counter(), key=KEY | {"seed": 7})
    (row,) = run(tmp_path / "cell.csv", Counter(), key=KEY | {"seed": 3})
    assert row["seed"] == "3"


def test_a_cell_of_several_rows_keeps_their_order_and_their_words(tmp_path):
    path, calls = tmp_path / "cell.csv", []

    def compute():
        calls.append(1)
        return [{"defect": "crack", "auroc": 0.9}, {"defect": "break", "auroc": math.nan}]

    rows = run(path, compute)
    found = [(row["method"], row["defect"], row["auroc"]) for row in rows]
    assert found == [("tv", "crack", "0.9"), ("tv", "break", "nan")]
    assert run(path, compute) == rows == read_table(path)
    assert len(calls) == 1
    with pytest.raises(ValueError, match="holds another cell"):
        run(path, compute, key=KEY | {"sigma": 50})


def test_rows_of_two_computations_are_no_cell(tmp_path):
    path = tmp_path / "cell.csv"
    (row,) = run(path, Counter())
    write_table(path, [row, row | {"data_hash": "another"}])
    with pytest.raises(ValueError, match="delete it to compute it anew"):
        run(path, Counter())


# a table


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A table of sums of a number and the bytes of a file, which counts what it measures, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INDEED_RECORDS", str(tmp_path / "records"))
    (tmp_path / "image.png").write_bytes(b"\x01")
    measured = []

    def measure(job, method, sigma):
        def compute():
            measured.append((method, sigma, job.device))
            return [{"value": sum(path.read_bytes()[0] for path in files) + sigma}]

        files = [tmp_path / "image.png", *job.networks]
        return Cell(compute, "one image", files, device=job.device)

    def draw(rows):
        class Figure:
            def savefig(self, path):
                path.write_text(" ".join(row["value"] for row in rows))

        return Figure(), None

    table = Table(
        name="toy",
        key={"method": ("add", "network"), "sigma": int},
        example="add-15",
        cells=lambda profile: [(method, sigma) for method in ("add", "network") for sigma in (15, 25)],
        measure=measure,
        report=lambda rows: [f"{row['method']} {row['value']}" for row in rows],
        summarise=lambda rows: [f"{len(rows)} rows"],
        drawings={"toy.svg": draw},
        networks=lambda key, profile: {tmp_path / "net": "indeed train"} if key["method"] == "network" else {},
        profiles=("smoke", "cpu"),
    )
    (tmp_path / "net").write_bytes(b"\x02")
    return table, measured


def test_a_field_of_the_key_called_like_a_column_of_every_table_is_refused(toy):
    for name in ("run", "seconds", "profile", "data_hash"):
        with pytest.raises(ValueError, match=f"key: got {name}, expected no name of a column"):
            replace(toy[0], key={name: int})


def test_a_table_is_continued_where_it_was_killed_and_what_is_stale_is_measured_again(toy, tmp_path):
    table, measured = toy
    first = table.cell("add", 15, profile="smoke")
    rows = table.table("smoke")
    assert rows[:1] == first
    assert [float(row["value"]) for row in rows] == [16, 26, 18, 28]
    assert read_table(tmp_path / "records" / "smoke" / "toy.csv") == rows
    assert len(measured) == 4  # each once, the first before
    assert table.table("smoke") == rows
    assert len(measured) == 4
    table.path("add", 25, profile="smoke").unlink()
    (tmp_path / "net").write_bytes(b"\x03")
    again = table.table("smoke", tmp_path / "again")
    assert [float(row["value"]) for row in again] == [16, 26, 19, 29]
    assert [method for method, *_ in measured[4:]] == ["add", "network", "network"]
    path = table.path("network", 15, profile="smoke")
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(ValueError, match=r"network-15\.csv: damaged"):
        table.table("smoke")
    assert len(measured) == 7


def test_names_and_keys_are_one_to_one(toy):
    table, _ = toy
    keys = table.keys("smoke")
    assert [table.parse(cell_name(key.values())) for key in keys] == keys
    for bad in ("add", "add-x", "add--1", "add-15-3"):
        with pytest.raises(ValueError, match=f"name: got '{bad}', expected method-sigma, such as add-15"):
            table.parse(bad)
    with pytest.raises(ValueError, match="method: got 'tv', expected one of add, network"):
        table.parse("tv-15")
    with pytest.raises(ValueError, match="sigma: got -1, expected a number"):
        table.cell("add", -1, profile="smoke")


def test_a_network_that_is_missing_is_named_with_the_command_that_makes_it(toy, tmp_path):
    (tmp_path / "net").unlink()
    with pytest.raises(CheckpointError, match=r"net: is not there, it is made by: indeed train"):
        toy[0].cell("network", 15, profile="smoke")


def test_what_a_table_has_not_is_refused(toy):
    table = replace(toy[0], only_cpu=True)
    with pytest.raises(ValueError, match="device: got 'cuda', expected cpu"):
        table.cell("add", 15, profile="smoke", device="cuda")
    with pytest.raises(ValueError, match="profile: got 'paper', expected one of smoke, cpu"):
        table.keys("paper")
    with pytest.raises(DataMissingError, match="INDEED_DATA"):
        replace(table, cells=lambda profile: []).keys("smoke")


def test_a_data_set_that_is_missing_is_left_out_and_named(capsys):
    def look(name):
        if name == "there":
            return 1
        raise DataMissingError(f"{name}: no images; run: python data_scripts/{name}.py")

    assert on_disk(["lena", "there"], look) == {"there": 1}
    assert capsys.readouterr() == ("", "left out: lena: no images; run: python data_scripts/lena.py\n")


def test_the_command_lists_computes_gathers_and_draws_and_says_faults_in_one_line(toy, tmp_path, capsys):
    table, _ = toy
    table.main(["list", "--profile", "smoke"])
    assert capsys.readouterr().out == "add-15\nadd-25\nnetwork-15 net\nnetwork-25 net\n"
    table.main(["cell", "add-15", "--profile", "smoke", "--runs", "cells"])
    assert capsys.readouterr().out == "add 16.0\n"
    assert (tmp_path / "cells" / "add-15.csv").is_file()
    table.main(["table", "--profile", "smoke"])
    assert capsys.readouterr().out == "4 rows\n"
    table.main(["figure", "--profile", "smoke"])
    folder = tmp_path / "records" / "smoke"
    assert {path.name for path in folder.iterdir()} == {"toy.csv", "toy.json", "toy.svg"}
    assert (folder / "toy.svg").read_text() == "16.0 26.0 18.0 28.0"
    for arguments in (["cell", "tv-15"], ["figure", "--folder", "nowhere"], ["table", "--profile", "paper"]):
        with pytest.raises(SystemExit) as stop:
            table.main(arguments)
        assert stop.value.code == 2
        assert capsys.readouterr().err.startswith("toy: ")
