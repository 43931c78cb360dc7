"""Training of the detectors of anomalies: good images in, a checkpoint with its record out (Eq. 45).

No real defect is seen: the network learns from synthetic anomalies, and what the map is made of, how it is smoothed and
what scores good images have is found on synthetic anomalies over good images held out of training.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from indeed.bayes.anomaly_maps import smoothed
from indeed.bayes.generative_model import Hyperpriors
from indeed.data.anomaly_sets import (
    GOOD,
    READERS,
    TEXTURES,
    AnomalyItem,
    AnomalySet,
    MakeDefect,
    anomaly_set,
    load,
    texture_set,
)
from indeed.data.benchmarks import DataMissingError, evenly, image_files
from indeed.data.download import DataError
from indeed.data.files import read_image
from indeed.data.patches import PatchSampler
from indeed.data.samples import sample_image
from indeed.experiments.training_run import Preset, Task, train
from indeed.images.anomalies import (
    FAMILIES,
    AnomalySample,
    Synthesis,
    TextureSource,
    anomalous,
    anomalous_sample,
    foreign_to,
)
from indeed.images.detection_metrics import DetectionMetrics, image_score
from indeed.images.metrics import psnr
from indeed.images.noise import GREY_LEVEL
from indeed.images.pixels import eight_bit
from indeed.learning.loading import draw_batch
from indeed.learning.training import (
    Trainer,
    TrainingConfig,
    anomaly_samples,
    supervised_anomaly,
    training_preset,
)
from indeed.networks.anomaly_detection import MapForm, MapSettings, anomaly_maps
from indeed.networks.inference_network import InDeed, NetworkConfig, network_preset

SIDE = 256
"""Side to which the images of a set are brought, as DRAEM does; textures keep their size."""
TEXTURE_CONTRAST = 32 * GREY_LEVEL
"""Least mean absolute change of a pixel of a defect on the embedded textures. Grass on grass, or a faint veil of it, is
no defect that could be seen: gravel and grass differ from pixel to pixel by more themselves."""
TEXTURE_SYNTHESIS = Synthesis(
    ("perlin", "perlin", "cutpaste", "blemish"), TEXTURE_CONTRAST, foreign=True, area=(0.005, 0.1), camouflage=0.5
)
"""Anomalies to train on for the embedded textures: the families that they are tested with are not among them."""
UNSEEN_FAMILIES = ("scar", "poisson")
PARTS_SYNTHESIS = Synthesis((*FAMILIES, *3 * ("blemish",)))
"""Anomalies to train on for all other images: half of them small and of one grey, as are most defects of industry."""
MASK_WEIGHT = 100.0
"""Weight of the cross-entropy of the map beside Eq. 45, in nats a pixel: at the target precision of 1e5 a pixel that is
wrong by 11 grey levels costs as much."""
TEXTURE_RANK = 8
"""Largest rank of the low-rank part of a texture. Of the 128 that a tile can have 64 would be enough for L to hold the
defects as well as the surface, and what is in L cannot be in S."""
TEXTURE_HALVINGS = 3
"""Halvings of f_S for a texture, where every pixel has detail and what is foreign shows in that detail alone."""
TEXTURE_SPREAD = 1.2
"""Spread of zoom and gamma of the patches of a texture: three halves of images are soon known by heart."""
TEXTURE_MASK_WEIGHT = 1000.0
"""`MASK_WEIGHT` of a texture, of which L leaves so much that the squared error would drown the mask."""
VARIANCE_RATE = 1e-4
"""Rate of the priors of Omega and of Lambda in training, in intensity². With the paper's 1e-6 and 1e-8 a precision may
grow to 2.5e6 and 2.5e8, far above the target precision: that of an empty pixel of S, which then never leaves zero, or
that of the noise, which S then copies (after 5000 steps, and the average precision falls by a quarter). With this one
both stay below it."""
NOISE_HIGH = 5 * GREY_LEVEL
"""Noise in training up to twice that of the noisy test sets."""
SMOOTHING = (0.0, 1.0, 2.0, 4.0)
"""Standard deviations, in pixels, among which that of the map is chosen."""
TURNS = 4
"""Orientations that the maps of a detector are averaged over."""
SEED = 7
"""Of the synthetic anomalies that settings are chosen on."""


class DetectionValidation(NamedTuple):
    """Average precision of the map `share`, and PSNR in dB of L, on synthetic anomalies over good images held out."""

    average_precision: float
    psnr_low_rank: float


class GoodImages(NamedTuple):
    """Good images, 8-bit (channel, height, width), to train on and held out."""

    name: str
    train: list[Tensor]
    held_out: list[Tensor]
    side: int | None
    """Side to which images are brought in front of the network; None: they are taken as they are."""


def detector_network(preset: Preset, channels: Literal[1, 3], halvings: int = 0) -> NetworkConfig:
    """Network for detection: that of denoising, which at ``paper`` is the paper's, but for f_S and the form at ``cpu``.

    Here S is empty nearly everywhere. f_S sees the residual Y - L, as in the paper, and Y beside it, for what is normal
    is a matter of context. It puts out by how much the residual is shrunk: what L leaves of a good image need not be
    reproduced to be taken away, as it would where S or the noise is the output. GroupNorm keeps the units alive on the
    long plateau before it tells anomalies from detail. Pixels unshuffled by four let it see twice as far for a quarter
    of the cost. With halvings it is a U-Net instead, of about the same cost, which sees the detail of single pixels
    too. The factor networks are narrower.

    Raises
    ------
    ValueError
        If ``paper`` is to have halvings, or their number does not go with the patch size.
    """
    network = network_preset(preset, channels)
    if preset == "paper":
        if halvings:
            raise ValueError(f"halvings: got {halvings}, expected none at the preset paper, whose f_S is a ResNet")
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


def train_detector(
    out: Path,
    *,
    preset: Preset = "cpu",
    data: str = "textures",
    channels: Literal[1, 3] = 1,
    patch_size: int | None = None,
    max_rank: int | None = None,
    halvings: int | None = None,
    synthesis: Synthesis | None = None,
    start: Path | None = None,
    steps: int | None = None,
    stop_at: int | None = None,
    seed: int = 0,
    resume: bool = False,
    folder: Path | None = None,
    device: str = "cpu",
    progress: bool = True,
    **changes: Any,
) -> Trainer:
    """Train a detector on good images and save it as a checkpoint.

    Parameters
    ----------
    out
        Checkpoint to write, ``*.safetensors``.
    preset
        Sizes of the network and of the run.
    data
        As in `good_images`.
    channels
        1 (grey) or 3 (colour).
    patch_size
        Side of the tiles in pixels if it should differ from the preset's.
    max_rank
        Largest rank of the low-rank part; None: the preset's, but for the embedded textures at most `TEXTURE_RANK`.
    halvings
        As in `detector_network`; None: `TEXTURE_HALVINGS` for the embedded textures, else 0. At ``paper`` there
        are none.
    synthesis
        Synthetic anomalies to learn from; None: `synthesis_for` the data.
    start, steps, stop_at, seed, resume, folder, device, progress, changes
        As in :func:`indeed.experiments.denoiser.train_denoiser`.

    Raises
    ------
    DataError, DataMissingError
        If the data are not on disk, or not good.
    FileExistsError
        If ``folder`` holds a run and ``resume`` is false.
    """
    chosen = synthesis or synthesis_for(data)
    if unknown := set(chosen.families) - set(FAMILIES):
        raise ValueError(f"families: got {', '.join(sorted(unknown))}, expected names from {', '.join(FAMILIES)}")
    textures = data == "textures"
    changes = {
        "seed": seed,
        "steps": steps,
        "noise_high": NOISE_HIGH,
        "mask_weight": TEXTURE_MASK_WEIGHT if textures else MASK_WEIGHT,
        "hyperpriors": Hyperpriors(omega_rate=VARIANCE_RATE, lambda_rate=VARIANCE_RATE),
    } | changes
    training = replace(training_preset(preset), **{name: to for name, to in changes.items() if to is not None})
    if halvings is None:
        halvings = TEXTURE_HALVINGS if textures and preset != "paper" else 0
    network = detector_network(preset, channels, halvings)
    if max_rank is None:
        max_rank = min(TEXTURE_RANK, network.max_rank) if textures else network.max_rank
    network = replace(network, patch_size=patch_size or network.patch_size, max_rank=max_rank)
    good = good_images(data, channels, network.patch_size)
    task = Task(
        "detect",
        good.name,
        anomaly_samples(patch_sources(data, good.train, network.patch_size, training=True), training, chosen),
        supervised_anomaly,
        validation_on(patch_sources(data, good.held_out, network.patch_size), training, chosen),
        DetectionValidation._fields,
        chosen._asdict() | {"seed": SEED},
        {"training_images": len(good.train), "validation_images": len(good.held_out), "side": good.side},
        lambda model: {"map": chosen_map(model, good.held_out, chosen)},
    )
    return train(
        out,
        task,
        network,
        training,
        preset=preset,
        start=start,
        stop_at=stop_at,
        resume=resume,
        folder=folder,
        device=device,
        progress=progress,
    )


def good_images(data: str, channels: Literal[1, 3], patch_size: int) -> GoodImages:
    """Good images to train a detector on, a tenth of them held out.

    Parameters
    ----------
    data
        ``textures``: the left halves of textures that ship with scikit-image, of which the last quarter is held out;
        names from :data:`indeed.data.anomaly_sets.READERS`, joined by ``+``: the sets under ``INDEED_DATA``, for one
        model of all their categories; else a folder: of photographs of good parts, or with them in ``train/good`` or
        ``<category>/train/good``.
    channels
        1 (grey) or 3 (colour).
    patch_size
        Least side to which images are brought.

    Raises
    ------
    DataError, DataMissingError
        If there are not at least two good images, or a category has none.
    """
    if data == "textures":
        images = [eight_bit(load(item).image, channels) for item in texture_set_for_tests(1).train]
        cut = [image.shape[1] * 3 // 4 for image in images]
        upper = [image[:, :rows].contiguous() for image, rows in zip(images, cut, strict=True)]
        lower = [image[:, rows:].contiguous() for image, rows in zip(images, cut, strict=True)]
        return GoodImages(data, upper, lower, None)
    side = max(SIDE, patch_size)
    names = data.split("+")
    if set(names) <= READERS.keys():
        items = [item for name in names for item in anomaly_set(name).train]
    else:
        folder = Path(data)
        if not folder.is_dir():
            raise DataMissingError(
                f"data must be 'textures', names from {', '.join(READERS)}, or a folder; got {data!r}"
            )
        data = folder.resolve().name
        items = [AnomalyItem(path, data, GOOD, partial(_read_good, path)) for path in _good_files(folder)]
    if len(items) < 2:
        raise DataError(f"{data}: {len(items)} good images, expected at least 2")
    apart = set(map(id, evenly(items, max(1, len(items) // 10))))
    parts: tuple[list[Tensor], list[Tensor]] = ([], [])
    for item in items:
        parts[id(item) in apart].append(eight_bit(load(item, side, channels=channels).image, channels))
    return GoodImages(data, *parts, side)


def _read_good(path: Path) -> tuple[Tensor, None]:
    return read_image(path).tensor(), None


def _good_files(folder: Path) -> list[Path]:
    places = [root / "train" / "good" for root in (folder, *sorted(folder.iterdir())) if (root / "train").is_dir()]
    files = []
    for place in places or [folder]:
        found = image_files(place) if place.is_dir() else []
        if not found:
            raise DataError(f"{place}: holds no image, expected photographs of good parts")
        files += found
    return files


def patch_sources(
    data: str, images: Sequence[Tensor], patch_size: int, *, training: bool = False
) -> list[TextureSource]:
    """List the sources of good patches that :func:`indeed.learning.training.anomaly_samples` takes.

    Each of the embedded textures is a surface of its own: on grass, grass is no defect that could be seen. In training
    its zoom and gamma vary by `TEXTURE_SPREAD`. Of other data all images are one surface.
    """
    textures = data == "textures"
    apart = [[image] for image in images] if textures else [images]
    return [PatchSampler(some, patch_size, TEXTURE_SPREAD if textures and training else 1.0) for some in apart]


def synthesis_for(data: str) -> Synthesis:
    """Synthetic anomalies that detectors of `good_images` learn from, and are set on."""
    return TEXTURE_SYNTHESIS if data == "textures" else PARTS_SYNTHESIS


def texture_set_for_tests(
    seed: int = SEED, area: tuple[float, float] = (0.01, 0.05), contrast: float = TEXTURE_CONTRAST
) -> AnomalySet:
    """Embedded textures with defects of `UNSEEN_FAMILIES`: foreign matter, cut from the right halves of the others.

    Parameters
    ----------
    seed
        Of the defects.
    area
        Least and largest share of the pixels of a tile; by default 1 to 5 %.
    contrast
        Least mean absolute change of a pixel of the defect, in the unit of the image.
    """

    def right_half(name: str) -> TextureSource:
        image = sample_image(name)
        return lambda _: image[..., image.shape[2] // 2 :]

    surfaces = [right_half(name) for name in TEXTURES]

    def made_by(family: str) -> MakeDefect:
        def make(image: Tensor, name: str, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            source = foreign_to(surfaces, TEXTURES.index(name))
            sample = anomalous_sample(
                image, source, generator, families=(family,), clean=0, area=area, contrast=contrast, foreign=True
            )
            return sample.observed, sample.mask

        return make

    return texture_set({family: made_by(family) for family in UNSEEN_FAMILIES}, torch.Generator().manual_seed(seed))


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


def chosen_map(model: InDeed, images: Sequence[Tensor], synthesis: Synthesis, least: int = 32) -> dict[str, Any]:
    """Form and smoothing with the highest average precision on synthetic anomalies over held-out good images.

    Returns
    -------
    The fields of `MapSettings`, the ``average_precision`` of each, and the ascending image scores of the good images
    themselves, ``good_scores``, from which a threshold can be read.
    """
    normal = [image.float() / 255 for image in images]
    samples = synthetic_anomalies(normal, synthesis, least)
    found: dict[str, float] = {}
    best: tuple[float, MapForm, float] = (-1.0, "magnitude", 0.0)
    for form in get_args(MapForm):
        maps = [anomaly_maps(model, sample.observed, form=form, turns=TURNS) for sample in samples]
        for smoothing in SMOOTHING:
            metrics = DetectionMetrics()
            for rough, sample in zip(maps, samples, strict=True):
                metrics.update(smoothed(rough, smoothing) if smoothing else rough, sample.mask)
            found[f"{form}_{smoothing:g}"] = metrics.average_precision()
            best = max(best, (found[f"{form}_{smoothing:g}"], form, smoothing))
    settings = MapSettings(*best[1:], TURNS)
    scores: list[float] = []
    for image in normal:
        scores.append(image_score(anomaly_maps(model, image[None], **settings._asdict())).item())
    return settings._asdict() | {"average_precision": found, "good_scores": sorted(scores)}


def synthetic_anomalies(
    images: Sequence[Tensor], synthesis: Synthesis, least: int = 32, window: int = 128
) -> list[AnomalySample]:
    """Good images in [0, 1] with synthetic anomalies, one in four without, each image as often as makes ``least``.

    An anomaly lies in a square of side ``window``, or as much as there is of it, at a random place of its image. So it
    has the size of those in training, which go by the tile, however large the image is. Every detector is set on these;
    they are the same each time.
    """
    generator = torch.Generator().manual_seed(SEED)
    samples = []
    for _ in range(-(-least // len(images))):
        for image in images:
            others = [other for other in images if other is not image] or [image]
            rows, columns = (
                slice(start, start + window)
                for start in (
                    int(torch.randint(max(0, side - window) + 1, (), generator=generator)) for side in image.shape[1:]
                )
            )
            part = anomalous(image[None, :, rows, columns], generator, textures=others, **synthesis._asdict())
            whole = AnomalySample(
                image[None].clone(),
                image[None],
                torch.zeros_like(image[None]),
                torch.zeros_like(image[:1], dtype=torch.bool),
                part.family,
            )
            whole.observed[..., rows, columns] = part.observed
            whole.anomaly[..., rows, columns] = part.anomaly
            whole.mask[..., rows, columns] = part.mask
            samples.append(whole)
    return samples
