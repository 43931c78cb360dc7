r"""The inference network :math:`f_\theta = (f_A, f_B, f_S)` of Eq. 10 and section 3.4.2.

It maps an observation to the variational parameters of the middle level; the leaf level follows in closed form
(:func:`indeed.bayes.conjugate_updates.solve_leaf_level`).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from indeed.bayes.generative_model import Image, low_rank
from indeed.bayes.variational_family import Draw, GaussianFactor, MiddleLevel
from indeed.networks.backbones import Norm, ResNet, scale_


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
    norm: Norm = "group"
    factor_width: int = 64
    factor_blocks: int = 17
    """Residual blocks of f_A and of f_B; the paper's depth is twice this plus one (35)."""
    factor_kernel_size: int = 3
    factor_halving: bool = False
    """Whether f_A and f_B halve the axis they average away in front of every block (same output shape, less work)."""
    sparse_width: int = 128
    sparse_blocks: int = 11
    sparse_unshuffle: int = 1
    """f_S works on images pixel-unshuffled by this factor; 2 costs a quarter."""
    sparse_input: Literal["residual", "observation_and_low_rank"] = "residual"
    """What f_S sees: Y - L as in the paper, or Y and L side by side (q(S | A, B) also conditioned on Y)."""
    sparse_output: Literal["sparse", "noise"] = "sparse"
    """Whether f_S outputs the mean of S, or the noise, from which the mean of S is Y - L minus the output."""
    log_variance_min: float = -20.0
    log_variance_max: float = 0.0
    log_variance_init: float = -6.0
    """Log-variances are clamped to [min, max] and start at init: a sampled L is then close to its mean."""

    def __post_init__(self) -> None:  # noqa: D105
        if self.channels not in (1, 3):
            raise ValueError(f"channels must be 1 or 3, got {self.channels}")
        if not 1 <= self.max_rank <= self.patch_size:
            raise ValueError(f"max_rank must be between 1 and patch_size ({self.patch_size}), got {self.max_rank}")
        if self.sparse_unshuffle < 1 or self.patch_size % self.sparse_unshuffle:
            raise ValueError(
                f"sparse_unshuffle must divide patch_size ({self.patch_size}), got {self.sparse_unshuffle}"
            )
        if self.sparse_input not in ("residual", "observation_and_low_rank"):
            raise ValueError(
                f"sparse_input must be 'residual' or 'observation_and_low_rank', got {self.sparse_input!r}"
            )
        if self.sparse_output not in ("sparse", "noise"):
            raise ValueError(f"sparse_output must be 'sparse' or 'noise', got {self.sparse_output!r}")
        if not self.log_variance_min < self.log_variance_init < self.log_variance_max:
            raise ValueError(
                "log_variance_min < log_variance_init < log_variance_max must hold, got "
                f"{self.log_variance_min}, {self.log_variance_init}, {self.log_variance_max}"
            )


def network_preset(name: Literal["tiny", "cpu", "paper"], channels: int) -> NetworkConfig:
    """Named sizes: ``tiny`` for tests (seconds), ``cpu`` for the shipped models, ``paper`` for section 4.1.

    The ``cpu`` preset is the efficient family: factor networks that halve the averaged axis, f_S on 2x unshuffled
    pixels that sees Y and L and predicts the noise, no normalisation. Its chapters measure what each of these choices
    changes.
    """
    if name == "paper":
        return NetworkConfig(channels=channels)
    sizes = {
        "tiny": {
            "max_rank": 4,
            "patch_size": 16,
            "factor_width": 8,
            "factor_blocks": 2,
            "sparse_width": 8,
            "sparse_blocks": 1,
        },
        "cpu": {
            "max_rank": 32,
            "patch_size": 64,
            "factor_width": 24,
            "factor_blocks": 5,
            "sparse_width": 48,
            "sparse_blocks": 6,
        },
    }
    if name not in sizes:
        raise ValueError(f"name must be 'tiny', 'cpu' or 'paper', got {name!r}")
    return NetworkConfig(
        channels=channels,
        norm="none",
        factor_halving=True,
        sparse_unshuffle=2,
        sparse_input="observation_and_low_rank",
        sparse_output="noise",
        **sizes[name],
    )


