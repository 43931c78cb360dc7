r"""Active generalisation: the network goes on learning on the images it is applied to (section 3.5.2).

The engine takes a copy of a network, a few optimiser steps on random patches of the images to be restored, and a rule
that says, without the clean images, which weights to keep. What a step minimises is one of the paper's unsupervised
terms, a self-supervised loss in their place as a control, supervised samples beside or instead of them, and a penalty
on leaving the original weights. The network of the caller is never touched.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from indeed.bayes.conjugate_updates import solve_leaf_level
from indeed.bayes.elbo import MiddleTerms, elbo_terms, negative_elbo, sub_problem_2_terms
from indeed.bayes.generative_model import Hyperpriors
from indeed.bayes.objectives import amortised_terms, training_loss
from indeed.bayes.posterior_summaries import expected_squared_residual, sampled_squared_residual
from indeed.bayes.variational_family import Draw, GammaFactor, LeafLevel, MiddleLevel
from indeed.learning.loading import Batch, SampleSource, draw_batch
from indeed.learning.training import Supervision, TrainingConfig, supervised_denoising, training_preset
from indeed.networks.backbones import ResidualBlock
from indeed.networks.inference_network import InDeed
from indeed.networks.whole_image import denoise
from indeed.types import AnySizeImage, Images, PerSample, Scalar

Modules = Literal["L", "S", "LS"]
Objective = Literal["variational", "neighbor2neighbor", "noise2self"]
NoisePrecisions = Literal["pixel", "neighbourhood", "scalar"]

NORMALISATIONS = (nn.GroupNorm, nn.BatchNorm2d, nn.LayerNorm)
MASK_PERIOD = 4
"""Noise2Self hides one pixel in a square of this side."""


# -- when to stop: rules that see the observed images only ------------------------------------------------------------


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
        _at_least(self, patience=1)

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
        _at_least(self, window=2, patience=1)

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
        _at_least(self, largest=0)

    def __call__(self, history: Sequence[Monitor]) -> Verdict:  # noqa: D102
        beyond = history[-1].drift > self.largest
        return Verdict(max(len(history) - 1 - beyond, 0), beyond)


def _at_least(holder: object, **bounds: int) -> None:
    for name, bound in bounds.items():
        value = getattr(holder, name)
        if not value >= bound:
            raise ValueError(f"{name}: got {value}, expected at least {bound}")


def _patiently(values: Sequence[float], patience: int) -> Verdict:
    """Keep the (first) smallest value; stop when it is ``patience`` entries old."""
    best = min(range(len(values)), key=values.__getitem__)
    return Verdict(best, len(values) - 1 - best >= patience)


# -- configuration ---------------------------------------------------------------------------------------------------


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
    """Of Adam, in the first step."""
    schedule: Literal["constant", "linear"] = "constant"
    """Whether it stays, as in the paper, or falls linearly to zero after the last step."""
    gradient_clip: float = 1.0
    """Largest norm of the gradient."""
    patches: int = 1
    """Random crops of one image in a step."""
    patch_size: int | None = None
    """Side of the crops in pixels; None: that of the network's tiles."""
    residual: Literal["sampled", "expected"] = "sampled"
    """Whether fidelity and noise precision take the residual of a draw, as in the paper, or its expectation."""
    noise: NoisePrecisions = "pixel"
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
    """Whose hyperpriors, target precision, orthogonality and form of the residual the replayed samples have."""
    supervision: Supervision = supervised_denoising
    """What they teach: the task that the network was trained for."""
    stop: StoppingRule | None = None
    """Label-free stopping rule; None: all steps are taken and the last weights kept."""

    def __post_init__(self) -> None:  # noqa: D105
        for name, options in (
            ("objective", (*get_args(Objective), None)),
            ("modules", get_args(Modules)),
            ("parameters", ("all", "affine")),
            ("schedule", ("constant", "linear")),
            ("residual", ("sampled", "expected")),
            ("noise", get_args(NoisePrecisions)),
        ):
            if getattr(self, name) not in options:
                raise ValueError(f"{name}: got {getattr(self, name)!r}, expected one of {options}")
        _at_least(self, steps=1, patches=1, replay_patches=1, fisher_samples=1)
        for name in ("learning_rate", "gradient_clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected a finite positive number")
        for name in ("replay_weight", "fisher_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected a finite number >= 0")
        if not 0 <= self.leak < 1:
            raise ValueError(f"leak: got {self.leak}, expected 0 <= leak < 1")
        if self.neighbourhood < 1 or self.neighbourhood % 2 == 0:
            raise ValueError(f"neighbourhood: got {self.neighbourhood}, expected an odd number of pixels")
        if self.objective is None and not self.replay_weight:
            raise ValueError("replay_weight: got 0 and no objective, expected a positive weight: nothing is minimised")

    @property
    def forwards_per_step(self) -> float:
        """Cost of a step in forward passes of `patches` patches; a backward pass counts as two.

        The pass for the stopping rule is counted where there is one, the Fisher information, which is computed once,
        is not.

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
    raise ValueError(f"name must be 'paper' or 'replay', got {name!r}")


@dataclass(frozen=True, eq=False)
class Adapted:
    """An adapted network, what it says of the images, and how it came about."""

    model: InDeed
    """The adapted copy, in evaluation mode."""
    original: InDeed
    """A copy of the original network, in evaluation mode."""
    images: tuple[AnySizeImage, ...]
    """The observed images."""
    steps: int
    """Optimiser steps taken."""
    kept: int
    """Step whose weights were kept; 0: those before the first step."""
    stopped: Literal["budget", "rule", "not finite"]
    """Why there were no more steps; at a gradient or free energy that is not finite the adaptation ends."""
    trace: dict[str, list[float]]
    """Terms of the loss in each step taken, without their weights, in nats a pixel and channel."""
    monitors: tuple[Monitor, ...]
    """What the stopping rule saw, before the first step and after each pass over the images; empty without a rule."""
    seconds: float
    """Time of the adaptation alone: neither the predictions nor the observer."""
    patch_forwards: float
    """Passes of a patch through the network, a backward pass counted as two."""

    @cached_property
    def before(self) -> tuple[AnySizeImage, ...]:
        """Denoised images by the original network, made when they are first asked for."""
        return _estimates(self.original, self.images)

    @cached_property
    def after(self) -> tuple[AnySizeImage, ...]:
        """Denoised images by the adapted one, made when they are first asked for."""
        return _estimates(self.model, self.images)


Estimate = Callable[[AnySizeImage], AnySizeImage]
"""Denoises an image with the weights of the moment."""
Observe = Callable[[int, Estimate], None]
"""Called with each step from 0 on; nothing that it does reaches the adaptation or its stopping rule."""


# -- what a step minimises -------------------------------------------------------------------------------------------


def leaf_level(
    y: Images,
    middle: MiddleLevel,
    hyperpriors: Hyperpriors,
    *,
    draw: Draw | None = None,
    noise: NoisePrecisions = "pixel",
    neighbourhood: int = 7,
) -> LeafLevel:
    r"""Solution of sub-problem 1 with noise precisions of pixels, of neighbourhoods, or of a whole patch.

    The fidelity of pixels with a precision each is a log penalty, whose gradient grows as the residual shrinks: it
    pulls every residual to zero. With ``neighbourhood`` the precision of a pixel is that of the n pixels of a window
    around it, in which the noise is taken to be stationary,
    :math:`\mathcal G(\alpha^0 + n/2,\ \beta^0 + \tfrac12\sum r^2)`: a residual smaller than those around it is pulled
    no harder for that. At the border the mean over the part of the window inside stands for that over the whole.

    Parameters
    ----------
    y, middle, hyperpriors, draw
        As :func:`indeed.bayes.conjugate_updates.solve_leaf_level`.
    noise
        Pixels that share a precision.
    neighbourhood
        Side of the window.
    """
    if noise != "neighbourhood":
        return solve_leaf_level(y, middle, hyperpriors, draw=draw, noise=noise)
    leaf = solve_leaf_level(y, middle, hyperpriors, draw=draw)
    squared = expected_squared_residual(y, middle) if draw is None else sampled_squared_residual(y, draw)
    inside = {"stride": 1, "padding": neighbourhood // 2, "count_include_pad": False}
    energy = 0.5 * neighbourhood**2 * functional.avg_pool2d(squared, neighbourhood, **inside)  # type: ignore[arg-type]
    shape = torch.full_like(energy, hyperpriors.lambda_shape + 0.5 * neighbourhood**2)
    return leaf._replace(lambda_=GammaFactor(shape, hyperpriors.lambda_rate + energy))


def active_generalisation_loss(terms: MiddleTerms, modules: Modules) -> PerSample:
    r"""Unsupervised loss of the module that adapts: S, L, or both (Eq. 39-41).

    :math:`\ell_{fid} + \ell_{sparse}`, :math:`\ell_{fid} + \ell_{rank}`, or all three; in nats, (batch,).
    """
    loss = terms.fidelity
    if "L" in modules:
        loss = loss + terms.rank
    if "S" in modules:
        loss = loss + terms.sparsity
    return loss


def adaptation_loss(
    network: InDeed,
    patches: Images,
    replayed: Batch | None,
    config: AdaptationConfig,
    generator: torch.Generator,
) -> tuple[Scalar, dict[str, float]]:
    r"""Loss of a step: the test images' own, and that of training samples beside them (Eq. 38).

    Both are means over samples, pixels and channels. With weight w the sum is, up to a factor, the mean over a union
    in which there are w times as many training samples as test samples.

    Parameters
    ----------
    network
        The network that adapts.
    patches
        Patches of the observed images; not looked at without an objective.
    replayed
        Training samples; None: no replay.
    config
        What is minimised.
    generator
        Source of the draws and masks on the test patches; the replayed samples have their own.

    Returns
    -------
    loss, terms
        Terms without their weights.
    """
    loss, terms = patches.new_zeros(()), {}
    if config.objective == "variational":
        middle, draw = network(patches, generator)
        parts = _variational_terms(patches, middle, draw, config)
        loss = active_generalisation_loss(parts, config.modules).mean() / patches[0].numel()
        terms = {name: _per_element(getattr(parts, name), patches) for name in ("fidelity", "rank", "sparsity")}
    elif config.objective is not None:
        control = {"noise2self": _noise2self, "neighbor2neighbor": _neighbor2neighbor}[config.objective]
        # The scale of the supervision, so that weights and clipping mean the same.
        loss = 0.5 * config.training.target_precision * control(network, patches, generator)
        terms = {config.objective: loss.item()}
    if replayed is not None:
        supervised, replay_terms = _supervised_loss(network, replayed, config.training, config.supervision)
        loss, terms = loss + config.replay_weight * supervised, terms | replay_terms
    return loss, terms


def _variational_terms(y: Images, middle: MiddleLevel, draw: Draw, config: AdaptationConfig) -> MiddleTerms:
    sampled = config.residual == "sampled"
    with torch.no_grad():
        leaf = _leaf_level(y, middle, config, draw if sampled else None)
    squared = sampled_squared_residual(y, draw) if sampled else expected_squared_residual(y, middle)
    return sub_problem_2_terms(middle, leaf, squared)


def _leaf_level(y: Images, middle: MiddleLevel, config: AdaptationConfig, draw: Draw | None = None) -> LeafLevel:
    hyperpriors = config.training.hyperpriors
    return leaf_level(y, middle, hyperpriors, draw=draw, noise=config.noise, neighbourhood=config.neighbourhood)


def _supervised_loss(
    network: nn.Module, batch: Batch, training: TrainingConfig, supervision: Supervision
) -> tuple[Scalar, dict[str, float]]:
    middle, draw = network(batch.observed, batch.generators())
    terms = amortised_terms(
        batch.observed,
        middle,
        draw,
        supervision(middle, draw, batch, training),
        training.hyperpriors,
        residual=training.residual,
        orthogonality_form=training.orthogonality_form,
    )
    weight, elements = training.orthogonality_weight, batch.observed[0].numel()
    loss = training_loss(terms, orthogonality_weight=weight, elements=elements, variational=training.variational)
    return loss, {f"replay_{name}": _per_element(term, batch.observed) for name, term in terms._asdict().items()}


def _per_element(term: PerSample, images: Images) -> float:
    return term.mean().item() / images[0].numel()


def _restored(network: InDeed, y: Images) -> Images:
    """L + S at the posterior means."""
    means: Draw = network(y)[1]
    return means.low_rank + means.S


def _noise2self(network: InDeed, y: Images, generator: torch.Generator) -> Scalar:
    """Squared error at hidden pixels, which the network sees replaced by the mean of their four neighbours."""
    row, column = torch.randint(MASK_PERIOD, (2,), generator=generator).tolist()
    hidden = torch.zeros_like(y, dtype=torch.bool)
    hidden[..., row::MASK_PERIOD, column::MASK_PERIOD] = True
    around = functional.pad(y, (1, 1, 1, 1), mode="reflect")
    neighbours = (around[..., :-2, 1:-1] + around[..., 2:, 1:-1] + around[..., 1:-1, :-2] + around[..., 1:-1, 2:]) / 4
    error = _restored(network, torch.where(hidden, neighbours, y)) - y
    return error[hidden].square().mean()


def _neighbor2neighbor(network: InDeed, y: Images, generator: torch.Generator) -> Scalar:
    """Squared error between a sub-image and its denoised neighbour, less what denoising the whole makes of it."""
    batch, _, height, width = y.shape
    # Two side by side of the four pixels of each 2 x 2 cell, in one of eight ways.
    pairs = torch.tensor([[0, 1], [0, 2], [1, 3], [2, 3], [1, 0], [2, 0], [3, 1], [3, 2]])
    choice = pairs[torch.randint(8, (batch, 1, height // 2, width // 2), generator=generator)].to(y.device)

    def sub_images(image: Tensor) -> tuple[Tensor, Tensor]:
        cells = functional.pixel_unshuffle(image, 2).reshape(batch, -1, 4, height // 2, width // 2)
        index = choice.expand(-1, image.shape[1], -1, -1, -1).movedim(-1, 2)
        first, second = cells.gather(2, index).unbind(2)
        return first, second

    first, second = sub_images(y)
    error = _restored(network, first) - second
    with torch.no_grad():
        first, second = sub_images(_restored(network, y))
    return error.square().mean() + (error - (first - second)).square().mean()


# -- what is adapted -------------------------------------------------------------------------------------------------


class ChannelGain(nn.Module):
    """One factor a channel, 1 at first, in front of a ReLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, features: Images) -> Images:
        """Features times the gains of their channels."""
        return features * self.weight[:, None, None]


