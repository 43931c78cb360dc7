"""What the tests of the tables share: tiny untrained networks in the place of those that ship, and few images."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from indeed.data.anomaly_sets import AnomalySet
from indeed.learning.training.config import training_preset
from indeed.networks.checkpoint import save_checkpoint
from indeed.networks.inference_network import InDeed, network_preset


@pytest.fixture(scope="session")
def untrained(tmp_path_factory) -> Callable[[int], Path]:
    """Checkpoint of an untrained network for so many channels, with the record of a detector."""

    def checkpoint(channels: int) -> Path:
        path = tmp_path_factory.mktemp("untrained") / "network.safetensors"
        made = {"form": "share", "smoothing": 1.0, "turns": 1, "average_precision": {"share_1": 0.5}}
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = InDeed(replace(network_preset("tiny", channels), patch_size=64))  # few tiles are fast
        save_checkpoint(path, model, {"task": "detect", "training": asdict(training_preset("tiny")), "map": made})
        return path

    return checkpoint


@pytest.fixture(scope="session")
def few() -> Callable[[AnomalySet], AnomalySet]:
    """A set with one test image of each class, and a good one of each category."""

    def chosen(whole: AnomalySet) -> AnomalySet:
        first = {(item.category, item.defect): item for item in reversed(whole.test)}
        return AnomalySet(whole.name, whole.train, tuple(item for item in whole.test if item in first.values()))

    return chosen
