"""Memory and seams of a large colour image through the tiled network.

``python benchmarks/large_image.py [--side 4096] [--sigma 25]`` denoises embedded photographs, repeated by reflection to
a square of that side, with noise added, and prints the peak memory of the process, the seconds, and what it changes in
PSNR that a pixel lies where tiles overlap. Image and result are 8-bit, as they are in a file. ``--records FOLDER`` also
writes what ``book/denoising.md`` quotes, to ``FOLDER/cpu/large_image.csv``.
"""

import argparse
import resource
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from indeed.data.samples import sample_image
from indeed.images.tiling import reflected_indices
from indeed.networks.checkpoint import load_checkpoint, shipped_checkpoint
from indeed.networks.seams import seam_difference
from indeed.networks.whole_image import denoise
from indeed.record import Recorder


def large(side: int) -> Tensor:
    """8-bit photograph of side x side pixels: an embedded one, reflected as often as it takes."""
    image = (sample_image("astronaut") * 255).round().to(torch.uint8)
    rows, columns = (reflected_indices(size, side) for size in image.shape[1:])
    return image[:, rows][:, :, columns]


def noisy(clean: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """8-bit image with noise, made in strips: as floats it would need four times the memory."""
    result = torch.empty_like(clean)
    for strip, out in zip(torch.split(clean, 128, dim=1), torch.split(result, 128, dim=1), strict=True):
        values = strip + sigma * torch.randn(strip.shape, generator=generator)
        out.copy_(values.round().clamp(0, 255))
    return result


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--sigma", type=float, default=25.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--records", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model, _ = load_checkpoint(shipped_checkpoint("denoise_color"))
    clean = large(options.side)
    observed = noisy(clean, options.sigma, torch.Generator().manual_seed(0))
    start = time.perf_counter()
    denoise(model, observed)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(f"{options.side} x {options.side} colour: {seconds:.0f} s, peak memory {peak / 1e9:.2f} GB")

    side = min(options.side, 1024)
    crop = (slice(None), slice(side), slice(side))
    pair = (observed[crop].float() / 255, clean[crop].float() / 255)
    seams = seam_difference(model, *pair)
    print(f"PSNR where tiles overlap minus that of the same pixels inside a tile: {seams:+.3f} dB")
    if options.records:
        record = Recorder("large_image", "cpu", 0, "skimage.data.astronaut, repeated", folder=options.records)
        record.add("side", options.side, tolerance=0, digits=0)
        record.add("peak_memory", peak / 1e9, tolerance=0.2, unit="GB")
        record.add("seams", seams, tolerance=0.02, unit="dB", digits=3)
    return 0


if __name__ == "__main__":
    sys.exit(main())
