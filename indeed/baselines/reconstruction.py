r"""Networks that find anomalies by reconstructing the normal image: a convolutional autoencoder, and DRAEM.

Both have the interface of an inference network, so that the loop, the batches and the checkpoints of
:mod:`indeed.learning.training` are used as they are::

    Trainer(autoencoder_preset("cpu"), config, samples, folder, build=Autoencoder, supervision=supervised_autoencoder)
    Trainer(draem_preset("cpu"), config, samples, folder, build=DRAEM, supervision=supervised_draem)

with ``variational=False`` and ``orthogonality_weight=0`` in ``config``. A sample is the observed image and the normal
one, :math:`Y` and :math:`U_N`; :math:`S` is what the reconstruction leaves, :math:`Y - \hat U_N`. The autoencoder is
given good images, where the two are the same; DRAEM needs synthetic anomalies.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from indeed.bayes.variational_family import Draw, GaussianFactor, MiddleLevel
from indeed.images.tiling import reflected_indices
from indeed.learning.loading import Batch
from indeed.learning.training import TrainingConfig
from indeed.networks.checkpoint import CheckpointError, read_checkpoint
from indeed.networks.inference_network import full_precision
from indeed.types import Images, Maps, Masks, PerSample

Network = TypeVar("Network", bound=nn.Module)

WINDOW, WINDOW_SIGMA = 11, 1.5
"""Gaussian window of the structural similarity, as in :mod:`indeed.images.metrics`."""


@dataclass(frozen=True)
class AutoencoderConfig:
    """Sizes of the convolutional autoencoder.

    Raises
    ------
    ValueError
        For channels other than 1 or 3, or a size below one.
    """

    channels: int = 1
    """Image channels: 1 (grey) or 3 (colour)."""
    width: int = 12
    """Feature maps at full resolution; they double with each halving of the sides."""
    depth: int = 4
    """Halvings of the sides."""
    bottleneck: int = 32
    """Feature maps at the lowest resolution, through which all passes: ``bottleneck / 4**depth`` numbers a pixel."""

    def __post_init__(self) -> None:  # noqa: D105
        _check_sizes(self.channels, width=self.width, depth=self.depth, bottleneck=self.bottleneck)


@dataclass(frozen=True)
class DRAEMConfig:
    """Sizes of the two networks of DRAEM.

    Raises
    ------
    ValueError
        For channels other than 1 or 3, or a size below one.
    """

    channels: int = 1
    """Image channels: 1 (grey) or 3 (colour)."""
    width: int = 16
    """Feature maps at full resolution; they double with each halving of the sides."""
    depth: int = 3
    """Halvings of the sides."""

    def __post_init__(self) -> None:  # noqa: D105
        _check_sizes(self.channels, width=self.width, depth=self.depth)


def autoencoder_preset(name: Literal["tiny", "cpu"], channels: int = 1) -> AutoencoderConfig:
    """Named sizes: ``tiny`` for tests; ``cpu`` (1.0 million parameters) trains in minutes on one core."""
    if name == "tiny":
        return AutoencoderConfig(channels, width=8, depth=2, bottleneck=4)
    if name == "cpu":
        return AutoencoderConfig(channels)
    raise ValueError(f"name must be 'tiny' or 'cpu', got {name!r}")


def draem_preset(name: Literal["tiny", "cpu"], channels: int = 1) -> DRAEMConfig:
    """Named sizes: ``tiny`` for tests; ``cpu`` (0.9 million parameters) trains in minutes on one core."""
    if name == "tiny":
        return DRAEMConfig(channels, width=8, depth=2)
    if name == "cpu":
        return DRAEMConfig(channels)
    raise ValueError(f"name must be 'tiny' or 'cpu', got {name!r}")


class EncoderDecoder(nn.Module):
    """Convolutions with BatchNorm and leaky ReLU that halve the sides ``depth`` times, and others that double them.

    Halving and doubling are learned (4x4 kernels, stride 2): pooling forgets where within a block a feature was, which
    the decoder of a texture needs to know. Images of any size go in: the sides are extended by reflection to multiples
    of ``2**depth`` and cut again.

    Parameters
    ----------
    in_channels, out_channels
        Channels in and out.
    width, depth
        Feature maps at full resolution, which double with each of the halvings.
    skips
        Hand the features of each resolution across, as in a U-Net. Without, all passes through the lowest one.
    bottleneck
        Feature maps to which the lowest resolution is squeezed; None: no squeeze.
    """

    def __init__(
        self, in_channels: int, out_channels: int, width: int, depth: int, *, skips: bool, bottleneck: int | None = None
    ) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        pairs = list(pairwise(widths))
        self.stem = _activated(nn.Conv2d(in_channels, width, 3, padding="same", bias=False))
        self.down = nn.ModuleList(
            _activated(nn.Conv2d(few, many, 4, stride=2, padding=1, bias=False)) for few, many in pairs
        )
        self.squeeze: nn.Module = nn.Identity()
        if bottleneck is not None:
            narrow, wide = nn.Conv2d(widths[-1], bottleneck, 1), nn.Conv2d(bottleneck, widths[-1], 1, bias=False)
            self.squeeze = nn.Sequential(narrow, _activated(wide))
        self.up = nn.ModuleList(
            _activated(nn.ConvTranspose2d(many, few, 4, stride=2, padding=1, bias=False))
            for few, many in reversed(pairs)
        )
        self.merge = nn.ModuleList(
            _activated(nn.Conv2d(2 * few, few, 3, padding="same", bias=False)) for few in reversed(widths[:-1]) if skips
        )
        self.head = nn.Conv2d(width, out_channels, 1)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, y: Images) -> Float[Tensor, "batch out height width"]:
        """Image to an image of other channels, of the same size and in full precision."""
        height, width = y.shape[-2:]
        step = 2 ** len(self.down)
        rows, columns = (reflected_indices(side, -(-side // step) * step).to(y.device) for side in (height, width))
        features = [self.stem(y[..., rows, :][..., columns])]
        for halve in self.down:
            features.append(halve(features[-1]))
        x = self.squeeze(features.pop())
        for level, double in enumerate(self.up):
            x = double(x)
            if self.merge:
                x = self.merge[level](torch.cat([x, features.pop()], 1))
        with full_precision(y):
            image: Tensor = self.head(x.to(y.dtype))[..., :height, :width]
        return image


class Autoencoder(nn.Module):
    """Convolutional autoencoder, trained on good images by squared error: what it cannot reproduce is an anomaly.

    The bottleneck makes it so, and blurs normal detail too. In the terms of an inference network A and B have rank 0,
    L = 0, and S is the image minus its reconstruction.

    Raises
    ------
    ValueError
        If the channels of an image differ from ``config.channels``.

    Examples
    --------
    >>> y = torch.rand(2, 1, 20, 24, generator=torch.Generator().manual_seed(0))
    >>> model = Autoencoder(autoencoder_preset("tiny")).eval()
    >>> middle, draw = model(y)
    >>> torch.allclose(draw.S + model.reconstruct(y), y), draw.A.shape, model.map(y).shape
    (True, torch.Size([2, 1, 20, 0]), torch.Size([2, 20, 24]))
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.network = EncoderDecoder(
            config.channels, config.channels, config.width, config.depth, skips=False, bottleneck=config.bottleneck
        )

    def reconstruct(self, y: Images) -> Images:
        """Image as the bottleneck lets it through."""
        _check_channels(y, self.config.channels)
        image: Tensor = self.network(y)
        return image

    def forward(self, y: Images, generators: Any = None) -> tuple[MiddleLevel, Draw]:
        """Middle level with an empty low-rank part, and its means; nothing is drawn, with or without generators."""
        S = y - self.reconstruct(y)
        return _middle_level(y.new_zeros(*y.shape[:3], 0), S)

    @torch.inference_mode()
    def map(self, images: Images, form: Literal["squared", "ssim"] = "squared") -> Maps:
        """Anomaly of each pixel.

        Parameters
        ----------
        images
            Images in [0, 1], on the device of the network, which should be in evaluation mode.
        form
            ``squared``: squared residual; ``ssim``: one minus the structural similarity, which sees a wrong structure
            where the intensities differ little, and blurs a spot to the size of its window. Both are summed over the
            colours.
        """
        if form not in ("squared", "ssim"):
            raise ValueError(f"form must be 'squared' or 'ssim', got {form!r}")
        image = self.reconstruct(images)
        return ((images - image).square() if form == "squared" else 1 - ssim_map(image, images)).sum(1)


