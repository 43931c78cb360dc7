"""The choice of a detector's map and of its smoothing, on synthetic anomalies over good images held out."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar, get_args

import torch
from torch import Tensor

from indeed.bayes.anomaly_maps import smoothed
from indeed.images.anomaly_synthesis import AnomalySample, Synthesis, anomalous
from indeed.images.detection_metrics import DetectionMetrics, image_score
from indeed.networks.anomaly_detection import MapForm, MapSettings, anomaly_maps
from indeed.networks.inference_network import InDeed
from indeed.recipes.good_images import SEED
from indeed.types import Images, Maps

MapOf = Callable[[Images], Maps]
Name = TypeVar("Name", bound=str)

SMOOTHING = (0.0, 1.0, 2.0, 4.0)
"""Standard deviations, in pixels, among which that of the map is chosen."""
TURNS = 4
"""Orientations that the maps of a detector are averaged over."""


def chosen_map(model: InDeed, images: Sequence[Tensor], synthesis: Synthesis, least: int = 32) -> dict[str, Any]:
    """Form and smoothing with the highest average precision on synthetic anomalies over held-out good images.

    Returns
    -------
    The fields of `MapSettings`, the ``average_precision`` of each, and the ascending image scores of the good images
    themselves, ``good_scores``, from which a threshold can be read.
    """
    normal = [image.float() / 255 for image in images]
    maps = {form: partial(anomaly_maps, model, form=form, turns=TURNS) for form in get_args(MapForm)}
    found = precisions(maps, synthetic_anomalies(normal, synthesis, least))
    # Among equal ones the last form in alphabetical order, and of that one the smoothest.
    _, form, smoothing = max((precision, *setting) for setting, precision in found.items())
    settings = MapSettings(form, smoothing, TURNS)
    scores: list[float] = []
    for image in normal:
        scores.append(image_score(anomaly_maps(model, image[None], **settings._asdict())).item())
    by_name = {f"{form}_{smoothing:g}": precision for (form, smoothing), precision in found.items()}
    return settings._asdict() | {"average_precision": by_name, "good_scores": sorted(scores)}


def precisions(maps: Mapping[Name, MapOf], samples: Sequence[AnomalySample]) -> dict[tuple[Name, float], float]:
    """Average precision over the pixels of all samples, of each map with each `SMOOTHING`.

    Raises
    ------
    ValueError
        If there is no sample with and without an anomalous pixel.
    """
    found = {}
    for name, map_of in maps.items():
        plain = [map_of(sample.observed) for sample in samples]
        for sigma in SMOOTHING:
            metrics = DetectionMetrics()
            for anomaly_map, sample in zip(plain, samples, strict=True):
                metrics.update(smoothed(anomaly_map, sigma) if sigma else anomaly_map, sample.mask)
            found[name, sigma] = metrics.average_precision()
    return found


def synthetic_anomalies(
    images: Sequence[Tensor], synthesis: Synthesis, least: int = 32, window: int = 128
) -> list[AnomalySample]:
    """Good images in [0, 1] with synthetic anomalies, one in four without; all equally often, ``least`` or more.

    An anomaly lies in a square of side ``window``, or as much as there is of it, at a random place of its image. So it
    has the size of those in training, which go by the tile, however large the image is. Every detector is tuned on
    these; they are the same each time.
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
