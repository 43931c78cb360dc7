"""How fast a training is: operations of the networks, their bare time, and what a step takes besides."""

import time
from collections.abc import Iterator
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from indeed.types import Images


class Throughput(NamedTuple):
    """Speed of a training run."""

    patches_per_second: float
    """Samples of all processes together."""
    teraflop_per_second: float
    """Floating-point operations (10^12) of the networks' forward and backward passes, all processes together."""
    share_outside_networks: float
    """Part of a step that is not the forward and backward pass of the networks: draws, closed forms, optimiser, ..."""


def forward_backward(model: nn.Module, observed: Images, precision: torch.dtype = torch.float32) -> None:
    """One bare forward and backward pass of a network without draws; gradients are added to.

    ``precision`` is the type to compute in where it has 16 bits.
    """
    model.zero_grad(set_to_none=True)
    with autocast(observed.device, precision):
        output = model(observed)
    parts = [part for part in {id(part): part for part in _tensors(output)}.values() if part.requires_grad]
    torch.stack([part.sum() for part in parts]).sum().backward()  # type: ignore[no-untyped-call]


def _tensors(output: Any) -> Iterator[Tensor]:
    """Tensors of whatever a network puts out."""
    if isinstance(output, Tensor):
        yield output
    else:
        for part in output:
            yield from _tensors(part)


def autocast(device: torch.device, precision: torch.dtype) -> torch.autocast:
    """Context in which the ResNets compute in ``precision`` if it has 16 bits, and that changes nothing otherwise."""
    half = precision in (torch.bfloat16, torch.float16)
    return torch.autocast(device.type, precision if half else torch.bfloat16, enabled=half)


def operations(model: nn.Module, observed: Images) -> int:
    """Count the floating-point operations of the forward and backward pass for these images.

    A multiplication and an addition are two operations; convolutions and matrix products are counted, as is usual. The
    network must not be compiled; the colour network of the paper needs 0.57 TFLOP for a patch of 128 pixels.

    Examples
    --------
    A convolution costs two operations for each weight and output pixel, once forward and once more backward for the
    gradient of the weights:

    >>> class Lazy(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.only = nn.Conv2d(3, 4, 1)
    ...     def forward(self, y):
    ...         return self.only(y)
    >>> operations(Lazy(), torch.zeros(1, 3, 5, 5)) == 2 * (2 * 3 * 4 * 5 * 5)
    True
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        forward_backward(model, observed)
    model.zero_grad(set_to_none=True)
    total: int = counter.get_total_flops()
    return total


def seconds_of_networks(model: nn.Module, observed: Images, precision: torch.dtype) -> float:
    """Median time of three bare forward and backward passes; the network is left as it was, without a gradient."""
    buffers = [buffer.clone() for buffer in model.buffers()]
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        forward_backward(model, observed, precision)
        if observed.is_cuda:
            torch.cuda.synchronize(observed.device)
        seconds.append(time.perf_counter() - start)
    model.zero_grad(set_to_none=True)
    with torch.no_grad():
        for buffer, before in zip(model.buffers(), buffers, strict=True):
            buffer.copy_(before)
    return median(seconds)
