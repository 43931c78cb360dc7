"""The engine of active generalisation: a copy of a network takes a few optimiser steps on the images to be restored.

`adapt` is a loop over three functions: `init`, `step` and `result`. The network of the caller is never touched.
"""

import math
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from indeed.checks import expect
from indeed.images.tiling import reflected_indices
from indeed.learning.adaptation.config import AdaptationConfig
from indeed.learning.adaptation.loss import adaptation_free_energy, adaptation_loss, diagonal_fisher, fisher_penalty
from indeed.learning.adaptation.parameters import adapting_parameters, drift, fold_gains, values_of
from indeed.learning.adaptation.stopping import Monitor
from indeed.learning.loading import SampleSource, draw_batch
from indeed.networks.inference_network import InDeed
from indeed.networks.whole_image import denoise
from indeed.types import AnySizeImage, Images

Ending = Literal["budget", "rule", "not finite"]
Estimate = Callable[[AnySizeImage], AnySizeImage]
"""Denoises an image with the weights of the moment."""
Observe = Callable[[int, Estimate], None]
"""Called with each step from 0 on; nothing that it does reaches the adaptation or its stopping rule."""


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
    stopped: Ending
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


class Setting(NamedTuple):
    """What an adaptation works on and with: the networks are copies, in evaluation mode."""

    model: InDeed
    """The network of the caller, which is only read."""
    network: InDeed
    """The copy that adapts."""
    reference: InDeed
    """A copy of the original network."""
    parameters: list[nn.Parameter]
    """Parameters of `network` that adapt."""
    anchors: list[Tensor]
    """Their values in the original network."""
    optimizer: torch.optim.Optimizer
    images: tuple[AnySizeImage, ...]
    """The observed images, as they were given."""
    extended: list[AnySizeImage]
    """The same images, none smaller than a patch."""
    size: int
    """Side of a patch in pixels."""
    config: AdaptationConfig
    generator: torch.Generator
    replay: SampleSource | None
    seed: int
    """Seed of the replayed samples."""
    watched: Images
    """The fixed patches that the stopping rule sees."""
    fisher: list[Tensor]
    """Fisher information of the original weights; empty without a penalty."""


