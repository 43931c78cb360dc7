"""Anomaly maps of whole images: the posterior of each tile, a map of it, the tiles blended; and detectors that ship."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from indeed.bayes.anomaly_maps import ANOMALY_MAPS, smoothed
from indeed.bayes.conjugate_updates import solve_leaf_level
from indeed.bayes.generative_model import Hyperpriors
from indeed.checks import at_least, expect, finite, one_of
from indeed.images.detection_metrics import SCORE_WINDOW, image_score
from indeed.images.pixels import as_channels
from indeed.images.tiling import split, stitch
from indeed.networks.checkpoint import CheckpointError, load_checkpoint
from indeed.networks.inference_network import InDeed
from indeed.types import Images, Map, Maps

MapForm = Literal["magnitude", "standardised", "prior_scale", "share"]


@torch.no_grad()
def anomaly_maps(
    model: InDeed,
    images: Images,
    *,
    form: MapForm = "magnitude",
    smoothing: float = 0.0,
    turns: int = 1,
    overlap: int | None = None,
    batch_tiles: int = 16,
    hyperpriors: Hyperpriors | None = None,
) -> Maps:
    """Map the anomalies of images of any size, one value a pixel, larger where more anomalous.

    Parameters
    ----------
    model
        Network trained for detection; the work is done on its device, the result is on the images'.
    images
        In [0, 1] (noise may leave that range).
    form
        Which function of the posterior; see :mod:`indeed.bayes.anomaly_maps`.
    smoothing
        Standard deviation in pixels of a Gaussian mean of the blended map; 0: none.
    turns
        Number of orientations, 1 to 4, a quarter turn apart, over which the map is averaged. A network that was trained
        on patches in all orientations judges each a little differently: errors average out, and time adds up.
    overlap
        Pixels that neighbouring tiles share, ``0 <= overlap < patch_size``; None: a quarter of the patch size.
    batch_tiles
        Tiles that go through the network at once; more need more memory.
    hyperpriors
        Of the leaf level, on which only ``prior_scale`` depends; None: the default ones.

    Raises
    ------
    ValueError
        If the images have NaN or infinite values or other channels than the model, or an option is out of range.
    """
    one_of(ANOMALY_MAPS, form=form)
    expect(0 <= smoothing < float("inf"), "smoothing", smoothing, "a finite number of pixels, 0 for none")
    expect(1 <= turns <= 4, "turns", turns, "1 to 4")
    at_least(1, batch_tiles=batch_tiles)
    finite(images=images)
    tile, device = model.config.patch_size, next(model.parameters()).device
    shared = tile // 4 if overlap is None else overlap

    def blended(images: Tensor) -> Tensor:
        found = []
        tiles = split(images, tile, shared)
        for some in torch.split(tiles.flatten(0, 1), batch_tiles):
            y = some.to(device)
            middle, _ = model(y)
            leaf = solve_leaf_level(y, middle, hyperpriors or Hyperpriors())
            found.append(ANOMALY_MAPS[form](y, middle, leaf).to(images.device))
        height, width = images.shape[2:]
        return stitch(torch.cat(found).reshape(-1, len(images), 1, tile, tile), height, width, shared)[:, 0]

    was_training = model.training
    model.eval()
    try:
        maps = [torch.rot90(blended(torch.rot90(images, turn, (2, 3))), -turn, (1, 2)) for turn in range(turns)]
    finally:
        model.train(was_training)
    mean = sum(maps[1:], maps[0]) / turns
    return smoothed(mean, smoothing) if smoothing else mean


class MapSettings(NamedTuple):
    """How the maps of a trained detector are made, in the words of `anomaly_maps`."""

    form: MapForm
    smoothing: float
    turns: int


def map_settings(made: Mapping[str, Any]) -> MapSettings:
    """Read the settings from what the record of a detector says of its ``map``; older ones have no turns.

    Examples
    --------
    >>> map_settings({"form": "share", "smoothing": 2.0})
    MapSettings(form='share', smoothing=2.0, turns=1)
    """
    return MapSettings(made["form"], made["smoothing"], made.get("turns", 1))


class Detection(NamedTuple):
    """What a `Detector` finds in an image: larger is more anomalous."""

    map: Map
    """At the size of the image."""
    score: float
    """Of the image, to compare with the `good_scores` of the detector."""


@dataclass(frozen=True, eq=False)
class Detector:
    """Network trained for detection, how its maps are made, and the scores of good images that it has not seen."""

    model: InDeed
    side: int | None
    """Height and width to which an image is brought in front of the network; None: it is taken as it is."""
    settings: MapSettings
    good_scores: tuple[float, ...]
    """Ascending."""

    def __call__(self, image: Float[Tensor, "_ height width"]) -> Detection:
        """Map the anomalies of one image, grey or colour, of any size.

        The map is made, and scored by :func:`indeed.images.detection_metrics.image_score`, at the side of the detector,
        and then brought to the size of the image bilinearly.

        Raises
        ------
        ValueError
            If the image has NaN or infinite values, or neither 1 nor 3 channels, or is smaller than the window of the
            score and not brought to another size.
        """
        observed, size = as_channels(image, self.model.config.channels)[None], image.shape[1:]
        if self.side is None and min(size) < SCORE_WINDOW:
            raise ValueError(f"image: got {size[1]}x{size[0]} pixels, expected at least {SCORE_WINDOW} on each side")
        if self.side is not None:
            observed = interpolate(observed, (self.side, self.side), mode="bilinear", antialias=True)
        found = anomaly_maps(self.model, observed, **self.settings._asdict())
        score = image_score(found).item()
        if found.shape[1:] != size:
            found = interpolate(found[None], size, mode="bilinear", antialias=True)[0]
        return Detection(found[0], score)


def load_detector(path: Path, device: str | torch.device = "cpu") -> Detector:
    """Detector from a checkpoint that :func:`indeed.recipes.detector.train_detector` made.

    Raises
    ------
    CheckpointError
        As :func:`indeed.networks.checkpoint.load_checkpoint`, or if the network was trained for another task.
    """
    model, record = load_checkpoint(path, device)
    if record.get("task") != "detect":
        raise CheckpointError(f"{path}: got task {record.get('task')!r}, expected a detector of anomalies")
    try:
        return Detector(model, record["side"], map_settings(record["map"]), tuple(record["map"]["good_scores"]))
    except KeyError as error:
        raise CheckpointError(f"{path}: its record lacks {error}, expected that of a detector") from error
