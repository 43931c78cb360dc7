"""Classical detectors of anomalies, from good images: ``fit_detector(images, method)``, then ``detector.map(images)``.

A map has one value for each pixel, larger where the image is stranger; its unit is the method's own. What a detector
can know of "normal" depends on the images:

- Where they are aligned, so that a pixel shows the same spot of the object in each, the mean image is a template, and
  the principal components of whole images are the ways in which good objects differ.
- For textures, or parts that lie in any direction, the mean image is flat. The distance to it finds what is darker or
  brighter than the texture ever is, and nothing else: not a wrong structure, not a displaced part. The principal
  components of *patches* do not depend on where a patch comes from, and can be used there.
- Robust principal component analysis needs neither: it looks at the tested image alone, and takes what repeats in its
  rows and columns as normal and the rest as strange.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from indeed.baselines.robust_pca import inexact_augmented_lagrangian
from indeed.checks import expect, finite, one_of
from indeed.images.noise import GREY_LEVEL
from indeed.types import Image, Images, Maps

Patches = Float[Tensor, "count channel rows columns"]

CHUNK = 16
"""Images whose patches are held in memory at once."""


@runtime_checkable
class ClassicalDetector(Protocol):
    """A detector that has seen good images and maps the anomalies of others."""

    def map(self, images: Images) -> Maps:
        """Anomaly of each pixel."""


@dataclass(frozen=True)
class MeanImage:
    """Squared distance to the mean of good images, in units of each pixel's deviation, summed over the colours."""

    mean: Image
    deviation: Image

    @classmethod
    def fit(cls, images: Images, standardise: bool = True) -> "MeanImage":
        """Mean and deviation of good images.

        Parameters
        ----------
        images
            At least two good images in [0, 1].
        standardise
            Divide by the standard deviation of the pixel, which is never taken to be less than one grey level, the
            resolution of an 8-bit image. If false, all pixels count alike.

        Raises
        ------
        TypeError, ValueError
            As `fit_detector`.
        """
        _check(images, at_least=2)
        mean = images.mean(0)
        deviation = images.std(0).clamp(min=GREY_LEVEL) if standardise else torch.ones_like(mean)
        return cls(mean, deviation)

    def map(self, images: Images) -> Maps:
        """Squared standardised distance of each pixel.

        Raises
        ------
        TypeError, ValueError
            If the images are not finite floats of the size and colours of the good ones.
        """
        _check(images)
        if images.shape[1:] != self.mean.shape:
            raise ValueError(f"images: got {tuple(images.shape[1:])}, expected the {tuple(self.mean.shape)} of the fit")
        return ((images - self.mean) / self.deviation).square().sum(1)


@dataclass(frozen=True)
class PrincipalComponents:
    """Squared residual of the projection on the principal components of good images, or of their patches."""

    mean: Float[Tensor, "channel rows columns"]
    components: Patches
    """Orthonormal, in the order of their variance."""
    explained: float
    """Share of the variance of the good images that the components hold."""
    patch: int | None
    """Side of the patches; None: of whole images."""

    @classmethod
    def fit(cls, images: Images, explained: float = 0.95, patch: int | None = None) -> "PrincipalComponents":
        """Principal components of good images, as few as hold a share of their variance.

        Parameters
        ----------
        images
            At least two good images in [0, 1] that differ.
        explained
            Share of the variance, in (0, 1); more components reproduce more of the normal detail, and of the anomalies.
        patch
            Side of the patches whose components are taken, half a side apart; None: the whole image is one patch.

        Raises
        ------
        TypeError, ValueError
            As `fit_detector`; ValueError also for a share outside (0, 1), a patch that is too large, or equal images.
        """
        _check(images, at_least=2)
        expect(0 < explained < 1, "explained", explained, "a share of the variance in (0, 1)")
        height, width = images.shape[-2:]
        if patch is not None and not 1 <= patch <= min(height, width):
            raise ValueError(f"patch: got {patch}, expected 1 to {min(height, width)} for {height} x {width} pixels")
        size = (height, width) if patch is None else (patch, patch)
        chunks = torch.split(images, CHUNK)
        count = len(images) * len(_rows(images[:1], size))
        mean = torch.stack([_rows(chunk, size).sum(0) for chunk in chunks]).sum(0) / count
        # The triangle of a QR decomposition has the singular values and right singular vectors of the centred rows, and
        # grows chunk by chunk: neither all patches nor their covariance, huge for whole images, are ever held.
        triangle = mean.new_zeros(0, mean.numel())
        for chunk in chunks:
            triangle = torch.linalg.qr(torch.cat([triangle, _rows(chunk, size) - mean]), mode="r").R
        _, s, Vh = torch.linalg.svd(triangle, full_matrices=False)
        variance = s.double().square().cumsum(0)
        if not s[0] > torch.finfo(s.dtype).eps * count**0.5 * mean.norm():
            raise ValueError("images: got equal ones, expected good images that differ")
        share = variance / variance[-1]
        kept = int((share < explained).sum()) + 1
        shape = (images.shape[1], *size)
        return cls(mean.reshape(shape), Vh[:kept].reshape(kept, *shape), share[kept - 1].item(), patch)

    def reconstruct(self, images: Images) -> Images:
        """Projection of every patch, at every position; a pixel is the mean over the patches that hold it.

        Raises
        ------
        TypeError, ValueError
            If the images are not finite floats of the size and colours of the good ones; components of patches take any
            size that holds a patch.
        """
        _check(images)
        channel, height, width = images.shape[1:]
        size = self.mean.shape[1:] if self.patch is None else (max(height, self.patch), max(width, self.patch))
        if (channel, height, width) != (len(self.mean), *size):
            larger = "" if self.patch is None else " or larger"
            raise ValueError(
                f"images: got {tuple(images.shape[1:])}, expected the {tuple(self.mean.shape)} of the fit{larger}"
            )
        # The projection of x is m + V (V' x - V' m): a convolution with the components, and its transpose.
        offset = (self.components * self.mean).sum((1, 2, 3))
        coefficients = functional.conv2d(images, self.components, -offset)
        total = functional.conv_transpose2d(coefficients, self.components)
        once = torch.ones_like(coefficients[:1, :1])
        total = total + functional.conv_transpose2d(once, self.mean[None])
        return total / functional.conv_transpose2d(once, torch.ones_like(self.mean[None, :1]))

    def map(self, images: Images) -> Maps:
        """Squared residual of each pixel, summed over the colours.

        Raises
        ------
        TypeError, ValueError
            As `reconstruct`.
        """
        return (images - self.reconstruct(images)).square().sum(1)


