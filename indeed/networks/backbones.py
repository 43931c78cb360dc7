"""Backbones: the ResNet of section 3.4.2 and Table 3, its form that halves a pooled axis, U-Nets, the transformer."""

import math
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from indeed.checks import at_least, expect
from indeed.types import Images

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
        expect(width % 8 == 0, "width", width, "a multiple of 8, the groups of norm 'group'")
        return nn.GroupNorm(8, width)
    if norm == "channel":
        return nn.GroupNorm(width, width)
    if norm == "batch":
        return nn.BatchNorm2d(width)
    if norm == "none":
        return nn.Identity()
    raise ValueError(f"norm: got {norm!r}, expected 'group', 'channel', 'batch' or 'none'")


class ResidualBlock(nn.Module):
    """``x + norm(conv(relu(norm(conv(x)))))`` with same-size convolutions."""

    def __init__(self, width: int, kernel_size: int, norm: Norm, bias: bool = True) -> None:
        super().__init__()
        # A convolution in front of a normalisation keeps its bias: the parameter counts of Table 3 are met with it.
        self.conv1 = nn.Conv2d(width, width, kernel_size, padding="same", bias=bias)
        self.norm1 = normalisation(norm, width)
        self.conv2 = nn.Conv2d(width, width, kernel_size, padding="same", bias=bias)
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
        Axis (``"height"`` or ``"width"``) that average pooling halves in front of every block while more than
        `halve_to` pixels are left. For a network whose output is averaged over that axis anyway, the output has the
        same shape at a fraction of the cost.
    halve_to
        Pixels of the halved axis that are kept.
    bias
        Whether the convolutions have biases. Without them and without normalisation the features scale with the input.

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
        halve_to: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        expect(kernel_size % 2 != 0, "kernel_size", kernel_size, "an odd number")
        at_least(1, in_channels=in_channels, width=width, blocks=blocks)
        self.halve = halve
        self.halve_to = halve_to
        self.stem = nn.Conv2d(in_channels, width, kernel_size, padding="same", bias=bias)
        self.blocks = nn.ModuleList(ResidualBlock(width, kernel_size, norm, bias) for _ in range(blocks))

    def forward(self, x: Images) -> Float[Tensor, "batch feature rows columns"]:
        """Image-like input to feature maps; the halved axis shrinks, everything else keeps its size."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(self._pool(x))
        return x

    def _pool(self, x: Tensor) -> Tensor:
        if self.halve == "height" and x.shape[-2] > self.halve_to:
            return functional.avg_pool2d(x, (2, 1), ceil_mode=True)
        if self.halve == "width" and x.shape[-1] > self.halve_to:
            return functional.avg_pool2d(x, (1, 2), ceil_mode=True)
        return x


class UNet(nn.Module):
    """Residual blocks at halved resolutions, handed back up to full resolution beside what was seen there.

    Every map has the features of its own resolution, so that a filter of single pixels and the context of a whole tile
    meet in each output pixel, and both are the same everywhere in the image. This is its advantage over a ResNet on
    unshuffled pixels, whose filters depend on the place of a pixel within its block.

    Parameters
    ----------
    in_channels, width
        Channels in; feature maps at full resolution, which double with each halving.
    blocks
        Residual blocks at each of the halved resolutions.
    halvings
        How often both sides are halved.
    norm
        As in `normalisation`.

    Raises
    ------
    ValueError
        For sizes below one; in ``forward``, for sides that are no multiples of ``2**halvings``.

    Examples
    --------
    >>> UNet(2, width=8, blocks=1, halvings=2)(torch.zeros(1, 2, 12, 16)).shape
    torch.Size([1, 8, 12, 16])
    """

    def __init__(self, in_channels: int, width: int, blocks: int, halvings: int, norm: Norm = "group") -> None:
        super().__init__()
        at_least(1, in_channels=in_channels, width=width, blocks=blocks, halvings=halvings)
        pairs = list(pairwise(width * 2**level for level in range(halvings + 1)))
        self.stem = _activated(nn.Conv2d(in_channels, width, 3, padding="same"), norm)
        self.down = nn.ModuleList(
            _activated(nn.Conv2d(fine, coarse, 4, stride=2, padding=1), norm) for fine, coarse in pairs
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(coarse, 3, norm) for _ in range(blocks))) for _, coarse in pairs
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(coarse, fine, 4, stride=2, padding=1) for fine, coarse in reversed(pairs)
        )
        self.merge = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2 * fine, fine, 3, padding="same"), normalisation(norm, fine))
            for fine, _ in reversed(pairs)
        )

    def forward(self, x: Images) -> Features:
        """Image-like input to feature maps of the same size; as those of a ResNet they are not rectified."""
        multiple = 2 ** len(self.down)
        if x.shape[-2] % multiple or x.shape[-1] % multiple:
            raise ValueError(f"x: got {tuple(x.shape[-2:])} pixels, expected multiples of {multiple}")
        seen = [self.stem(x)]
        for down, blocks in zip(self.down, self.blocks, strict=True):
            seen.append(blocks(down(seen[-1])))
        features: Tensor = seen.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            features = merge(torch.cat([seen.pop(), up(functional.relu(features))], dim=1))
        return features


def _activated(convolution: nn.Conv2d, norm: Norm) -> nn.Sequential:
    return nn.Sequential(convolution, normalisation(norm, convolution.out_channels), nn.ReLU())


class ResidualUNet(nn.Module):
    """A ResNet that does a part of its work at halved resolutions, and adds what it finds there.

    With ``x`` at one resolution, ``b`` and ``c`` its residual blocks and ``u`` this network at half of it:
    ``c(b(x) + up(u(down(b(x)))))``. All that is learned is a sum of branches, as in a ResNet. Without normalisation it
    is steadier than a U-Net that concatenates, not as steady as a ResNet: at a learning rate of 1e-3 the units of the
    former died within a thousand steps, with and without activations between its resolutions, and those of this one
    after 4600 (one run each).

    Parameters
    ----------
    in_channels, width
        Channels in; feature maps at full resolution, which double with each halving.
    blocks
        Residual blocks at each resolution before the halving, as many behind, and as many at the coarsest.
    halvings
        How often both sides are halved.
    widest
        Most feature maps at any resolution; None: no bound.
    bias
        As in `ResNet`.

    Raises
    ------
    ValueError
        For sizes below one, or ``widest`` below ``width``; in ``forward``, for sides that are no multiples of
        ``2**halvings``.

    Examples
    --------
    >>> ResidualUNet(2, width=8, blocks=1, halvings=2, widest=16)(torch.zeros(1, 2, 12, 16)).shape
    torch.Size([1, 8, 12, 16])
    """

    def __init__(
        self, in_channels: int, width: int, blocks: int, halvings: int, widest: int | None = None, bias: bool = True
    ) -> None:
        super().__init__()
        at_least(1, in_channels=in_channels, width=width, blocks=blocks, halvings=halvings)
        expect(widest is None or widest >= width, "widest", widest, f"at least width ({width})")
        widths = [min(width * 2**level, widest or width * 2**level) for level in range(halvings + 1)]

        def residual(features: int, count: int) -> nn.Sequential:
            return nn.Sequential(*(ResidualBlock(features, 3, "none", bias) for _ in range(count)))

        self.stem = nn.Conv2d(in_channels, width, 3, padding="same", bias=bias)
        self.before = nn.ModuleList(residual(features, blocks) for features in widths[:-1])
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2, bias=bias) for fine, coarse in pairwise(widths))
        self.coarsest = residual(widths[-1], blocks)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(coarse, fine, 2, stride=2, bias=bias) for fine, coarse in pairwise(widths)
        )
        self.behind = nn.ModuleList(residual(features, blocks) for features in widths[:-1])

    def forward(self, x: Images) -> Features:
        """Image-like input to feature maps of the same size; as those of a ResNet they are not rectified."""
        multiple = 2 ** len(self.down)
        if x.shape[-2] % multiple or x.shape[-1] % multiple:
            raise ValueError(f"x: got {tuple(x.shape[-2:])} pixels, expected multiples of {multiple}")
        features: Tensor = self.stem(x)
        seen = []
        for before, down in zip(self.before, self.down, strict=True):
            seen.append(before(features))
            features = down(seen[-1])
        features = self.coarsest(features)
        for up, behind in zip(reversed(self.up), reversed(self.behind), strict=True):
            features = behind(seen.pop() + up(features))
        return features


class Transformer(nn.Module):
    """Vision transformer with features for every pixel, or row, or column (model 11 of Table 3).

    The paper says only that it has 79 million parameters with its heads. This is the plain one: patches embedded
    by a convolution, fixed positions, pre-norm blocks with heads of 64 and four times as wide inner layers, a last
    normalisation, and a transposed convolution back to pixels. With the defaults of
    :class:`indeed.networks.inference_network.NetworkConfig`, and 64 features a pixel, the three modules have 78.7
    million parameters.

    Parameters
    ----------
    in_channels, features
        Channels in, feature maps out.
    width, blocks, patch
        Length of a token (a multiple of four, and of 64 from there on), transformer blocks, side of a patch in pixels.
    pooled
        Axis (``"height"`` or ``"width"``) that the output is averaged over: along it the tokens are not taken back to
        pixels.

    Raises
    ------
    ValueError
        For sizes below one, or a width that four or the heads do not divide; in ``forward``, for sides that are no
        multiples of the patch.
    """

    def __init__(
        self,
        in_channels: int,
        features: int,
        width: int,
        blocks: int,
        patch: int,
        pooled: Literal["height", "width"] | None = None,
    ) -> None:
        super().__init__()
        at_least(1, in_channels=in_channels, features=features, width=width, blocks=blocks, patch=patch)
        heads = max(1, width // 64)
        if width % (64 if width > 64 else 4):
            raise ValueError(f"width: got {width}, expected a multiple of 4, and of 64 where it is more than 64")
        self.embed = nn.Conv2d(in_channels, width, patch, stride=patch)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(blocks)
        )
        self.norm = nn.LayerNorm(width)
        kernel = (1 if pooled == "height" else patch, 1 if pooled == "width" else patch)
        self.to_pixels = nn.ConvTranspose2d(width, features, kernel, stride=kernel)

    def forward(self, x: Images) -> Float[Tensor, "batch feature rows columns"]:
        """Image-like input to feature maps; a pooled axis has a pixel for each patch, the others keep their size."""
        patch = self.embed.stride[0]
        if x.shape[-2] % patch or x.shape[-1] % patch:
            raise ValueError(f"x: got {tuple(x.shape[-2:])} pixels, expected multiples of {patch}")
        tokens: Tensor = self.embed(x)
        grid = tokens.shape[-2:]
        tokens = (tokens + positions(tokens.shape[1], *grid).to(tokens)).flatten(2).mT
        for block in self.blocks:
            tokens = block(tokens)
        pixels: Tensor = self.to_pixels(self.norm(tokens).mT.unflatten(2, grid))
        return pixels


def positions(width: int, rows: int, columns: int) -> Float[Tensor, "width rows columns"]:
    """Encode the position of each token: sines and cosines of its row, then of its column, at each frequency.

    >>> positions(8, 3, 5)[:4, 1, 2].allclose(positions(8, 3, 5)[:4, 1, 4])  # the same row
    True
    """
    frequency = torch.exp(torch.arange(width // 4) * (-math.log(10_000.0) / (width // 4)))
    down, across = (
        torch.cat([(frequency[:, None] * torch.arange(n)).sin(), (frequency[:, None] * torch.arange(n)).cos()])
        for n in (rows, columns)
    )
    return torch.cat([down[:, :, None].expand(-1, -1, columns), across[:, None].expand(-1, rows, -1)])


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
