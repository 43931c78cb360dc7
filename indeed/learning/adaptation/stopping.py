"""When an adaptation stops, and which weights it keeps: rules that see the observed images only."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from indeed.checks import at_least
from indeed.types import Images


class Monitor(NamedTuple):
    """What a stopping rule sees after a pass over the images: nothing of the clean ones."""

    free_energy: float
    """All seven terms of the negative ELBO at the posterior means, in nats a pixel and channel, on fixed patches."""
    output: Images
    """L + S on these patches."""
    drift: float
    r"""Distance from the original weights, :math:`\|\theta - \theta_0\| / \|\theta_0\|`, of those that adapt."""


class Verdict(NamedTuple):
    """Which of the monitored weights to keep, as an index into the history, and whether to stop."""

    keep: int
    stop: bool


StoppingRule = Callable[[Sequence[Monitor]], Verdict]
"""A pure function of the history, whose first entry is that of the weights before the first step. What it keeps is the
last entry, or what it kept before."""


@dataclass(frozen=True)
class LowestFreeEnergy:
    """Keep the weights of the lowest full free energy; stop when it has not improved for `patience` entries.

    >>> history = [Monitor(energy, torch.zeros(1, 1, 2, 2), 0.0) for energy in (3.0, 2.0, 2.5, 2.1)]
    >>> LowestFreeEnergy(patience=2)(history)
    Verdict(keep=1, stop=True)
    """

    patience: int = 3

    def __post_init__(self) -> None:  # noqa: D105
        at_least(1, patience=self.patience)

    def __call__(self, history: Sequence[Monitor]) -> Verdict:  # noqa: D102
        return _patiently([monitor.free_energy for monitor in history], self.patience)


@dataclass(frozen=True)
class LowestVariance:
    """Keep the weights where the outputs of the last `window` entries vary least (ES-WMV of Wang et al., 2023).

    The variance is the mean squared distance of the outputs of a window from their mean. Stops when it has not fallen
    for `patience` entries; until a window is full the last weights are kept.
    """

    window: int = 5
    patience: int = 3

    def __post_init__(self) -> None:  # noqa: D105
        at_least(2, window=self.window)
        at_least(1, patience=self.patience)

    def __call__(self, history: Sequence[Monitor]) -> Verdict:  # noqa: D102
        starts = range(len(history) - self.window + 1)
        if not starts:
            return Verdict(len(history) - 1, False)
        variances = [
            torch.stack([monitor.output for monitor in history[start : start + self.window]])
            .var(dim=0, correction=0)
            .mean()
            .item()
            for start in starts
        ]
        keep, stop = _patiently(variances, self.patience)
        return Verdict(keep + self.window - 1, stop)


@dataclass(frozen=True)
class DriftCap:
    """Keep the last weights within a relative distance `largest` of the original ones; stop at the first beyond."""

    largest: float = 0.01

    def __post_init__(self) -> None:  # noqa: D105
        at_least(0, largest=self.largest)

    def __call__(self, history: Sequence[Monitor]) -> Verdict:  # noqa: D102
        beyond = history[-1].drift > self.largest
        return Verdict(max(len(history) - 1 - beyond, 0), beyond)


def _patiently(values: Sequence[float], patience: int) -> Verdict:
    """Keep the (first) smallest value; stop when it is ``patience`` entries old."""
    best = min(range(len(values)), key=values.__getitem__)
    return Verdict(best, len(values) - 1 - best >= patience)
