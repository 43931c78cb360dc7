"""Networks of a run, where they run, and what the commands put through them."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from indeed.checks import expect
from indeed.cli.paths import WithImages
from indeed.data.picture import Picture, to_pixels
from indeed.images.noise import seeded_gaussian
from indeed.networks.checkpoint import Shipped, load_checkpoint, shipped_checkpoint
from indeed.networks.inference_network import InDeed
from indeed.networks.whole_image import denoise
from indeed.types import Image

DENOISERS: dict[int, Shipped] = {1: "denoise_grey", 3: "denoise_color"}
"""Denoisers that ship, by the channels of the images that they are for."""
DETECTORS: dict[str, Shipped] = {"textures": "detect_textures", "parts": "detect_parts"}
"""Detectors that ship, by the names that the command knows them by."""


@dataclass(frozen=True, kw_only=True)
class WithModel(WithImages):
    """Options of the commands that put images through a network."""

    checkpoint: Path | None = None
    """Trained network; default: the shipped one for grey or for colour, as the image is."""
    device: str = "auto"
    """Where the network runs: cpu, cuda, cuda:1, ...; auto: a GPU if there is one."""
    overlap: int | None = None
    """Pixels that neighbouring tiles share; default: a quarter of a tile."""
    seed: int = 0
    """Seed of the noise that is added and of an adaptation, the same for each image; a network itself draws nothing."""


@dataclass(frozen=True, kw_only=True)
class WithNoise(WithModel):
    """Options of the commands that may add noise to an image first."""

    add_noise: float = 0.0
    """Standard deviation (0..255) of Gaussian noise to add first, to try the command on a clean picture."""

    def observed(self, picture: Picture) -> Image:
        """Image in a picture, with the noise that is asked for; the same seed gives each image the same noise."""
        image = picture.tensor()
        return seeded_gaussian(image, self.add_noise, self.seed) if self.add_noise else image

    def denoised(self, model: InDeed, picture: Picture, name: str) -> Picture:
        """Denoised picture in the depth of the given one; the progress bar has its name."""
        if self.add_noise:
            image = denoise(model, self.observed(picture), overlap=self.overlap, progress=bar_label(name))
            return replace(picture, pixels=to_pixels(image, picture.pixels.dtype, picture.white))
        pixels = torch.from_numpy(picture.pixels).permute(2, 0, 1)  # integers: less memory than an image of floats
        image = denoise(model, pixels, overlap=self.overlap, progress=bar_label(name), white=picture.white)
        return replace(picture, pixels=image.permute(1, 2, 0).numpy())


class Models:
    """Networks of a run: the one that was asked for, or the shipped ones, each loaded when it is first needed."""

    def __init__(self, options: WithModel) -> None:
        self.checkpoint = options.checkpoint
        self.device = device_named(options.device)
        self.loaded: dict[Path, InDeed] = {}

    def __call__(self, channels: int) -> InDeed:
        """Network for images of so many channels."""
        path = self.checkpoint or shipped_checkpoint(DENOISERS[channels])
        if path not in self.loaded:
            network, record = load_checkpoint(path, self.device)
            task = record.get("task", "denoise")  # the first checkpoints were all denoisers, and did not say so
            expect(task == "denoise", str(path), f"a network of the task {task!r}", "a denoiser")
            self.loaded[path] = network
        model = self.loaded[path]
        if model.config.channels != channels:
            kinds = {1: "grey", 3: "colour"}
            raise ValueError(f"{path}: got a {kinds[channels]} image, expected {kinds[model.config.channels]} ones")
        return model


def denoisers(checkpoint: Path | None) -> list[Path]:
    """Checkpoints that a run may load: the given one, or those that ship."""
    return [checkpoint] if checkpoint else [shipped_checkpoint(name) for name in DENOISERS.values()]


def detector_checkpoint(name: str) -> Path:
    """Checkpoint of a detector that ships, by its name, or the file of that name."""
    shipped = DETECTORS.get(name)
    return shipped_checkpoint(shipped) if shipped else Path(name)


def device_named(name: str) -> torch.device:
    """Device of a name, such as cpu or cuda:1; ``auto`` is a GPU if there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise ValueError(f"device: got {name!r}, expected one that is available") from error
    return device


def bar_label(label: str) -> str | None:
    """Label of a progress bar, or None where nobody watches."""
    return label if sys.stderr.isatty() else None
