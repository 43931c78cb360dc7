"""Streaming average precision and AUROC: peak memory, and time of scikit-learn over ours, as a ratio in one run.

``python benchmarks/detection_metrics.py [--pixels 100000000] [--compare 10000000] [--base-rate 0.02] [--double]`` feeds
that many pixels image by image (256 x 256, scores of a defect one standard deviation above the others, on a grid so
that there are ties) and prints the peak memory of the process and the seconds; the peak is read before scikit-learn is
loaded. It then compares both metrics with those of scikit-learn on fewer pixels.
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from indeed.images.detection_metrics import DetectionMetrics


def peak_memory() -> float:
    """Peak memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def maps(pixels: int, base_rate: float, dtype: torch.dtype, seed: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """Scores and labels, one image after another."""
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, pixels, 256 * 256):
        count = min(256 * 256, pixels - start)
        labels = torch.rand(count, generator=generator) < base_rate
        scores = torch.randn(count, generator=generator, dtype=dtype) + labels
        yield (scores * 1e6).round() / 1e6, labels


def timed(call: Callable[[], tuple[float, float]]) -> tuple[float, tuple[float, float]]:
    """Seconds of one call, and what it returned."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pixels", type=int, default=100_000_000)
    parser.add_argument("--compare", type=int, default=10_000_000)
    parser.add_argument("--base-rate", type=float, default=0.02)
    parser.add_argument("--double", action="store_true", help="scores in double precision")
    options = parser.parse_args()
    dtype = torch.float64 if options.double else torch.float32

    before = peak_memory()
    metrics = DetectionMetrics()
    for scores, labels in maps(options.pixels, options.base_rate, dtype):
        metrics.update(scores, labels)
    seconds, values = timed(lambda: (metrics.average_precision(), metrics.auroc()))
    print(
        f"{options.pixels:.0e} pixels: AP {values[0]:.6f}, AUROC {values[1]:.6f}, base rate {metrics.base_rate():.4f}; "
        f"{seconds:.1f} s after the last update; peak memory {peak_memory():.2f} GB, {before:.2f} before the first"
    )
    from sklearn.metrics import average_precision_score, roc_auc_score

    parts = list(maps(options.compare, options.base_rate, dtype))
    all_scores, all_labels = (torch.cat(column).numpy() for column in zip(*parts, strict=True))

    def ours() -> tuple[float, float]:
        streamed = DetectionMetrics()
        for scores, labels in parts:
            streamed.update(scores, labels)
        return streamed.average_precision(), streamed.auroc()

    def theirs() -> tuple[float, float]:
        return average_precision_score(all_labels, all_scores), roc_auc_score(all_labels, all_scores)

    (fast, found), (slow, expected) = timed(ours), timed(theirs)
    apart = max(abs(a - b) for a, b in zip(found, expected, strict=True))
    print(
        f"{options.compare:.0e} pixels: scikit-learn {slow:.1f} s over ours {fast:.1f} s, ratio {slow / fast:.1f}; "
        f"largest difference {apart:.1e}"
    )


if __name__ == "__main__":
    main()
