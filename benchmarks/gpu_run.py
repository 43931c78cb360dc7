"""What some minutes of a GPU buy: the colour network of the paper, trained as far as the time goes, and how fast.

``python benchmarks/gpu_run.py cut patches.pt`` cuts at most 16 MiB of patches from the training images, on any machine.
``python benchmarks/gpu_run.py train patches.pt OUT [--state OUT_BEFORE] [--tests]`` is the run on the GPU: it measures
the peak of the card, looks for the smallest batch that is nearly as fast as any, trains in bfloat16, compiled, until
nine minutes have passed since it was started, and writes to the folder OUT the ``log.csv`` of the run, ``report.json``
and the whole state in parts of at most 16 MiB, from which a later run goes on. With ``--tests`` it then runs the tests
of the suite that need a GPU. It needs torch and numpy, and no other package of the project's.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

STARTED = time.monotonic()
PART = 15 * 2**20
"""Bytes of tensors in a file, which has a header besides."""
SIDE = 160
"""Side of the patches that travel, from which those of 128 pixels are cut."""
ROOT = Path(__file__).resolve().parents[1]


class _Named(type):
    def __getitem__(cls, item: object) -> type:
        return cls


class _Annotation(metaclass=_Named):
    """Stands for every name of jaxtyping, of which a run needs no more than that it can be written."""


class _StandIn(ModuleType):
    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Annotation


def stand_in() -> None:
    """Put a stand-in for jaxtyping where it is missing."""
    try:
        import jaxtyping  # noqa: F401
    except ImportError:
        sys.modules["jaxtyping"] = _StandIn("jaxtyping")


def cut(file: Path, data: str, limit: int = 2**24) -> None:
    """Cut one patch from the centre of each training image, evenly chosen, as many as fit."""
    from indeed.data.benchmarks import evenly
    from indeed.recipes.denoiser import training_images

    images = training_images(data, 3, SIDE)[1]
    some = evenly(images, min(len(images), (limit - 2**16) // (3 * SIDE**2)))
    centres = []
    for image in some:
        top, left = ((length - SIDE) // 2 for length in image.shape[1:])
        centres.append(image[:, top : top + SIDE, left : left + SIDE])
    torch.save(torch.stack(centres), file)


def peak_rate(device: torch.device, side: int) -> float:
    """Operations a second of a matrix product in bfloat16."""
    from indeed.learning.diagnostics.roofline import shortest

    square = torch.rand(side, side, device=device).to(torch.bfloat16)
    return float(2 * side**3 / shortest(lambda: square @ square, device))


def rates(model: Any, side: int, largest: int, device: torch.device) -> dict[int, float]:
    """Patches a second, forward and backward, by the batch, until it no longer fits; the network is not compiled."""
    from indeed.learning.diagnostics.throughput import seconds_of_networks

    found: dict[int, float] = {}
    batch = 4
    while batch <= largest:
        try:
            found[batch] = batch / seconds_of_networks(
                model, torch.rand(batch, 3, side, side, device=device), torch.bfloat16
            )
        except torch.OutOfMemoryError:
            break
        batch *= 2
    return found


def parts_of(state: dict[str, Any]) -> Iterator[dict[str, Tensor]]:
    """Tensors of a state in parts; all but the weights themselves in 16 bits."""
    named = {f"model/{name}": value for name, value in state["model"].items()}
    named |= {f"average/{name}": value.bfloat16() for name, value in state["average"].items()}
    for index, moments in state["optimizer"]["state"].items():
        named |= {f"optimizer/{index}/{name}": value.bfloat16() for name, value in moments.items() if value.dim()}
    part: dict[str, Tensor] = {}
    for name, value in named.items():
        if part and sum(tensor.nbytes for tensor in part.values()) + value.nbytes > PART:
            yield part
            part = {}
        part[name] = value.cpu().contiguous()
    yield part


def restore(trainer: Any, folder: Path) -> int:
    """Give a trainer the weights, their average and the moments of Adam of a run before; returns its steps."""
    named: dict[str, Tensor] = {}
    for file in sorted(folder.glob("state_*.pt")):
        named |= torch.load(file, weights_only=True)
    report = json.loads((folder / "report.json").read_text())
    before: int = report["steps_before"] + report["steps"]
    for network in ("model", "average"):
        weights = {name.removeprefix(f"{network}/"): value for name, value in named.items() if name.startswith(network)}
        getattr(trainer, network).load_state_dict(weights)
    state = trainer.optimizer.state_dict()
    state["state"] = {
        index: {"step": torch.tensor(float(before))}
        | {name: named[f"optimizer/{index}/{name}"].float() for name in ("exp_avg", "exp_avg_sq")}
        for index in state["param_groups"][0]["params"]
    }
    trainer.optimizer.load_state_dict(state)
    return before


def train(options: argparse.Namespace) -> None:
    """Train until the time is over, and report."""
    from indeed.data.patches import PatchSampler
    from indeed.learning.loading import ahead
    from indeed.learning.training.config import training_preset
    from indeed.learning.training.sources import denoising_samples
    from indeed.learning.training.trainer import Trainer
    from indeed.networks.inference_network import InDeed, network_preset

    device, out = torch.device(options.device), options.out
    network = network_preset(options.preset, 3)
    peak = peak_rate(device, 8192 if device.type == "cuda" else 512)
    found = rates(InDeed(network).to(device), network.patch_size, options.largest, device)
    batch = min(size for size, rate in found.items() if rate > 0.95 * max(found.values()))
    print(
        f"peak {peak / 1e12:.1f} TFLOP/s; patches a second by batch, not compiled: {found}; chosen {batch}", flush=True
    )
    config = replace(
        training_preset(options.preset),
        batch_size=batch,
        learning_rate=options.learning_rate,
        schedule="cosine",
        warmup_steps=100,
        ema_decay=0.999,
        steps=10**6,
        precision="bfloat16",
        compile=options.compile,
        log_every=20,
        save_every_seconds=1e9,
    )
    samples = denoising_samples(PatchSampler(list(torch.load(options.patches)), network.patch_size), config)
    trainer = Trainer(network, config, samples, out, device=device)
    before = restore(trainer, options.state) if options.state else 0
    end = STARTED + options.seconds - (options.reserve if options.tests else 0)

    def synchronised() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.monotonic()

    # Samples that no run before has seen.
    with closing(ahead(lambda step: trainer.draw(before + step), count(), threads=8, depth=8)) as loaded:  # type: ignore[type-var]
        for batches in loaded:
            begun = synchronised()
            trainer.advance(batches)
            now = synchronised()
            trainer.durations.append(now - begun)
            trainer.seconds = now - STARTED
            if trainer.step == 10:  # compiled by now: as many steps as the time pays for
                each = sorted(trainer.durations)[len(trainer.durations) // 2]
                trainer.config = replace(config, steps=max(11, 10 + int(0.97 * (end - now) / each)))
            if trainer.step % config.log_every == 0:
                trainer._log()
            if trainer.step >= trainer.config.steps or now > end:
                break
    trainer.save()
    state = torch.load(out / "state.pt", weights_only=True, map_location="cpu")
    (out / "state.pt").unlink()
    for index, part in enumerate(parts_of(state)):
        torch.save(part, out / f"state_{index}.pt")
    throughput = trainer.throughput()
    report = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "network": asdict(network),
        "training": asdict(trainer.config),
        "steps": trainer.step,
        "steps_before": before,
        "skipped": trainer.skipped,
        "seconds": time.monotonic() - STARTED,
        "peak_teraflop_per_second": peak / 1e12,
        "patches_per_second_by_batch": found,
        **throughput._asdict(),
        "share_of_peak": throughput.teraflop_per_second * 1e12 / peak,
    }
    (out / "report.json").write_text(json.dumps(report, indent=1))
    print(
        json.dumps({name: value for name, value in report.items() if name not in ("network", "training")}), flush=True
    )


def gpu_tests(seconds: float) -> None:
    """Run the tests that are skipped without a GPU; what the settings of the suite need besides pytest is left out."""
    files = ("images/test_anomaly_synthesis.py", "baselines/test_robust_pca.py", "learning/training/test_trainer.py")
    command = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=--import-mode=importlib", "-m", "gpu"]
    where = os.environ | {"PYTHONPATH": str(ROOT)}
    try:
        subprocess.run(
            [*command, *(f"tests/{file}" for file in files)], cwd=ROOT, env=where, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        print(f"the tests took more than {seconds:.0f} s", flush=True)


def main() -> None:
    """Cut, or train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["cut", "train"])
    parser.add_argument("patches", type=Path)
    parser.add_argument("out", type=Path, nargs="?", default=Path("gpu_run"))
    parser.add_argument("--data", default="bsd", help="images to cut from, as of `indeed train`")
    parser.add_argument("--state", type=Path, help="OUT of the run to go on from")
    parser.add_argument("--seconds", type=float, default=520, help="of the whole program")
    parser.add_argument("--reserve", type=float, default=60, help="of these, kept for the tests")
    parser.add_argument("--preset", default="paper", choices=["tiny", "cpu", "cpu-long", "paper"])
    parser.add_argument("--learning-rate", type=float, default=4e-4)
    parser.add_argument("--largest", type=int, default=256, help="batch")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--tests", action="store_true")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if options.what == "cut":
        cut(options.patches, options.data)
        return
    stand_in()
    train(options)
    if options.tests:
        gpu_tests(max(10.0, STARTED + options.seconds - time.monotonic()))


if __name__ == "__main__":
    main()
