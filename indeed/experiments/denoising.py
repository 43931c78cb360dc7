"""Denoising with synthetic noise: the figures of merit of a decomposition of one image."""

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from indeed.images.metrics import psnr, ssim
from indeed.images.noise import GREY_LEVEL, gaussian
from indeed.networks.inference_network import InDeed
from indeed.networks.whole_image import decompose


class FiguresOfMerit(NamedTuple):
    """PSNR in dB of the observation, of L and of L + S, and SSIM of L + S, against the clean image."""

    psnr_noisy: float
    psnr_low_rank: float
    psnr: float
    ssim: float


def observe(
    clean: Float[Tensor, "channel height width"], sigma: float, seed: int
) -> Float[Tensor, "channel height width"]:
    """Image with unclipped Gaussian noise of ``sigma`` 8-bit grey levels.

    The generator is made anew from the seed for each image, so that a result does not depend on the others.
    """
    return gaussian(clean[None], sigma * GREY_LEVEL, torch.Generator().manual_seed(seed))[0]


def figures_of_merit(
    model: InDeed,
    clean: Float[Tensor, "channel height width"],
    sigma: float,
    seed: int,
    *,
    overlap: int | None = None,
    progress: str | None = None,
) -> FiguresOfMerit:
    """Add unclipped Gaussian noise to a clean image, decompose it, and compare.

    Parameters
    ----------
    model
        Network with as many channels as the image.
    clean
        In [0, 1].
    sigma, seed
        Noise, as in `observe`.
    overlap, progress
        As in :func:`indeed.networks.whole_image.decompose`.
    """
    noisy = observe(clean, sigma, seed)
    parts = decompose(model, noisy, overlap=overlap, progress=progress)
    estimate = (parts.L + parts.S)[None]
    return FiguresOfMerit(
        psnr(noisy[None], clean[None]).item(),
        psnr(parts.L[None], clean[None]).item(),
        psnr(estimate, clean[None]).item(),
        ssim(estimate, clean[None]).item(),
    )


def mean_figures(rows: Sequence[FiguresOfMerit]) -> FiguresOfMerit:
    """Mean over images of each figure.

    >>> mean_figures([FiguresOfMerit(20, 20, 28, 0.8), FiguresOfMerit(20, 22, 30, 0.9)]).psnr
    29.0
    """
    return FiguresOfMerit(*(fmean(column) for column in zip(*rows, strict=True)))