class FactorNetwork(nn.Module):
    r"""Module f_A or f_B: image to the mean and log-variance of one factor (section 3.4.2).

    A ResNet, the mean over the other axis, and a 1x1 head with 2 * channels * max_rank outputs, so the number of rows
    of the result follows the image. f_A keeps the height, f_B the width.
    """

    def __init__(self, config: NetworkConfig, keep: Literal["height", "width"]) -> None:
        super().__init__()
        self.config = config
        self.keep = keep
        averaged: Literal["height", "width"] = "width" if keep == "height" else "height"
        self.trunk = ResNet(
            config.channels,
            config.factor_width,
            config.factor_blocks,
            config.factor_kernel_size,
            config.norm,
            halve=averaged if config.factor_halving else None,
        )
        outputs = config.channels * config.max_rank
        # The two mean heads start away from zero: at A = B = 0 the gradient of A B^T vanishes (a saddle).
        self.mean_head = nn.Conv1d(config.factor_width, outputs, 1)
        self.log_variance_head = nn.Conv1d(config.factor_width, outputs, 1)
        scale_(self.log_variance_head, 0.1)
        nn.init.constant_(self.log_variance_head.bias, config.log_variance_init)  # type: ignore[arg-type]

    def forward(self, y: Image) -> GaussianFactor:
        """Posterior of the factor: mean and log-variance, (batch, channel, height or width, rank)."""
        features = self.trunk(y).mean(-1 if self.keep == "height" else -2)
        return GaussianFactor(self._columns(self.mean_head(features)), self._log_variance(features))

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
        pixels = config.sparse_unshuffle**2
        inputs = config.channels * (2 if config.sparse_input == "observation_and_low_rank" else 1)
        self.trunk = ResNet(inputs * pixels, config.sparse_width, config.sparse_blocks, 3, config.norm)
        self.mean_head = nn.Conv2d(config.sparse_width, config.channels * pixels, 3, padding="same")
        self.log_variance_head = nn.Conv2d(config.sparse_width, config.channels * pixels, 3, padding="same")
        scale_(self.mean_head, 0.1)
        scale_(self.log_variance_head, 0.1)
        nn.init.constant_(self.log_variance_head.bias, config.log_variance_init)  # type: ignore[arg-type]

    def forward(self, y: Image, low_rank_image: Image) -> GaussianFactor:
        """Posterior of S given Y and (a draw or the mean of) L, all (batch, channel, height, width)."""
        residual = y - low_rank_image
        seen = residual if self.config.sparse_input == "residual" else torch.cat([y, low_rank_image], dim=1)
        factor = self.config.sparse_unshuffle
        features = functional.relu(self.trunk(functional.pixel_unshuffle(seen, factor)))
        mean = functional.pixel_shuffle(self.mean_head(features), factor)
        log_variance = functional.pixel_shuffle(self.log_variance_head(features), factor)
        if self.config.sparse_output == "noise":
            mean = residual - mean
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
        # The layout convolutions are fastest in, on CPUs and GPUs alike; it changes no value.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, y: Image, generator: torch.Generator | None = None) -> tuple[MiddleLevel, Draw]:
        """Posterior of the middle level, and the draw that conditions S and enters the loss.

        Parameters
        ----------
        y
            Images in [0, 1] (noise may leave that range), (batch, channel, height, width).
        generator
            With a generator A, B and S are sampled, as in training; without, the draw is the means, as in evaluation.

        Raises
        ------
        ValueError
            If the channels differ from ``config.channels`` or a side is no multiple of ``config.sparse_unshuffle``.
        """
        self._check(y)
        A, B = self.f_A(y), self.f_B(y)
        if generator is None:
            left, right = A.mean, B.mean
        else:
            left, right = A.rsample(generator), B.rsample(generator)
        S = self.f_S(y, low_rank(left, right))
        sparse = S.mean if generator is None else S.rsample(generator)
        return MiddleLevel(A, B, S), Draw(left, right, sparse)

    def set_trainable(self, modules: Literal["L", "S", "LS"]) -> None:
        """Freeze all but the low-rank modules (``L``: f_A and f_B), the sparse module (``S``) or nothing (``LS``)."""
        if modules not in ("L", "S", "LS"):
            raise ValueError(f"modules must be 'L', 'S' or 'LS', got {modules!r}")
        self.f_A.requires_grad_("L" in modules)
        self.f_B.requires_grad_("L" in modules)
        self.f_S.requires_grad_("S" in modules)

    def _check(self, y: Tensor) -> None:
        if y.shape[1] != self.config.channels:
            raise ValueError(f"y must have {self.config.channels} channels, got {y.shape[1]}")
        factor = self.config.sparse_unshuffle
        if y.shape[-2] % factor or y.shape[-1] % factor:
            raise ValueError(f"height and width of y must be multiples of {factor}, got {tuple(y.shape[-2:])}")
