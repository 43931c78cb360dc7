"""Grey and colour."""

import torch
from jaxtyping import Float
from torch import Tensor


def as_channels(image: Float[Tensor, "_ height width"], channels: int) -> Float[Tensor, "{channels} height width"]:
    """Image in grey (1: the luma of ITU-R BT.601, as Pillow) or in colour (3: a grey image is repeated).

    Raises
    ------
    ValueError
        Unless the image has, and ``channels`` is, 1 or 3.

    Examples
    --------
    A photograph of a grey thing that is stored in colour comes back as it was:

    >>> grey = torch.rand(1, 4, 5)
    >>> torch.allclose(as_channels(as_channels(grey, 3), 1), grey)
    True
    """
    if len(image) not in (1, 3) or channels not in (1, 3):
        raise ValueError(f"image, channels: got {len(image)} channels and {channels}, expected 1 or 3")
    if len(image) == channels:
        return image
    if channels == 3:
        return image.expand(3, -1, -1)
    luma: Tensor = torch.tensordot(torch.tensor([0.299, 0.587, 0.114]).to(image), image, dims=1)
    return luma[None]
