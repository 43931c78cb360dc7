r"""Networks that find anomalies by reconstructing the normal image: a convolutional autoencoder, and DRAEM.

Each has its own output and its own loss, and is trained by the loop that trains InDeed::

    Trainer(autoencoder_preset("cpu"), config, samples, folder, build=Autoencoder, task=AUTOENCODER_TASK)
    Trainer(draem_preset("cpu"), config, samples, folder, build=DRAEM, task=DRAEM_TASK)

A sample is the observed image and the normal one, :math:`Y` and :math:`U_N`. The autoencoder is given good images,
where the two are the same; DRAEM needs synthetic anomalies.
"""

from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from indeed.baselines.reconstruction_losses import DRAEMLosses, draem_losses, ssim_map
from indeed.checks import at_least, expect, one_of
from indeed.images.tiling import reflected_indices
from indeed.learning.loading import Batch
from indeed.learning.training.config import TrainingConfig
from indeed.learning.training.task import Forward, Task
from indeed.networks.checkpoint import load_network
from indeed.networks.inference_network import full_precision
from indeed.types import Images, Maps, PerSample


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
        expect(self.channels in (1, 3), "channels", self.channels, "1 or 3")
        at_least(1, **asdict(self))


@dataclass(frozen=True)
class AutoencoderConfig(DRAEMConfig):
    """Sizes of the convolutional autoencoder: those of DRAEM, with other defaults, and the bottleneck."""

    width: int = 12
    depth: int = 4
    bottleneck: int = 32
    """Feature maps at the lowest resolution. Everything passes through: ``bottleneck / 4**depth`` numbers a pixel."""


def autoencoder_preset(name: Literal["tiny", "cpu"], channels: int = 1) -> AutoencoderConfig:
    """Named sizes: ``tiny`` for tests; ``cpu`` (1.0 million parameters) trains in minutes on one core."""
    if name == "tiny":
        return AutoencoderConfig(channels, width=8, depth=2, bottleneck=4)
    if name == "cpu":
        return AutoencoderConfig(channels)
    raise ValueError(f"name: got {name!r}, expected 'tiny' or 'cpu'")


def draem_preset(name: Literal["tiny", "cpu"], channels: int = 1) -> DRAEMConfig:
    """Named sizes: ``tiny`` for tests; ``cpu`` (0.9 million parameters) trains in minutes on one core."""
    if name == "tiny":
        return DRAEMConfig(channels, width=8, depth=2)
    if name == "cpu":
        return DRAEMConfig(channels)
    raise ValueError(f"name: got {name!r}, expected 'tiny' or 'cpu'")


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
        Hand the features of each resolution across, as in a U-Net. If false, everything passes through the lowest.
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

    The bottleneck keeps it from reproducing anomalies, and blurs normal detail too.

    Raises
    ------
    ValueError
        If the channels of an image differ from ``config.channels``.

    Examples
    --------
    >>> y = torch.rand(2, 1, 20, 24, generator=torch.Generator().manual_seed(0))
    >>> model = Autoencoder(autoencoder_preset("tiny")).eval()
    >>> model(y).shape, model.map(y).shape
    (torch.Size([2, 1, 20, 24]), torch.Size([2, 20, 24]))
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.network = EncoderDecoder(
            config.channels, config.channels, config.width, config.depth, skips=False, bottleneck=config.bottleneck
        )

    def forward(self, y: Images) -> Images:
        """Image as the bottleneck lets it through."""
        _check_channels(y, self.config.channels)
        image: Tensor = self.network(y)
        return image

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
        one_of(("squared", "ssim"), form=form)
        image = self(images)
        return ((images - image).square() if form == "squared" else 1 - ssim_map(image, images)).sum(1)


class Marked(NamedTuple):
    """Output of DRAEM."""

    image: Images
    """Reconstruction without the anomalies."""
    logits: Maps
    """Logits of the pixels being anomalous."""


