"""One interface for the classical decompositions of an image: ``decompose_classically(y, method, **options)``."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from indeed.baselines.low_rank import optimal_shrinkage, truncated_svd
from indeed.baselines.robust_pca import (
    Pursuit,
    accelerated_proximal_gradient,
    inexact_augmented_lagrangian,
    stable_pursuit,
)
from indeed.checks import one_of
from indeed.types import Images


class Parts(NamedTuple):
    """Low-rank, sparse and noise part of images, which add up to the images."""

    L: Images
    S: Images
    N: Images


def _low_rank_only(method: Callable[..., Tensor]) -> Callable[..., Parts]:
    def parts(y: Images, **options: Any) -> Parts:
        L = method(y, **options)
        return Parts(L, torch.zeros_like(y), y - L)

    return parts


def _pursuit(method: Callable[..., Pursuit]) -> Callable[..., Parts]:
    def parts(y: Images, **options: Any) -> Parts:
        L, S, *_ = method(y, **options)
        return Parts(L, S, y - L - S)

    return parts


DECOMPOSITIONS: Mapping[str, Callable[..., Parts]] = MappingProxyType(
    {
        "svd": _low_rank_only(truncated_svd),
        "shrinkage": _low_rank_only(optimal_shrinkage),
        "pcp": _pursuit(inexact_augmented_lagrangian),
        "pcp-apg": _pursuit(accelerated_proximal_gradient),
        "stable-pcp": _pursuit(stable_pursuit),
    }
)
"""The methods by name. The first two have no sparse part; the noise part of PCP is what its tolerance leaves."""


def decompose_classically(y: Images, method: str = "pcp", **options: Any) -> Parts:
    """Low-rank, sparse and noise part of images by a classical method; each channel is a matrix of its own.

    Parameters
    ----------
    y
        Images in [0, 1].
    method
        ``svd`` (takes ``rank``), ``shrinkage`` (optionally ``sigma``), ``pcp``, ``pcp-apg``, or ``stable-pcp`` (takes
        ``sigma``).
    options
        As in `truncated_svd`, `optimal_shrinkage`, `inexact_augmented_lagrangian`, `accelerated_proximal_gradient` and
        `stable_pursuit`.

    Raises
    ------
    ValueError
        If the method is unknown, or for the reasons of the method.

    Examples
    --------
    >>> y = torch.rand(2, 3, 16, 20, generator=torch.Generator().manual_seed(0))
    >>> parts = decompose_classically(y, "svd", rank=4)
    >>> torch.allclose(parts.L + parts.S + parts.N, y)
    True
    """
    one_of(DECOMPOSITIONS, method=method)
    return DECOMPOSITIONS[method](y, **options)
