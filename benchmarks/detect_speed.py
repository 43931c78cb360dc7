"""Time of ``indeed detect`` for one image over that of the bare forward pass of its tiles, as a ratio in one run.

``python benchmarks/detect_speed.py [--checkpoint textures] [--side 256] [--threads 2] [--rounds 5]`` prints the median
seconds for an image, from its file to its four results, and the ratio with its quartiles. Start-up is left out: the
command is run, in one process, on one image and on five, and the difference is divided by four.
"""

import argparse
import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from indeed import cli
from indeed.cli.models import detector_checkpoint
from indeed.data.image_files import write_image
from indeed.data.picture import Picture, to_pixels
from indeed.data.samples import sample_image
from indeed.images.tiling import split
from indeed.networks.anomaly_detection import load_detector

MORE = 4
"""Images of the longer run beyond that of the shorter one."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="textures")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    detector = load_detector(detector_checkpoint(options.checkpoint))
    model, turns = detector.model, detector.settings.turns
    tile = model.config.patch_size
    image = sample_image("brick")[:, : options.side, : options.side].contiguous()
    tiles = split(image[None].expand(1, model.config.channels, -1, -1), tile, tile // 4).flatten(0, 1)

    def seconds(call: Callable[[], object]) -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    def bare() -> None:
        with torch.no_grad():
            for _ in range(turns):
                model(tiles)

    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{index}.png" for index in range(1 + MORE)]
        for file in files:
            write_image(file, Picture(to_pixels(image, np.dtype(np.uint8))))

        def command(count: int) -> None:
            # a folder of its own: what is there already is not computed again
            out = tempfile.mkdtemp(dir=folder)
            arguments = ["detect", *map(str, files[:count]), "-o", out, "--checkpoint", options.checkpoint]
            with contextlib.redirect_stdout(io.StringIO()):
                if cli.main([*arguments, "--device", "cpu"]):
                    raise RuntimeError("the command failed")

        command(1)
        bare()
        pairs = []
        for _ in range(options.rounds):
            short, long = seconds(lambda: command(1)), seconds(lambda: command(1 + MORE))
            pairs.append(((long - short) / MORE, seconds(bare)))
    each, forward = (statistics.median(column) for column in zip(*pairs, strict=True))
    low, ratio, high = statistics.quantiles((a / b for a, b in pairs), n=4)
    print(
        f"{options.side} x {options.side} pixels, {options.threads} thread(s): {each:.3f} s for an image, "
        f"{forward:.3f} s forward of its {len(tiles)} tiles, {turns} time(s), "
        f"ratio {ratio:.2f} ({low:.2f} to {high:.2f})"
    )


if __name__ == "__main__":
    main()
