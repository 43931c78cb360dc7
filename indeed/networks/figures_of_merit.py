"""Denoising with synthetic noise: the figures of merit of a decomposition of one image."""

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from indeed.images.metrics import psnr, ssim
from indeed.images.noise import seeded_gaussian
from indeed.networks.inference_network import InDeed
from indeed.networks.whole_image import decompose
from indeed.types import Image


class FiguresOfMerit(NamedTuple):
    """PSNR in dB of the observation, of L and of L + S, and SSIM of L + S, against the clean image."""

    psnr_noisy: float
    psnr_low_rank: float
    psnr: float
    ssim: float


def figures_of_merit(
    model: InDeed, clean: Image, sigma: float, seed: int, *, overlap: int | None = None, progress: str | None = None
) -> FiguresOfMerit:
    """Add unclipped Gaussian noise to a clean image, decompose it, and compare.

    Parameters
    ----------
    model
        Network with as many channels as the image.
    clean
        In [0, 1].
    sigma, seed
        Noise, as in :func:`indeed.images.noise.seeded_gaussian`.
    overlap, progress
        As in :func:`indeed.networks.whole_image.decompose`.
    """
    noisy = seeded_gaussian(clean, sigma, seed)
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
