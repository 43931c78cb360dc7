"""Several processes on one machine, over gloo: the same training as one process, and the same end."""

import csv
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from indeed.learning.distributed import process_group
from indeed.learning.loading import Sample
from indeed.learning.training.config import training_preset
from indeed.learning.training.log import log_columns
from indeed.learning.training.trainer import Trainer
from indeed.networks.inference_network import network_preset

NETWORK = network_preset("tiny", 1)
CONFIG = replace(training_preset("tiny"), precision="float64", learning_rate=3e-3)


def source(generator: torch.Generator) -> Sample:
    """A smooth patch with noise; every 30th or so is spoilt."""
    grid = torch.linspace(0, 1, 16)
    fy, fx, phase, luck = torch.rand(4, generator=generator).tolist()
    clean = 0.5 + 0.4 * torch.cos(6 * fy * grid[:, None] + 6 * fx * grid + 6 * phase)[None]
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=generator)
    return Sample(noisy if luck > 1 / 30 else noisy * float("nan"), clean)


def trainer(folder: Path, source=source, device="cpu", **changes) -> Trainer:
    return Trainer(NETWORK, replace(CONFIG, **changes), source, folder, resume=True, device=device)


class Spoilt:
    """Raises when one process asks for its samples."""

    def __init__(self, rank: int) -> None:
        self.spoilt = os.environ.get("RANK") == str(rank)

    def __call__(self, generator: torch.Generator) -> Sample:
        if self.spoilt:
            raise RuntimeError("the disk of this process is full")
        return source(generator)


def start(tmp_path: Path, work: str, count: int = 2, device: str = "cpu") -> list[subprocess.Popen]:
    """Processes of one group that do some work, started as torchrun starts them; its text sees folder and device."""
    script = tmp_path / "work.py"
    script.write_text(
        "import sys, torch\n"
        "from pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_distributed import *\n"
        "torch.set_num_threads(1)\n"
        f"folder = Path({str(tmp_path)!r})\n"
        f"with process_group({device!r}) as device:\n" + "".join(f"    {line}\n" for line in work.splitlines())
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", str(script)],
            env=os.environ | group | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]


def finish(processes: list[subprocess.Popen]) -> list[tuple[int, str]]:
    """Exit codes and what was said on the error stream; nobody is left behind."""
    try:
        said = [process.communicate(timeout=300)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """The same run in one process; in two; in two with two micro-batches each; and begun, gone on and ended in 1, 2, 1.

    All the work of the two processes is done in one start of them. The last thing they do is to try a damaged state,
    which only the first one reads.
    """
    folder = tmp_path_factory.mktemp("runs")
    (folder / "damaged").mkdir()
    (folder / "damaged" / "state.pt").write_bytes(b"damaged")
    trainer(folder / "one").run(progress=False)
    trainer(folder / "one_two_one").run(stop_at=7, progress=False)
    outcome = finish(
        start(
            folder,
            "trainer(folder / 'two').run(progress=False)\n"
            "trainer(folder / 'accumulated', accumulate=2).run(progress=False)\n"
            "trainer(folder / 'one_two_one').run(stop_at=13, progress=False)\n"
            "trainer(folder / 'damaged')\n",
        )
    )
    assert all(code == 1 and "damaged/state.pt: got damage" in text for code, text in outcome), outcome
    trainer(folder / "one_two_one").run(progress=False)
    return {name: folder / name for name in ("one", "two", "accumulated", "one_two_one")}


def largest_difference(one: Path, other: Path) -> float:
    """Over all weights and averaged weights after the last step."""
    states = [torch.load(folder / "state.pt", weights_only=True) for folder in (one, other)]
    assert states[0]["step"] == states[1]["step"] == CONFIG.steps
    return max(
        float((states[0][part][name] - states[1][part][name]).abs().max())
        for part in ("model", "average")
        for name in states[0][part]
    )


def log(folder: Path) -> list[list[float]]:
    with (folder / "log.csv").open(newline="") as file:
        kept = [name for name in log_columns() if name not in ("seconds", "patches_per_second")]
        return [[float(row[name] or 0) for name in kept] for row in csv.DictReader(file)]


@pytest.mark.slow
@pytest.mark.parametrize("other", ["two", "accumulated", "one_two_one"])
def test_twenty_steps_of_two_processes_equal_one_process_with_the_same_batch(runs, other):
    assert 0 < largest_difference(runs["one"], runs[other]) < 1e-10
    for row, same in zip(log(runs["one"]), log(runs[other]), strict=True):
        assert row == pytest.approx(same, rel=1e-9)


@pytest.mark.slow
def test_a_spoilt_sample_of_one_process_makes_both_skip_the_step(runs):
    skipped = [torch.load(folder / "state.pt", weights_only=True)["skipped"] for folder in runs.values()]
    assert len(set(skipped)) == 1
    assert 0 < skipped[0] < CONFIG.steps // 2


@pytest.mark.slow
def test_micro_batches_of_one_process_equal_the_whole_batch(runs, tmp_path):
    trainer(tmp_path, accumulate=4).run(progress=False)
    assert 0 < largest_difference(runs["one"], tmp_path) < 1e-10


def test_a_batch_that_cannot_be_divided_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"batch_size: got .*, expected a multiple of 3"):
        trainer(tmp_path, accumulate=3)


@pytest.mark.slow
def test_an_exception_in_one_process_ends_all(tmp_path):
    outcome = finish(start(tmp_path, "trainer(folder / 'run', Spoilt(rank=1)).run(progress=False)"))
    assert all(code not in (0, -signal.SIGKILL) for code, _ in outcome), outcome
    assert "the disk of this process is full" in outcome[1][1]


@pytest.mark.slow
def test_a_signal_to_one_process_saves_the_run_and_ends_all(tmp_path):
    work = "trainer(folder / 'run', steps=10**6, save_every_seconds=0.0).run(progress=False)"
    processes = start(tmp_path, work)
    state, deadline = tmp_path / "run" / "state.pt", time.monotonic() + 240
    while not state.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    processes[1].terminate()
    outcome = finish(processes)
    assert [code for code, _ in outcome] == [143, 143], outcome
    resumed = trainer(tmp_path / "run", steps=10**6)
    before = resumed.step
    assert before > 0
    resumed.run(stop_at=before + 2, progress=False)
    assert resumed.step == before + 2


def test_a_process_alone_joins_nothing(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with process_group("cpu") as device:
        assert device == torch.device("cpu")
        assert not torch.distributed.is_initialized()


def test_one_gpu_named_for_several_processes_is_refused(monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="cuda:1 for several processes"), process_group("cuda:1"):
        pass


@pytest.mark.slow
def test_the_command_trains_under_torchrun(tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = ["-m", "indeed.cli", "train", "--preset", "tiny", "--data", "embedded", "--device", "cpu"]
    out = ["--out", "model.safetensors"]
    done = subprocess.run(torchrun + command + out, cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "model.safetensors").exists()
    assert len(log(tmp_path / "model")) == 4


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_two_gpus_equal_one(tmp_path):
    for count, name in ((1, "one"), (2, "two")):
        work = f"trainer(folder / {name!r}, device=device).run(progress=False)"
        assert [code for code, _ in finish(start(tmp_path, work, count, "cuda"))] == [0] * count
    assert largest_difference(tmp_path / "one", tmp_path / "two") < 1e-8
