"""Time of a training step over the bare forward and backward pass of its networks, as a ratio in one run.

``python benchmarks/training_step.py [--preset cpu] [--channels 1] [--pairs 40]`` prints the median ratio and its
quartiles, patches per second, and floating-point operations of the networks per second. A step is that of the training
loop: a batch (crops, symmetries, noise) from the thread that draws ahead, forward, closed forms, loss terms, backward,
clipping, Adam, moving average. The two are timed in turn, so that a drift of the machine touches both. With
``--cpu-time`` the time of all threads of this process is taken, which depends less on what else the machine does; the
drawing, which on a free core would cost nothing, is then counted in full.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from itertools import count
from pathlib import Path

import torch

from indeed.data.patches import PatchSampler
from indeed.learning.diagnostics.throughput import forward_backward, operations
from indeed.learning.loading import ahead
from indeed.learning.training.config import PRECISIONS, training_preset
from indeed.learning.training.sources import denoising_samples
from indeed.learning.training.trainer import Trainer
from indeed.networks.inference_network import InDeed, network_preset


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="cpu", choices=["tiny", "cpu", "paper"])
    parser.add_argument("--channels", type=int, default=1, choices=[1, 3])
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--precision", default="float32", choices=list(PRECISIONS)[:3])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cpu-time", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.cpu_time else time.perf_counter
    device = torch.device(options.device)

    network, config = network_preset(options.preset, options.channels), training_preset(options.preset)
    config = replace(
        config, batch_size=options.batch or config.batch_size, precision=options.precision, compile=options.compile
    )
    generator = torch.Generator().manual_seed(0)
    side = 3 * network.patch_size
    images = [
        torch.randint(0, 256, (options.channels, side, side), generator=generator, dtype=torch.uint8) for _ in range(20)
    ]
    samples = denoising_samples(PatchSampler(images, network.patch_size), config)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(network, config, samples, Path(folder), device=device)
    model, precision = trainer.model.train(), PRECISIONS[options.precision]
    observed = trainer.draw(0)[0].to(device, trainer.dtype).observed

    def timed(call: Callable[[], object]) -> float:
        start = clock()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return clock() - start

    with closing(ahead(trainer.draw, count())) as batches:  # type: ignore[type-var]  # it is a generator
        calls = (lambda: trainer.advance(next(batches)), lambda: forward_backward(model, observed, precision))
        for call in calls:
            call()
        pairs = [tuple(timed(call) for call in calls) for _ in range(options.pairs)]
    low, middle_ratio, high = statistics.quantiles((whole / net for whole, net in pairs), n=4)
    whole, net = (statistics.median(column) for column in zip(*pairs, strict=True))
    patches = config.batch_size / whole
    teraflops = patches * operations(InDeed(network).to(device), observed[:1]) / 1e12
    print(
        f"{options.preset} preset, {options.channels} channel(s), batch {config.batch_size}, {options.precision}, "
        f"{options.device}, {options.threads} thread(s): step {whole * 1e3:.1f} ms, networks {net * 1e3:.1f} ms, "
        f"ratio {middle_ratio:.3f} ({low:.3f} to {high:.3f}), {patches:.1f} patches/s, {teraflops:.3f} TFLOP/s"
    )


if __name__ == "__main__":
    main()
