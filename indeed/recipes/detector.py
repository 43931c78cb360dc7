"""Training of the detectors of anomalies: good images in, a checkpoint with its record out (Eq. 45).

No real defect is seen: the network learns from synthetic anomalies, and what the map is made of, how it is smoothed and
what scores good images have is found on synthetic anomalies over good images held out of training.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from indeed.bayes.generative_model import Hyperpriors
from indeed.checks import expect
from indeed.data.patches import PatchSampler
from indeed.images.anomaly_families import FAMILIES
from indeed.images.anomaly_synthesis import Synthesis, TextureSource
from indeed.images.detection_metrics import DetectionMetrics
from indeed.images.metrics import psnr
from indeed.images.noise import GREY_LEVEL
from indeed.learning.loading import draw_batch
from indeed.learning.training.config import TrainingConfig
from indeed.learning.training.sources import anomaly_samples
from indeed.learning.training.task import DETECTION
from indeed.learning.training.trainer import Trainer
from indeed.networks.anomaly_detection import anomaly_maps
from indeed.networks.inference_network import InDeed, NetworkConfig, network_preset
from indeed.recipes.choice import chosen_map
from indeed.recipes.good_images import SEED, TEXTURE_CONTRAST, good_images
from indeed.recipes.run import Preset, Recipe, Run, content_of, reader_of, train


@dataclass(frozen=True)
class Surface:
    """What detectors of one kind of surface are made with."""

    synthesis: Synthesis
    """Anomalies to train on, and to choose the settings on."""
    mask_weight: float
    """Weight of the cross-entropy of the map beside Eq. 45, in nats a pixel."""
    halvings: int = 0
    """Halvings of f_S."""
    largest_rank: int | None = None
    """Largest rank of the low-rank part; None: that of the preset."""
    spread: float = 1.0
    """Spread of zoom and gamma of the patches in training."""
    apart: bool = False
    """Whether each image is a surface of its own: grass on grass would be no visible defect."""

    def patches(self, images: Sequence[Tensor], patch_size: int, *, training: bool = False) -> list[TextureSource]:
        """List the sources of good patches that :func:`indeed.learning.training.sources.anomaly_samples` takes."""
        parts = [[image] for image in images] if self.apart else [images]
        return [PatchSampler(some, patch_size, self.spread if training else 1.0) for some in parts]


TEXTURE_SURFACE = Surface(
    # The families that the textures are tested with are not among them.
    synthesis=Synthesis(
        ("perlin", "perlin", "cutpaste", "blemish"), TEXTURE_CONTRAST, foreign=True, area=(0.005, 0.1), camouflage=0.5
    ),
    # Ten times that of other surfaces: L leaves so much of a texture that the squared error would drown the mask.
    mask_weight=1000.0,
    # Every pixel of a texture has detail, and what is foreign shows in that detail alone.
    halvings=3,
    # A rank of 64, of the 128 that a tile can have, would let L hold the defects as well as the surface, and what is in
    # L cannot be in S.
    largest_rank=8,
    # Three halves of images are soon known by heart.
    spread=1.2,
    apart=True,
)
"""The embedded textures."""
PART_SURFACE = Surface(
    # Half of them small and of one grey, as are most defects of industry.
    synthesis=Synthesis((*FAMILIES, *3 * ("blemish",))),
    # At the target precision of 1e5 a pixel that is wrong by 11 grey levels costs as much.
    mask_weight=100.0,
)
"""All other images."""


def surface_of(data: str) -> Surface:
    """Kind of surface of the data that :func:`indeed.recipes.good_images.good_images` reads."""
    return TEXTURE_SURFACE if data == "textures" else PART_SURFACE


VARIANCE_RATE = 1e-4
"""Rate of the priors of Omega and of Lambda in training, in intensity². With the paper's 1e-6 and 1e-8 a precision may
grow to 2.5e6 and 2.5e8, far above the target precision: that of an empty pixel of S, which then never leaves zero, or
that of the noise, which S then copies (after 5000 steps, and the average precision falls by a quarter). With this one
both stay below it."""
NOISE_HIGH = 5 * GREY_LEVEL
"""Noise in training up to twice that of the noisy test sets."""


class DetectionValidation(NamedTuple):
    """Average precision of the map `share`, and PSNR in dB of L, on synthetic anomalies over good images held out."""

    average_precision: float
    psnr_low_rank: float


def detector_network(preset: Preset, channels: Literal[1, 3], halvings: int = 0) -> NetworkConfig:
    """Network for detection: at ``paper`` the paper's, else that of denoising with another f_S, at ``cpu`` resized.

    Here S is empty nearly everywhere. f_S sees the residual Y - L, as in the paper, and Y beside it, because context
    decides what is normal. It puts out by how much the residual is shrunk: so it need not reproduce what L leaves of a
    good image to remove it, as it would if S or the noise were the output. GroupNorm keeps the units alive on the
    long plateau before it tells anomalies from detail. Pixels unshuffled by four let it see twice as far for a quarter
    of the cost. With halvings it is a U-Net instead, of about the same cost, which sees the detail of single pixels
    too. The factor networks are narrower.

    Raises
    ------
    ValueError
        If ``paper`` is to have halvings, or their number does not go with the patch size; for ``cpu-long``.
    """
    expect(preset != "cpu-long", "preset", preset, "another than that of long runs, which is for denoisers")
    network = network_preset(preset, channels)
    if preset == "paper":
        expect(not halvings, "halvings", halvings, "none at the preset paper, whose f_S is a ResNet")
        return network
    network = replace(network, sparse_input="observation_and_residual", sparse_output="shrinkage")
    if preset == "cpu":
        network = replace(
            network, patch_size=128, norm="group", factor_norm="none", factor_width=16, sparse_unshuffle=4
        )
    if halvings:
        network = replace(network, sparse_halvings=halvings, sparse_unshuffle=1)
        return replace(network, sparse_width=16, sparse_blocks=2) if preset == "cpu" else network
    return network


def train_detector(run: Run) -> Trainer:
    """Train a detector on good images and save it as a checkpoint.

    ``run.data`` is as in :func:`indeed.recipes.good_images.good_images`, by default the embedded textures. What the run
    leaves open of rank and halvings is that of `surface_of` the data, and so are the synthetic anomalies.

    Raises
    ------
    DataError, DataMissingError
        If the data are not on disk, or not good.
    FileExistsError
        If the folder of the run holds one and ``run.resume`` is false.
    """
    data = run.data or "textures"
    surface = surface_of(data)
    hyperpriors = Hyperpriors(omega_rate=VARIANCE_RATE, lambda_rate=VARIANCE_RATE)
    training = run.training(noise_high=NOISE_HIGH, mask_weight=surface.mask_weight, hyperpriors=hyperpriors)
    halvings = run.halvings
    if halvings is None:
        halvings = 0 if run.preset == "paper" else surface.halvings
    network = detector_network(run.preset, run.channels, halvings)
    rank = min(surface.largest_rank or network.max_rank, network.max_rank) if run.max_rank is None else run.max_rank
    network = replace(network, patch_size=run.patch_size or network.patch_size, max_rank=rank)
    reader = reader_of(run)
    good = good_images(data, run.channels, network.patch_size, reader)
    reader.tell()
    recipe = Recipe(
        "detect",
        good.name,
        network,
        training,
        anomaly_samples(surface.patches(good.train, network.patch_size, training=True), training, surface.synthesis),
        DETECTION,
        validation_on(surface.patches(good.held_out, network.patch_size), training, surface.synthesis),
        DetectionValidation._fields,
        surface.synthesis._asdict() | {"seed": SEED},
        {"training_images": len(good.train), "validation_images": len(good.held_out), "side": good.side}
        | {"white": reader.white},
        lambda model: {"map": chosen_map(model, good.held_out, surface.synthesis)},
        content=content_of([*good.train, *good.held_out]),
    )
    return train(run, recipe)


def validation_on(
    held_out: Sequence[TextureSource], training: TrainingConfig, synthesis: Synthesis, count: int = 64
) -> Callable[[InDeed], DetectionValidation]:
    """Average precision and PSNR of L on tiles of held-out images as in training, the same each time."""
    samples = validation_samples(held_out, training, synthesis, count)

    def validate(model: InDeed) -> DetectionValidation:
        metrics, low_rank = DetectionMetrics(), []
        device = next(model.parameters()).device
        with torch.inference_mode():
            for observed, normal in zip(*(torch.split(part, 16) for part in samples), strict=True):
                draw = model(observed.to(device))[1]
                found = anomaly_maps(model, observed.to(device), form="share").cpu()
                metrics.update(found, (observed != normal).any(1))
                low_rank.append(psnr(draw.low_rank.cpu(), normal))
        return DetectionValidation(metrics.average_precision(), torch.cat(low_rank).mean().item())

    return validate


def validation_samples(
    held_out: Sequence[TextureSource], training: TrainingConfig, synthesis: Synthesis, count: int = 64
) -> tuple[Tensor, Tensor]:
    """Observed and normal tiles, (tile, channel, height, width), on which a run is validated."""
    observed, normal = draw_batch(anomaly_samples(held_out, training, synthesis), range(count), SEED)[:2]
    return observed, normal