def _select(network: InDeed, config: AdaptationConfig) -> list[nn.Parameter]:
    """Freeze what does not adapt and return what does; may insert gains."""
    network.set_trainable(config.modules)
    if config.parameters == "affine":
        adapting = [part for part in network.modules() if any(p.requires_grad for p in part.parameters())]
        layers: list[nn.Module] = [part for part in adapting if isinstance(part, NORMALISATIONS)]
        if not layers:
            layers = [_insert_gain(part) for part in adapting if isinstance(part, ResidualBlock)]
        network.requires_grad_(False)
        for layer in layers:
            layer.requires_grad_(True)
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def _insert_gain(block: ResidualBlock) -> ChannelGain:
    # Without a normalisation an identity stands between the convolution and the ReLU.
    block.norm1 = ChannelGain(block.conv1.out_channels).to(block.conv1.weight)
    return block.norm1


def _fold_gains(network: InDeed) -> None:
    """Multiply gains into the convolutions in front of them: the same function, in the original architecture."""
    for block in network.modules():
        if isinstance(block, ResidualBlock) and isinstance(block.norm1, ChannelGain):
            gain = block.norm1.weight.detach()
            block.conv1.weight.data *= gain[:, None, None, None]
            block.conv1.bias.data *= gain  # type: ignore[union-attr]
            block.norm1 = nn.Identity()


