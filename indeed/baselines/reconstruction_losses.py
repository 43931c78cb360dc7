"""Losses of networks that reconstruct the normal image: structural similarity, and the three of DRAEM."""

from functools import cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from indeed.images.tiling import reflected_indices
from indeed.types import Images, Maps, Masks, PerSample

WINDOW, WINDOW_SIGMA = 11, 1.5
"""Gaussian window of the structural similarity, as in :mod:`indeed.images.metrics`."""


class DRAEMLosses(NamedTuple):
    """Per-sample terms of the loss of DRAEM, means over the pixels, each of shape (batch,)."""

    squared: PerSample
    """Squared error of the reconstruction."""
    structural: PerSample
    """One minus its structural similarity."""
    focal: PerSample
    """Focal loss of the logits."""


def draem_losses(reconstruction: Images, logits: Maps, normal: Images, mask: Masks) -> DRAEMLosses:
    """Losses of the reconstruction and of the discrimination.

    Parameters
    ----------
    reconstruction, normal
        Reconstructed image, and what it should be.
    logits
        Logits of the pixels being anomalous.
    mask
        True where pixels are anomalous; it may be empty, as for a good image.
    """
    squared = (reconstruction - normal).square().mean((1, 2, 3))
    structural = 1 - ssim_map(reconstruction, normal).mean((1, 2, 3))
    return DRAEMLosses(squared, structural, focal_loss(logits, mask).mean((1, 2)))


def focal_loss(logits: Maps, mask: Masks, focus: float = 2.0) -> Maps:
    r"""Focal loss :math:`-(1 - p)^\gamma \log p` of a pixel whose class has probability p (Lin et al., 2017).

    Pixels that are right already count little, so that the many normal ones do not drown the few anomalous ones.
    ``focus`` is :math:`\gamma`.

    Examples
    --------
    Without focus it is the cross-entropy:

    >>> logits, mask = torch.tensor([[[-1.0, 3.0]]]), torch.tensor([[[True, True]]])
    >>> torch.allclose(focal_loss(logits, mask, focus=0.0), functional.softplus(-logits))
    True
    """
    log_probability = functional.logsigmoid(torch.where(mask, logits, -logits))
    return -((1 - log_probability.exp()) ** focus) * log_probability


def ssim_map(estimate: Images, reference: Images) -> Images:
    """Structural similarity around each pixel, in [-1, 1], differentiable (Wang et al., 2004).

    The window is that of :func:`indeed.images.metrics.ssim`; beyond the border the images are reflected. They are in
    [0, 1], and neither clipped nor rounded.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if estimate.shape != reference.shape:
        raise ValueError(f"estimate: got shape {tuple(estimate.shape)}, expected the reference's {reference.shape}")
    x, y = estimate, reference
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = _local_means(torch.stack([x, y, x * x, y * y, x * y])).unbind()
    covariance, spread = mean_xy - mean_x * mean_y, mean_xx - mean_x.square() + mean_yy - mean_y.square()
    c1, c2 = 0.01**2, 0.03**2  # the constants of the paper for a range of one
    similarity: Tensor = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return similarity / ((mean_x.square() + mean_y.square() + c1) * (spread + c2))


def _local_means(stack: Float[Tensor, "kind batch channel height width"]) -> Tensor:
    height, width = stack.shape[-2:]
    margin = WINDOW // 2
    # reflected_indices extends at the end only; a reflection at the start is one at the end of the reversed axis.
    rows, columns = (_extended(side, margin).to(stack.device) for side in (height, width))
    x = stack[..., rows, :][..., columns].reshape(-1, 1, height + 2 * margin, width + 2 * margin)
    window = stack.new_tensor(_window())
    means = functional.conv2d(functional.conv2d(x, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))
    return means.reshape(stack.shape)


def _extended(length: int, margin: int) -> Tensor:
    end = reflected_indices(length, length + margin)
    return torch.cat([(length - 1 - end[length:]).flip(0), end])


@cache
def _window() -> list[float]:
    offsets = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weights = torch.exp(-0.5 * (offsets / WINDOW_SIGMA).square())
    weights /= weights.sum()
    return [float(weight) for weight in weights]
