"""What runs in an inference network: its modules in their order, and which of them a gradient joins."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from indeed.networks.backbones import parameter_count
from indeed.networks.inference_network import InDeed, NetworkConfig

Shape = tuple[int, ...]


class Stage(NamedTuple):
    """A run of equal modules, one behind the other or side by side, as the image passed through them."""

    module: str
    """``f_A``, ``f_B`` or ``f_S``."""
    name: str
    """Names of the attributes: of a run of numbered ones the first and the last."""
    kind: str
    """Class of the modules."""
    repeats: int
    seen: Shape
    """Shape of what goes in, without the batch."""
    shape: Shape
    """Shape of what comes out, without the batch."""
    parameters: int
    operations: int
    """Floating-point operations of the forward pass for one image."""


def stages(config: NetworkConfig, height: int, width: int) -> list[Stage]:
    """Follow an image through the modules of a network, in the order in which they run.

    The network is built, hooked and run on tensors that have a shape but no values, so that its size does not matter.

    Examples
    --------
    >>> from indeed.networks.inference_network import network_preset
    >>> for stage in stages(network_preset("tiny", 1), 16, 24)[:2]:
    ...     print(stage.name, stage.kind, stage.seen, stage.shape)
    stem Conv2d (2, 16, 12) (8, 16, 12)
    blocks.0 ResidualBlock (8, 16, 6) (8, 16, 6)
    """
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode

    model = _network(config)
    calls: list[tuple[str, str, nn.Module, Shape, Shape]] = []

    def watch(owner: str, name: str, module: nn.Module) -> None:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            calls.append((owner, name, module, tuple(inputs[0].shape[1:]), tuple(output.shape[1:])))

        module.register_forward_hook(hook)

    for owner, module in model.named_children():
        for name, part in module.named_children():
            for inner, unit in _units(name, part):
                watch(owner, inner, unit)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, config.channels, height, width))
    operations = {name: sum(each.values()) for name, each in counter.get_flop_counts().items()}
    found: list[Stage] = []
    for owner, name, module, seen, shape in calls:
        # The counter's name of a module is its path from the root.
        work = operations.get(f"{type(model).__name__}.{owner}.{name}", 0)
        short = name.removeprefix("trunk.")
        new = Stage(owner, short, type(module).__name__, 1, seen, shape, parameter_count(module), work)
        last = found[-1] if found else None
        if last and (last.module, last.kind, last.seen, last.shape) == (owner, new.kind, seen, shape):
            found[-1] = last._replace(
                name=_run(last.name, short),
                repeats=last.repeats + 1,
                parameters=last.parameters + new.parameters,
                operations=last.operations + new.operations,
            )
        else:
            found.append(new)
    return found


def _network(config: NetworkConfig) -> InDeed:
    # In training mode: a transformer in evaluation mode takes another path, of which no operations are counted.
    with torch.random.fork_rng(devices=[]):
        return InDeed(config).train()


def dependences(config: NetworkConfig, height: int, width: int) -> set[tuple[str, str]]:
    """Find the pairs (from, to) of Y and the means that f_A, f_B and f_S return, between which a gradient passes.

    >>> from indeed.networks.inference_network import network_preset
    >>> sorted(dependences(network_preset("tiny", 1), 16, 16))
    [('Y', 'f_A'), ('Y', 'f_B'), ('Y', 'f_S'), ('f_A', 'f_S'), ('f_B', 'f_S')]
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    model = _network(config)
    with FakeTensorMode(allow_non_fake_inputs=True):
        y = torch.zeros(1, config.channels, height, width, requires_grad=True)
        middle, _ = model(y)
        outputs = {"f_A": middle.A.mean, "f_B": middle.B.mean, "f_S": middle.S.mean}
        sources = {"Y": y, **outputs}
        return {
            (source, target)
            for target, output in outputs.items()
            for source in sources
            if source != target and _depends(output, sources[source])
        }


def _run(names: str, name: str) -> str:
    """Extend the names of a run by one more.

    >>> _run("blocks.0 to 3", "blocks.4"), _run("mean_head", "log_variance_head")
    ('blocks.0 to 4', 'mean_head, log_variance_head')
    """
    number = name.rpartition(".")[2]
    return f"{names.split(' to ')[0]} to {number}" if number.isdigit() else f"{names}, {name}"


def _units(name: str, module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Parts to be shown: what a trunk or a list is made of, and any other module as a whole."""
    if name != "trunk" and not isinstance(module, nn.ModuleList):
        return [(name, module)]
    return [unit for inner, part in module.named_children() for unit in _units(f"{name}.{inner}", part)]


def _depends(output: Tensor, source: Tensor) -> bool:
    return torch.autograd.grad(output.sum(), source, retain_graph=True, allow_unused=True)[0] is not None