def diagonal_fisher(
    network: InDeed,
    parameters: Sequence[nn.Parameter],
    samples: Batch,
    training: TrainingConfig,
    supervision: Supervision = supervised_denoising,
) -> list[Tensor]:
    r"""Diagonal of the Fisher information of the supervised loss: mean over samples of the squared gradient of each.

    The curvature that weighs the anti-forgetting penalty :math:`\tfrac12\sum_k F_k(\theta_k - \theta_{0,k})^2`, as in
    EATA (Niu et al., 2022).

    Parameters
    ----------
    network
        The network at its original weights.
    parameters
        Those for which it is computed; the result has their shapes.
    samples
        Training samples; they go through the network one by one.
    training, supervision
        What their loss depends on.
    """
    fisher = [torch.zeros_like(parameter) for parameter in parameters]
    for k, seed in enumerate(samples.seeds):
        one = Batch(samples.observed[k : k + 1], samples.target[k : k + 1], (seed,))
        loss, _ = _supervised_loss(network, one, training, supervision)
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        for total, gradient in zip(fisher, gradients, strict=True):
            total += gradient.square() / len(samples.seeds)
    return fisher


# -- the engine ------------------------------------------------------------------------------------------------------


def adapt(
    model: InDeed,
    images: Sequence[AnySizeImage],
    config: AdaptationConfig,
    generator: torch.Generator,
    *,
    replay: SampleSource | None = None,
    source: SampleSource | None = None,
    original: InDeed | None = None,
    observe: Observe | None = None,
) -> Adapted:
    r"""Adapt a copy of a network to a set of images: InDeed AG; to one image: InDeed OAG.

    A step sees random patches of one image; the images take turns. `model` is only read: whatever happens, its weights,
    buffers, flags and mode stay as they are.

    Parameters
    ----------
    model
        Network to start from.
    images
        Observed images, float32 in [0, 1] (noise may leave that range), at least as large as a patch.
    config
        What is adapted, to what, and for how long.
    generator
        Source of the patches, the draws and the seeds of replayed samples; on the CPU.
    replay
        Draws the training samples that are replayed; their size is that of a patch.
    source
        Draws the samples of the Fisher information; None: `replay`.
    original
        Network from which drift and penalty are measured, and whose estimate is the one ``before``, where `model` is
        adapted already; None: `model`.
    observe
        Called with each step, before the first one with 0; sees the estimate, decides nothing.

    Raises
    ------
    ValueError
        If an image has NaN or infinite values, other channels than the model, another type than float32, or is smaller
        than a patch; if the patch size does not suit the network; if the configuration asks for samples and there is
        no source of them.

    Examples
    --------
    >>> from indeed.networks.inference_network import network_preset
    >>> model = InDeed(network_preset("tiny", 1))
    >>> adapted = adapt(model, [torch.rand(1, 20, 24)], AdaptationConfig(steps=2), torch.Generator().manual_seed(0))
    >>> adapted.steps, adapted.kept, adapted.patch_forwards, sorted(adapted.trace)
    (2, 2, 6.0, ['fidelity', 'rank', 'sparsity'])
    """
    size = config.patch_size or model.config.patch_size
    _check(model, images, config, size)
    if config.replay_weight and replay is None:
        raise ValueError("replay: got None, expected a source of samples, since replay_weight is positive")
    if config.fisher_weight and source is None and replay is None:
        raise ValueError(
            "source: got None and no replay, expected a source of samples, since fisher_weight is positive"
        )
    reference, network = (deepcopy(one).eval() for one in (original or model, model))

    network.f_S.leak = config.leak
    started, observing = time.perf_counter(), 0.0
    parameters, references = _select(network, config), _select(reference, config)
    anchors = _clone(references)
    device = parameters[0].device
    optimizer = torch.optim.Adam(parameters, config.learning_rate)
    seed = int(torch.randint(2**32, (), generator=generator))
    watched = _crops([images[k % len(images)] for k in range(max(len(images), config.patches))], size, generator)
    watched = watched.to(device)
    forwards, fisher = 0.0, []
    if config.fisher_weight and (samples := source or replay):
        # Not the seed of the replayed samples, whose indices start with the same ones.
        batch = draw_batch(samples, range(config.fisher_samples), seed ^ 1).to(device, torch.float32)
        fisher = diagonal_fisher(reference, references, batch, config.training, config.supervision)
        forwards += 3 * config.fisher_samples

    taken, kept, weights = 0, 0, _clone(parameters)
    stopped: Literal["budget", "rule", "not finite"] = "budget"
    trace: dict[str, list[float]] = {}
    history: list[Monitor] = []
    total = config.steps * len(images)
    for step in range(total + 1):
        if step:
            if config.schedule == "linear":
                optimizer.param_groups[0]["lr"] = config.learning_rate * (1 - (step - 1) / total)
            patches = _crops([images[(step - 1) % len(images)]] * config.patches, size, generator).to(device)
            replayed = None
            if replay is not None and config.replay_weight:
                indices = range((step - 1) * config.replay_patches, step * config.replay_patches)
                replayed = draw_batch(replay, indices, seed).to(device, torch.float32)
            loss, terms = adaptation_loss(network, patches, replayed, config, generator)
            if fisher:
                penalty = _penalty(fisher, parameters, anchors)
                loss, terms = loss + config.fisher_weight * penalty, terms | {"penalty": penalty.item()}
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(parameters, config.gradient_clip)
            if not math.isfinite(norm):
                stopped = "not finite"
                break
            optimizer.step()
            taken = step
            forwards += config.patches * (config.forwards_per_step - (config.stop is not None))
            for name, value in terms.items():
                trace.setdefault(name, []).append(value)
        if observe is not None:
            pause = time.perf_counter()
            observe(step, partial(denoise, network))
            observing += time.perf_counter() - pause
        if step % len(images):
            continue
        if config.stop is None:
            kept, weights = step, _clone(parameters)
            continue
        history.append(_monitor(network, watched, config, _drift(parameters, anchors)))
        forwards += len(watched)
        if not math.isfinite(history[-1].free_energy):
            stopped = "not finite"
            break
        verdict = config.stop(history)
        if verdict.keep == len(history) - 1:
            kept, weights = step, _clone(parameters)
        if verdict.stop:
            stopped = "rule"
            break

    for parameter, best in zip(parameters, weights, strict=True):
        parameter.data.copy_(best)
    if not kept:
        network.f_S.leak = model.f_S.leak
    for copy in (network, reference):
        _fold_gains(copy)
        copy.zero_grad(set_to_none=True)
        for parameter, flagged in zip(copy.parameters(), model.parameters(), strict=True):
            parameter.requires_grad_(flagged.requires_grad)
    seconds = time.perf_counter() - started - observing
    return Adapted(network, reference, tuple(images), taken, kept, stopped, trace, tuple(history), seconds, forwards)


