"""Anomaly maps of whole images: the posterior of each tile, a map of it, the tiles blended."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from indeed.bayes.anomaly_maps import ANOMALY_MAPS, smoothed
from indeed.bayes.conjugate_updates import solve_leaf_level
from indeed.bayes.generative_model import Hyperpriors
from indeed.images.tiling import split, stitch
from indeed.networks.inference_network import InDeed

MapForm = Literal["magnitude", "standardised", "prior_scale"]


@torch.no_grad()
def anomaly_maps(
    model: InDeed,
    images: Float[Tensor, "batch channel height width"],
    *,
    form: MapForm = "magnitude",
    smoothing: float = 0.0,
    overlap: int | None = None,
    batch_tiles: int = 16,
    hyperpriors: Hyperpriors | None = None,
) -> Float[Tensor, "batch height width"]:
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
    if form not in ANOMALY_MAPS:
        raise ValueError(f"form must be one of {', '.join(ANOMALY_MAPS)}, got {form!r}")
    if not 0 <= smoothing < float("inf"):
        raise ValueError(f"smoothing: got {smoothing}, expected a finite number of pixels, 0 for none")
    if batch_tiles < 1:
        raise ValueError(f"batch_tiles: got {batch_tiles}, expected at least 1")
    if not bool(images.isfinite().all()):
        raise ValueError("images: got NaN or infinite values, expected finite ones")
    batch, _, height, width = images.shape
    tile, device = model.config.patch_size, next(model.parameters()).device
    shared = tile // 4 if overlap is None else overlap
    tiles = split(images, tile, shared)
    was_training = model.training
    model.eval()
    try:
        found = []
        for some in tiles.flatten(0, 1).split(batch_tiles):
            y = some.to(device)
            middle, _ = model(y)
            leaf = solve_leaf_level(y, middle, hyperpriors or Hyperpriors())
            found.append(ANOMALY_MAPS[form](middle, leaf).to(images.device))
    finally:
        model.train(was_training)
    blended = stitch(torch.cat(found).reshape(-1, batch, 1, tile, tile), height, width, shared)[:, 0]
    return smoothed(blended, smoothing) if smoothing else blended
