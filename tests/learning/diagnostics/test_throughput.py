from dataclasses import replace

import torch
from torch import nn

from indeed.bayes.variational_family import Draw, GaussianFactor, MiddleLevel
from indeed.learning.diagnostics.throughput import operations, seconds_of_networks
from indeed.networks.inference_network import InDeed, network_preset


class Product(nn.Module):
    """Two convolutions, and the product of their output with its transpose."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 5, 3, padding="same", bias=False)
        self.second = nn.Conv2d(5, 2, 3, padding="same", bias=False)

    def forward(self, y: torch.Tensor) -> tuple[MiddleLevel, Draw]:
        x = self.second(self.first(y))
        part = GaussianFactor(x @ x.mT, torch.zeros_like(x))
        middle = MiddleLevel(part, part, part)
        return middle, middle.means


def test_operations_are_two_for_each_weight_and_pixel_and_pass():
    model, side = Product(), 16
    first = 2 * 2 * (9 * 5) * side**2  # forward, and the gradient of the weights: nobody asks for that of the image
    second = 3 * 2 * (9 * 5 * 2) * side**2
    product = 3 * 2 * 2 * side**3  # forward, and the gradients of both factors
    assert operations(model, torch.rand(1, 1, side, side)) == first + second + product
    assert operations(model, torch.rand(3, 1, side, side)) == 3 * (first + second + product)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_timing_leaves_the_network_as_it_was():
    model = InDeed(replace(network_preset("tiny", 1), norm="batch"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert seconds_of_networks(model, torch.rand(2, 1, 16, 16), torch.float32) > 0
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