def adapt_online(
    model: InDeed,
    images: Iterable[AnySizeImage],
    config: AdaptationConfig,
    generator: torch.Generator,
    *,
    reset: Literal["image", "never"] = "image",
    replay: Callable[[AnySizeImage], SampleSource] | None = None,
    source: SampleSource | None = None,
    observe: Observe | None = None,
) -> Iterator[Adapted]:
    """InDeed OAG on one image after the other, each adapted to as it comes.

    Parameters
    ----------
    model, images, config, generator, source, observe
        As `adapt`; to the observer step 0 marks the next image.
    reset
        Whether each ``image`` starts from the original weights, or from those of the image before it (``never``); the
        state of the optimiser is new for each.
    replay
        Makes the source of replayed samples from the observed image.

    Raises
    ------
    ValueError
        As `adapt`, at the image concerned; for another `reset`.
    """
    if reset not in ("image", "never"):
        raise ValueError(f"reset: got {reset!r}, expected 'image' or 'never'")
    current = model
    for image in images:
        samples = replay(image) if replay is not None else None
        adapted = adapt(
            current, [image], config, generator, replay=samples, source=source, original=model, observe=observe
        )
        yield adapted
        if reset == "never":
            current = adapted.model


def _check(model: InDeed, images: Sequence[AnySizeImage], config: AdaptationConfig, size: int) -> None:
    multiple = model.config.multiple * (2 if config.objective == "neighbor2neighbor" else 1)
    if size < multiple or size % multiple:
        raise ValueError(f"patch_size: got {size}, expected a positive multiple of {multiple}")
    if not images:
        raise ValueError("images: got none, expected at least one")
    for index, image in enumerate(images):
        name = f"images[{index}]"
        if image.ndim != 3 or image.shape[0] != model.config.channels:
            expected = f"({model.config.channels}, height, width)"
            raise ValueError(f"{name}: got shape {tuple(image.shape)}, expected {expected}")
        if image.dtype != torch.float32:
            raise ValueError(f"{name}: got {image.dtype}, expected float32")
        if min(image.shape[1:]) < size:
            raise ValueError(f"{name}: got {tuple(image.shape[1:])} pixels, expected at least a patch of {size}")
        if not bool(image.isfinite().all()):
            raise ValueError(f"{name}: got NaN or infinite values, expected finite ones")


