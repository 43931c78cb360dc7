"""DnCNN, the plain convolutional denoiser that a learned decomposition is compared with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from indeed.bayes.elbo import per_sample_sum
from indeed.checks import at_least, expect
from indeed.learning.loading import Batch
from indeed.learning.training.config import TrainingConfig
from indeed.learning.training.task import Forward, Task
from indeed.networks.backbones import scale_
from indeed.networks.checkpoint import load_network
from indeed.networks.inference_network import full_precision
from indeed.types import Image, Images, PerSample


@dataclass(frozen=True)
class DnCNNConfig:
    """Sizes of a DnCNN; the defaults are those of the grey denoiser of its paper for one noise level.

    Raises
    ------
    ValueError
        For channels other than 1 or 3, fewer than three layers, or no width.
    """

    channels: int = 1
    """Image channels: 1 (grey) or 3 (colour)."""
    depth: int = 17
    """Convolution layers; the blind denoisers of its paper have 20."""
    width: int = 64

    def __post_init__(self) -> None:  # noqa: D105
        expect(self.channels in (1, 3), "channels", self.channels, "1 or 3")
        at_least(3, depth=self.depth)
        at_least(1, width=self.width)


class DnCNN(nn.Module):
    r"""DnCNN of Zhang et al. (2017): convolutions of 3x3 with BatchNorm and ReLU that predict the noise.

    Raises
    ------
    ValueError
        If the channels of an image differ from ``config.channels``.

    Examples
    --------
    >>> y = torch.rand(2, 1, 20, 24, generator=torch.Generator().manual_seed(0))
    >>> DnCNN(DnCNNConfig(depth=3, width=4)).eval()(y).shape
    torch.Size([2, 1, 20, 24])
    """

    def __init__(self, config: DnCNNConfig) -> None:
        super().__init__()
        self.config = config
        self.first = nn.Conv2d(config.channels, config.width, 3, padding="same")
        # No bias where BatchNorm follows, which subtracts it.
        self.convolutions = nn.ModuleList(
            nn.Conv2d(config.width, config.width, 3, padding="same", bias=False) for _ in range(config.depth - 2)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(config.width) for _ in range(config.depth - 2))
        self.last = nn.Conv2d(config.width, config.channels, 3, padding="same", bias=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        scale_(self.last, 0.1)  # noise, unlike features, is small
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def noise(self, y: Images) -> Images:
        """Predicted noise."""
        if y.shape[1] != self.config.channels:
            raise ValueError(f"y: got {y.shape[1]} channels, expected {self.config.channels}")
        x = functional.relu(self.first(y))
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = functional.relu(norm(convolution(x)), inplace=True)
        with full_precision(y):
            noise: Tensor = self.last(x.to(y.dtype))
        return noise

    def forward(self, y: Images) -> Images:
        """Denoised images."""
        return y - self.noise(y)


def dncnn_loss(model: Forward, batch: Batch, config: TrainingConfig) -> tuple[PerSample]:
    """Squared error, summed over a sample, in units of the target precision: Eq. 44 without a low-rank part."""
    error = (model(batch.observed) - batch.target).square()
    return (0.5 * config.target_precision * per_sample_sum(error),)


DNCNN_TASK = Task(("squared",), dncnn_loss)


def dncnn_denoise(model: DnCNN, image: Image) -> Image:
    """Denoised image by a DnCNN in evaluation mode; the whole image goes through at once."""
    with torch.inference_mode():
        denoised: Tensor = model(image[None])[0]
        return denoised


def load_dncnn(path: Path, device: str | torch.device = "cpu") -> tuple[DnCNN, dict[str, Any]]:
    """DnCNN in evaluation mode and its record, from a file of :func:`indeed.networks.checkpoint.save_checkpoint`.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged or holds another network.
    """
    return load_network(path, lambda sizes: DnCNN(DnCNNConfig(**sizes)), device, "holds no DnCNN")
