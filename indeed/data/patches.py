"""Random training patches from a list of clean images."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from indeed.checks import expect
from indeed.types import Image


class PatchSampler:
    """Uniformly chosen images, uniformly placed square crops, one of the eight symmetries of the square.

    Parameters
    ----------
    images
        Clean 8-bit images (channel, height, width), all with the same channels.
    patch_size
        Side of a patch in pixels.
    spread
        A crop is scaled to the patch size; its side is the patch size times a number that is log-uniform on
        ``[1 / spread, spread]``, at most the side of the image. Its intensities are raised to another such number. With
        few images a network then does not learn their scale and light by heart. 1: patches are crops, unchanged.
    saturation
        The differences of the colours from their mean are multiplied by a number that is log-uniform on
        ``[1 / saturation, saturation]``, and the result is clipped to [0, 1].
    varied
        Share of the patches that spread and saturation change.

    Raises
    ------
    ValueError
        If there is no image, one is smaller than a patch or differs in channels, spread or saturation is below 1 or
        infinite, or the share is outside [0, 1].
    """

    def __init__(
        self,
        images: Sequence[UInt8[Tensor, "channel _ _"]],
        patch_size: int,
        spread: float = 1.0,
        saturation: float = 1.0,
        varied: float = 1.0,
    ) -> None:
        expect(images, "images", "none", "at least one")
        for index, image in enumerate(images):
            if image.shape[0] != images[0].shape[0]:
                raise ValueError(f"images[{index}]: got {image.shape[0]} channels, expected {images[0].shape[0]}")
            if min(image.shape[1:]) < patch_size:
                raise ValueError(
                    f"images[{index}]: got {tuple(image.shape[1:])}, expected at least {patch_size} a side"
                )
        for name, factor in (("spread", spread), ("saturation", saturation)):
            expect(1 <= factor < math.inf, name, factor, "a finite number of at least 1")
        expect(0 <= varied <= 1, "varied", varied, "a number in [0, 1]")
        self.images = list(images)
        self.patch_size = patch_size
        self.spread = spread
        self.saturation = saturation
        self.varied = varied

    def __call__(self, generator: torch.Generator) -> Image:
        """One patch in [0, 1]; all randomness comes from ``generator``."""
        which, top, left, symmetry = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
        zoom, gamma, saturation = 1.0, 1.0, 1.0
        # What a sampler does not use it does not draw: the patches of earlier runs stay what they were.
        changed = self.varied == 1 or torch.rand((), generator=generator).item() < self.varied
        if changed and self.spread > 1:
            draws = torch.rand(2, generator=generator, dtype=torch.float64)
            zoom, gamma = (self.spread ** (2 * draws - 1)).tolist()
        if changed and self.saturation > 1:
            saturation = self.saturation ** (2 * torch.rand((), generator=generator, dtype=torch.float64).item() - 1)
        image = self.images[int(which * len(self.images))]
        side = min(round(self.patch_size * zoom), *image.shape[1:])
        y = int(top * (image.shape[1] - side + 1))
        x = int(left * (image.shape[2] - side + 1))
        crop = image[:, y : y + side, x : x + side]
        quarter_turns, mirrored = divmod(int(symmetry * 8), 2)
        crop = torch.rot90(crop, quarter_turns, (1, 2))
        patch = (crop.flip(2) if mirrored else crop).float() / 255
        if side != self.patch_size:
            shape = (self.patch_size, self.patch_size)
            patch = interpolate(patch[None], shape, mode="bilinear", antialias=True)[0].clamp(0, 1)
        if saturation != 1:
            grey = patch.mean(0, keepdim=True)
            patch = (grey + saturation * (patch - grey)).clamp(0, 1)
        return patch if gamma == 1 else patch**gamma