def _crops(images: Sequence[AnySizeImage], size: int, generator: torch.Generator) -> Images:
    """One randomly placed crop of each image."""
    crops = []
    for image in images:
        top, left = (int(torch.randint(side - size + 1, (), generator=generator)) for side in image.shape[1:])
        crops.append(image[:, top : top + size, left : left + size])
    return torch.stack(crops)


def _estimates(network: InDeed, images: Sequence[AnySizeImage]) -> tuple[AnySizeImage, ...]:
    return tuple(denoise(network, image) for image in images)


def _clone(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in parameters]


@torch.no_grad()
def _monitor(network: InDeed, y: Images, config: AdaptationConfig, drift: float) -> Monitor:
    middle, means = network(y)
    terms = elbo_terms(y, middle, _leaf_level(y, middle, config), config.training.hyperpriors)
    return Monitor(_per_element(negative_elbo(terms), y), means.low_rank + means.S, drift)


def _penalty(fisher: Sequence[Tensor], parameters: Sequence[nn.Parameter], anchors: Sequence[Tensor]) -> Scalar:
    triples = zip(fisher, parameters, anchors, strict=True)
    return 0.5 * torch.stack([(weight * (now - then).square()).sum() for weight, now, then in triples]).sum()


def _drift(parameters: Sequence[nn.Parameter], anchors: Sequence[Tensor]) -> float:
    moved = [(now.detach() - then).norm() for now, then in zip(parameters, anchors, strict=True)]
    return float(torch.stack(moved).norm() / torch.stack([then.norm() for then in anchors]).norm())
