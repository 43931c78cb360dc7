"""PSNR, SSIM, average precision and AUROC under one pinned protocol.

Published denoising tables are comparable only under the same protocol, and few state theirs. This one is that of VIRNet
and KAIR, whose numbers the paper quotes: all three colours (not luminance), no border cut off, the output clipped and
rounded to 8 bits (what a saved picture holds; leaving it in float gains some hundredths of a decibel that no viewer
sees), peak 255, SSIM with the 11-pixel Gaussian window of standard deviation 1.5 of Wang et al. (2004), averaged over
the colours. The uniform 7-pixel window that is the default elsewhere gives larger values, and the luminance alone much
larger ones.

A value belongs to one image. Means are taken over images, never over pooled squared errors: pooling lets the worst
image decide. Computed by scikit-image and scikit-learn.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

Scores = Float[Tensor, "..."]
Labels = Bool[Tensor, "..."]


def psnr(
    estimate: Float[Tensor, "batch channel height width"], reference: Float[Tensor, "batch channel height width"]
) -> Float[Tensor, " batch"]:
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


def ssim(
    estimate: Float[Tensor, "batch channel height width"], reference: Float[Tensor, "batch channel height width"]
) -> Float[Tensor, " batch"]:
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

    if min(estimate.shape[-2:]) < 11:
        raise ValueError(
            f"estimate: got {tuple(estimate.shape[-2:])} pixels, expected sides of at least 11, the window's"
        )
    pairs = zip(*_eight_bits(estimate, reference), strict=True)
    values = [
        structural_similarity(  # type: ignore[no-untyped-call]
            truth, ours, data_range=255, channel_axis=0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for ours, truth in pairs
    ]
    return torch.tensor(values, dtype=torch.float64)


def average_precision(scores: Scores, labels: Labels) -> float:
    """Area under the precision-recall curve as a step function; that of a useless score is `base_rate`.

    Parameters
    ----------
    scores
        Larger means more anomalous.
    labels
        True where anomalous; same shape.

    Raises
    ------
    ValueError
        If the shapes differ, a score is not finite, or only one class is present.
    """
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(*_labelled(scores, labels)))


def auroc(scores: Scores, labels: Labels) -> float:
    """Probability that an anomalous pixel scores above a normal one (ties count half); not flipped below one half.

    Raises
    ------
    ValueError
        As `average_precision`.

    Examples
    --------
    >>> scores = torch.tensor([0.1, 0.4, 0.35, 0.8])
    >>> auroc(scores, torch.tensor([False, False, True, True])), auroc(scores, torch.tensor([True, True, False, False]))
    (0.75, 0.25)
    """
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(*_labelled(scores, labels)))


def base_rate(labels: Labels) -> float:
    """Share of anomalous pixels: the average precision to compare with.

    Raises
    ------
    ValueError
        If there is no label.
    """
    if labels.numel() == 0:
        raise ValueError("labels: got none, expected at least one")
    return labels.double().mean().item()


def _eight_bits(
    estimate: Float[Tensor, "batch channel height width"], reference: Float[Tensor, "batch channel height width"]
) -> tuple[UInt8[np.ndarray, "batch channel height width"], UInt8[np.ndarray, "batch channel height width"]]:
    if estimate.shape != reference.shape:
        raise ValueError(
            f"estimate: got shape {tuple(estimate.shape)}, expected that of reference {tuple(reference.shape)}"
        )
    arrays = []
    for name, image in (("estimate", estimate), ("reference", reference)):
        if not bool(image.isfinite().all()):
            raise ValueError(f"{name}: got NaN or infinite values, expected finite ones")
        arrays.append((image.detach().clamp(0, 1) * 255).round().to("cpu", torch.uint8).numpy())
    return arrays[0], arrays[1]


def _labelled(scores: Scores, labels: Labels) -> tuple[Bool[np.ndarray, " count"], Float[np.ndarray, " count"]]:
    if scores.shape != labels.shape:
        raise ValueError(f"scores: got shape {tuple(scores.shape)}, expected the labels' {tuple(labels.shape)}")
    if not bool(scores.isfinite().all()):
        raise ValueError("scores: got NaN or infinite values, expected finite ones")
    if not bool(labels.any()) or bool(labels.all()):
        raise ValueError("labels: got one class only, expected both normal and anomalous ones")
    return labels.detach().cpu().numpy().ravel(), scores.detach().cpu().numpy().ravel()
