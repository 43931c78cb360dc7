"""Small networks that a table trains to compare them: denoisers on patches of images that are in memory."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from indeed.data.patches import PatchSampler
from indeed.learning.training.config import TrainingConfig
from indeed.learning.training.sources import denoising_samples
from indeed.learning.training.trainer import Trainer
from indeed.networks.inference_network import NetworkConfig


def small_trainer(
    network: NetworkConfig,
    training: TrainingConfig,
    images: Sequence[Tensor],
    folder: Path,
    described: Mapping[str, object],
    device: str = "cpu",
) -> Trainer:
    """Trainer of one network of a table, which goes on with the run that its folder holds; nothing is trained yet.

    Parameters
    ----------
    network, training
        Sizes of the network and of the run.
    images
        Training images, 8-bit (channel, height, width).
    folder
        Where the run keeps its state.
    described
        What else the run depends on, in words; a run that was described otherwise is not continued.
    device
        Where the network is trained.

    Raises
    ------
    ValueError
        If the folder holds another run, or a damaged one.
    """
    samples = denoising_samples(PatchSampler(images, network.patch_size), training)
    return Trainer(network, training, samples, folder, resume=True, description=dict(described), device=device)
