"""Robust PCA: time of the package pyrpca over ours, and of a loop over a batch, as ratios in one run.

``python benchmarks/robust_pca.py [--threads 1] [--rounds 7]`` prints median ratios and their quartiles. The first is
for rank 10 and 10 % gross errors, 500 x 500, double precision, both with the inexact augmented Lagrangian method at
tolerance 1e-7; the second for 64 patches of 128 x 128, of which the results are compared too. What is compared is timed
in turn, so that a drift of the machine touches both.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from pyrpca import rpca_pcp_ialm

from indeed.baselines.robust_pca import inexact_augmented_lagrangian
from indeed.data.samples import sample_image


def timed(call: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """Seconds of one call, and what it returned."""
    start = time.perf_counter()
    result = call(*arguments)
    return time.perf_counter() - start, result


def problem(side: int, rank: int, share: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Low-rank matrix of normal factors, entries of variance ``rank``, and errors of 10 with random sign."""
    generator = torch.Generator().manual_seed(seed)
    A, B = torch.randn(2, side, rank, generator=generator, dtype=torch.float64)
    where = torch.rand(side, side, generator=generator) < share
    sign = torch.rand(side, side, generator=generator).round() * 2 - 1
    return A @ B.mT, (10 * where * sign).double()


def report(name: str, ratios: list[float], slow: list[float], fast: list[float]) -> None:
    """Print the median ratio with its quartiles, and the median times."""
    low, median, high = statistics.quantiles(ratios, n=4)
    times = f"{statistics.median(slow) * 1e3:.0f} ms over {statistics.median(fast) * 1e3:.0f} ms"
    print(f"{name}: {times}, ratio {median:.2f} ({low:.2f} to {high:.2f})")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    L, S = problem(500, rank=10, share=0.1)
    y = L + S
    pairs = []
    for _ in range(options.rounds):
        theirs, parts = timed(lambda: rpca_pcp_ialm(y.numpy(), 500**-0.5, tol=1e-7, verbose=False))
        ours, found = timed(lambda: inexact_augmented_lagrangian(y, tolerance=1e-7))
        pairs.append((theirs, ours))
    report("pyrpca over ours, 500 x 500", [a / b for a, b in pairs], *map(list, zip(*pairs, strict=True)))
    for name, estimate in {"pyrpca": [torch.from_numpy(part) for part in parts], "ours": [found.L, found.S]}.items():
        errors = ((a - b).norm() / b.norm() for a, b in zip(estimate, (L, S), strict=True))
        print("  relative error of L and S, {}: {:.1e}, {:.1e}".format(name, *errors))

    image = sample_image("camera")[0].double()
    photographs = image.unfold(0, 128, 54).unfold(1, 128, 54).reshape(-1, 128, 128)
    synthetic = torch.stack([torch.add(*problem(128, rank=4, share=0.05, seed=seed)) for seed in range(64)])
    for name, stack in {"synthetic patches": synthetic, "photograph patches": photographs}.items():
        pairs = []
        for _ in range(max(2, options.rounds // 2)):
            alone, results = timed(lambda stack: [inexact_augmented_lagrangian(patch) for patch in stack], stack)
            together, found = timed(inexact_augmented_lagrangian, stack)
            pairs.append((alone, together))
        title = f"loop over batch, {len(stack)} {name} of 128 x 128"
        report(title, [a / b for a, b in pairs], *map(list, zip(*pairs, strict=True)))
        apart = max(
            ((a - b).norm() / y.norm()).item()
            for part in ("L", "S")
            for a, b, y in zip(getattr(found, part), (getattr(r, part) for r in results), stack, strict=True)
        )
        print(f"  largest difference relative to the patch: {apart:.1e}")


if __name__ == "__main__":
    main()
