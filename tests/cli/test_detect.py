"""Detect writes what the detector finds, and does not compute again what is there."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from indeed.cli import detect as detect_command
from indeed.data.image_files import read_image, write_image
from indeed.data.picture import Picture
from indeed.figures import heat, heat_overlay
from indeed.networks.anomaly_detection import load_detector
from indeed.networks.checkpoint import save_checkpoint
from indeed.networks.inference_network import InDeed, network_preset


def detected(folder: Path) -> list[dict[str, str]]:
    with (folder / "scores.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("name", "size"),
    [("textures", (21, 30)), ("textures", (40, 50)), ("parts", (1, 1)), ("parts", (5, 30)), ("parts", (40, 50))],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_detect_writes_what_the_detector_finds(
    run, tmp_path, checkpoints, name, size, channels, contents, random_picture, results
):
    write_image(tmp_path / "a.tif", random_picture(*size, channels, "uint16", alpha=True))
    code, output, errors = run("detect", tmp_path / "a.tif", "-o", tmp_path / "out", "--checkpoint", name)
    assert (code, errors) == (0, [])
    assert contents(tmp_path / "out") == results("a")
    image = read_image(tmp_path / "a.tif").tensor()
    expected = load_detector(checkpoints[f"detect_{name}"])(image)
    found = np.load(tmp_path / "out" / "a_map.npy")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected.map)
    (row,) = detected(tmp_path / "out")
    assert (row["file"], float(row["score"])) == ("a.tif", expected.score)
    assert row["threshold"] == row["anomalous"] == ""
    limit = 2 * 0.5  # twice the largest good score
    assert output[0] == "heat: black 0, light yellow 1, twice the largest score of 4 good images"
    for part, shown in (("heat", heat(expected.map, limit)), ("overlay", heat_overlay(image, expected.map, limit))):
        written = read_image(tmp_path / "out" / f"a_{part}.png").tensor()
        torch.testing.assert_close(written, shown, rtol=0, atol=0.51 / 255)


def test_the_heat_of_a_share_ends_where_a_share_does(run, tmp_path, random_picture):
    """Twice a good score above a half is more than any pixel can have: what is certain would look faint."""
    write_image(tmp_path / "a.png", random_picture(40, 50, 1))
    for largest, line in (
        (0.9, "light yellow 1, the largest share that there can be: good images score up to 0.9"),
        (0.4, "light yellow 0.8, twice the largest score of 1 good images"),
    ):
        made = {"form": "share", "smoothing": 0.0, "good_scores": [largest]}
        path = tmp_path / f"{largest}.safetensors"
        save_checkpoint(path, InDeed(network_preset("tiny", 1)), {"task": "detect", "side": None, "map": made})
        code, output, errors = run("detect", tmp_path / "a.png", "-o", tmp_path / f"{largest}", "--checkpoint", path)
        assert (code, errors, output[0]) == (0, [], f"heat: black 0, {line}")
        found = np.load(tmp_path / f"{largest}" / "a_map.npy")
        heated = read_image(tmp_path / f"{largest}" / "a_heat.png").tensor()
        expected = heat(torch.from_numpy(found), min(1.0, 2 * largest))
        torch.testing.assert_close(heated, expected, rtol=0, atol=0.51 / 255)


def test_grey_stored_as_colour_scores_as_grey(run, tmp_path, random_picture):
    grey = random_picture(40, 50, 1)
    write_image(tmp_path / "grey.png", grey)
    write_image(tmp_path / "colour.png", Picture(grey.pixels.repeat(3, axis=2)))
    assert run("detect", tmp_path / "grey.png", tmp_path / "colour.png", "-o", tmp_path / "out")[0] == 0
    one, other = (float(row["score"]) for row in detected(tmp_path / "out"))
    assert one == pytest.approx(other, rel=1e-4)


def test_a_threshold_comes_from_the_good_images_of_the_checkpoint(run, parts, tmp_path, checkpoints):
    arguments = ["detect", parts, "-o", tmp_path / "out", "--false-positive-rate"]
    assert run(*arguments, 0.25)[1][1] == "threshold: 0.4, exceeded by at most 1 of 4 good images"
    assert {row["threshold"] for row in detected(tmp_path / "out")} == {"0.4"}
    # the rows are there already, and their threshold is another one now
    assert run(*arguments, 0.75)[0] == 0
    rows = detected(tmp_path / "out")
    assert {row["threshold"] for row in rows} == {"0.2"}
    assert [row["anomalous"] for row in rows] == [str(float(row["score"]) > 0.2) for row in rows]


def test_a_threshold_of_a_folder_of_good_images_is_exceeded_by_at_most_its_share_of_them(run, parts, tmp_path):
    (tmp_path / "good").mkdir()
    for index in range(5):
        pixels = np.random.default_rng(index).integers(0, 40 * (index + 1), (30, 30, 1)).astype(np.uint8)
        write_image(tmp_path / "good" / f"{index}.png", Picture(pixels))
    arguments = ["-o", tmp_path / "out", "--good", tmp_path / "good", "--false-positive-rate", 0.4]
    code, output, errors = run("detect", tmp_path / "good", *arguments)
    assert (code, errors) == (0, [])
    rows = detected(tmp_path / "out")
    scores = sorted(float(row["score"]) for row in rows)
    assert {float(row["threshold"]) for row in rows} == {scores[2]}
    assert sum(row["anomalous"] == "True" for row in rows) == sum(line.endswith(" anomalous") for line in output) == 2
    assert {float(row["limit"]) for row in rows} == {2 * scores[-1]}
    with (tmp_path / "out" / "good_scores.csv").open() as file:
        assert sorted(float(row["score"]) for row in csv.DictReader(file)) == scores


def test_what_was_detected_is_not_detected_again(run, parts, tmp_path, monkeypatch, random_picture):
    out = tmp_path / "out"
    arguments = ["detect", parts, "-o", out, "--good", parts]
    first = run(*arguments)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    written = []
    write = detect_command._write_detection
    monkeypatch.setattr(
        detect_command, "_write_detection", lambda files, *rest: [written.append(files[0].name), write(files, *rest)]
    )
    assert run(*arguments) == first
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    assert written == []
    # what is missing, or made from another image, at another scale or by another checkpoint, is made anew
    (out / "a_heat.png").unlink()
    assert run(*arguments) == first
    assert written == ["a_map.npy"]
    write_image(parts / "b.jpg", random_picture(40, 51))
    assert run("detect", parts, "-o", out, "--good", parts)[0] == 0
    assert written[1:] in (["b_map.npy"], ["a_map.npy", "b_map.npy"])  # the latter if the scale has changed
    written.clear()
    for options in ((), ("--checkpoint", "parts")):
        assert run("detect", parts, "-o", out, *options)[0] == 0
        assert written == ["a_map.npy", "b_map.npy"]
        written.clear()
    assert np.load(out / "b_map.npy").shape == (40, 51)


def test_a_run_that_is_killed_loses_one_image_at_most(run, parts, tmp_path, monkeypatch, contents, results):
    out = tmp_path / "out"

    def killed(files, *_):
        if files[0].name == "b_map.npy":
            raise KeyboardInterrupt
        write(files, *_)

    write = detect_command._write_detection
    monkeypatch.setattr(detect_command, "_write_detection", killed)
    assert run("detect", parts, "-o", out)[0] == 130
    assert contents(out) == results("a")
    assert [row["file"] for row in detected(out)] == ["a.png"]
    monkeypatch.setattr(detect_command, "_write_detection", write)
    assert run("detect", parts, "-o", out)[0] == 0
    assert contents(out) == results("a", "b")
    assert [row["file"] for row in detected(out)] == ["a.png", "b.jpg"]


def test_images_of_earlier_runs_stay_in_the_table(run, parts, tmp_path):
    for name in ("b.jpg", "a.png"):
        assert run("detect", parts / name, "-o", tmp_path / "out")[0] == 0
    assert [row["file"] for row in detected(tmp_path / "out")] == ["b.jpg", "a.png"]


def test_a_batch_of_detections_goes_on_after_each_fault(run, parts, tmp_path, contents, results):
    (parts / "text.png").write_text("no picture")
    missing = tmp_path / "missing.png"
    code, _, errors = run("detect", missing, parts, "-o", tmp_path / "out")
    assert code == 2
    assert [row["file"] for row in detected(tmp_path / "out")] == ["a.png", "b.jpg"]
    assert contents(tmp_path / "out") == results("a", "b")
    assert [line.split(": ")[1] for line in errors] == [str(missing), str(parts / "text.png")]


def test_an_image_that_was_spoilt_loses_its_row_and_its_maps(run, parts, tmp_path, contents, results):
    assert run("detect", parts, "-o", tmp_path / "out")[0] == 0
    (parts / "b.jpg").write_text("no picture")
    assert run("detect", parts, "-o", tmp_path / "out")[0] == 2
    assert [row["file"] for row in detected(tmp_path / "out")] == ["a.png"]
    assert contents(tmp_path / "out") == results("a")
    assert run("detect", parts / "b.jpg", "-o", tmp_path / "other")[0] == 2
    assert contents(tmp_path / "other") == set()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "out"], "images: got none"),
        (["none", "-o", "out", "--checkpoint", "nothing"], "nothing: no such file"),
        (["parts", "-o", "out", "--checkpoint", "parts/a.png"], "not a whole safetensors file"),
        (["parts", "-o", "out", "--device", "abacus"], "device: got 'abacus', expected one that is available"),
        (["parts", "-o", "parts"], "parts: holds images of the run"),
        (["parts", "-o", "parts/a.png"], "a.png: file exists"),
        (["parts", "twin/a.png", "-o", "out"], "twin/a.png: would have the outputs of parts/a.png"),
        (["parts", "-o", "out", "--false-positive-rate", "5"], "got 5.0, expected a share"),
        (["parts", "-o", "out", "--false-positive-rate", "0"], "got 0.0, expected a share"),
        (["parts", "-o", "out", "--false-positive-rate", "0.2"], "at least 1/4 and below 1: 4 good images cannot"),
        (["parts", "-o", "out", "--false-positive-rate", "0.4", "--good", "parts"], "expected at least 1/2"),
        (["parts", "void", "-o", "out"], "void: holds no image"),
        (["parts", "-o", "out", "--good", "nowhere"], "nowhere: got no folder"),
        (["parts", "-o", "out", "--good", "void"], "void: holds no image"),
    ],
)
def test_a_wrong_call_of_detect_is_one_line(
    run, parts, tmp_path, monkeypatch, arguments, words, contents, random_picture
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "void").mkdir()
    (tmp_path / "twin").mkdir()
    write_image(tmp_path / "twin" / "a.png", random_picture(8, 8))
    before = contents(tmp_path)
    code, _, errors = run("detect", *arguments)
    assert (code, len(errors)) == (2, 1)
    assert words in errors[0]
    assert contents(tmp_path) == before


def test_detect_refuses_a_denoiser(run, parts, tmp_path, checkpoints):
    arguments = ["detect", parts, "-o", tmp_path / "out", "--checkpoint", checkpoints["denoise_grey"]]
    assert run(*arguments)[::2] == (
        2,
        [f"indeed: {checkpoints['denoise_grey']}: got task None, expected a detector of anomalies"],
    )


@pytest.mark.parametrize(
    ("table", "words"),
    [("name,size\na,1\n", "is no table of this command"), ("file,score\na.png", "damaged")],
)
def test_detect_leaves_a_foreign_table_alone(run, parts, tmp_path, table, words, contents):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "scores.csv").write_text(table)
    code, _, errors = run("detect", parts, "-o", tmp_path / "out")
    assert (code, len(errors)) == (2, 1)
    assert words in errors[0]
    assert contents(tmp_path / "out") == {"scores.csv"}
    assert (tmp_path / "out" / "scores.csv").read_text() == table
