"""What a machine can do and what a layer asks of it: the roofline model of Williams, Waterman and Patterson (2009).

A kernel that does F operations on D bytes takes at least ``max(F / peak, D / bandwidth)`` seconds. Its arithmetic
intensity F / D decides which of the two binds it.
"""

import math
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Machine(NamedTuple):
    """The two ceilings of a machine for one type of numbers."""

    name: str
    peak: float
    """Floating-point operations per second."""
    bandwidth: float
    """Bytes per second to and from memory."""

    @property
    def ridge(self) -> float:
        """Arithmetic intensity, in operations per byte, above which the peak binds, not the bandwidth."""
        return self.peak / self.bandwidth

    def seconds(self, operations: float, moved: float) -> float:
        """Least time for so many operations on so many bytes.

        >>> Machine("toy", peak=1e12, bandwidth=1e11).seconds(5e11, 1e11)  # 5 operations a byte, and the ridge is 10
        1.0
        """
        return max(operations / self.peak, moved / self.bandwidth)


class Kernel(NamedTuple):
    """One layer, as it was measured."""

    name: str
    operations: float
    moved: float
    """Bytes, if inputs, weights and outputs are moved once each."""
    seconds: float

    @property
    def intensity(self) -> float:
        """Operations per byte."""
        return self.operations / self.moved

    @property
    def rate(self) -> float:
        """Operations per second."""
        return self.operations / self.seconds


def shortest(call: Callable[[], object], device: torch.device | str = "cpu", repeats: int = 5) -> float:
    """Least time in seconds of some calls, after one that does not count.

    On a CPU it is the time that this process spent computing, all threads together: what else the machine does then
    matters less. So let one thread compute.
    """
    gpu = torch.device(device).type == "cuda"
    best = math.inf
    for repeat in range(repeats + 1):
        begun = time.perf_counter() if gpu else time.process_time()
        call()
        if gpu:
            torch.cuda.synchronize(device)
        took = (time.perf_counter() if gpu else time.process_time()) - begun
        best = min(best, took) if repeat else best
    return best


def measured_machine(
    device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, *, length: int = 2**24
) -> Machine:
    """Measure both ceilings: the peak by a matrix product and a wide convolution, the bandwidth by ``a = b + 2 c``.

    Parameters
    ----------
    device, dtype
        Where, and for which type.
    length
        Elements of each of the three vectors (float32), which should be larger than the caches.
    """
    square = torch.rand(1024, 1024, device=device).to(dtype)
    convolved = measured_kernel("", *convolution(128, 64, 64, batch=1), dtype=dtype, device=device)
    a, b, c = torch.rand(3, length, device=device)
    product = 2 * len(square) ** 3 / shortest(lambda: square @ square, device)
    bandwidth = 3 * a.nbytes / shortest(lambda: torch.add(b, c, alpha=2, out=a), device)
    return Machine(str(dtype).removeprefix("torch."), max(product, convolved.rate), bandwidth)


def convolution(
    channels: int, height: int, width: int, batch: int, kernel_size: int = 3
) -> tuple[nn.Module, tuple[int, ...], float]:
    """Convolution with as many channels out as in: the module, the shape it sees, and its operations.

    >>> module, shape, operations = convolution(64, 128, 128, batch=1)
    >>> operations == 2 * 9 * 64 * 64 * 128 * 128
    True
    """
    module = nn.Conv2d(channels, channels, kernel_size, padding="same")
    shape = (batch, channels, height, width)
    return module, shape, 2.0 * kernel_size**2 * channels * math.prod(shape)


def measured_kernel(
    name: str,
    layer: Callable[[Tensor], Tensor],
    shape: tuple[int, ...],
    operations: float,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    repeats: int = 5,
) -> Kernel:
    """Time the forward pass of a layer, and count its bytes as if each tensor were moved once.

    Parameters
    ----------
    name, layer, shape, operations
        The layer (a module, or a function without weights), the shape of its input, and what it computes.
    dtype, device, repeats
        Type of input and weights, where, and how often.
    """
    weights = 0
    if isinstance(layer, nn.Module):
        layer = layer.to(device, dtype)
        weights = sum(parameter.numel() for parameter in layer.parameters())
    image = torch.rand(shape, device=device).to(dtype)
    with torch.no_grad():
        elements = image.numel() + weights + layer(image).numel()
        seconds = shortest(lambda: layer(image), device, repeats)
    return Kernel(name, operations, elements * dtype.itemsize, seconds)
