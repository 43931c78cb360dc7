"""Upper bounds hold, lower estimates stay below them, and both are exact where a layer is simple."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from indeed.networks.backbones import normalisation
from indeed.networks.inference_network import InDeed, network_preset
from indeed.networks.lipschitz import (
    Lipschitz,
    Region,
    convolution_norm,
    lipschitz_bound,
    lipschitz_estimate,
    normalisation_norm,
    region,
    stretching,
)

TINY = network_preset("tiny", 1)
FORMS = {
    "preset": {},
    "colour": {"channels": 3},
    "shrinkage": {"sparse_output": "shrinkage", "sparse_input": "observation_and_residual"},
    "u-net": {"sparse_halvings": 2},
    "u-net of long runs": {
        "sparse_halvings": 2,
        "sparse_widest": 16,
        "sparse_residual": True,
        "sparse_bias": False,
        "sparse_input": "observation",
    },
    "paper": {
        "factor_halving": False,
        "factor_unshuffle": 1,
        "factor_moments": 1,
        "factor_positions": 0,
        "sparse_unshuffle": 1,
        "sparse_input": "residual",
        "sparse_output": "sparse",
    },
}


def build(seed=0, **changes):
    torch.manual_seed(seed)
    return InDeed(replace(TINY, **changes)).eval()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def matrix_of(layer, height, width):
    """The layer without its bias as a dense matrix, a column for each pixel of each input channel."""
    basis = torch.eye(layer.in_channels * height * width, dtype=torch.float64)
    return layer(basis.view(-1, layer.in_channels, height, width)).flatten(1).T


@pytest.mark.parametrize("kernel_size", [1, 3, (1, 5)])
@pytest.mark.parametrize("size", [(4, 5), (8, 8)])
def test_the_norm_of_a_convolution_is_bounded_and_nearly_attained(kernel_size, size):
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, kernel_size, padding="same", bias=False).double()
    exact = torch.linalg.matrix_norm(matrix_of(layer, *size), ord=2).item()
    bound = convolution_norm(layer, *size)
    assert exact <= bound * (1 + 1e-12)
    assert bound < 1.25 * exact
    if kernel_size == 1:
        assert bound == pytest.approx(exact)


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
@pytest.mark.parametrize(("kernel_size", "stride", "padding"), [(4, 2, 1), (3, 2, 2), (2, 2, 0), (3, 1, 0)])
def test_the_norm_of_a_convolution_with_a_stride_and_of_its_adjoint_is_bounded(kind, kernel_size, stride, padding):
    torch.manual_seed(0)
    layer = kind(3, 4, kernel_size, stride=stride, padding=padding, bias=False).double()
    exact = torch.linalg.matrix_norm(matrix_of(layer, 5, 8), ord=2).item()
    assert exact <= convolution_norm(layer, 5, 8) * (1 + 1e-12)


def test_the_norm_of_a_mean_over_neighbours_is_one_in_the_limit_of_large_images():
    layer = nn.Conv2d(1, 1, 3, padding="same", bias=False)
    nn.init.constant_(layer.weight, 1 / 9)
    assert convolution_norm(layer, 4, 4) == pytest.approx(1.0)
    assert stretching(layer, torch.zeros(1, 1, 48, 48), steps=100, generator=generator()).item() > 0.99


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 2, 3, padding="same", dilation=2),
        nn.Conv2d(2, 2, 3, padding="same", groups=2),
        nn.Conv2d(2, 2, 3, padding="same", padding_mode="reflect"),
        nn.Conv2d(2, 2, 2, padding=2),
    ],
)
def test_another_convolution_is_refused(layer):
    with pytest.raises(ValueError, match="expected a convolution padded with zeros"):
        convolution_norm(layer, 4, 4)


@pytest.mark.parametrize("norm", ["none", "batch", "group", "channel"])
def test_the_constant_of_a_normalisation_holds_and_is_attained(norm):
    layer = normalisation(norm, 8).double().eval()
    if norm != "none":
        torch.nn.init.uniform_(layer.weight, 1, 2, generator=generator())
    if norm == "batch":
        layer.running_var.uniform_(0.5, 2, generator=generator(1))
    bound = normalisation_norm(layer)
    x = torch.randn(3, 8, 4, 4, dtype=torch.float64, generator=generator())
    assert stretching(layer, x, steps=20, generator=generator()).max() <= bound * (1 + 1e-9)
    flat = torch.ones_like(x)  # where groups are constant, GroupNorm amplifies most
    assert stretching(layer, flat, steps=400, generator=generator()).max().item() == pytest.approx(bound, rel=1e-3)
    if norm in ("group", "channel"):
        assert bound > 300


def test_a_normalisation_by_the_statistics_of_the_batch_has_no_constant_of_its_own():
    with pytest.raises(ValueError, match="expected GroupNorm, BatchNorm with running statistics"):
        normalisation_norm(nn.BatchNorm2d(4, track_running_stats=False))


def test_stretching_is_the_spectral_norm_of_the_jacobian():
    model = build().double()
    y = torch.rand(2, 1, 8, 8, dtype=torch.float64, generator=generator())
    found = stretching(lambda y: model(y)[1].low_rank, y, steps=200, generator=generator())
    for image, one in zip(y, found, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda x: model(x[None])[1].low_rank.flatten(), image)
        assert one.item() == pytest.approx(torch.linalg.matrix_norm(jacobian.flatten(1), ord=2).item(), rel=1e-4)


def test_stretching_scales_with_the_function_and_needs_a_step():
    y = torch.rand(2, 1, 4, 4, generator=generator())
    once, thrice = (stretching(lambda y, k=k: k * torch.tanh(y), y, steps=5, generator=generator()) for k in (1.0, 3.0))
    torch.testing.assert_close(3 * once, thrice)
    with pytest.raises(ValueError, match=r"steps: got .*, expected at least 1"):
        stretching(torch.tanh, y, steps=0, generator=generator())


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["none", "group", "batch"])
@pytest.mark.parametrize("form", FORMS)
def test_no_two_images_are_further_apart_than_the_bound_and_no_estimate_is_above_it(form, norm):
    model = build(**FORMS[form], norm=norm)
    with torch.no_grad():  # away from the small weights of the start
        for parameter in model.f_S.parameters():
            parameter.mul_(1.5)
    y = torch.rand(6, model.config.channels, 16, 24, generator=generator())
    y[3:] = y[:3] + 1e-2 * torch.randn(y[:3].shape, generator=generator())
    upper, _ = lipschitz_bound(model, 16, 24, region(model, y))
    lower = lipschitz_estimate(model, y, steps=4, generator=generator())
    with torch.no_grad():
        means = model(y)[1]
    distance = (y[:3] - y[3:]).flatten(1).norm(dim=1)
    for name, part in zip(
        Lipschitz._fields, (*means[:2], means.low_rank, means.S, means.low_rank + means.S), strict=True
    ):
        apart = ((part[:3] - part[3:]).flatten(1).norm(dim=1) / distance).max().item()
        assert 0 < getattr(lower, name) <= getattr(upper, name)
        assert apart <= getattr(upper, name)


def test_the_bound_is_exact_for_a_linear_network_of_one_channel():
    model = build(**FORMS["paper"], factor_width=1, sparse_width=1, factor_blocks=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        for network, scale in ((model.f_A, 2.0), (model.f_B, 3.0), (model.f_S, 5.0)):
            network.trunk.stem.weight[0, 0, 1, 1] = scale  # each block adds nothing
        model.f_A.mean_head.weight.fill_(1)
        model.f_B.mean_head.weight.fill_(1)
        model.f_S.mean_head.weight[0, 0, 1, 1] = 7
    # The mean over 16 pixels has norm 1/4, four equal outputs have norm 2.
    found, reason = lipschitz_bound(model, 16, 16, Region(A=10.0, B=100.0, residual=1.0))
    assert found.A == pytest.approx(2 / 4 * 2)
    assert found.B == pytest.approx(3 / 4 * 2)
    assert found.L == pytest.approx(100 * found.A + 10 * found.B)
    assert found.S == pytest.approx(35 * (1 + found.L))
    assert found.L_plus_S == pytest.approx(found.L + found.S)
    assert reason == ""
    y = torch.rand(1, 1, 16, 16, generator=generator()) + 1
    lower = lipschitz_estimate(model, y, steps=60, generator=generator())
    assert (lower.A, lower.B) == pytest.approx((found.A, found.B))


def test_average_pooling_in_pairs_halves_the_squared_norm():
    model = build(factor_moments=1, factor_blocks=1)
    with torch.no_grad():
        for parameter in model.f_A.trunk.blocks.parameters():
            parameter.zero_()
    even, odd = (lipschitz_bound(model, 16, width, Region(1.0, 1.0, 1.0))[0].A for width in (16, 18))
    # unshuffled to 8 and 9 columns, pooled to 4 and 5; the mean over n pixels has norm 1 / sqrt(n)
    stem = [convolution_norm(model.f_A.trunk.stem, 16, columns) for columns in (8, 9)]
    assert even / odd == pytest.approx(stem[0] / stem[1] * math.sqrt(0.5) * math.sqrt(5 / 4))
    pairs = lambda y: functional.avg_pool2d(y, (1, 2), ceil_mode=True)  # noqa: E731
    for columns, norm in ((8, math.sqrt(0.5)), (9, 1.0)):
        exact = stretching(pairs, torch.zeros(1, 1, 2, columns), steps=60, generator=generator()).item()
        assert exact == pytest.approx(norm, rel=1e-4)


def test_group_norm_makes_the_bound_vacuous_and_the_reason_says_so():
    sound, reason = lipschitz_bound(build(), 16, 16, Region(1.0, 1.0, 1.0))
    vacuous, why = lipschitz_bound(build(norm="group"), 16, 16, Region(1.0, 1.0, 1.0))
    assert (reason, "GroupNorm" in why) == ("", True)
    assert vacuous.L_plus_S > 1e6 * sound.L_plus_S


def test_a_transformer_has_no_bound_and_the_reason_says_so():
    model = build(backbone="transformer", transformer_width=8, transformer_blocks=1, transformer_patch=4,
                  **{name: value for name, value in FORMS["paper"].items()})  # fmt: skip
    bound, why = lipschitz_bound(model, 16, 16, Region(1.0, 1.0, 1.0))
    assert set(bound) == {math.inf}
    assert "attention" in why


def test_a_model_in_training_is_refused():
    with pytest.raises(ValueError, match="evaluation mode"):
        lipschitz_bound(build().train(), 16, 16, Region(1.0, 1.0, 1.0))
