"""Checkpoints: safetensors with the configuration and the record of how it was made; never a pickle."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from indeed.files import atomic_write
from indeed.networks.inference_network import InDeed, NetworkConfig

FORMAT = "indeed-checkpoint-1"
Network = TypeVar("Network", bound=nn.Module)
Shipped = Literal["denoise_grey", "denoise_color", "detect_textures", "detect_parts"]


class CheckpointError(ValueError):
    """A file that is no usable checkpoint; the message is one line naming the file and what is wrong with it."""


def save_checkpoint(path: Path, model: nn.Module, record: dict[str, Any]) -> None:
    """Write weights, network configuration and training record as one safetensors file.

    Parameters
    ----------
    path
        Target; written to a temporary name and renamed.
    model
        Network whose parameters and buffers are stored, on any device; its ``config`` is a dataclass.
    record
        How it was made (preset, seed, data, commit, steps, ...): anything JSON can hold.
    """
    from safetensors.torch import save_file

    config: Any = model.config
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    metadata = {"format": FORMAT, "network": json.dumps(asdict(config)), "record": json.dumps(record)}
    with atomic_write(path) as temporary:
        save_file(tensors, temporary, metadata)


def load_checkpoint(path: Path, device: str | torch.device = "cpu") -> tuple[InDeed, dict[str, Any]]:
    """Network in evaluation mode and its record.

    Raises
    ------
    CheckpointError
        If the file is missing, truncated, not safetensors, not of this format, or its tensors do not fit its
        configuration.
    """
    return load_network(
        Path(path), lambda sizes: InDeed(NetworkConfig(**sizes)), device, "does not fit its own configuration"
    )


def load_network(
    path: Path, build: Callable[[dict[str, Any]], Network], device: str | torch.device, otherwise: str
) -> tuple[Network, dict[str, Any]]:
    """Network of any kind in evaluation mode, as ``build`` makes it from its configuration, and its record.

    Raises
    ------
    CheckpointError
        As `read_checkpoint`; or, if the tensors do not fit what is built, with ``otherwise`` as the message.
    """
    network, record, tensors = read_checkpoint(path)
    try:
        with torch.random.fork_rng(devices=[]):
            model = build(network)
        model.load_state_dict(tensors)
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: {otherwise} ({_one_line(error)})") from error
    return model.to(device).eval(), record


def read_record(path: Path) -> dict[str, Any]:
    """Metadata of a checkpoint without its network: format, network configuration, record, number of parameters.

    Raises
    ------
    CheckpointError
        If the file is missing, truncated, not safetensors, or not of this format.
    """
    network, record, tensors = read_checkpoint(Path(path))
    parameters = sum(value.numel() for value in tensors.values())
    return {"format": FORMAT, "network": network, "record": record, "parameters": parameters}


def training_stages(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the records of the runs that made a network, the first one first.

    A run may start from the weights of another, whose record is then part of its own.

    >>> [stage["steps"] for stage in training_stages({"steps": 20, "start": {"steps": 8, "start": None}})]
    [8, 20]
    """
    earlier = record.get("start")
    return [*(training_stages(earlier) if earlier else []), record]


def shipped_checkpoint(name: Shipped) -> Path:
    """Path of a model that ships with the project.

    Raises
    ------
    CheckpointError
        If it is not there, as in an incomplete copy of the repository.
    """
    package = Path(__file__).resolve().parents[1]
    file = f"{name}_cpu.safetensors"
    # In a checkout the models lie in results/; an installed wheel carries them inside the package.
    for folder in (package.parent / "results" / "checkpoints", package / "_checkpoints"):
        if (folder / file).is_file():
            return folder / file
    raise CheckpointError(
        f"{file}: the shipped checkpoint is missing from {package.parent / 'results' / 'checkpoints'}"
    )


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, torch.Tensor]]:
    """Network configuration, training record and tensors of a checkpoint, of whatever network.

    Raises
    ------
    CheckpointError
        If the file is missing, truncated, not safetensors, or not of this format.
    """
    from safetensors import SafetensorError, safe_open

    if path.is_dir():
        raise CheckpointError(f"{path}: is a folder, expected a .safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({_one_line(error)})") from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path}: got format {metadata.get('format')!r}, expected an InDeed checkpoint")
    try:
        return json.loads(metadata["network"]), json.loads(metadata["record"]), tensors
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: its configuration cannot be read ({_one_line(error)})") from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
