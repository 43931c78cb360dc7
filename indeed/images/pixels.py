"""Images as they are stored and as they are computed with: integers or [0, 1], grey or colour.

There are two greys, and published numbers need both. `luma` is what a viewer shows as grey: the grey images of
detectors (`as_channels`) are made with it. `mean_grey` is the plain mean of the colours: the training images of the
grey denoisers, and the photographs that replay draws from (`eight_bit`), are made with it.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

Grey = Float[Tensor, "1 height width"]


def luma(image: Float[Tensor, "3 height width"]) -> Grey:
    """Grey of a colour image by ITU-R BT.601, as in Pillow: sum of its channels with weights 0.299, 0.587, 0.114."""
    weighted: Tensor = torch.tensordot(torch.tensor([0.299, 0.587, 0.114]).to(image), image, dims=1)
    return weighted[None]


def mean_grey(image: Float[Tensor, "3 height width"]) -> Grey:
    """Grey of a colour image as the mean of its channels."""
    return image.mean(0, keepdim=True)


def as_channels(
    image: Float[Tensor, "_ height width"], channels: int, grey: Callable[[Tensor], Tensor] = luma
) -> Float[Tensor, "{channels} height width"]:
    """Image in grey (1) or in colour (3: a grey image is repeated).

    Raises
    ------
    ValueError
        Unless the image has, and ``channels`` is, 1 or 3.

    Examples
    --------
    A photograph of a grey thing that is stored in colour comes back as it was:

    >>> image = torch.rand(1, 4, 5)
    >>> torch.allclose(as_channels(as_channels(image, 3), 1), image)
    True
    """
    if len(image) not in (1, 3) or channels not in (1, 3):
        raise ValueError(f"image, channels: got {len(image)} channels and {channels}, expected 1 or 3")
    if len(image) == channels:
        return image
    return image.expand(3, -1, -1) if channels == 3 else grey(image)


def eight_bit(image: Float[Tensor, "_ height width"], channels: int) -> UInt8[Tensor, "{channels} height width"]:
    """Image in [0, 1] as 8 bits with the wanted channels; grey is `mean_grey`."""
    return quantised(as_channels(image, channels, mean_grey), torch.uint8)


def quantised(image: Float[Tensor, "*shape"], dtype: torch.dtype, white: int | None = None) -> Shaped[Tensor, "*shape"]:
    """Image in another type: for integers clipped to [0, 1], scaled to [0, white] and rounded.

    ``white`` None stands for the largest value of the type.

    Examples
    --------
    >>> quantised(torch.tensor([-0.1, 0.2, 1.7]), torch.uint8)
    tensor([  0,  51, 255], dtype=torch.uint8)
    """
    if not dtype.is_floating_point:
        image = (image.clamp(0, 1) * (white or torch.iinfo(dtype).max)).round()
    return image.to(dtype)


def unit_scale(pixels: Shaped[Tensor, "*shape"], white: int | None = None) -> Float[Tensor, "*shape"]:
    """Integers as float32, ``white`` as 1; floats stay as they are. None: white is the largest value of the type.

    Examples
    --------
    >>> unit_scale(torch.tensor([0, 51, 255], dtype=torch.uint8))
    tensor([0.0000, 0.2000, 1.0000])
    """
    return pixels if pixels.is_floating_point() else pixels.float() / (white or torch.iinfo(pixels.dtype).max)


def as_file(image: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Image as an 8-bit file gives it back: clipped to [0, 1] and rounded to 255 steps.

    >>> as_file(torch.tensor([-0.1, 0.2001, 1.7]))
    tensor([0.0000, 0.2000, 1.0000])
    """
    return unit_scale(quantised(image, torch.uint8))