class AdaptationState(NamedTuple):
    """Where an adaptation is. The weights of the moment, and the state of the optimiser, are in the setting."""

    setting: Setting
    weights: list[Tensor]
    """Values of the adapting parameters that are kept so far."""
    forwards: float
    """Passes of a patch through the network, a backward pass counted as two."""
    taken: int = 0
    """Optimiser steps taken."""
    kept: int = 0
    """Step that `weights` are from."""
    terms: tuple[dict[str, float], ...] = ()
    """Terms of the loss in each step taken."""
    monitors: tuple[Monitor, ...] = ()
    stopped: Ending | None = None
    """Why there are no more steps; None: they go on."""
    seconds: float = 0.0

    def estimate(self, image: AnySizeImage) -> AnySizeImage:
        """Image as the network denoises it at the moment."""
        return denoise(self.setting.network, image)


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
        Observed images, float32 in [0, 1] (noise may leave that range); one smaller than a patch is extended to it by
        reflection.
    config
        What is adapted, to what, and for how long.
    generator
        Source of the patches, the draws and the seeds of replayed samples; on the CPU.
    replay
        Draws the training samples that are replayed; their size is that of a patch.
    source
        Draws the samples of the Fisher information; None: `replay`.
    original
        Where `model` is adapted already: the network from which drift and penalty are measured, and whose estimate is
        the one ``before``; None: `model`.
    observe
        Called with each step, before the first one with 0; sees the estimate, decides nothing.

    Raises
    ------
    ValueError
        If an image has NaN or infinite values, other channels than the model or another type than float32; if the
        patch size does not suit the network; if the configuration asks for samples and there is no source of them.

    Examples
    --------
    >>> from indeed.networks.inference_network import network_preset
    >>> model = InDeed(network_preset("tiny", 1))
    >>> adapted = adapt(model, [torch.rand(1, 20, 24)], AdaptationConfig(steps=2), torch.Generator().manual_seed(0))
    >>> adapted.steps, adapted.kept, adapted.patch_forwards, sorted(adapted.trace)
    (2, 2, 6.0, ['fidelity', 'rank', 'sparsity'])
    """
    state = init(model, images, config, generator, replay=replay, source=source, original=original)
    if observe is not None:
        observe(0, state.estimate)
    while state.stopped is None:
        before, state = state, step(state)
        if observe is not None and state.taken > before.taken:
            observe(state.taken, state.estimate)
    return result(state)


def init(
    model: InDeed,
    images: Sequence[AnySizeImage],
    config: AdaptationConfig,
    generator: torch.Generator,
    *,
    replay: SampleSource | None = None,
    source: SampleSource | None = None,
    original: InDeed | None = None,
) -> AdaptationState:
    """State before the first step; parameters and errors are those of `adapt`."""
    started = time.perf_counter()
    size = config.patch_size or model.config.patch_size
    _check(model, images, config, size)
    if config.replay_weight and replay is None:
        raise ValueError("replay: got None, expected a source of samples, since replay_weight is positive")
    samples = source or replay
    if config.fisher_weight and samples is None:
        raise ValueError(
            "source: got None and no replay, expected a source of samples, since fisher_weight is positive"
        )
    reference, network = (deepcopy(one).eval() for one in (original or model, model))
    network.f_S.leak = config.leak
    parameters, references = (adapting_parameters(one, config) for one in (network, reference))
    device = parameters[0].device
    seed = int(torch.randint(2**32, (), generator=generator))
    extended = [_extended(image, size) for image in images]
    few = [extended[k % len(images)] for k in range(max(len(images), config.patches))]
    watched = _crops(few, size, generator).to(device)
    forwards, fisher = 0.0, list[Tensor]()
    if config.fisher_weight and samples is not None:
        # Another seed than that of the replayed samples, whose indices start from 0 too.
        batch = draw_batch(samples, range(config.fisher_samples), seed ^ 1).to(device, torch.float32)
        fisher = diagonal_fisher(reference, references, batch, config.training, config.task)
        forwards += 3 * config.fisher_samples
    setting = Setting(
        model,
        network,
        reference,
        parameters,
        values_of(references),
        torch.optim.Adam(parameters, config.learning_rate),
        tuple(images),
        extended,
        size,
        config,
        generator,
        replay,
        seed,
        watched,
        fisher,
    )
    return _timed(_judged(AdaptationState(setting, values_of(parameters), forwards)), started)


def step(state: AdaptationState) -> AdaptationState:
    """State after one more optimiser step, on patches of the image whose turn it is.

    The network of the setting and its optimiser are moved on; the weights that are kept are safe in the state.
    """
    started, now = time.perf_counter(), state.setting
    config, number, total = now.config, state.taken + 1, now.config.steps * len(now.images)
    if config.schedule == "linear":
        now.optimizer.param_groups[0]["lr"] = config.learning_rate * (1 - state.taken / total)
    image = now.extended[state.taken % len(now.images)]
    patches = _crops([image] * config.patches, now.size, now.generator).to(now.watched.device)
    replayed = None
    if now.replay is not None and config.replay_weight:
        indices = range(state.taken * config.replay_patches, number * config.replay_patches)
        replayed = draw_batch(now.replay, indices, now.seed).to(now.watched.device, torch.float32)
    loss, terms = adaptation_loss(now.network, patches, replayed, config, now.generator)
    if now.fisher:
        penalty = fisher_penalty(now.fisher, now.parameters, now.anchors)
        loss, terms = loss + config.fisher_weight * penalty, terms | {"penalty": penalty.item()}
    now.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.clip_grad_norm_(now.parameters, config.gradient_clip)
    if not math.isfinite(norm):
        return _timed(state._replace(stopped="not finite"), started)
    now.optimizer.step()
    forwards = state.forwards + config.patches * (config.forwards_per_step - (config.stop is not None))
    state = state._replace(taken=number, terms=(*state.terms, terms), forwards=forwards)
    if number % len(now.images) == 0:
        state = _judged(state)
    if number == total and state.stopped is None:
        state = state._replace(stopped="budget")
    return _timed(state, started)


def result(state: AdaptationState) -> Adapted:
    """End an adaptation: the networks of its setting become those of the result, at the weights that were kept."""
    now = state.setting
    for parameter, best in zip(now.parameters, state.weights, strict=True):
        parameter.data.copy_(best)
    if not state.kept:
        now.network.f_S.leak = now.model.f_S.leak
    for copy in (now.network, now.reference):
        fold_gains(copy)
        copy.zero_grad(set_to_none=True)
        for parameter, flagged in zip(copy.parameters(), now.model.parameters(), strict=True):
            parameter.requires_grad_(flagged.requires_grad)
    return Adapted(
        model=now.network,
        original=now.reference,
        images=now.images,
        steps=state.taken,
        kept=state.kept,
        stopped=state.stopped or "budget",
        trace={name: [terms[name] for terms in state.terms] for name in (state.terms[0] if state.terms else ())},
        monitors=state.monitors,
        seconds=state.seconds,
        patch_forwards=state.forwards,
    )


def _judged(state: AdaptationState) -> AdaptationState:
    """State in which the weights of the moment are kept, if the stopping rule says so or there is none."""
    now = state.setting
    if now.config.stop is None:
        return state._replace(kept=state.taken, weights=values_of(now.parameters))
    with torch.no_grad():
        middle, means = now.network(now.watched)
        energy = adaptation_free_energy(now.watched, middle, now.config)
        monitor = Monitor(energy, means.low_rank + means.S, drift(now.parameters, now.anchors))
    monitors = (*state.monitors, monitor)
    state = state._replace(monitors=monitors, forwards=state.forwards + len(now.watched))
    if not math.isfinite(energy):
        return state._replace(stopped="not finite")
    verdict = now.config.stop(monitors)
    if verdict.keep == len(monitors) - 1:
        state = state._replace(kept=state.taken, weights=values_of(now.parameters))
    return state._replace(stopped="rule" if verdict.stop else None)


def _timed(state: AdaptationState, started: float) -> AdaptationState:
    return state._replace(seconds=state.seconds + time.perf_counter() - started)


def _check(model: InDeed, images: Sequence[AnySizeImage], config: AdaptationConfig, size: int) -> None:
    multiple = model.config.multiple * (2 if config.objective == "neighbor2neighbor" else 1)
    expect(size >= multiple and size % multiple == 0, "patch_size", size, f"a positive multiple of {multiple}")
    expect(images, "images", "none", "at least one")
    for index, image in enumerate(images):
        name = f"images[{index}]"
        if image.ndim != 3 or image.shape[0] != model.config.channels:
            expected = f"({model.config.channels}, height, width)"
            raise ValueError(f"{name}: got shape {tuple(image.shape)}, expected {expected}")
        expect(image.dtype == torch.float32, name, image.dtype, "float32")
        expect(bool(image.isfinite().all()), name, "NaN or infinite values", "finite ones")


def _extended(image: AnySizeImage, side: int) -> AnySizeImage:
    """Image, extended by reflection where it is smaller than a square."""
    if min(image.shape[1:]) >= side:
        return image
    rows, columns = (reflected_indices(length, max(length, side)) for length in image.shape[1:])
    return image[:, rows][:, :, columns]


def _crops(images: Sequence[AnySizeImage], size: int, generator: torch.Generator) -> Images:
    """One randomly placed crop of each image."""
    crops = []
    for image in images:
        top, left = (int(torch.randint(side - size + 1, (), generator=generator)) for side in image.shape[1:])
        crops.append(image[:, top : top + size, left : left + size])
    return torch.stack(crops)


def _estimates(network: InDeed, images: Sequence[AnySizeImage]) -> tuple[AnySizeImage, ...]:
    return tuple(denoise(network, image) for image in images)
