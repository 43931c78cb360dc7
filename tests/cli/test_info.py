"""Info prints how a checkpoint was made."""

import json


def test_info_prints_the_record_as_json(run, checkpoints):
    code, output, _ = run("info", checkpoints["denoise_grey"])
    record = json.loads("\n".join(output))
    assert code == 0
    assert record["network"]["channels"] == 1
    assert record["record"] == {"preset": "tiny"}


def test_info_of_something_else_is_one_line(run, photo):
    code, output, errors = run("info", photo)
    assert (code, output, len(errors)) == (2, [], 1)
    assert str(photo) in errors[0]
