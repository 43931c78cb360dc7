"""The run on a GPU, dry on the CPU: without the packages that the machine may lack, and again from its state."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "gpu_run.py"
MISSING = ("jaxtyping", "beartype", "tqdm", "safetensors", "PIL", "tyro", "skimage", "sklearn", "scipy", "pooch")


def gpu_run(*arguments: object, missing: tuple[str, ...] = ()) -> None:
    program = f"import runpy, sys; sys.modules.update(dict.fromkeys({missing!r})); "
    program += (
        f"sys.argv = {[str(SCRIPT), *map(str, arguments)]!r}; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.slow
def test_the_run_goes_as_far_as_the_time_and_a_later_one_goes_on(tmp_path):
    patches, first, second = tmp_path / "patches.pt", tmp_path / "first", tmp_path / "second"
    gpu_run("cut", patches, "--data", "embedded")
    assert torch.load(patches).shape[1:] == (3, 160, 160)
    assert patches.stat().st_size <= 2**24
    options = ("--device", "cpu", "--preset", "tiny", "--no-compile", "--largest", 8)
    gpu_run("train", patches, first, "--seconds", 15, *options, missing=MISSING)
    gpu_run("train", patches, second, "--seconds", 15, "--state", first, *options, missing=MISSING)
    reports = [json.loads((folder / "report.json").read_text()) for folder in (first, second)]
    assert reports[1]["steps_before"] == reports[0]["steps"] > 20
    assert all(report["seconds"] < 25 for report in reports)
    assert all(0 < report["share_of_peak"] < 1 for report in reports)
    assert sorted(path.name for path in first.iterdir()) == ["config.json", "log.csv", "report.json", "state_0.pt"]
    supervision = [float(line.split(",")[3]) for line in (first / "log.csv").read_text().splitlines()[1:]]
    later = [float(line.split(",")[3]) for line in (second / "log.csv").read_text().splitlines()[1:]]
    assert supervision[-1] < supervision[0]
    assert later[0] < supervision[0] / 2  # it did not begin anew


def test_a_state_is_cut_into_parts_that_may_travel(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import gpu_run as script

    large = {name: torch.rand(2**20) for name in "abc"}
    moments = {0: {"step": torch.tensor(1.0), "exp_avg": torch.rand(2**20)}}
    monkeypatch.setattr(script, "PART", 2 * 2**22)
    parts = list(script.parts_of({"model": large, "average": large, "optimizer": {"state": moments}}))
    assert all(sum(value.nbytes for value in part.values()) <= 2 * 2**22 for part in parts)
    names = [name for part in parts for name in part]
    expected = [f"{network}/{name}" for network in ("model", "average") for name in "abc"]
    assert names == [*expected, "optimizer/0/exp_avg"]
