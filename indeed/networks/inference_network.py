r"""The inference network :math:`f_\theta = (f_A, f_B, f_S)` of Eq. 10 and section 3.4.2.

It maps an observation to the variational parameters of the middle level; the leaf level follows in closed form
(:func:`indeed.bayes.conjugate_updates.solve_leaf_level`).
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from indeed.bayes.generative_model import low_rank
from indeed.bayes.variational_family import Draw, GaussianFactor, Generators, MiddleLevel
from indeed.checks import at_least, expect, one_of
from indeed.networks.backbones import Norm, ResidualUNet, ResNet, Transformer, UNet, scale_
from indeed.types import Images

RESIDUAL_GAIN = 10.0
"""Brings what L leaves of an image to the scale of the image: without it f_S would learn to see it late only."""


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes and forms of the three modules; the defaults are the paper's (model 3 of Table 3).

    Raises
    ------
    ValueError
        For a size or name outside what is stated at each field.
    """

    channels: int = 3
    """Image channels: 1 (grey) or 3 (colour)."""
    max_rank: int = 64
    """The paper's r0, an upper bound of the rank; at most the patch size."""
    patch_size: int = 128
    """Side in pixels of the square tiles the network is trained on and applied to."""
    backbone: Literal["resnet", "transformer"] = "resnet"
    """What the three modules are made of; for a transformer the widths are features a pixel, in front of the heads."""
    transformer_width: int = 512
    transformer_blocks: int = 8
    transformer_patch: int = 8
    """Length of a token, blocks of each module, and side in pixels of the patch that a token stands for."""
    norm: Norm = "group"
    """Normalisation of f_S, and of f_A and f_B unless `factor_norm` says otherwise."""
    factor_norm: Norm | None = None
    """Normalisation of f_A and f_B; None: that of `norm`."""
    factor_width: int = 64
    factor_blocks: int = 17
    """Residual blocks of f_A and of f_B; the paper's depth is twice this plus one (35)."""
    factor_kernel_size: int = 3
    factor_halving: bool = False
    """Whether f_A and f_B halve the axis they average away in front of every block (same output shape, less work)."""
    factor_unshuffle: int = 1
    """f_A and f_B work on images whose averaged axis is unshuffled by this factor: its pixels become channels."""
    factor_moments: int = 1
    """Cosine moments along the averaged axis that the heads of f_A and f_B see; the first, the paper's, is the mean."""
    factor_positions: int = 0
    """Number of cosines of the position along the kept axis, which the heads see too."""
    sparse_width: int = 128
    sparse_blocks: int = 11
    sparse_halvings: int = 0
    """How often f_S halves the sides of its maps, as a U-Net with `sparse_blocks` residual blocks at each resolution
    but the full one, where it is `sparse_width` wide; 0, the paper's: a ResNet at one resolution."""
    sparse_widest: int | None = None
    """Most feature maps of a `ResidualUNet` at any resolution; None: they double with each halving."""
    sparse_residual: bool = False
    """Whether the U-Net is a `ResidualUNet`, with `sparse_blocks` blocks before and behind each halving; it has no
    normalisation."""
    sparse_bias: bool = True
    """Whether the convolutions of f_S have biases. Without them the noise that it puts out scales with what it sees, so
    that levels it was not trained at are like those it was. The log-variance keeps its bias."""
    sparse_unshuffle: int = 1
    """f_S works on images pixel-unshuffled by this factor; 2 costs a quarter."""
    sparse_input: Literal["residual", "observation", "observation_and_low_rank", "observation_and_residual"] = (
        "residual"
    )
    """What f_S sees: Y - L as in the paper; or Y alone; or Y beside L, or beside Y - L times `RESIDUAL_GAIN`. With the
    last three q(S | A, B) is also conditioned on Y."""
    sparse_output: Literal["sparse", "noise", "shrinkage"] = "sparse"
    """Whether f_S outputs the mean of S; or the noise, from which the mean of S is Y - L minus the output; or the logit
    of a shrinkage in (0, 1), which times Y - L is the mean of S. In the model, for given precisions, this factor is
    lambda / (lambda + omega)."""
    log_variance_min: float = -20.0
    log_variance_max: float = 0.0
    log_variance_init: float = -6.0
    """Log-variances are clamped to [min, max] and start at init: a sampled L is then close to its mean."""

    def __post_init__(self) -> None:  # noqa: D105
        expect(self.channels in (1, 3), "channels", self.channels, "1 or 3")
        expect(1 <= self.max_rank <= self.patch_size, "max_rank", self.max_rank, f"1 to patch_size ({self.patch_size})")
        for name, factor in (("factor_unshuffle", self.factor_unshuffle), ("sparse_unshuffle", self.sparse_unshuffle)):
            divides = factor >= 1 and self.patch_size % factor == 0
            expect(divides, name, factor, f"a divisor of patch_size ({self.patch_size})")
        most = self.patch_size // self.factor_unshuffle
        moments = 1 <= self.factor_moments <= most
        expect(moments, "factor_moments", self.factor_moments, f"1 to {most} (patch_size / factor_unshuffle)")
        at_least(0, factor_positions=self.factor_positions)
        halvings = self.sparse_halvings == 0 or (self.sparse_halvings > 0 and self.backbone != "transformer")
        expect(halvings, "sparse_halvings", self.sparse_halvings, "0 or, with backbone 'resnet', positive")
        one_of(("resnet", "transformer"), backbone=self.backbone)
        multiple = (
            f"a multiple of the {self.multiple} pixels that are unshuffled, halved away or in a transformer_patch"
        )
        expect(self.patch_size % self.multiple == 0, "patch_size", self.patch_size, multiple)
        inputs = get_args(NetworkConfig.__annotations__["sparse_input"])
        one_of(inputs, sparse_input=self.sparse_input)
        one_of(("sparse", "noise", "shrinkage"), sparse_output=self.sparse_output)
        bounds = (self.log_variance_min, self.log_variance_init, self.log_variance_max)
        ascending = bounds[0] < bounds[1] < bounds[2]
        expect(ascending, "log_variance_min, log_variance_init, log_variance_max", bounds, "ascending values")

    @property
    def multiple(self) -> int:
        """Number of pixels that height and width of an image must be a multiple of."""
        pixels = math.lcm(self.sparse_unshuffle * 2**self.sparse_halvings, self.factor_unshuffle)
        return pixels * (self.transformer_patch if self.backbone == "transformer" else 1)