class DRAEM(nn.Module):
    """DRAEM of Zavrtanik et al. (2021): one network takes the anomaly out, another sees both images and marks it.

    The reconstruction passes through the lowest resolution; the discrimination is a U-Net with a logit for each pixel.
    In the terms of an inference network S is the image minus its reconstruction. The logits travel in A: its value at
    (row, i) is that of the pixel in column i. B = 0, so L is empty.

    Raises
    ------
    ValueError
        If the channels of an image differ from ``config.channels``.

    Examples
    --------
    >>> y = torch.rand(2, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    >>> model = DRAEM(draem_preset("tiny", channels=3)).eval()
    >>> middle, draw = model(y)
    >>> torch.equal(draw.A[:, 0].sigmoid(), model.map(y)), draw.low_rank.count_nonzero()
    (True, tensor(0))
    """

    def __init__(self, config: DRAEMConfig) -> None:
        super().__init__()
        self.config = config
        channels, width, depth = config.channels, config.width, config.depth
        self.reconstructive = EncoderDecoder(channels, channels, width, depth, skips=False)
        self.discriminative = EncoderDecoder(2 * channels, 1, width, depth, skips=True)

    def reconstruct(self, y: Images) -> Images:
        """Image without its anomalies."""
        _check_channels(y, self.config.channels)
        image: Tensor = self.reconstructive(y)
        return image

    def forward(self, y: Images, generators: Any = None) -> tuple[MiddleLevel, Draw]:
        """Middle level of the logits and the residual, and its means; nothing is drawn."""
        image = self.reconstruct(y)
        logits = self.discriminative(torch.cat([y, image], 1))
        return _middle_level(logits.expand(-1, self.config.channels, -1, -1), y - image)

    @torch.inference_mode()
    def map(self, images: Images) -> Maps:
        """Probability that each pixel is anomalous; images in [0, 1], network in evaluation mode."""
        _, draw = self(images)
        probability: Tensor = draw.A[:, 0].sigmoid()
        return probability


