"""Train writes checkpoints that the other commands use."""

import functools
import sys

import pytest


def test_a_package_that_is_not_installed_is_named_in_one_line(run, tmp_path, monkeypatch):
    monkeypatch.setenv("INDEED_DATA", str(tmp_path))
    monkeypatch.setitem(sys.modules, "nibabel", None)
    for name in ("brain_train", "toy", "toy_label/pixel"):
        (tmp_path / "uad" / "mood" / name).mkdir(parents=True)
        (tmp_path / "uad" / "mood" / name / "00000.nii.gz").write_bytes(b"")
    code, _, errors = run("train", "--task", "uad", "--data", "mood", "-o", tmp_path / "m.safetensors")
    assert (code, errors) == (2, ["indeed: NIfTI volumes need the package nibabel: pip install nibabel"])


@pytest.mark.slow
def test_train_writes_a_checkpoint_that_denoises(run, photo, tmp_path):
    arguments = ["train", "--preset", "tiny", "--data", "embedded", "--steps", 2, "-o", tmp_path / "m.safetensors"]
    assert run(*arguments, "--channels", 3)[0] == 0
    assert run("denoise", photo, "-o", tmp_path / "o.png", "--checkpoint", tmp_path / "m.safetensors")[0] == 0
    code, _, errors = run(*arguments, "--channels", 3)
    assert code == 2
    assert "resume" in errors[-1]


@pytest.mark.slow
def test_train_for_uad_writes_a_checkpoint_that_detects(run, parts, tmp_path, monkeypatch, contents, results):
    from indeed.recipes import detector, good_images

    monkeypatch.setattr(good_images, "SIDE", 32)
    monkeypatch.setattr(detector, "chosen_map", functools.partial(detector.chosen_map, least=4))
    arguments = ["train", "--task", "uad", "--preset", "tiny", "--data", parts, "--steps", 2]
    assert run(*arguments, "-o", tmp_path / "m.safetensors", "--patch-size", 32)[0] == 0
    assert run("info", tmp_path / "m.safetensors")[1].count('    "task": "detect",') == 1
    assert run("detect", parts, "-o", tmp_path / "out", "--checkpoint", tmp_path / "m.safetensors")[0] == 0
    assert contents(tmp_path / "out") == results("a", "b")


@pytest.mark.parametrize("task", ["denoise", "uad"])
def test_each_task_has_its_own_recipe_that_knows_its_default_data(run, tmp_path, monkeypatch, task):
    from indeed.recipes import denoiser, detector

    calls = []
    for name, owner in (("denoise", denoiser), ("uad", detector)):
        function = "train_denoiser" if name == "denoise" else "train_detector"
        monkeypatch.setattr(owner, function, lambda run, name=name: calls.append((name, run.data)))
    assert run("train", "--task", task, "-o", tmp_path / "m.safetensors")[0] == 0
    assert calls == [(task, None)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "m.pt"], ".safetensors"),
        (["-o", "m.safetensors", "--data", "nowhere"], "nowhere"),
        (["-o", "m.safetensors", "--max-rank", "4"], "max_rank: got 4, expected none unless task is uad"),
        (["-o", "m.safetensors", "--halvings", "2"], "halvings: got 2, expected none unless task is uad"),
        (["-o", "m.safetensors", "--task", "uad", "--data", "nowhere"], "nowhere"),
        (["-o", "m.safetensors", "--task", "uad", "--data", "bsd"], "data: got 'bsd', expected 'textures'"),
        (["-o", "m.safetensors", "--task", "uad", "--data", "."], "holds no image"),
        (["-o", "m.safetensors", "--task", "uad", "--patch-size", "304"], "expected at least 304"),
    ],
)
def test_a_wrong_call_of_train_is_one_line(run, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    code, _, errors = run("train", "--preset", "tiny", *arguments)
    assert (code, len(errors)) == (2, 1)
    assert words in errors[0]
