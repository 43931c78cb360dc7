"""What a step of an adaptation minimises.

One of the paper's unsupervised terms, a self-supervised loss in their place as a control, supervised samples beside or
instead of them, and a penalty on leaving the original weights.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from indeed.bayes.conjugate_updates import solve_leaf_level
from indeed.bayes.elbo import MiddleTerms, elbo_terms, negative_elbo, sub_problem_2_terms
from indeed.bayes.generative_model import Hyperpriors
from indeed.bayes.objectives import active_generalisation_loss
from indeed.bayes.posterior_summaries import expected_squared_residual, sampled_squared_residual
from indeed.bayes.variational_family import Draw, LeafLevel, MiddleLevel
from indeed.images.tiling import spread_tiles
from indeed.learning.adaptation.config import AdaptationConfig
from indeed.learning.loading import Batch
from indeed.learning.training.config import TrainingConfig
from indeed.learning.training.task import DENOISING, Task
from indeed.networks.inference_network import InDeed
from indeed.types import Image, Images, PerSample, Scalar

MASK_PERIOD = 4
"""Noise2Self hides one pixel in a square of this side."""
REPORTED_TILES = 8
"""Tiles of an image on which its free energy is reported."""


def adaptation_loss(
    network: InDeed, patches: Images, replayed: Batch | None, config: AdaptationConfig, generator: torch.Generator
) -> tuple[Scalar, dict[str, float]]:
    r"""Loss of a step: the test images' own, and that of training samples beside them (Eq. 38).

    Both are means over samples, pixels and channels. With weight w the sum is, up to a factor, the mean over a union
    in which there are w times as many training samples as test samples.

    Parameters
    ----------
    network
        The network that adapts.
    patches
        Patches of the observed images; not used without an objective.
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
        # On the scale of the supervision, so that weights and clipping have the same effect.
        loss = 0.5 * config.training.target_precision * control(network, patches, generator)
        terms = {config.objective: loss.item()}
    if replayed is not None:
        supervised, replay_terms = _supervised_loss(network, replayed, config.training, config.task)
        loss, terms = loss + config.replay_weight * supervised, terms | replay_terms
    return loss, terms


def adaptation_free_energy(y: Images, middle: MiddleLevel, config: AdaptationConfig) -> float:
    """All seven terms of the negative ELBO at the solution of sub-problem 1, in nats a pixel and channel."""
    terms = elbo_terms(y, middle, _leaf_level(y, middle, config), config.training.hyperpriors)
    return _per_element(negative_elbo(terms), y)


def _variational_terms(y: Images, middle: MiddleLevel, draw: Draw, config: AdaptationConfig) -> MiddleTerms:
    sampled = config.residual == "sampled"
    with torch.no_grad():
        leaf = _leaf_level(y, middle, config, draw if sampled else None)
    squared = sampled_squared_residual(y, draw) if sampled else expected_squared_residual(y, middle)
    return sub_problem_2_terms(middle, leaf, squared)


@torch.no_grad()
def free_energy_of_tiles(model: InDeed, image: Image, hyperpriors: Hyperpriors) -> dict[str, float]:
    """Free energy, and its terms that an adaptation may lower, in nats a pixel and channel, on tiles of an image."""
    y = spread_tiles(image, model.config.patch_size, REPORTED_TILES).to(next(model.parameters()).device)
    middle, _ = model(y)
    terms = elbo_terms(y, middle, solve_leaf_level(y, middle, hyperpriors), hyperpriors)
    values = {"free_energy": negative_elbo(terms)} | {x: getattr(terms, x) for x in ("fidelity", "rank", "sparsity")}
    return {name: _per_element(value, y) for name, value in values.items()}


def _leaf_level(y: Images, middle: MiddleLevel, config: AdaptationConfig, draw: Draw | None = None) -> LeafLevel:
    hyperpriors = config.training.hyperpriors
    return solve_leaf_level(y, middle, hyperpriors, draw=draw, noise=config.noise, neighbourhood=config.neighbourhood)


def _supervised_loss(
    network: InDeed, batch: Batch, training: TrainingConfig, task: Task
) -> tuple[Scalar, dict[str, float]]:
    terms = task.loss(network, batch, training)
    loss = task.objective(terms, training, batch.observed[0].numel())
    named = zip(task.terms, terms, strict=True)
    return loss, {f"replay_{name}": _per_element(term, batch.observed) for name, term in named}


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
    """Squared error of a denoised sub-image against its neighbour, and of that against their denoised difference."""
    batch, _, height, width = y.shape
    # Two adjacent ones of the four pixels of each 2 x 2 cell, in one of eight ways.
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


def diagonal_fisher(
    network: InDeed,
    parameters: Sequence[nn.Parameter],
    samples: Batch,
    training: TrainingConfig,
    task: Task = DENOISING,
) -> list[Tensor]:
    """Diagonal of the Fisher information of the supervised loss: mean over samples of the squared gradient of each.

    The curvature that weighs `fisher_penalty`, as in EATA (Niu et al., 2022).

    Parameters
    ----------
    network
        The network at its original weights.
    parameters
        Those for which it is computed; the result has their shapes.
    samples
        Training samples; they go through the network one by one.
    training, task
        What their loss depends on.
    """
    fisher = [torch.zeros_like(parameter) for parameter in parameters]
    for k, seed in enumerate(samples.seeds):
        one = Batch(samples.observed[k : k + 1], samples.target[k : k + 1], (seed,))
        loss, _ = _supervised_loss(network, one, training, task)
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        for total, gradient in zip(fisher, gradients, strict=True):
            total += gradient.square() / len(samples.seeds)
    return fisher


def fisher_penalty(fisher: Sequence[Tensor], parameters: Sequence[nn.Parameter], anchors: Sequence[Tensor]) -> Scalar:
    r"""Penalty on leaving the original weights, :math:`\tfrac12\sum_k F_k(\theta_k - \theta_{0,k})^2`."""
    triples = zip(fisher, parameters, anchors, strict=True)
    return 0.5 * torch.stack([(weight * (now - then).square()).sum() for weight, now, then in triples]).sum()