def supervised_autoencoder(middle: MiddleLevel, draw: Draw, batch: Batch, config: TrainingConfig) -> PerSample:
    """Squared error of the reconstruction, summed over a sample: up to a factor and a constant that of Eq. 45."""
    return (batch.observed - draw.S - batch.target).square().sum((1, 2, 3))


def supervised_draem(middle: MiddleLevel, draw: Draw, batch: Batch, config: TrainingConfig) -> PerSample:
    """Losses of DRAEM with equal weights, times the pixels and channels by which the loop divides.

    The mask is where the observed image differs from the normal one in any colour: noise may be added to both, never to
    one.
    """
    mask = (batch.observed != batch.target).any(1)
    losses = draem_losses(batch.observed - draw.S, draw.A[:, 0], batch.target, mask)
    return batch.observed[0].numel() * torch.stack(losses).sum(0)


class DRAEMLosses(NamedTuple):
    """Per-sample terms of the loss of DRAEM, means over the pixels, each of shape (batch,)."""

    squared: PerSample
    """Squared error of the reconstruction."""
    structural: PerSample
    """One minus its structural similarity."""
    focal: PerSample
    """Focal loss of the logits."""


def draem_losses(reconstruction: Images, logits: Maps, normal: Images, mask: Masks) -> DRAEMLosses:
    """Losses of the reconstruction and of the discrimination.

    Parameters
    ----------
    reconstruction, normal
        Reconstructed image, and what it should be.
    logits
        Of the pixels being anomalous.
    mask
        True where they are; it may be empty, as for a good image.
    """
    squared = (reconstruction - normal).square().mean((1, 2, 3))
    structural = 1 - ssim_map(reconstruction, normal).mean((1, 2, 3))
    return DRAEMLosses(squared, structural, focal_loss(logits, mask).mean((1, 2)))


def focal_loss(logits: Maps, mask: Masks, focus: float = 2.0) -> Maps:
    r"""Focal loss :math:`-(1 - p)^\gamma \log p` of a pixel whose class has probability p (Lin et al., 2017).

    Pixels that are right already count little, so that the many normal ones do not drown the few anomalous ones.
    ``focus`` is :math:`\gamma`.

    Examples
    --------
    Without focus it is the cross-entropy:

    >>> logits, mask = torch.tensor([[[-1.0, 3.0]]]), torch.tensor([[[True, True]]])
    >>> torch.allclose(focal_loss(logits, mask, focus=0.0), functional.softplus(-logits))
    True
    """
    log_probability = functional.logsigmoid(torch.where(mask, logits, -logits))
    return -((1 - log_probability.exp()) ** focus) * log_probability


