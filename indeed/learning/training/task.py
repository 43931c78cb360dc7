"""What a network learns: a task gives the loss, as named terms for each sample, of whatever its network puts out."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from indeed.bayes.objectives import (
    LossTerms,
    amortised_terms,
    anomaly_supervision,
    denoising_supervision,
    mask_supervision,
    training_loss,
)
from indeed.bayes.variational_family import Draw, Generators, MiddleLevel
from indeed.learning.loading import Batch
from indeed.learning.training.config import TrainingConfig
from indeed.types import PerSample, Scalar

Forward = Callable[..., Any]
"""A network, or what calls it in another precision."""


def plain_mean(terms: tuple[PerSample, ...], config: TrainingConfig, elements: int) -> Scalar:
    """Sum of the terms, all with weight one: mean over the samples and their pixels."""
    first, *others = terms
    return sum(others, start=first).mean() / elements


@dataclass(frozen=True)
class Task:
    """What a network learns. Nothing else in the training knows what the network puts out."""

    terms: tuple[str, ...]
    """Names of the terms of the loss."""
    loss: Callable[[Forward, Batch, TrainingConfig], tuple[PerSample, ...]]
    """The terms for each sample of a batch, in this order, summed over its pixels; it calls the network itself."""
    objective: Callable[[Any, TrainingConfig, int], Scalar] = plain_mean
    """What is minimised: a function of the terms, the run, and the pixels times channels of one sample."""


Supervision = Callable[[MiddleLevel, Draw, Batch, TrainingConfig], PerSample]
"""What tells one task of an inference network from another: the supervision of the posterior and of a draw of it."""


def supervised_denoising(middle: MiddleLevel, draw: Draw, batch: Batch, config: TrainingConfig) -> PerSample:
    """Supervision of the denoising task, that of Eq. 44."""
    return denoising_supervision(draw, batch.target, config.target_precision)


def supervised_anomaly(middle: MiddleLevel, draw: Draw, batch: Batch, config: TrainingConfig) -> PerSample:
    """Supervision of anomaly detection: that of Eq. 45, and ``config.mask_weight`` times that of the mask.

    The mask is where the observed image differs from the normal one in any colour: noise is added to both or to none.
    """
    supervision = anomaly_supervision(draw, batch.target, batch.observed - batch.target, config.target_precision)
    if not config.mask_weight:
        return supervision
    mask = (batch.observed != batch.target).any(1)
    return supervision + config.mask_weight * mask_supervision(batch.observed, middle, mask)


def decomposition(supervision: Supervision) -> Task:
    """Task of an inference network: the terms of Eq. 35 and 42, and the training loss of Eq. 43."""
    return Task(LossTerms._fields, partial(_decomposition_loss, supervision), _decomposition_objective)


def _decomposition_loss(supervision: Supervision, model: Forward, batch: Batch, config: TrainingConfig) -> LossTerms:
    generators = batch.generators()
    middle, draw = model(batch.observed, generators)
    given = supervision(middle, draw, batch, config)
    return decomposition_terms(middle, draw, given, batch, config, generators if config.leaf == "sampled" else None)


def decomposition_terms(
    middle: MiddleLevel,
    draw: Draw,
    supervision: PerSample,
    batch: Batch,
    config: TrainingConfig,
    leaf_generator: Generators | None = None,
) -> LossTerms:
    """Terms of a run for a posterior and a draw of it, as :func:`indeed.bayes.objectives.amortised_terms`."""
    return amortised_terms(
        batch.observed,
        middle,
        draw,
        supervision,
        config.hyperpriors,
        residual=config.residual,
        orthogonality_form=config.orthogonality_form,
        leaf_generator=leaf_generator,
    )


def _decomposition_objective(terms: LossTerms, config: TrainingConfig, elements: int) -> Scalar:
    return training_loss(
        terms, orthogonality_weight=config.orthogonality_weight, elements=elements, variational=config.variational
    )


DENOISING = decomposition(supervised_denoising)
DETECTION = decomposition(supervised_anomaly)
