"""Which parameters of a network adapt, and how far they have moved."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from indeed.learning.adaptation.config import AdaptationConfig
from indeed.networks.backbones import ResidualBlock
from indeed.networks.inference_network import InDeed
from indeed.types import Images

NORMALISATIONS = (nn.GroupNorm, nn.BatchNorm2d, nn.LayerNorm)


class ChannelGain(nn.Module):
    """One factor a channel, 1 at first, in front of a ReLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, features: Images) -> Images:
        """Features times the gains of their channels."""
        return features * self.weight[:, None, None]


def adapting_parameters(network: InDeed, config: AdaptationConfig) -> list[nn.Parameter]:
    """Freeze the weights of a network that do not adapt and return those that do; may insert gains (`fold_gains`)."""
    network.set_trainable(config.modules)
    if config.parameters == "affine":
        adapting = [part for part in network.modules() if any(p.requires_grad for p in part.parameters())]
        layers: list[nn.Module] = [part for part in adapting if isinstance(part, NORMALISATIONS)]
        if not layers:
            layers = [_insert_gain(part) for part in adapting if isinstance(part, ResidualBlock)]
        network.requires_grad_(False)
        for layer in layers:
            layer.requires_grad_(True)
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def _insert_gain(block: ResidualBlock) -> ChannelGain:
    # Without a normalisation an identity stands between the convolution and the ReLU.
    block.norm1 = ChannelGain(block.conv1.out_channels).to(block.conv1.weight)
    return block.norm1


def fold_gains(network: InDeed) -> None:
    """Multiply gains into the convolutions in front of them: the same function, in the original architecture."""
    for block in network.modules():
        if isinstance(block, ResidualBlock) and isinstance(block.norm1, ChannelGain):
            gain = block.norm1.weight.detach()
            block.conv1.weight.data *= gain[:, None, None, None]
            block.conv1.bias.data *= gain  # type: ignore[union-attr]
            block.norm1 = nn.Identity()


def values_of(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """Copy the values of the moment."""
    return [parameter.detach().clone() for parameter in parameters]


def drift(parameters: Sequence[nn.Parameter], anchors: Sequence[Tensor]) -> float:
    r"""Relative distance from the original values, :math:`\|\theta - \theta_0\| / \|\theta_0\|`."""
    moved = [(now.detach() - then).norm() for now, then in zip(parameters, anchors, strict=True)]
    return float(torch.stack(moved).norm() / torch.stack([then.norm() for then in anchors]).norm())


def relative_change(model: nn.Module, original: nn.Module) -> float:
    """Distance of all weights of a network from those of another one, over the norm of these."""
    now, then = (torch.cat([x.detach().flatten() for x in network.parameters()]) for network in (model, original))
    return float((now - then).norm() / then.norm())