@dataclass(frozen=True)
class RobustPCA:
    """Absolute value of the sparse part of principal component pursuit, summed over the colours; learns nothing."""

    sparsity_weight: float | None
    tolerance: float

    @classmethod
    def fit(cls, images: Images, sparsity_weight: float | None = None, tolerance: float = 1e-5) -> "RobustPCA":
        """Keep the options; only the type of the good images is checked.

        Parameters
        ----------
        images
            Good images, as for the other methods.
        sparsity_weight, tolerance
            As in :func:`indeed.baselines.robust_pca.inexact_augmented_lagrangian`.

        Raises
        ------
        TypeError, ValueError
            As `fit_detector`.
        """
        _check(images, at_least=1)
        for name, value in (("sparsity_weight", sparsity_weight), ("tolerance", tolerance)):
            expect(value is None or 0 < value < math.inf, name, value, "a finite positive number")
        return cls(sparsity_weight, tolerance)

    def map(self, images: Images) -> Maps:
        """Sparse part of each image, each colour decomposed by itself.

        Raises
        ------
        TypeError, ValueError
            If the images are not finite floats.
        NotConvergedError
            As the pursuit.
        """
        _check(images)
        found = inexact_augmented_lagrangian(images, self.sparsity_weight, tolerance=self.tolerance)
        return found.S.abs().sum(1)


DETECTORS: Mapping[str, Callable[..., ClassicalDetector]] = MappingProxyType(
    {"mean": MeanImage.fit, "pca": PrincipalComponents.fit, "rpca": RobustPCA.fit}
)
"""The methods by name, as functions of the good images."""


def fit_detector(images: Images, method: str, **options: Any) -> ClassicalDetector:
    """Detector of anomalies by a classical method, from good images alone.

    Parameters
    ----------
    images
        Good images in [0, 1].
    method
        ``mean`` (takes ``standardise``), ``pca`` (takes ``explained`` and ``patch``) or ``rpca`` (takes
        ``sparsity_weight`` and ``tolerance``).
    options
        As in `MeanImage.fit`, `PrincipalComponents.fit` and `RobustPCA.fit`.

    Raises
    ------
    TypeError
        If the images are not of a floating-point type.
    ValueError
        If the method is unknown, the images are too few or not finite, or an option is out of range.

    Examples
    --------
    >>> good = torch.rand(9, 1, 8, 8, generator=torch.Generator().manual_seed(0)) / 10
    >>> spoiled = good[:1].clone()
    >>> spoiled[0, 0, 2, 5] = 1.0
    >>> divmod(int(fit_detector(good, "mean").map(spoiled).argmax()), 8)
    (2, 5)
    """
    one_of(DETECTORS, method=method)
    return DETECTORS[method](images, **options)


def _rows(images: Images, size: tuple[int, int]) -> Float[Tensor, "count values"]:
    """Patches as rows, half a side apart."""
    stride = (max(1, size[0] // 2), max(1, size[1] // 2))
    return functional.unfold(images, size, stride=stride).mT.flatten(0, 1)


def _check(images: Images, at_least: int = 0) -> None:
    if not images.is_floating_point():
        raise TypeError(f"images: got {images.dtype}, expected a floating-point type")
    if images.ndim != 4 or 0 in images.shape[1:]:
        raise ValueError(f"images: got shape {tuple(images.shape)}, expected (batch, channel, height, width)")
    expect(len(images) >= at_least, "images", len(images), f"at least {at_least} good ones")
    finite(images=images)