def network_preset(name: Literal["tiny", "cpu", "cpu-long", "paper"], channels: int) -> NetworkConfig:
    """Named sizes: ``tiny`` for tests (seconds), ``cpu`` and ``cpu-long`` for what ships, ``paper`` for section 4.1.

    The ``cpu`` preset is the efficient family: no normalisation; factor networks that halve the averaged axis, with
    cosine moments and positions; f_S on 2x unshuffled pixels, which sees Y and L and predicts the noise. It starts on
    tiles of 64 pixels; the same weights go on with larger ones. What each of these choices changes is measured by
    :mod:`indeed.experiments.design_search`. In ``cpu-long``, for long runs on tiles of 128
    pixels throughout, f_S is a `ResidualUNet`: a design on trial, which :mod:`indeed.experiments.denoiser_search` is to
    compare with others.
    """
    if name == "cpu-long":
        return replace(
            network_preset("cpu", channels),
            patch_size=128,
            sparse_halvings=2,
            sparse_blocks=2,
            sparse_widest=128,
            sparse_residual=True,
        )
    if name == "paper":
        return NetworkConfig(channels=channels)
    fields = ("max_rank", "patch_size", "factor_width", "factor_blocks", "sparse_width", "sparse_blocks")
    sizes = {"tiny": (4, 16, 8, 2, 8, 1), "cpu": (64, 64, 24, 5, 64, 7)}
    one_of((*sizes, "cpu-long", "paper"), name=name)
    chosen: dict[str, Any] = dict(zip(fields, sizes[name], strict=True))
    return NetworkConfig(
        channels=channels,
        norm="none",
        factor_halving=True,
        factor_unshuffle=2,
        factor_moments=chosen["max_rank"] // 4,
        factor_positions=chosen["max_rank"] // 2,
        sparse_unshuffle=2,
        sparse_input="observation_and_low_rank",
        sparse_output="noise",
        log_variance_init=-10.0,
        **chosen,
    )


def full_precision(y: Tensor) -> torch.autocast:
    """Context without autocast: only the ResNets may run in 16 bits, not the heads, nor the product A Bᵀ."""
    return torch.autocast(y.device.type, enabled=False)


def cosines(length: int, count: int, like: Tensor) -> Float[Tensor, "count length"]:
    r"""Cosines of the DCT-II along an axis: :math:`\cos(\pi k (i + 1/2) / n)` at pixel i, k = 0, ..., count - 1."""
    pixels = torch.arange(length, dtype=like.dtype, device=like.device)
    waves = torch.arange(count, dtype=like.dtype, device=like.device)
    return torch.cos(torch.pi / length * waves[:, None] * (pixels + 0.5))


