"""Denoising with synthetic noise: the figures of merit of Table 4, and those of the shipped models."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from indeed.data.benchmarks import benchmark
from indeed.data.files import read_image
from indeed.images.metrics import psnr, ssim
from indeed.images.noise import GREY_LEVEL, gaussian
from indeed.networks.checkpoint import Shipped, load_checkpoint, shipped_checkpoint
from indeed.networks.inference_network import InDeed
from indeed.networks.whole_image import decompose
from indeed.record import Recorder

SHIPPED: dict[Shipped, str] = {"denoise_grey": "set12", "denoise_color": "cbsd68"}
"""The shipped models and the test set that each is measured on."""


class FiguresOfMerit(NamedTuple):
    """PSNR in dB of the observation, of L and of L + S, and SSIM of L + S, against the clean image."""

    psnr_noisy: float
    psnr_low_rank: float
    psnr: float
    ssim: float


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
    sigma
        Standard deviation of the noise in 8-bit grey levels.
    seed
        Seed of the noise; the generator is made anew for each image, so that a result does not depend on the others.
    overlap, progress
        As in :func:`indeed.networks.whole_image.decompose`.
    """
    noisy = gaussian(clean[None], sigma * GREY_LEVEL, torch.Generator().manual_seed(seed))
    parts = decompose(model, noisy[0], overlap=overlap, progress=progress)
    estimate = (parts.L + parts.S)[None]
    return FiguresOfMerit(
        psnr(noisy, clean[None]).item(),
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


def measure_shipped(
    name: Shipped, *, sigma: int = 25, seed: int = 0, folder: str | Path | None = None
) -> FiguresOfMerit:
    """Measure a shipped model on its whole test set and record the means.

    Parameters
    ----------
    name
        The model.
    sigma
        Noise level in 8-bit grey levels.
    seed
        Seed of the noise of every image.
    folder
        Records folder, where it is not the usual one.

    Raises
    ------
    DataMissingError
        If the test set is not on disk.
    """
    data = SHIPPED[name]
    files = benchmark(data)
    model, _ = load_checkpoint(shipped_checkpoint(name))
    mean = mean_figures([figures_of_merit(model, read_image(file).tensor(), sigma, seed) for file in files])
    record = Recorder(name, profile="cpu", seed=seed, data=f"{data} ({len(files)} images)", folder=folder)
    for figure, value in mean._asdict().items():
        is_ssim = figure == "ssim"
        record.add(
            f"{figure}_sigma{sigma}",
            value,
            tolerance=0.001 if is_ssim else 0.02,
            unit="" if is_ssim else "dB",
            digits=4 if is_ssim else 2,
        )
    return mean


if __name__ == "__main__":
    # Published numbers change on purpose only: point INDEED_RECORDS at results/measured to do so.
    for shipped in SHIPPED:
        print(shipped, SHIPPED[shipped], measure_shipped(shipped))
