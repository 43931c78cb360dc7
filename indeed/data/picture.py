"""A picture: the pixels of an image file, as stored and as a tensor, and what is put back on writing."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8, UInt16

from indeed.images.pixels import quantised, unit_scale
from indeed.types import Image

Pixels = (
    UInt8[np.ndarray, "height width channel"]
    | UInt16[np.ndarray, "height width channel"]
    | Float32[np.ndarray, "height width channel"]
)
Alpha = UInt8[np.ndarray, "height width"] | UInt16[np.ndarray, "height width"] | Float32[np.ndarray, "height width"]


@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels of an image file, and what is put back when a processed copy is written.

    Raises
    ------
    ValueError
        If there is no pixel, or not 1 or 3 channels, or `alpha` differs from `pixels` in size or depth.
    """

    pixels: Pixels
    """(height, width, channel) with 1 or 3 channels: uint8, uint16, or float32 in units where white is 1."""
    alpha: Alpha | None = None
    """(height, width) of the same type; None for an opaque image."""
    icc_profile: bytes | None = None
    """Description of the colours, as found in the file."""

    def __post_init__(self) -> None:
        """Refuse what no image file holds."""
        if self.pixels.size == 0 or self.pixels.shape[2] not in (1, 3):
            raise ValueError(f"pixels: got shape {self.pixels.shape}, expected (height, width, 1 or 3)")
        expected = (self.pixels.shape[:2], self.pixels.dtype)
        if self.alpha is not None and (self.alpha.shape, self.alpha.dtype) != expected:
            raise ValueError("alpha: got another size or type, expected those of pixels")

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return int(self.pixels.shape[2])

    def tensor(self) -> Image:
        """Pixels as a float32 image in [0, 1] (a float file may leave that range)."""
        return to_tensor(self.pixels)


def to_tensor(pixels: Pixels) -> Image:
    """Float32 image in [0, 1] from pixels.

    Examples
    --------
    >>> to_tensor(np.array([[[0], [51], [255]]], dtype=np.uint8))
    tensor([[[0.0000, 0.2000, 1.0000]]])
    """
    return unit_scale(torch.from_numpy(pixels).permute(2, 0, 1)).clone(memory_format=torch.contiguous_format)


def to_pixels(image: Image, dtype: np.dtype[Any]) -> Pixels:
    """Pixels of the given type from an image: integers are clipped to [0, white] and rounded, floats kept as they are.

    Examples
    --------
    >>> to_pixels(torch.tensor([[[-0.1, 0.2, 1.7]]]), np.dtype(np.uint8)).ravel().tolist()
    [0, 51, 255]
    """
    stored = quantised(image.detach().cpu(), getattr(torch, dtype.name))
    return np.ascontiguousarray(stored.numpy().transpose(1, 2, 0))
