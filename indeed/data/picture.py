"""A picture: pixels as a file holds them, the value of white, and what is put back into a processed copy."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8, UInt16

from indeed.data.samples_of_files import Metadata
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
        If there is no pixel, or not 1 or 3 channels, or `alpha` differs from `pixels` in size or depth, or `white` is
        not between 1 and the largest value of the type.
    """

    pixels: Pixels
    """(height, width, channel) with 1 or 3 channels: uint8, uint16, or float32 in units where white is 1."""
    alpha: Alpha | None = None
    """(height, width) of the same type, opaque at the largest value of the type; None for an opaque image."""
    metadata: Metadata = field(default_factory=Metadata)
    """What else the file says."""
    white: int = 0
    """Value of white; 0 is replaced by the largest value of the type, 1 for floats."""

    def __post_init__(self) -> None:
        """Refuse what no image file holds."""
        if self.pixels.size == 0 or self.pixels.shape[2] not in (1, 3):
            raise ValueError(f"pixels: got shape {self.pixels.shape}, expected (height, width, 1 or 3)")
        expected = (self.pixels.shape[:2], self.pixels.dtype)
        if self.alpha is not None and (self.alpha.shape, self.alpha.dtype) != expected:
            raise ValueError("alpha: got another size or type, expected those of pixels")
        most = largest(self.pixels.dtype)
        if not 0 <= self.white <= most:
            raise ValueError(f"white: got {self.white}, expected 1 to {most}")
        if not self.white:
            object.__setattr__(self, "white", most)

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return int(self.pixels.shape[2])

    def samples(self) -> np.ndarray:
        """Pixels with the alpha channel, if there is one, behind the colours: (height, width, 1 to 4)."""
        return self.pixels if self.alpha is None else np.concatenate([self.pixels, self.alpha[..., None]], axis=2)

    def tensor(self) -> Image:
        """Pixels as a float32 image in [0, 1] (a float file may leave that range)."""
        return to_tensor(self.pixels, self.white)


def largest(dtype: np.dtype[Any]) -> int:
    """Largest value of a type of pixels: 255, 65535, or 1 for floats, where it is that of white."""
    return int(np.iinfo(dtype).max) if dtype.kind == "u" else 1


def to_tensor(pixels: Pixels, white: int | None = None) -> Image:
    """Float32 image in [0, 1] from pixels; ``white`` None stands for the largest value of their type.

    Examples
    --------
    >>> to_tensor(np.array([[[0], [51], [255]]], dtype=np.uint8))
    tensor([[[0.0000, 0.2000, 1.0000]]])
    """
    return unit_scale(torch.from_numpy(pixels).permute(2, 0, 1), white).clone(memory_format=torch.contiguous_format)


def to_pixels(image: Image, dtype: np.dtype[Any], white: int | None = None) -> Pixels:
    """Pixels of the given type from an image: integers are clipped to [0, white] and rounded, floats kept as they are.

    Examples
    --------
    >>> to_pixels(torch.tensor([[[-0.1, 0.2, 1.7]]]), np.dtype(np.uint8)).ravel().tolist()
    [0, 51, 255]
    """
    stored = quantised(image.detach().cpu(), getattr(torch, dtype.name), white)
    return np.ascontiguousarray(stored.numpy().transpose(1, 2, 0))
