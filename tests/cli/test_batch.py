"""A folder in which many files are bad: the others are done by every command, and each bad one is named in a line."""

import pytest
from bad_batch import BAD, check


@pytest.mark.slow
def test_a_batch_of_bad_files_keeps_no_command_from_the_others(tmp_path):
    assert len(BAD) == 25
    lines = list(check(tmp_path / "batch", 40, 25, 2))
    assert len(lines) == 11