def ssim_map(estimate: Images, reference: Images) -> Images:
    """Structural similarity around each pixel, in [-1, 1], differentiable (Wang et al., 2004).

    The window is that of :func:`indeed.images.metrics.ssim`; beyond the border the images go on by reflection. They are
    in [0, 1], and neither clipped nor rounded.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if estimate.shape != reference.shape:
        raise ValueError(f"estimate: got shape {tuple(estimate.shape)}, expected the reference's {reference.shape}")
    x, y = estimate, reference
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = _local_means(torch.stack([x, y, x * x, y * y, x * y])).unbind()
    covariance, spread = mean_xy - mean_x * mean_y, mean_xx - mean_x.square() + mean_yy - mean_y.square()
    c1, c2 = 0.01**2, 0.03**2  # the constants of the paper for a range of one
    similarity: Tensor = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return similarity / ((mean_x.square() + mean_y.square() + c1) * (spread + c2))


def load_autoencoder(path: Path, device: str | torch.device = "cpu") -> tuple[Autoencoder, dict[str, Any]]:
    """Autoencoder in evaluation mode and its record, from a file of `indeed.networks.checkpoint.save_checkpoint`.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged or holds another network.
    """
    return _load(path, lambda sizes: Autoencoder(AutoencoderConfig(**sizes)), "autoencoder", device)


def load_draem(path: Path, device: str | torch.device = "cpu") -> tuple[DRAEM, dict[str, Any]]:
    """DRAEM in evaluation mode and its record, from a file of `indeed.networks.checkpoint.save_checkpoint`.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged or holds another network.
    """
    return _load(path, lambda sizes: DRAEM(DRAEMConfig(**sizes)), "DRAEM", device)


def _load(
    path: Path, build: Callable[[dict[str, Any]], Network], name: str, device: str | torch.device
) -> tuple[Network, dict[str, Any]]:
    sizes, record, tensors = read_checkpoint(path)
    try:
        with torch.random.fork_rng(devices=[]):
            model = build(sizes)
        model.load_state_dict(tensors)
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: holds no {name} ({' '.join(str(error).split())[:200]})") from error
    return model.to(device).eval(), record


def _activated(convolution: nn.Conv2d | nn.ConvTranspose2d) -> nn.Sequential:
    # The convolution needs no bias: BatchNorm takes it away.
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels), nn.LeakyReLU(0.2, inplace=True))


def _middle_level(A: Float[Tensor, "batch channel height rank"], S: Images) -> tuple[MiddleLevel, Draw]:
    B = A.new_zeros(*S.shape[:2], S.shape[3], A.shape[3])
    middle = MiddleLevel(*(GaussianFactor(mean, torch.zeros_like(mean)) for mean in (A, B, S)))
    return middle, middle.means


def _local_means(stack: Float[Tensor, "kind batch channel height width"]) -> Tensor:
    height, width = stack.shape[-2:]
    margin = WINDOW // 2
    # reflected_indices extends at the end only; a reflection at the start is one at the end of the reversed axis.
    rows, columns = (_extended(side, margin).to(stack.device) for side in (height, width))
    x = stack[..., rows, :][..., columns].reshape(-1, 1, height + 2 * margin, width + 2 * margin)
    window = stack.new_tensor(_window())
    means = functional.conv2d(functional.conv2d(x, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))
    return means.reshape(stack.shape)


def _extended(length: int, margin: int) -> Tensor:
    end = reflected_indices(length, length + margin)
    return torch.cat([(length - 1 - end[length:]).flip(0), end])


@cache
def _window() -> list[float]:
    offsets = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weights = torch.exp(-0.5 * (offsets / WINDOW_SIGMA).square())
    weights /= weights.sum()
    return [float(weight) for weight in weights]


def _check_sizes(channels: int, **sizes: int) -> None:
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3, got {channels}")
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def _check_channels(y: Images, channels: int) -> None:
    if y.shape[1] != channels:
        raise ValueError(f"y must have {channels} channels, got {y.shape[1]}")
