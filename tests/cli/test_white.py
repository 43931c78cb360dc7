"""White in data of 12 bits in 16: given, told from the data, or a notice; training keeps it for detection."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from indeed.data.image_files import read_image
from indeed.networks.checkpoint import read_record

CASES = Path(__file__).parents[1] / "data" / "cases"
TWELVE = CASES / "10_defect_12bit_in_uint16.tif"
SIXTEEN = CASES / "10_defect_16bit.png"


def score(folder: Path) -> float:
    with (folder / "scores.csv").open() as file:
        (row,) = csv.DictReader(file)
    return float(row["score"])


@pytest.fixture
def dark(tmp_path) -> Path:
    """Folder of two pictures of 12 bits in 16; the larger value is 4000."""
    (tmp_path / "dark").mkdir()
    for name, most in (("a.tif", 4000), ("b.tif", 3000)):
        pixels = np.linspace(0, most, 40 * 40).reshape(40, 40).astype(np.uint16)
        tifffile.imwrite(tmp_path / "dark" / name, pixels)
    return tmp_path / "dark"


def test_a_defect_of_12_bits_scores_as_that_of_16(run, tmp_path):
    for name, image, options in (
        ("16", SIXTEEN, []),
        ("12", TWELVE, ["--white", 4095]),
        ("auto", TWELVE, ["--white", "auto"]),
    ):
        code, _, errors = run("detect", image, "-o", tmp_path / name, "--checkpoint", "parts", *options)
        assert (code, errors) == (0, [])
    assert score(tmp_path / "12") == score(tmp_path / "auto") == pytest.approx(score(tmp_path / "16"), abs=1e-3)
    code, _, errors = run("detect", TWELVE, "-o", tmp_path / "12", "--checkpoint", "parts")
    assert code == 0
    assert len(errors) == 1
    assert "far below white, 65535; is it --white 4095?" in errors[0]
    assert score(tmp_path / "12") < score(tmp_path / "auto") / 2


@pytest.mark.parametrize("options", [["--white", 4095], ["--white", "auto"]])
def test_white_is_that_of_the_folder_and_the_result_says_it(run, tmp_path, dark, options):
    assert run("denoise", dark, "-o", tmp_path / "out", *options) == (0, [], [])
    for path in (tmp_path / "out").iterdir():
        result = read_image(path)
        assert (result.white, result.pixels.dtype) == (4095, np.uint16)
        assert result.pixels.max() <= 4095


@pytest.mark.slow
def test_every_command_says_once_that_white_looks_wrong(run, tmp_path, dark):
    options = ["--preset", "paper", "--steps", 1]
    for arguments in (
        ["denoise", dark, "-o", tmp_path / "denoised"],
        ["adapt", dark, "-o", tmp_path / "adapted", *options],
        ["decompose", dark / "a.tif", "-o", tmp_path / "parts"],
        ["detect", dark, "-o", tmp_path / "found", "--checkpoint", "parts"],
        ["evaluate", dark],
        ["train", "--preset", "tiny", "--steps", 1, "--data", dark, "-o", tmp_path / "m.safetensors"],
    ):
        code, _, errors = run(*arguments)
        notices = [line for line in errors if "far below white" in line]
        assert (code, len(notices)) == (0, 1), arguments


def test_a_file_that_says_its_white_is_believed(run, tmp_path):
    shutil.copy(CASES / "10_maxsample4095.tif", tmp_path / "a.tif")
    assert run("denoise", tmp_path / "a.tif", "-o", tmp_path / "b.tif") == (0, [], [])
    assert read_image(tmp_path / "b.tif").white == 4095


@pytest.mark.parametrize("options", [["--white", 4095], ["--white", "auto"]])
def test_training_keeps_white_in_the_record(run, tmp_path, dark, options):
    out = tmp_path / "m.safetensors"
    arguments = ["train", "--preset", "tiny", "--steps", 1, "--data", dark, "-o", out, *options]
    assert run(*arguments)[0] == 0
    assert read_record(out)["record"]["white"] == 4095


@pytest.mark.parametrize("white", [0, 70000])
def test_white_out_of_range_is_one_line(run, tmp_path, dark, white):
    code, _, errors = run("denoise", dark, "-o", tmp_path / "out", "--white", white)
    assert (code, len(errors)) == (2, 1)
    assert f"white: got {white}" in errors[0]


def test_white_of_data_that_are_no_folder_is_refused(run, tmp_path):
    arguments = ["train", "--preset", "tiny", "--data", "embedded", "-o", tmp_path / "m.safetensors", "--white", 4095]
    code, _, errors = run(*arguments)
    assert (code, errors) == (2, ["indeed: white: got 4095, expected none, as the data are no folder"])
