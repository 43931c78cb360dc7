import re
from itertools import pairwise
from pathlib import Path

import pytest

from indeed.data import benchmarks


def test_a_missing_set_says_where_it_was_looked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("INDEED_DATA", str(tmp_path))
    with pytest.raises(benchmarks.DataMissingError, match=r"cbsd68.*INDEED_DATA.*data_scripts"):
        benchmarks.benchmark("cbsd68")


def test_an_unknown_set_is_named():
    with pytest.raises(ValueError, match="imagenet"):
        benchmarks.benchmark("imagenet")


def test_files_of_a_set_are_its_images_in_the_order_of_their_names(monkeypatch, tmp_path):
    folder = tmp_path / "denoise/test/set12"
    folder.mkdir(parents=True)
    for name in ("02.png", "01.PNG", "notes.txt"):
        (folder / name).touch()
    monkeypatch.setenv("INDEED_DATA", str(tmp_path))
    assert [path.name for path in benchmarks.benchmark("set12")] == ["01.PNG", "02.png"]


@pytest.mark.parametrize(("count", "held_out"), [(400, 40), (432, 32), (2, 1), (7, 3)])
def test_split_is_a_partition_spread_over_the_names(count, held_out):
    files = [Path(f"{index:03}") for index in range(count)]
    train, validation = benchmarks.hold_out(files, held_out)
    assert len(validation) == held_out
    assert sorted(train + validation) == files
    gaps = [int(b.name) - int(a.name) for a, b in pairwise(validation)]
    assert not gaps or max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize("held_out", [0, 3])
def test_split_needs_both_parts(held_out):
    with pytest.raises(ValueError, match="validation"):
        benchmarks.hold_out([Path("a"), Path("b"), Path("c")], held_out)


@pytest.mark.data
@pytest.mark.parametrize(("name", "train", "validation"), [("bsd400_gray", 360, 40), ("cbsd432", 400, 32)])
def test_training_sets_have_their_stated_sizes(name, train, validation):
    try:
        parts = benchmarks.training_split(name)
    except benchmarks.DataMissingError as missing:
        pytest.skip(str(missing))
    assert tuple(map(len, parts)) == (train, validation)


@pytest.mark.parametrize(("name", "script"), [("cbsd68", "cbsd68.py"), ("kodak24_500", r"kodak24.py --crop")])
def test_a_missing_set_names_the_script_that_gets_it(monkeypatch, tmp_path, name, script):
    monkeypatch.setenv("INDEED_DATA", str(tmp_path))
    with pytest.raises(benchmarks.DataMissingError, match=f"python data_scripts/{re.escape(script)}$"):
        benchmarks.benchmark(name)
