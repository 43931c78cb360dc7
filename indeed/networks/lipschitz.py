r"""The Lipschitz constant :math:`K_\theta` of Theorem 1: an upper bound, and an estimate from below.

Both are for the Euclidean norm and the means of the posterior as functions of the image. The upper bound multiplies the
norms of the layers, which no image attains in all layers: it is true and far too large. The estimate is the largest
stretching that was found at given images: a constant below it is excluded, one above it is not proven.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from indeed.bayes.variational_family import standard_normal
from indeed.checks import at_least
from indeed.networks.backbones import ResidualBlock, ResidualUNet, ResNet, UNet
from indeed.networks.inference_network import RESIDUAL_GAIN, FactorNetwork, InDeed, SparseNetwork, cosines
from indeed.types import Images, PerSample


class Lipschitz(NamedTuple):
    """Lipschitz constants of the posterior means, or bounds of them from above or from below.

    Those of L, S and L + S are pure numbers, those of A and B in 1 / root of intensity.
    """

    A: float
    B: float
    L: float
    S: float
    L_plus_S: float


class Region(NamedTuple):
    r"""A set of images: those for which all three numbers are at most these.

    The product :math:`L = AB^\top` is Lipschitz on such a set only:
    :math:`\|L_1 - L_2\|_F \le \|A_1 - A_2\|_F\,\|B_1\|_2 + \|A_2\|_2\,\|B_1 - B_2\|_F`.
    """

    A: float
    """Spectral norm of the mean of A in each channel."""
    B: float
    """The same of B."""
    residual: float
    """Largest absolute value of Y - L; only a network with ``sparse_output="shrinkage"`` needs it."""


@torch.no_grad()
def region(model: InDeed, y: Images) -> Region:
    """Smallest `Region` that holds the images."""
    means = model(y)[1]
    A, B = (float(torch.linalg.matrix_norm(factor, ord=2).max()) for factor in (means.A, means.B))
    return Region(A, B, float((y - means.low_rank).abs().max()))


Convolution = nn.Conv2d | nn.ConvTranspose2d


# -- from above -------------------------------------------------------------------------------------------------------


def convolution_norm(layer: Convolution, height: int, width: int) -> float:
    r"""Upper bound of the spectral norm of a convolution with zero padding, at the size of the image it sees.

    Padded to :math:`(h + k - 1) \times (w + k - 1)` pixels, the image can be taken as periodic: no output inside then
    sees across the border. So the layer is a part of a periodic convolution, whose norm is exact: the largest over the
    frequencies of the spectral norm of the matrix from input to output channels. The bound is tight for large images.
    A stride leaves out some of the outputs. A transposed convolution is the adjoint of one that sees its output, and
    has the same norm.

    Raises
    ------
    ValueError
        For a convolution with dilation, groups, or a padding that is not of zeros or as wide as the kernel.
    """
    narrow = layer.padding == "same" or all(
        isinstance(pad, int) and pad < kernel for pad, kernel in zip(layer.padding, layer.kernel_size, strict=True)
    )
    if layer.padding_mode != "zeros" or layer.groups != 1 or {*layer.dilation} != {1} or not narrow:
        raise ValueError(f"layer: got {layer}, expected a convolution padded with zeros, without dilation or groups")
    if isinstance(layer, nn.ConvTranspose2d):
        height, width = (
            (side - 1) * stride + kernel
            for side, stride, kernel in zip((height, width), layer.stride, layer.kernel_size, strict=True)
        )
    sides = tuple(side + kernel - 1 for side, kernel in zip((height, width), layer.kernel_size, strict=True))
    by_frequency = torch.fft.rfft2(layer.weight.detach().double(), sides).permute(2, 3, 0, 1)
    return float(torch.linalg.matrix_norm(by_frequency, ord=2).max())


@torch.no_grad()
def normalisation_norm(layer: nn.Module) -> float:
    r"""Lipschitz constant of a normalisation layer, with the network in evaluation mode.

    GroupNorm :math:`x \mapsto w\,(x - \bar x)/\sqrt{\mathrm{Var}\,x + \epsilon}` has :math:`\max|w| / \sqrt\epsilon`,
    which a nearly constant group attains: 316 with the usual :math:`\epsilon = 10^{-5}`. BatchNorm is a fixed scale.

    Raises
    ------
    ValueError
        For another layer.
    """
    if isinstance(layer, nn.Identity):
        return 1.0
    if isinstance(layer, nn.GroupNorm):
        return float(layer.weight.abs().max()) / math.sqrt(layer.eps)
    if isinstance(layer, nn.BatchNorm2d) and layer.running_var is not None:
        return float((layer.weight.abs() / (layer.running_var + layer.eps).sqrt()).max())
    raise ValueError(f"layer: got {layer}, expected GroupNorm, BatchNorm with running statistics or none")


def lipschitz_bound(model: InDeed, height: int, width: int, within: Region) -> tuple[Lipschitz, str]:
    """Upper bounds for any two images of a size within a region, and why they are vacuous, if they are.

    Products of the norms of the layers; a residual block has at most one plus the product of its own. Each bound is
    proven, up to rounding.

    Parameters
    ----------
    model
        Network in evaluation mode.
    height, width
        Image size in pixels.
    within
        Set of images on which the bounds of L, S and L + S hold; those of A and B hold everywhere.

    Returns
    -------
    The bounds, and a reason: empty if there is no other than that a product of norms is large. With normalisation
    layers a bound is finite and says nothing. With a transformer it is infinite: the attention of dot products has no
    Lipschitz constant.

    Raises
    ------
    ValueError
        If the model is in training mode, or has a BatchNorm without running statistics.
    """
    if model.training:
        raise ValueError("model: got training mode, expected evaluation mode")
    if model.config.backbone == "transformer":
        return Lipschitz(*5 * [math.inf]), "the attention of dot products has no Lipschitz constant"
    sizes = _input_sizes(model, height, width)
    A, B = _factor_bound(model.f_A, sizes), _factor_bound(model.f_B, sizes)
    L = within.B * A + within.A * B
    S, total = _sparse_bounds(model.f_S, sizes, L, within.residual)
    normalised = any(isinstance(layer, nn.GroupNorm) for layer in model.modules())
    reason = "each GroupNorm multiplies the difference of nearly constant features by hundreds" if normalised else ""
    return Lipschitz(A, B, L, S, total), reason


Sizes = dict[nn.Module, tuple[int, int]]


def _input_sizes(model: InDeed, height: int, width: int) -> Sizes:
    """Height and width of what each convolution sees."""
    sizes: Sizes = {}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        sizes[layer] = (inputs[0].shape[-2], inputs[0].shape[-1])

    hooks = [layer.register_forward_pre_hook(note) for layer in model.modules() if isinstance(layer, Convolution)]
    like = next(model.parameters())
    try:
        with torch.no_grad():
            model(like.new_zeros(1, model.config.channels, height, width))
    finally:
        for hook in hooks:
            hook.remove()
    return sizes


def _resnet_bound(trunk: ResNet, sizes: Sizes) -> float:
    bound, size = convolution_norm(trunk.stem, *sizes[trunk.stem]), sizes[trunk.stem]
    for block in trunk.blocks:
        assert isinstance(block, ResidualBlock)
        now = sizes[block.conv1]
        for before, after in zip(size, now, strict=True):
            if before != after and before % 2 == 0:  # an odd axis has a last pixel that is averaged with none
                bound *= math.sqrt(0.5)
        bound *= _bound(block, sizes)
        size = now
    return bound


def _unet_bound(trunk: UNet, sizes: Sizes) -> float:
    seen = [_bound(trunk.stem, sizes)]
    for down, blocks in zip(trunk.down, trunk.blocks, strict=True):
        seen.append(seen[-1] * _bound(down, sizes) * _bound(blocks, sizes))
    bound = seen.pop()
    for up, merge in zip(trunk.up, trunk.merge, strict=True):
        bound = _bound(merge, sizes) * math.hypot(seen.pop(), _bound(up, sizes) * bound)
    return bound


def _residual_unet_bound(trunk: ResidualUNet, sizes: Sizes) -> float:
    bound = _bound(trunk.coarsest, sizes)
    for parts in reversed(list(zip(trunk.before, trunk.down, trunk.up, trunk.behind, strict=True))):
        before, down, up, behind = (_bound(part, sizes) for part in parts)
        bound = before * (1 + down * bound * up) * behind
    return _bound(trunk.stem, sizes) * bound


def _bound(layer: nn.Module, sizes: Sizes) -> float:
    """Bound of a layer, of several one after the other, or of a residual block."""
    if isinstance(layer, ResidualBlock):
        return 1 + math.prod(_bound(part, sizes) for part in (layer.conv1, layer.norm1, layer.conv2, layer.norm2))
    if isinstance(layer, nn.Sequential):
        return math.prod(_bound(part, sizes) for part in layer)
    if isinstance(layer, Convolution):
        return convolution_norm(layer, *sizes[layer])
    return 1.0 if isinstance(layer, nn.ReLU) else normalisation_norm(layer)


def _factor_bound(network: FactorNetwork, sizes: Sizes) -> float:
    trunk = network.trunk
    assert isinstance(trunk, ResNet)
    last = trunk.blocks[-1]
    assert isinstance(last, ResidualBlock)
    averaged = sizes[last.conv2][1 if network.keep == "height" else 0]
    weight = network.mean_head.weight.detach().double()
    moments = torch.linalg.matrix_norm(cosines(averaged, network.config.factor_moments, weight) / averaged, ord=2)
    # the positions, which come after the moments, are the same for every image
    seen = network.config.factor_width * network.config.factor_moments
    head = torch.linalg.matrix_norm(weight[:, :seen, 0], ord=2)
    return _resnet_bound(trunk, sizes) * float(moments * head)


def _sparse_bounds(network: SparseNetwork, sizes: Sizes, L: float, residual: float) -> tuple[float, float]:
    """Bounds of S and of L + S as functions of Y, given that of L."""
    form = network.config
    of_residual = 1 + L
    seen = {
        "residual": of_residual,
        "observation": 1.0,
        "observation_and_low_rank": math.hypot(1, L),
        "observation_and_residual": math.hypot(1, RESIDUAL_GAIN * of_residual),
    }[form.sparse_input]
    head = convolution_norm(network.mean_head, *sizes[network.mean_head])
    trunk = network.trunk
    if isinstance(trunk, ResidualUNet):
        inner = _residual_unet_bound(trunk, sizes)
    else:
        assert isinstance(trunk, ResNet | UNet)
        inner = _unet_bound(trunk, sizes) if isinstance(trunk, UNet) else _resnet_bound(trunk, sizes)
    output = seen * inner * head
    if form.sparse_output == "sparse":
        return output, L + output
    if form.sparse_output == "noise":  # S = Y - L - output
        return of_residual + output, 1 + output
    # S = share (Y - L), where the sigmoid is at most 1 and its slope at most 1/4
    S = of_residual + residual * output / 4
    return S, L + S


# -- from below -------------------------------------------------------------------------------------------------------


def stretching(function: Callable[[Tensor], Tensor], y: Images, *, steps: int, generator: torch.Generator) -> PerSample:
    r"""Find a direction in which a function stretches most, at each image: :math:`\|Jv\| / \|v\|`.

    Power iteration on :math:`J^\top J` with products only; each value is a lower bound of the spectral norm of the
    Jacobian J, and that of the Lipschitz constant on every set that the image is inside of.

    Parameters
    ----------
    function
        Differentiable, of each image alone.
    y
        Images.
    steps
        Steps of the iteration.
    generator
        Source of the first directions.

    Raises
    ------
    ValueError
        If ``steps`` is smaller than one.

    Examples
    --------
    >>> y = torch.zeros(1, 1, 2, 2)
    >>> stretch = torch.tensor([[3.0, 1.0], [1.0, 0.5]])
    >>> stretching(lambda y: y * stretch, y, steps=20, generator=torch.Generator().manual_seed(0))
    tensor([3.0000])
    """
    at_least(1, steps=steps)
    with torch.enable_grad():
        y = y.detach().requires_grad_()
        output = function(y)
        # The pulled-back u is linear in u: what pulls it back in turn is the push forward.
        u = torch.zeros_like(output, requires_grad=True)
        (pulled,) = torch.autograd.grad(output, y, u, create_graph=True)
    v = standard_normal(y, generator)
    for _ in range(steps):
        v = v / _norms(v).clamp_min(torch.finfo(v.dtype).tiny).reshape(-1, 1, 1, 1)
        (pushed,) = torch.autograd.grad(pulled, u, v, retain_graph=True)
        (v,) = torch.autograd.grad(output, y, pushed, retain_graph=True)
    return _norms(pushed)


def lipschitz_estimate(model: InDeed, y: Images, *, steps: int, generator: torch.Generator) -> Lipschitz:
    """Largest `stretching` over the images: the Lipschitz constants are not smaller."""

    def total(y: Tensor) -> Tensor:
        means = model(y)[1]
        estimate: Tensor = means.low_rank + means.S
        return estimate

    functions: tuple[Callable[[Tensor], Tensor], ...] = (
        lambda y: model.f_A(y).mean,
        lambda y: model.f_B(y).mean,
        lambda y: model(y)[1].low_rank,
        lambda y: model(y)[1].S,
        total,
    )
    found = [stretching(one, y, steps=steps, generator=generator).max().item() for one in functions]
    return Lipschitz(*found)


def _norms(x: Tensor) -> PerSample:
    norms: Tensor = x.flatten(1).norm(dim=1)
    return norms
