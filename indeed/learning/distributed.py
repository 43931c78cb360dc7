"""Several processes that train one network: torchrun starts them, and here they meet, agree and part.

One process alone needs none of it: it is the first of one, and every exchange gives back what it was given.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Float64
from torch import Tensor

T = TypeVar("T")
TIMEOUT = timedelta(minutes=10)
"""A process that waits longer for another one gives up: that one has died, or hangs."""


def process_count() -> int:
    """Count the processes that train together."""
    return dist.get_world_size() if _together() else 1


def process_rank() -> int:
    """Position of this process among them, from 0; the first one writes the files."""
    return dist.get_rank() if _together() else 0


class Preempted(SystemExit):
    """The process was asked to end (SIGTERM); the run is saved. Uncaught, it ends the process with code 143."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


@contextmanager
def termination() -> Iterator[threading.Event]:
    """Event that is set by SIGTERM, which otherwise ends the process; only a main thread can ask for that."""
    seen = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield seen
        return
    before = signal.signal(signal.SIGTERM, lambda *_: seen.set())
    try:
        yield seen
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


@contextmanager
def process_group(device: str | torch.device) -> Iterator[torch.device]:
    """Join the processes that torchrun started, and leave them in the end; started without it, join nothing.

    They exchange gradients by NCCL on GPUs, by gloo on CPUs. An exception in one of them ends this group: the others
    see their connection closed, and torchrun ends what is left.

    Parameters
    ----------
    device
        ``cpu`` or ``cuda``: each process then takes the GPU of its local rank.

    Yields
    ------
    torch.device
        Device of this process.

    Raises
    ------
    ValueError
        If one GPU is named for several processes.
    """
    device = torch.device(device)
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys():
        yield device
        return
    if device.type == "cuda":
        if device.index is not None and int(os.environ["WORLD_SIZE"]) > 1:
            raise ValueError(f"device: got {device} for several processes, expected cuda: one GPU for each")
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", timeout=TIMEOUT, device_id=device)
    else:
        dist.init_process_group("gloo", timeout=TIMEOUT)
    try:
        yield device
    finally:
        dist.destroy_process_group()


def from_first(call: Callable[[], T]) -> T:
    """Return what ``call`` returns in the first process, in every process; an exception is raised in all of them too.

    >>> from_first(lambda: 7)
    7
    """
    if process_count() == 1:
        return call()
    outcome: list[Any] = [None, None]
    if process_rank() == 0:
        try:
            outcome[0] = call()
        except Exception as error:
            outcome[1] = error
    dist.broadcast_object_list(outcome, src=0)
    if outcome[1] is not None:
        raise outcome[1]
    result: T = outcome[0]
    return result


def mean_over_processes(values: Float64[Tensor, " value"]) -> list[float]:
    """Means of some numbers over the processes; the one moment of a step in which a GPU is waited for.

    >>> mean_over_processes(torch.tensor([1.0, 3.0], dtype=torch.float64))
    [1.0, 3.0]
    """
    if process_count() > 1:
        dist.all_reduce(values)
        values = values / process_count()
    numbers: list[float] = values.tolist()
    return numbers


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()
