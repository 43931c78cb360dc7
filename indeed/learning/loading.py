"""Training samples, each a function of its index alone, and batches of them drawn ahead of the training."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import torch

from indeed.types import Image, Images

T = TypeVar("T")


class Sample(NamedTuple):
    """An observed image and what is to be learned from it: for denoising, the clean image."""

    observed: Image
    target: Image


SampleSource = Callable[[torch.Generator], Sample]
"""Draws one training sample; all its randomness comes from the generator."""


class Batch(NamedTuple):
    """Samples side by side, with the seed of the draws of A, B and S (and of the precisions) of each."""

    observed: Images
    target: Images
    seeds: tuple[int, ...]

    def pinned(self) -> "Batch":
        """Copy in memory from which a GPU can fetch while the processor goes on."""
        return self._replace(observed=self.observed.pin_memory(), target=self.target.pin_memory())

    def to(self, device: torch.device, dtype: torch.dtype) -> "Batch":
        """Return the batch on the device and in the type in which the network computes."""
        observed, target = (part.to(device, dtype, non_blocking=True) for part in (self.observed, self.target))
        return self._replace(observed=observed, target=target)

    def generators(self) -> list[torch.Generator]:
        """Return the sources of the draws, one for each sample, on the device of the batch."""
        return [torch.Generator(self.observed.device).manual_seed(seed) for seed in self.seeds]


def sample_seed(seed: int, index: int) -> int:
    """Seed of a generator of sample ``index`` of a run: 32 bits, all that the CPU generator looks at.

    >>> sample_seed(0, 7), sample_seed(1, 7) != sample_seed(2, 7)
    (7, True)
    """
    # An odd multiplier (2^32 over the golden ratio) spreads the runs of different seeds over all sequences of samples.
    return (index + seed * 0x9E3779B1) % 2**32


def draw_batch(samples: SampleSource, indices: Iterable[int], seed: int = 0) -> Batch:
    """Draw the samples of the given indices: the same ones whatever the others are, and whoever draws them.

    Examples
    --------
    >>> def noise(generator):
    ...     return Sample(*torch.randn(2, 1, 4, 4, generator=generator))
    >>> together, alone = draw_batch(noise, range(5, 9)), draw_batch(noise, [7])
    >>> torch.equal(together.observed[2:3], alone.observed)
    True
    """
    # Two seeds for each sample: the draws within the network may come from a generator on a GPU.
    seeds = [(sample_seed(seed, 2 * index), sample_seed(seed, 2 * index + 1)) for index in indices]
    drawn = [samples(torch.Generator().manual_seed(first)) for first, _ in seeds]
    observed, target = (torch.stack(parts) for parts in zip(*drawn, strict=True))
    return Batch(observed, target, tuple(second for _, second in seeds))


def ahead(draw: Callable[[int], T], steps: Iterable[int], threads: int = 1, depth: int = 2) -> Iterator[T]:
    """Yield ``draw(step)`` for each step, in order, drawn by threads in the background while the caller computes.

    Close it to end the threads early.

    Parameters
    ----------
    draw
        What is drawn; its exception is raised where its result would have been.
    steps
        Arguments, in order.
    threads
        Threads that draw.
    depth
        Results that are drawn or waiting while the caller has another one.

    Examples
    --------
    >>> list(ahead(lambda step: step**2, range(5), threads=3))
    [0, 1, 4, 9, 16]
    """
    waiting: deque[Future[T]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="samples")
    try:
        for step in steps:
            waiting.append(pool.submit(draw, step))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
