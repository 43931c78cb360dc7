"""PSNR and SSIM under one pinned protocol.

Published denoising tables are comparable only under the same protocol, and few state theirs. This one is that of VIRNet
and KAIR, whose numbers the paper quotes: all three colours (not luminance), no border cut off, the output clipped and
rounded to 8 bits (what a saved picture holds; leaving it in float gains some hundredths of a decibel that no viewer
sees), peak 255, SSIM with the 11-pixel Gaussian window of standard deviation 1.5 of Wang et al. (2004), averaged over
the colours. The uniform 7-pixel window that is the default elsewhere gives larger values, and the luminance alone much
larger ones.

A value belongs to one image. Means are taken over images, never over pooled squared errors: pooling lets the worst
image decide. Computed by scikit-image.
"""

import numpy as np
import torch
from jaxtyping import UInt8

from indeed.checks import expect, finite
from indeed.images.pixels import quantised
from indeed.types import Images, PerSample


def psnr(estimate: Images, reference: Images) -> PerSample:
    """Peak signal-to-noise ratio of each image in dB, ``10 log10(255^2 / MSE)``; infinite for equal images.

    Parameters
    ----------
    estimate, reference
        In [0, 1]; both are clipped and rounded to 8 bits.

    Raises
    ------
    ValueError
        If the shapes differ or a value is not finite.

    Examples
    --------
    One grey level of error everywhere is 20 log10(255) dB:

    >>> round(psnr(torch.full((1, 1, 8, 8), 101 / 255), torch.full((1, 1, 8, 8), 100 / 255)).item(), 4)
    48.1308
    """
    from skimage.metrics import peak_signal_noise_ratio

    pairs = zip(*_eight_bits(estimate, reference), strict=True)
    values = [
        np.inf if np.array_equal(ours, truth) else peak_signal_noise_ratio(truth, ours, data_range=255)  # type: ignore[no-untyped-call]
        for ours, truth in pairs
    ]
    return torch.tensor(values, dtype=torch.float64)


def ssim(estimate: Images, reference: Images) -> PerSample:
    """Structural similarity of each image: 11-pixel Gaussian window, valid region, mean over the channels.

    Parameters
    ----------
    estimate, reference
        In [0, 1]; both are clipped and rounded to 8 bits.

    Raises
    ------
    ValueError
        If the shapes differ, a value is not finite, or a side is shorter than the window's 11 pixels.
    """
    from skimage.metrics import structural_similarity

    height, width = estimate.shape[-2:]
    expect(min(height, width) >= 11, "estimate", f"{(height, width)} pixels", "sides of at least 11, the window's")
    pairs = zip(*_eight_bits(estimate, reference), strict=True)
    values = [
        structural_similarity(  # type: ignore[no-untyped-call]
            truth, ours, data_range=255, channel_axis=0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for ours, truth in pairs
    ]
    return torch.tensor(values, dtype=torch.float64)


def _eight_bits(
    estimate: Images, reference: Images
) -> tuple[UInt8[np.ndarray, "batch channel height width"], UInt8[np.ndarray, "batch channel height width"]]:
    ours, theirs = tuple(estimate.shape), tuple(reference.shape)
    expect(ours == theirs, "estimate", f"shape {ours}", f"that of reference {theirs}")
    finite(estimate=estimate, reference=reference)
    first, second = (quantised(image.detach(), torch.uint8).cpu().numpy() for image in (estimate, reference))
    return first, second
