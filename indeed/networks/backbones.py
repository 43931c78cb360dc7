"""Convolutional backbones: the ResNet of section 3.4.2 and Table 3, and the cheaper form that halves a pooled axis."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

Norm = Literal["group", "channel", "batch", "none"]
Features = Float[Tensor, "batch feature height width"]


def normalisation(norm: Norm, width: int) -> nn.Module:
    """Normalisation layer for ``width`` feature maps.

    ``group`` is GroupNorm with eight groups; ``channel`` one group a channel, which is how section 4.2's "normalizing
    channel-wise" reads literally; ``batch`` BatchNorm; ``none`` nothing.

    Raises
    ------
    ValueError
        For another name, or a width that eight groups do not divide.
    """
    if norm == "group":
        if width % 8:
            raise ValueError(f"norm 'group' has 8 groups, so width must be a multiple of 8, got {width}")
        return nn.GroupNorm(8, width)
    if norm == "channel":
        return nn.GroupNorm(width, width)
    if norm == "batch":
        return nn.BatchNorm2d(width)
    if norm == "none":
        return nn.Identity()
    raise ValueError(f"norm must be 'group', 'channel', 'batch' or 'none', got {norm!r}")


class ResidualBlock(nn.Module):
    """``x + norm(conv(relu(norm(conv(x)))))`` with same-size convolutions."""

    def __init__(self, width: int, kernel_size: int, norm: Norm) -> None:
        super().__init__()
        # A convolution in front of a normalisation keeps its bias: the parameter counts of Table 3 are met with it.
        self.conv1 = nn.Conv2d(width, width, kernel_size, padding="same")
        self.norm1 = normalisation(norm, width)
        self.conv2 = nn.Conv2d(width, width, kernel_size, padding="same")
        self.norm2 = normalisation(norm, width)

    def forward(self, x: Features) -> Features:
        """Features in, features of the same shape out."""
        hidden: Tensor = functional.relu(self.norm1(self.conv1(x)), inplace=True)
        update: Tensor = self.norm2(self.conv2(hidden))
        return x + update


class ResNet(nn.Module):
    """Stem convolution and residual blocks at constant width (section 3.4.2, Table 3).

    The paper's depth d counts convolution layers, stem included: ``blocks = (d - 1) / 2``.

    Parameters
    ----------
    in_channels, width, blocks, kernel_size, norm
        Sizes; ``kernel_size`` must be odd.
    halve
        Axis (``"height"`` or ``"width"``) that average pooling halves in front of every block until one pixel is left.
        For a network whose output is averaged over that axis anyway, the output has the same shape at a fraction of the
        cost.

    Raises
    ------
    ValueError
        For an even kernel size or sizes below one.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        blocks: int,
        kernel_size: int = 3,
        norm: Norm = "group",
        halve: Literal["height", "width"] | None = None,
    ) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {kernel_size}")
        for name, value in (("in_channels", in_channels), ("width", width), ("blocks", blocks)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.halve = halve
        self.stem = nn.Conv2d(in_channels, width, kernel_size, padding="same")
        self.blocks = nn.ModuleList(ResidualBlock(width, kernel_size, norm) for _ in range(blocks))

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch feature rows columns"]:
        """Image-like input to feature maps; the halved axis shrinks, everything else keeps its size."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(self._pool(x))
        return x

    def _pool(self, x: Tensor) -> Tensor:
        if self.halve == "height" and x.shape[-2] > 1:
            return functional.avg_pool2d(x, (2, 1), ceil_mode=True)
        if self.halve == "width" and x.shape[-1] > 1:
            return functional.avg_pool2d(x, (1, 2), ceil_mode=True)
        return x


def parameter_count(module: nn.Module) -> int:
    """Count the trainable and frozen parameters.

    >>> parameter_count(nn.Linear(3, 2))
    8
    """
    return sum(parameter.numel() for parameter in module.parameters())


def scale_(module: nn.Conv2d | nn.Conv1d, factor: float) -> None:
    """Scale the weights of a freshly initialised convolution in place and clear its bias."""
    with torch.no_grad():
        module.weight.mul_(factor)
        if module.bias is not None:
            module.bias.zero_()
