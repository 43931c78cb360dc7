"""Time of BM3D over that of the shipped model on one colour image of 481 x 321, as a ratio in one run.

``python benchmarks/denoise_speed.py [--threads 2] [--rounds 5] [--image FILE]`` prints the median ratio and its
quartiles, and the PSNR of both. They are timed in turn, so that a drift of the machine touches both. BM3D is the
package of its authors, which the user installs (its licence allows non-commercial use only); the image is the centre of
an embedded photograph, or a file.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

SIGMA = 25


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--image", type=Path, help="colour image; default: 481 x 321 pixels of an embedded one")
    options = parser.parse_args()
    if find_spec("bm3d") is None:
        print("denoise_speed.py: needs the package bm3d (non-commercial use only): pip install bm3d", file=sys.stderr)
        return 2
    # BM3D asks OpenMP for its threads, which reads this when it is loaded.
    os.environ["OMP_NUM_THREADS"] = str(options.threads)

    import torch
    from torch import Tensor

    from indeed.baselines import denoise_classically
    from indeed.data.image_files import read_image
    from indeed.data.samples import sample_image
    from indeed.images.metrics import psnr
    from indeed.images.noise import GREY_LEVEL, seeded_gaussian
    from indeed.networks.checkpoint import load_checkpoint, shipped_checkpoint
    from indeed.networks.whole_image import denoise

    torch.set_num_threads(options.threads)
    clean = read_image(options.image).tensor() if options.image else sample_image("astronaut")[:, 95:416, 15:496]
    clean = clean.contiguous()
    noisy = seeded_gaussian(clean, SIGMA, seed=0)
    model, _ = load_checkpoint(shipped_checkpoint("denoise_color"))

    def timed(call: Callable[[], Tensor]) -> tuple[float, Tensor]:
        start = time.perf_counter()
        estimate = call()
        return time.perf_counter() - start, estimate

    def bm3d() -> Tensor:
        return denoise_classically(noisy[None], "bm3d", SIGMA * GREY_LEVEL)[0]

    def ours() -> Tensor:
        return denoise(model, noisy)

    ours()
    denoise_classically(noisy[None, :, :32, :32], "bm3d", SIGMA * GREY_LEVEL)  # loads its library
    pairs = []
    for _ in range(options.rounds):
        slow, by_bm3d = timed(bm3d)
        fast, by_network = timed(ours)
        pairs.append((slow, fast))
    slow, fast = (statistics.median(column) for column in zip(*pairs, strict=True))
    low, ratio, high = statistics.quantiles((a / b for a, b in pairs), n=4)
    height, width = clean.shape[1:]
    print(
        f"{height} x {width} pixels, {options.threads} thread(s): BM3D {slow:.2f} s, this model {fast:.2f} s, "
        f"ratio {ratio:.1f} ({low:.1f} to {high:.1f})"
    )
    for name, estimate in (("BM3D", by_bm3d), ("this model", by_network)):
        print(f"  PSNR of {name} at sigma {SIGMA}: {psnr(estimate[None], clean[None]).item():.2f} dB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
