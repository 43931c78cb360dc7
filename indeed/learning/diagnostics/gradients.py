"""Gradients of the training loss as vectors: what each term asks for, and how noisy it is."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from indeed.bayes.variational_family import Draw, Generators, MiddleLevel
from indeed.checks import at_least
from indeed.learning.loading import Batch
from indeed.learning.training.config import TrainingConfig
from indeed.learning.training.task import DENOISING, decomposition_terms, supervised_denoising
from indeed.networks.inference_network import InDeed
from indeed.types import Scalar


def flat_gradient(loss: Scalar, parameters: Iterable[nn.Parameter]) -> Float[Tensor, " number"]:
    """Gradient as one vector, zero where the loss does not depend on a parameter; the graph is kept.

    >>> x, unused = (nn.Parameter(torch.tensor([value, 1.0])) for value in (3.0, 5.0))
    >>> flat_gradient(x.square().sum(), [x, unused])
    tensor([6., 2., 0., 0.])
    """
    parameters = list(parameters)
    parts = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True, materialize_grads=True)
    return torch.cat([part.flatten() for part in parts])


class GradientNoise(NamedTuple):
    """Trace of the covariance of the gradient, by its three sources; their sum is that of a training step."""

    batch: float
    """From the choice of the images, noise levels and noise in the batch."""
    draw: float
    """From the draws of A, B and S, given the batch."""
    leaf: float
    """From the draws of the precisions, given the batch and A, B and S; zero when their means are used."""


def gradient_noise(
    model: InDeed, batches: Sequence[Batch], config: TrainingConfig, *, draws: int = 2, leaf_draws: int = 2
) -> GradientNoise:
    """Variance of the training gradient, divided among its sources by the law of total variance.

    The loss is linear in the precisions, so its gradient with their means is the expectation of that with draws of
    them: the part of the leaf level is a mean squared distance from it.

    Parameters
    ----------
    model
        Network at which the gradient is taken.
    batches
        Independent batches, at least two.
    config
        The run; its batch size is that of the batches.
    draws, leaf_draws
        Draws of A, B and S for each batch (at least two), and of the precisions for each of these.

    Raises
    ------
    ValueError
        If there are fewer than two batches or draws, or no draw of the precisions.
    """
    at_least(2, batches=len(batches), draws=draws)
    at_least(1, leaf_draws=leaf_draws)
    gradients, distances = [], []
    for batch in batches:
        generators = batch.generators()  # one stream for all draws of a sample, as in a training step
        for _ in range(draws):
            middle, draw = model(batch.observed, generators)
            gradients.append(_gradient(model, middle, draw, batch, config))
            for _ in range(leaf_draws):
                sampled = _gradient(model, middle, draw, batch, config, generators)
                distances.append((sampled - gradients[-1]).square().sum())
    by_batch = torch.stack(gradients).reshape(len(batches), draws, -1).double()
    from_draw = by_batch.var(1).sum(-1).mean()
    from_batch = by_batch.mean(1).var(0).sum() - from_draw / draws
    return GradientNoise(from_batch.item(), from_draw.item(), torch.stack(distances).double().mean().item())


def _gradient(
    model: InDeed,
    middle: MiddleLevel,
    draw: Draw,
    batch: Batch,
    config: TrainingConfig,
    leaf_generator: Generators | None = None,
) -> Float[Tensor, " number"]:
    supervision = supervised_denoising(middle, draw, batch, config)
    terms = decomposition_terms(middle, draw, supervision, batch, config, leaf_generator)
    return flat_gradient(DENOISING.objective(terms, config, batch.observed[0].numel()), model.parameters())
