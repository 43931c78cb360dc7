"""Damaged files of every format, by the thousand: read, or refused in one line; never a traceback, never a hang."""

import fuzzer
import pytest


def test_a_mutation_is_a_function_of_the_seed_and_its_number(tmp_path):
    all_of_them = dict(fuzzer.inputs(1, 30, tmp_path))
    assert dict(fuzzer.inputs(1, 5, tmp_path, first=20)).items() <= all_of_them.items()
    assert all_of_them != dict(fuzzer.inputs(2, 30, tmp_path))


def test_the_files_that_are_mutated_are_sound(tmp_path):
    for number, data in enumerate(fuzzer.valid_files(tmp_path)):
        (tmp_path / "input").write_bytes(data)
        assert fuzzer.fault_of(tmp_path / "input") is None, number


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_twenty_thousand_damaged_files_are_read_or_refused(tmp_path, part):
    faults = {}
    for number, data in fuzzer.inputs(0, 5_000, tmp_path, first=part * 5_000):
        (tmp_path / "input").write_bytes(data)
        if fault := fuzzer.fault_of(tmp_path / "input"):
            faults[number] = fault
    assert not faults