class DRAEM(nn.Module):
    """DRAEM of Zavrtanik et al. (2021): one network takes the anomaly out, another sees both images and marks it.

    The reconstruction passes through the lowest resolution; the discrimination is a U-Net with a logit for each pixel.

    Raises
    ------
    ValueError
        If the channels of an image differ from ``config.channels``.

    Examples
    --------
    >>> y = torch.rand(2, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    >>> model = DRAEM(draem_preset("tiny", channels=3)).eval()
    >>> image, logits = model(y)
    >>> image.shape == y.shape, torch.equal(logits.sigmoid(), model.map(y))
    (True, True)
    """

    def __init__(self, config: DRAEMConfig) -> None:
        super().__init__()
        self.config = config
        channels, width, depth = config.channels, config.width, config.depth
        self.reconstructive = EncoderDecoder(channels, channels, width, depth, skips=False)
        self.discriminative = EncoderDecoder(2 * channels, 1, width, depth, skips=True)

    def forward(self, y: Images) -> Marked:
        """Image without its anomalies, and the logits of the pixels being anomalous."""
        _check_channels(y, self.config.channels)
        image: Tensor = self.reconstructive(y)
        return Marked(image, self.discriminative(torch.cat([y, image], 1))[:, 0])

    @torch.inference_mode()
    def map(self, images: Images) -> Maps:
        """Probability that each pixel is anomalous; images in [0, 1], network in evaluation mode."""
        probability: Tensor = self(images).logits.sigmoid()
        return probability


def autoencoder_loss(model: Forward, batch: Batch, config: TrainingConfig) -> tuple[PerSample]:
    """Squared error of the reconstruction, summed over a sample: Eq. 45 up to a factor and a constant."""
    error = _from_residual(batch.observed, model(batch.observed)) - batch.target
    return (error.square().sum((1, 2, 3)),)


def draem_loss(model: Forward, batch: Batch, config: TrainingConfig) -> DRAEMLosses:
    """Loss of a `DRAEM`: its three terms with equal weights, times the pixels and channels by which the loop divides.

    The mask is where the observed image differs from the normal one in any colour: noise may be added to both images,
    never to one alone.
    """
    image, logits = model(batch.observed)
    mask = (batch.observed != batch.target).any(1)
    means = draem_losses(_from_residual(batch.observed, image), logits, batch.target, mask)
    return DRAEMLosses(*(batch.observed[0].numel() * term for term in means))


AUTOENCODER_TASK = Task(("squared",), autoencoder_loss)
DRAEM_TASK = Task(DRAEMLosses._fields, draem_loss)


def load_autoencoder(path: Path, device: str | torch.device = "cpu") -> tuple[Autoencoder, dict[str, Any]]:
    """Autoencoder in evaluation mode and its record, from a file of `indeed.networks.checkpoint.save_checkpoint`.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged or holds another network.
    """
    return load_network(path, lambda sizes: Autoencoder(AutoencoderConfig(**sizes)), device, "holds no autoencoder")


def load_draem(path: Path, device: str | torch.device = "cpu") -> tuple[DRAEM, dict[str, Any]]:
    """DRAEM in evaluation mode and its record, from a file of `indeed.networks.checkpoint.save_checkpoint`.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged or holds another network.
    """
    return load_network(path, lambda sizes: DRAEM(DRAEMConfig(**sizes)), device, "holds no DRAEM")


def _activated(convolution: nn.Conv2d | nn.ConvTranspose2d) -> nn.Sequential:
    # The convolution needs no bias: BatchNorm subtracts it.
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels), nn.LeakyReLU(0.2, inplace=True))


def _from_residual(observed: Images, image: Images) -> Images:
    # The image itself, up to rounding. The losses were first written for the residual, and a run that is resumed must
    # give the same weights to the bit.
    return observed - (observed - image)


def _check_channels(y: Images, channels: int) -> None:
    if y.shape[1] != channels:
        raise ValueError(f"y: got {y.shape[1]} channels, expected {channels}")