class FactorNetwork(nn.Module):
    r"""Module f_A or f_B: image to the mean and log-variance of one factor (section 3.4.2).

    A ResNet, the mean over the other axis, and a 1x1 head with 2 * channels * max_rank outputs, so the number of rows
    of the result follows the image. f_A keeps the height, f_B the width.

    The mean forgets *where* along the other axis a feature was, which the product :math:`AB^\top` needs to know. It is
    the first of the cosine moments of the axis; with ``factor_moments`` the heads see more of them. With
    ``factor_positions`` they see cosines of the position along the axis that is kept, so that a factor can hold a fixed
    basis for the other to weigh. Both are ours.
    """

    def __init__(self, config: NetworkConfig, keep: Literal["height", "width"]) -> None:
        super().__init__()
        self.config = config
        self.keep = keep
        averaged: Literal["height", "width"] = "width" if keep == "height" else "height"
        inputs = config.channels * config.factor_unshuffle
        self.trunk: nn.Module
        if config.backbone == "transformer":
            size = (config.transformer_width, config.transformer_blocks, config.transformer_patch)
            self.trunk = Transformer(inputs, config.factor_width, *size, pooled=averaged)
        else:
            self.trunk = ResNet(
                inputs,
                config.factor_width,
                config.factor_blocks,
                config.factor_kernel_size,
                config.factor_norm or config.norm,
                halve=averaged if config.factor_halving else None,
                halve_to=config.factor_moments,
            )
        outputs = config.channels * config.max_rank
        # The two mean heads start away from zero: at A = B = 0 the gradient of A B^T vanishes (a saddle).
        features = config.factor_width * config.factor_moments + config.factor_positions
        self.mean_head = nn.Conv1d(features, outputs, 1)
        self.log_variance_head = nn.Conv1d(features, outputs, 1)
        scale_(self.log_variance_head, 0.1)
        nn.init.constant_(self.log_variance_head.bias, config.log_variance_init)  # type: ignore[arg-type]

    def forward(self, y: Images) -> GaussianFactor:
        """Posterior of the factor: mean and log-variance, (batch, channel, height or width, rank)."""
        features = self.trunk(self._unshuffled(y))
        with full_precision(y):
            moments = self._moments(features.to(y.dtype))
            return GaussianFactor(self._columns(self.mean_head(moments)), self._log_variance(moments))

    def _unshuffled(self, y: Images) -> Float[Tensor, "batch feature rows columns"]:
        """Image with the pixels of each short run along the averaged axis as channels."""
        batch, channel, height, width = y.shape
        run = self.config.factor_unshuffle
        if self.keep == "height":
            return y.reshape(batch, channel, height, width // run, run).movedim(4, 2).flatten(1, 2)
        return y.reshape(batch, channel, height // run, run, width).movedim(3, 2).flatten(1, 2)

    def _moments(self, features: Tensor) -> Float[Tensor, "batch feature length"]:
        """Cosine moments of the other axis, and cosines of the position on the axis that is kept."""
        if self.keep == "width":
            features = features.mT
        length, averaged = features.shape[-2:]
        waves = cosines(averaged, self.config.factor_moments, features) / averaged
        moments = (features @ waves.T).mT.flatten(1, 2)
        positions = cosines(length, self.config.factor_positions + 1, features)[1:]
        return torch.cat([moments, positions.expand(len(moments), -1, -1)], dim=1)

    def _columns(self, heads: Float[Tensor, "batch outputs length"]) -> Tensor:
        batch, _, length = heads.shape
        return heads.reshape(batch, self.config.channels, self.config.max_rank, length).mT

    def _log_variance(self, features: Tensor) -> Tensor:
        log_variance = self._columns(self.log_variance_head(features))
        return log_variance.clamp(self.config.log_variance_min, self.config.log_variance_max)


class SparseNetwork(nn.Module):
    r"""Module f_S: observation and low-rank part to the mean and log-variance of S (section 3.4.2).

    In the paper's form it sees :math:`Y - \hat A\hat B^\top` and its output is the mean of S.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.leak = 0.0
        """Slope of the last ReLU below zero. Where all its features are below zero, mean and variance are
        constants and no gradient passes; with a leak a network can still learn there."""
        pixels = config.sparse_unshuffle**2
        inputs = config.channels * (1 if config.sparse_input in ("residual", "observation") else 2)
        self.trunk: nn.Module
        if config.backbone == "transformer":
            size = (config.transformer_width, config.transformer_blocks, config.transformer_patch)
            self.trunk = Transformer(inputs * pixels, config.sparse_width, *size)
        elif config.sparse_halvings:
            size = (config.sparse_width, config.sparse_blocks, config.sparse_halvings)
            if config.sparse_residual:
                self.trunk = ResidualUNet(inputs * pixels, *size, config.sparse_widest, config.sparse_bias)
            else:
                self.trunk = UNet(inputs * pixels, *size, config.norm)
        else:
            bias = config.sparse_bias
            self.trunk = ResNet(inputs * pixels, config.sparse_width, config.sparse_blocks, 3, config.norm, bias=bias)
        self.mean_head = nn.Conv2d(
            config.sparse_width, config.channels * pixels, 3, padding="same", bias=config.sparse_bias
        )
        self.log_variance_head = nn.Conv2d(config.sparse_width, config.channels * pixels, 3, padding="same")
        scale_(self.mean_head, 0.1)
        scale_(self.log_variance_head, 0.1)
        nn.init.constant_(self.log_variance_head.bias, config.log_variance_init)  # type: ignore[arg-type]

    def forward(self, y: Images, low_rank_image: Images) -> GaussianFactor:
        """Posterior of S given Y and (a draw or the mean of) L, all (batch, channel, height, width)."""
        residual = y - low_rank_image
        if self.config.sparse_input == "residual":
            seen = residual
        elif self.config.sparse_input == "observation":
            seen = y
        elif self.config.sparse_input == "observation_and_low_rank":
            seen = torch.cat([y, low_rank_image], dim=1)
        else:
            seen = torch.cat([y, RESIDUAL_GAIN * residual], dim=1)
        factor = self.config.sparse_unshuffle
        features = self.trunk(functional.pixel_unshuffle(seen, factor))
        with full_precision(y):
            features = functional.leaky_relu(features.to(y.dtype), self.leak)
            mean = functional.pixel_shuffle(self.mean_head(features), factor)
            log_variance = functional.pixel_shuffle(self.log_variance_head(features), factor)
        if self.config.sparse_output == "noise":
            mean = residual - mean
        elif self.config.sparse_output == "shrinkage":
            mean = torch.sigmoid(mean) * residual
        return GaussianFactor(mean, log_variance.clamp(self.config.log_variance_min, self.config.log_variance_max))


class InDeed(nn.Module):
    r"""Modular inference network :math:`\phi_{\mathcal Z_m} = f_\theta(Y)` (Eq. 10).

    The modules ``f_A``, ``f_B`` and ``f_S`` follow the graph of the model and can be frozen, trained or replaced one by
    one.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.f_A = FactorNetwork(config, "height")
        self.f_B = FactorNetwork(config, "width")
        self.f_S = SparseNetwork(config)
        for module in (self.f_A, self.f_B, self.f_S):
            # The layout convolutions are fastest in; it changes no value. The backward pass of GroupNorm is ten times
            # slower in it on a CPU in 16 bits.
            if not any(isinstance(part, nn.GroupNorm) for part in module.modules()):
                module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, y: Images, generator: Generators | None = None) -> tuple[MiddleLevel, Draw]:
        """Posterior of the middle level, and the draw that conditions S and enters the loss.

        Parameters
        ----------
        y
            Images in [0, 1] (noise may leave that range), (batch, channel, height, width).
        generator
            With a generator, or one for each sample, A, B and S are sampled, as in training; without, the draw is the
            means, as in evaluation.

        Raises
        ------
        ValueError
            If the channels differ from ``config.channels`` or a side is no multiple of ``config.multiple``.
        """
        self._check(y)
        A, B = self.f_A(y), self.f_B(y)
        if generator is None:
            left, right = A.mean, B.mean
        else:
            left, right = A.rsample(generator), B.rsample(generator)
        with full_precision(y):
            low_rank_image = low_rank(left, right)
        S = self.f_S(y, low_rank_image)
        sparse = S.mean if generator is None else S.rsample(generator)
        return MiddleLevel(A, B, S), Draw(left, right, sparse)

    def set_trainable(self, modules: Literal["L", "S", "LS"]) -> None:
        """Freeze all but the low-rank modules (``L``: f_A and f_B), the sparse module (``S``) or nothing (``LS``)."""
        one_of(("L", "S", "LS"), modules=modules)
        self.f_A.requires_grad_("L" in modules)
        self.f_B.requires_grad_("L" in modules)
        self.f_S.requires_grad_("S" in modules)

    def _check(self, y: Tensor) -> None:
        expect(y.shape[1] == self.config.channels, "y", f"{y.shape[1]} channels", f"{self.config.channels}")
        multiple = self.config.multiple
        if y.shape[-2] % multiple or y.shape[-1] % multiple:
            raise ValueError(f"y: got {tuple(y.shape[-2:])} pixels, expected multiples of {multiple}")
