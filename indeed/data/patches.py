"""Random training patches from a list of clean images."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor


class PatchSampler:
    """Uniformly chosen images, uniformly placed square crops, one of the eight symmetries of the square.

    Parameters
    ----------
    images
        Clean 8-bit images (channel, height, width), all with the same channels.
    patch_size
        Side of a crop in pixels.

    Raises
    ------
    ValueError
        If there is no image, or one is smaller than a patch or differs in channels.
    """

    def __init__(self, images: Sequence[UInt8[Tensor, "channel _ _"]], patch_size: int) -> None:
        if not images:
            raise ValueError("images must hold at least one image")
        for index, image in enumerate(images):
            if image.shape[0] != images[0].shape[0]:
                raise ValueError(f"images[{index}] has {image.shape[0]} channels, expected {images[0].shape[0]}")
            if min(image.shape[1:]) < patch_size:
                raise ValueError(f"images[{index}] is {tuple(image.shape[1:])}, smaller than patch_size {patch_size}")
        self.images = list(images)
        self.patch_size = patch_size

    def __call__(self, generator: torch.Generator) -> Float[Tensor, "channel height width"]:
        """One patch in [0, 1]; all randomness comes from ``generator``."""
        which, top, left, symmetry = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
        image = self.images[int(which * len(self.images))]
        y = int(top * (image.shape[1] - self.patch_size + 1))
        x = int(left * (image.shape[2] - self.patch_size + 1))
        crop = image[:, y : y + self.patch_size, x : x + self.patch_size]
        quarter_turns, mirrored = divmod(int(symmetry * 8), 2)
        crop = torch.rot90(crop, quarter_turns, (1, 2))
        return (crop.flip(2) if mirrored else crop).float() / 255
