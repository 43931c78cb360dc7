"""Training of the denoisers that ship: a preset in, a checkpoint with its record out."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from indeed.bayes.variational_family import Draw
from indeed.data.benchmarks import DataMissingError, hold_out, training_split
from indeed.data.folders import gathered, pictures_in
from indeed.data.patches import PatchSampler
from indeed.data.samples import sample_image, sample_names
from indeed.data.white import Reader
from indeed.images.metrics import psnr
from indeed.images.noise import GREY_LEVEL, gaussian
from indeed.images.pixels import as_file, eight_bit
from indeed.learning.training.config import TrainingConfig
from indeed.learning.training.log import Validation, ValidationOfFiles
from indeed.learning.training.sources import denoising_samples
from indeed.learning.training.task import DENOISING
from indeed.learning.training.trainer import Trainer
from indeed.networks.inference_network import network_preset
from indeed.recipes.run import Recipe, Run, content_of, reader_of, train
from indeed.types import Images

VALIDATION_SIGMA = 25 * GREY_LEVEL
VALIDATION_SEED = 25
UNQUOTED = ("china", "hubble", "retina", "rocket")
"""Embedded photographs that nothing published is measured on: a denoiser may learn from them."""
PIECE = 256
"""Side of the pieces that these photographs are cut into: each is drawn as often as a Berkeley image."""


def train_denoiser(run: Run) -> Trainer:
    """Train a blind Gaussian denoiser and save it as a checkpoint.

    ``run.data`` is as in `training_images`; None: ``auto``.

    Raises
    ------
    DataMissingError
        If the data are not on disk.
    FileExistsError
        If the folder of the run holds one and ``run.resume`` is false.
    ValueError
        If the run asks for what only detectors have.
    """
    for name in ("max_rank", "halvings"):
        if getattr(run, name) is not None:
            raise ValueError(f"{name}: got {getattr(run, name)}, expected none unless task is uad")
    training = run.training()
    network = network_preset(run.preset, run.channels)
    network = replace(network, patch_size=run.patch_size or network.patch_size)
    reader = reader_of(run)
    source, images, held_out = training_images(run.data or "auto", run.channels, network.patch_size, reader)
    reader.tell()
    recipe = Recipe(
        "denoise",
        source,
        network,
        training,
        denoising_samples(patch_sampler(images, network.patch_size, training), training),
        DENOISING,
        validation_on(held_out, network.patch_size, clipped=training.clipped > 0),
        (ValidationOfFiles if training.clipped else Validation)._fields,
        {"sigma": VALIDATION_SIGMA, "noise_seed": VALIDATION_SEED},
        {"training_images": len(images), "validation_images": len(held_out), "white": reader.white},
        content=content_of([*images, *held_out]),
    )
    return train(run, recipe)


def patch_sampler(images: Sequence[Tensor], patch_size: int, training: TrainingConfig) -> PatchSampler:
    """Patches of images, varied as a training asks for."""
    return PatchSampler(images, patch_size, training.spread, training.saturation, training.varied)


def training_images(
    data: str, channels: int, patch_size: int, reader: Reader | None = None
) -> tuple[str, list[Tensor], list[Tensor]]:
    """Name of the data, training images and validation images, 8-bit (channel, height, width).

    ``data`` is ``bsd``: the Berkeley training images under ``INDEED_DATA``; ``bsd+embedded``: with them, in training,
    pieces of `UNQUOTED`; ``embedded``: the photographs inside installed packages; ``auto``: the Berkeley images where
    present, else the latter; anything else: a folder of images, which ``reader`` reads.

    Raises
    ------
    DataMissingError
        If the data are not on disk.
    ValueError, OSError, ExceptionGroup
        If images cannot be read, or are smaller than a patch: all are named.
    """
    name = "bsd400_gray" if channels == 1 else "cbsd432"
    if data in ("auto", "bsd", "bsd+embedded"):
        try:
            train, held_out = training_split(name)
            images = _read([*train, *held_out], channels, patch_size)
            beside: list[Tensor] = []
            if data == "bsd+embedded":
                name = f"{name}+embedded"
                photographs = (eight_bit(sample_image(photograph), channels) for photograph in UNQUOTED)
                beside = [piece for image in photographs for piece in _pieces(image)]
            return name, images[: len(train)] + beside, images[len(train) :]
        except DataMissingError:
            if data != "auto":
                raise
    if data in ("auto", "embedded"):
        # No photograph is left over for validation: the lower right quarter of each is held out of training.
        images = [eight_bit(sample_image(sample), channels) for sample in sample_names()]
        large = [image for image in images if min(image.shape[1:]) >= 2 * patch_size]
        upper = [image[:, : image.shape[1] // 2] for image in large]
        lower_right = [image[:, image.shape[1] // 2 :, image.shape[2] // 2 :] for image in large]
        return "embedded", upper, lower_right
    folder = Path(data)
    if not folder.is_dir():
        known = "'auto', 'bsd', 'bsd+embedded', 'embedded'"
        raise DataMissingError(f"data: got {data!r}, expected {known} or a folder of images")
    files = pictures_in(folder)
    if len(files) < 2:
        raise DataMissingError(f"{folder}: expected at least two images, found {len(files)}")
    train, held_out = hold_out(files, max(1, len(files) // 10))
    images = _read([*train, *held_out], channels, patch_size, reader)
    return folder.resolve().name, images[: len(train)], images[len(train) :]


def _pieces(image: Tensor) -> Tensor:
    tiles = image.unfold(1, PIECE, PIECE).unfold(2, PIECE, PIECE)
    return tiles.permute(1, 2, 0, 3, 4).flatten(0, 1)


def _read(files: Sequence[Path], channels: int, patch_size: int, reader: Reader | None = None) -> list[Tensor]:
    reader = reader or Reader()

    def read(path: Path) -> Tensor:
        image = eight_bit(reader(path).tensor(), channels)
        if min(image.shape[1:]) < patch_size:
            raise ValueError(f"{path}: got {tuple(image.shape[1:])} pixels, expected at least {patch_size} a side")
        return image

    return gathered(files, read)


def parts_of(model: nn.Module, observed: Images) -> tuple[Images, Images]:
    """L and L + S of an inference network at the posterior means."""
    draw: Draw = model(observed)[1]
    return draw.low_rank, draw.low_rank + draw.S


def validation_on(
    images: Sequence[Tensor],
    patch_size: int,
    parts: Callable[[nn.Module, Images], tuple[Images, Images]] = parts_of,
    clipped: bool = False,
) -> Callable[[nn.Module], Validation | ValidationOfFiles]:
    """PSNR of L and of L + S on the centre tiles of the validation images, at one noise level and one noise.

    ``parts`` gives the two from a network and noisy tiles. With ``clipped`` L + S is measured on files of them, too.
    """
    generator = torch.Generator().manual_seed(VALIDATION_SEED)
    clean = torch.cat([_centre_tiles(image, patch_size) for image in images]).float() / 255
    noisy = gaussian(clean, VALIDATION_SIGMA, generator)

    def measured(model: nn.Module, noisy: Images) -> tuple[float, float]:
        found: list[tuple[Tensor, ...]] = []
        device = next(model.parameters()).device
        with torch.inference_mode():
            for target, observed in zip(torch.split(clean, 64), torch.split(noisy, 64), strict=True):
                found.append(tuple(psnr(part.cpu(), target) for part in parts(model, observed.to(device))))
        low_rank, total = (torch.cat(part).mean().item() for part in zip(*found, strict=True))
        return low_rank, total

    def validate(model: nn.Module) -> Validation | ValidationOfFiles:
        merits = Validation(*measured(model, noisy))
        return ValidationOfFiles(*merits, measured(model, as_file(noisy))[1]) if clipped else merits

    return validate


def _centre_tiles(image: Tensor, patch_size: int) -> Tensor:
    """Up to 2 x 2 adjacent tiles around the centre of an image, (tile, channel, patch, patch)."""
    rows, columns = (min(2, size // patch_size) for size in image.shape[1:])
    top, left = ((size - count * patch_size) // 2 for size, count in zip(image.shape[1:], (rows, columns), strict=True))
    centre = image[:, top : top + rows * patch_size, left : left + columns * patch_size]
    tiles = centre.unfold(1, patch_size, patch_size).unfold(2, patch_size, patch_size)
    return tiles.permute(1, 2, 0, 3, 4).reshape(-1, image.shape[0], patch_size, patch_size)
