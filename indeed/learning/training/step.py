"""One step of a training: along the gradient of the loss of a task over the whole batch."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.amp import GradScaler
from torch.nn.parallel import DistributedDataParallel

from indeed.learning.diagnostics.throughput import autocast
from indeed.learning.distributed import mean_over_processes
from indeed.learning.loading import Batch
from indeed.learning.training.config import PRECISIONS, TrainingConfig
from indeed.learning.training.task import DENOISING, Task


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Learning rate of step ``step`` (from 0), a pure function of the configuration."""
    warmup = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    if config.schedule == "halving":
        return config.learning_rate * warmup * 0.5 ** (10 * step // config.steps)
    return config.learning_rate * warmup * 0.5 * (1 + math.cos(math.pi * step / config.steps))


class Step(NamedTuple):
    """What a training step did, the same in all processes."""

    terms: tuple[float, ...]
    """Loss terms in the order of `Task.terms`: means over the samples of the whole batch and their pixels."""
    applied: bool
    """False if the loss or the gradient was not finite; the network is then left as it was."""
    signalled: bool
    """Whether a process had been told to stop."""


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[Batch],
    config: TrainingConfig,
    *,
    task: Task = DENOISING,
    scaler: GradScaler | None = None,
    signalled: bool = False,
) -> Step:
    """One gradient step on one batch; that of an inference network is one alternation of the sub-problems (Eq. 13).

    The task decides what is learned. The loss of an inference network solves the leaves in closed form first.

    Parameters
    ----------
    model
        The network; wrapped for data-parallel training where there are several processes.
    optimizer
        Its optimiser.
    batches
        Micro-batches of this process, all of one size, on the device of the network.
    config
        What the step depends on.
    task
        What is learned.
    scaler
        Scales the loss of float16; None: no scaling.
    signalled
        Whether this process has been told to stop.
    """
    scaler = scaler or GradScaler(enabled=False)
    buffers = [buffer.clone() for buffer in model.buffers()]  # running statistics, where there are any
    optimizer.zero_grad(set_to_none=True)

    def forward(*inputs: Any) -> Any:
        with autocast(batches[0].observed.device, PRECISIONS[config.precision]):
            return model(*inputs)

    means = torch.zeros(len(task.terms), dtype=torch.float64, device=batches[0].observed.device)
    for index, batch in enumerate(batches, start=1):
        # Processes exchange the sum of the micro-batches' gradients, not each of them.
        alone = isinstance(model, DistributedDataParallel) and index < len(batches)
        with model.no_sync() if alone else nullcontext():  # type: ignore[operator]
            terms = task.loss(forward, batch, config)
            elements = batch.observed[0].numel()
            loss = task.objective(terms, config, elements)
            # The gradient is what processes exchange: a loss that is not finite shows in it, in all of them.
            loss = loss * torch.where(loss.detach().isfinite(), 1.0, math.nan)
            scaler.scale(loss / len(batches)).backward()  # type: ignore[no-untyped-call]
        means += torch.stack([term.detach().double().mean() for term in terms]) / (elements * len(batches))
    scaler.unscale_(optimizer)
    norm = nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clip)
    *means_everywhere, norm_everywhere, stop = mean_over_processes(
        torch.cat([means, norm.double()[None], norm.new_tensor([signalled], dtype=torch.float64)])
    )
    applied = math.isfinite(norm_everywhere)
    if applied:
        scaler.step(optimizer)
    else:
        for buffer, before in zip(model.buffers(), buffers, strict=True):
            buffer.copy_(before)
    scaler.update()
    return Step(tuple(means_everywhere), applied, stop > 0)
