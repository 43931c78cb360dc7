"""What is adapted, to what, and for how long."""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from indeed.bayes.conjugate_updates import LocalNoiseForm
from indeed.bayes.objectives import Modules
from indeed.checks import at_least, expect, one_of
from indeed.learning.adaptation.stopping import StoppingRule
from indeed.learning.training.config import TrainingConfig, training_preset
from indeed.learning.training.task import DENOISING, Task

Objective = Literal["variational", "neighbor2neighbor", "noise2self"]


@dataclass(frozen=True)
class AdaptationConfig:
    """What is adapted, to what, and for how long.

    Raises
    ------
    ValueError
        For a number or name outside what is stated at each field, or if there is nothing to minimise.
    """

    objective: Objective | None = "variational"
    """What is minimised on the images themselves: the paper's terms, or a control (`neighbor2neighbor`: Huang et al.,
    2021; `noise2self`: Batson and Royer, 2019); None: nothing, replay alone."""
    modules: Modules = "S"
    """Which modules adapt; this also chooses the paper's terms."""
    parameters: Literal["all", "affine"] = "all"
    """All weights of the modules; or as in TENT (Wang et al., 2021) the scales and shifts of their normalisation layers
    alone. Modules without any, as those of the shipped denoisers, adapt one gain a channel in front of the ReLU of each
    residual block, as in GainTuning (Mohan et al., 2021)."""
    steps: int = 20
    """Optimiser steps an image, at most."""
    learning_rate: float = 1e-6
    """Learning rate of Adam in the first step."""
    schedule: Literal["constant", "linear"] = "constant"
    """Whether the rate stays, as in the paper, or falls linearly to zero after the last step."""
    gradient_clip: float = 1.0
    """Largest norm of the gradient."""
    patches: int = 1
    """Random crops of one image in a step."""
    patch_size: int | None = None
    """Side of the crops in pixels; None: that of the network's tiles."""
    residual: Literal["sampled", "expected"] = "sampled"
    """Whether fidelity and noise precision take the residual of a draw, as in the paper, or its expectation."""
    noise: LocalNoiseForm = "pixel"
    """Pixels that share a noise precision: none (the paper), those of a window around each, or all of a patch."""
    neighbourhood: int = 7
    """Side of that window in pixels, odd."""
    replay_weight: float = 0.0
    """Weight of the supervised loss of replayed samples beside 1 for the images' own; 0: no replay."""
    replay_patches: int = 1
    """Replayed samples in a step."""
    fisher_weight: float = 0.0
    """Weight of the penalty on leaving the original weights; 0: none."""
    fisher_samples: int = 16
    """Samples from which the Fisher information is estimated."""
    leak: float = 0.0
    """Slope of the last ReLU of f_S below zero, in [0, 1), while the network adapts and after."""
    training: TrainingConfig = field(default_factory=lambda: training_preset("cpu"))
    """Run whose hyperpriors, target precision, orthogonality and form of the residual replayed samples are given."""
    task: Task = DENOISING
    """Task of the replayed samples: the one that the network was trained for."""
    stop: StoppingRule | None = None
    """Label-free stopping rule; None: all steps are taken and the last weights kept."""

    def __post_init__(self) -> None:  # noqa: D105
        one_of((*get_args(Objective), None), objective=self.objective)
        one_of(get_args(Modules), modules=self.modules)
        one_of(("all", "affine"), parameters=self.parameters)
        one_of(("constant", "linear"), schedule=self.schedule)
        one_of(("sampled", "expected"), residual=self.residual)
        one_of(get_args(LocalNoiseForm), noise=self.noise)
        counts = ("steps", "patches", "replay_patches", "fisher_samples")
        at_least(1, **{name: getattr(self, name) for name in counts})
        for name in ("learning_rate", "gradient_clip"):
            expect(0 < getattr(self, name) < math.inf, name, getattr(self, name), "a finite positive number")
        for name in ("replay_weight", "fisher_weight"):
            expect(0 <= getattr(self, name) < math.inf, name, getattr(self, name), "a finite number >= 0")
        expect(0 <= self.leak < 1, "leak", self.leak, "0 <= leak < 1")
        odd = self.neighbourhood >= 1 and self.neighbourhood % 2 == 1
        expect(odd, "neighbourhood", self.neighbourhood, "an odd number of pixels")
        if self.objective is None and not self.replay_weight:
            raise ValueError("replay_weight: got 0 and no objective, expected a positive weight: nothing is minimised")

    @property
    def forwards_per_step(self) -> float:
        """Cost of a step in forward passes of `patches` patches; a backward pass counts as two.

        The pass for a stopping rule is counted. The Fisher information, which is computed once, is not.

        >>> from indeed.learning.adaptation.stopping import LowestFreeEnergy
        >>> AdaptationConfig().forwards_per_step, AdaptationConfig(stop=LowestFreeEnergy()).forwards_per_step
        (3.0, 4.0)
        """
        # The sub-images of Neighbor2Neighbor have a quarter of the pixels; the whole patch has no backward pass.
        own = {None: 0.0, "variational": 3.0, "noise2self": 3.0, "neighbor2neighbor": 3 / 4 + 1}[self.objective]
        replay = 3 * self.replay_patches / self.patches if self.replay_weight else 0.0
        return own + replay + (self.stop is not None)


def adaptation_preset(name: Literal["paper", "replay"]) -> AdaptationConfig:
    """Named adaptations, online or of a set.

    ``paper``: the sparse module on its two unsupervised terms, Adam at 1e-6 (section 4.4; steps are not stated there).
    ``replay``: all modules on replayed samples alone, which should have noise of the law of the test images.
    """
    if name == "paper":
        return AdaptationConfig()
    if name == "replay":
        return AdaptationConfig(
            objective=None,
            modules="LS",
            steps=60,
            learning_rate=2e-4,
            schedule="linear",
            leak=0.2,
            patches=2,
            replay_weight=1.0,
            replay_patches=2,
        )
    raise ValueError(f"name: got {name!r}, expected 'paper' or 'replay'")
