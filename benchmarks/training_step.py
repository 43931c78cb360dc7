"""Time of a training step over the bare forward and backward pass of its networks, as a ratio in one run.

``python benchmarks/training_step.py [--preset cpu] [--channels 1] [--pairs 40]`` prints the median ratio and its
quartiles. A step is what the training loop does: draw a batch (crops, symmetries, noise), forward, closed forms, loss
terms, backward, clipping, Adam, moving average. The two are timed in turn, so that a drift of the machine touches both.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from indeed.data.patches import PatchSampler
from indeed.learning.training import Trainer, denoising_batches, train_step, training_preset
from indeed.networks.inference_network import network_preset


def timed(call: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="cpu", choices=["tiny", "cpu", "paper"])
    parser.add_argument("--channels", type=int, default=1, choices=[1, 3])
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    network, config = network_preset(options.preset, options.channels), training_preset(options.preset)
    generator = torch.Generator().manual_seed(0)
    side = 3 * network.patch_size
    images = [
        torch.randint(0, 256, (options.channels, side, side), generator=generator, dtype=torch.uint8) for _ in range(20)
    ]
    batches = denoising_batches(PatchSampler(images, network.patch_size, config.batch_size), config)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(network, config, batches, Path(folder))
    model = trainer.model.train()
    observed = batches(generator).observed

    def bare() -> None:
        model.zero_grad(set_to_none=True)
        middle, _ = model(observed)
        sum(part.sum() for factor in middle for part in factor).backward()

    def step() -> None:
        train_step(model, trainer.optimizer, trainer.batches(generator), config, generator)
        trainer.update_average()

    for call in (bare, step):
        call()
    pairs = [(timed(step), timed(bare)) for _ in range(options.pairs)]
    low, middle_ratio, high = statistics.quantiles((whole / net for whole, net in pairs), n=4)
    whole, net = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(
        f"{options.preset} preset, {options.channels} channel(s), batch {config.batch_size}, "
        f"{options.threads} thread(s): step {whole * 1e3:.1f} ms, networks {net * 1e3:.1f} ms, "
        f"ratio {middle_ratio:.3f} ({low:.3f} to {high:.3f})"
    )


if __name__ == "__main__":
    main()
