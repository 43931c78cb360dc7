"""Whole images of any size through the network: overlapped tiles, evaluated at the posterior means and blended.

A tile is as large as the patches the network was trained on. Tiles are worked off strip by strip from top to bottom and
a row of pixels is released as soon as no later tile reaches it, so besides the image and the result only one strip is
in memory.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from indeed.bayes import factor_refinement
from indeed.bayes.variational_family import GaussianFactor, MiddleLevel
from indeed.checks import at_least, expect
from indeed.images.pixels import quantised, unit_scale
from indeed.images.tiling import blend_weights, reflected_indices, tile_starts
from indeed.networks.inference_network import InDeed
from indeed.types import Image


@dataclass(frozen=True, eq=False)
class Decomposition:
    """An image as low-rank + sparse + noise, Eq. 1, with the posterior of the middle level tile by tile.

    ``L + S + N`` is the image, up to the rounding of a float32 sum. L and S are blended posterior means; the low rank
    of L holds within a tile.
    """

    L: Image
    S: Image
    N: Image
    posterior: MiddleLevel
    """Gaussian factors of all tiles: A and B (tile, channel, side, rank), S (tile, channel, side, side)."""
    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    """First rows and columns of the tiles: tile k starts at ``tops[k // len(lefts)], lefts[k % len(lefts)]``."""


def decompose(
    model: InDeed,
    image: Image,
    *,
    overlap: int | None = None,
    batch_tiles: int = 16,
    progress: str | None = None,
    scratch: Path | None = None,
    refine: int = 0,
) -> Decomposition:
    """Decompose a whole image at the posterior means.

    Parameters
    ----------
    model
        Network; the work is done on its device, the result is on the image's.
    image
        In [0, 1] (noise may leave that range), at least one pixel.
    overlap
        Pixels that neighbouring tiles share, ``0 <= overlap < patch_size``; None: a quarter of the patch size.
    batch_tiles
        Tiles that go through the network at once; more need more memory.
    progress
        Label of a progress bar; None: no bar.
    scratch
        Folder for the posterior parameters, which take some seven times the memory of the image: there they are
        memory-mapped files, to be removed by the caller after use. None, or a system that cannot reserve disk space
        (macOS, Windows): main memory.
    refine
        Sweeps of :func:`indeed.bayes.factor_refinement.refine` after the network, in each tile: they move to L what S
        holds of the denoised image and L can explain. ``L + S`` and N stay. A sweep solves a linear system for
        each row and each column of a tile.

    Raises
    ------
    ValueError
        If the image is empty, has NaN or infinite values, or other channels than the model; if `overlap`,
        `batch_tiles` or `refine` is out of range.
    """
    at_least(0, refine=refine)
    overlap = _overlap(model, overlap)
    parts = image.new_empty(2, *image.shape)
    posteriors = _Posteriors(scratch, image.device)
    for top, rows in _blended_rows(model, image, overlap, batch_tiles, progress, posteriors, refine):
        parts[:, :, top : top + rows.shape[2]] = rows
    L, S = parts
    tile = model.config.patch_size
    return Decomposition(
        L=L,
        S=S,
        N=image - (L + S),
        posterior=MiddleLevel(**posteriors.factors),
        tops=tile_starts(image.shape[1], tile, overlap),
        lefts=tile_starts(image.shape[2], tile, overlap),
    )


def denoise(
    model: InDeed,
    image: Shaped[Tensor, "channel height width"],
    *,
    overlap: int | None = None,
    batch_tiles: int = 16,
    progress: str | None = None,
    white: int | None = None,
) -> Shaped[Tensor, "channel height width"]:
    """Denoise a whole image: ``L + S`` at the posterior means, in the type of the image.

    Parameters
    ----------
    model, overlap, batch_tiles, progress
        As in `decompose`.
    image
        Float32 in [0, 1], where the result is neither clipped nor rounded; or uint8 or uint16, where it is. An integer
        image is converted strip by strip, so that the memory needed beyond image and result does not grow with the
        height.
    white
        Value of white of an integer image; None: the largest one of its type.

    Raises
    ------
    ValueError
        As `decompose`, or for another type.
    """
    overlap = _overlap(model, overlap)
    result = torch.empty_like(image)
    for top, rows in _blended_rows(model, image, overlap, batch_tiles, progress, None, white=white):
        result[:, top : top + rows.shape[2]] = quantised(rows.sum(dim=0), image.dtype, white)
    return result


def _overlap(model: InDeed, overlap: int | None) -> int:
    return model.config.patch_size // 4 if overlap is None else overlap


class _Posteriors:
    """Posteriors of all tiles, stored as they come: in memory, or in memory-mapped files of a scratch folder."""

    def __init__(self, scratch: Path | None, device: torch.device) -> None:
        self.scratch = scratch
        self.device = device
        self.factors: dict[str, GaussianFactor] = {}

    def store(self, first: int, total: int, middle: MiddleLevel) -> None:
        """Store the posteriors of some tiles, of which the first has index ``first`` of ``total``."""
        for name, factor in middle._asdict().items():
            if name not in self.factors:
                shape = (total, *factor.mean.shape[1:])
                self.factors[name] = GaussianFactor(*(self._empty(f"{name}_{part}", shape) for part in factor._fields))
            for kept, new in zip(self.factors[name], factor, strict=True):
                kept[first : first + len(new)] = new.to(self.device)

    def _empty(self, name: str, shape: tuple[int, ...]) -> Tensor:
        if self.scratch is None or not hasattr(os, "posix_fallocate"):
            return torch.empty(shape, device=self.device)
        path, size = self.scratch / name, math.prod(shape)
        with path.open("wb") as file:
            # Reserve the space: on a full disk this is an error, a write to the mapped memory would kill the process.
            os.posix_fallocate(file.fileno(), 0, size * torch.float32.itemsize)
        return torch.from_file(str(path), shared=True, size=size, dtype=torch.float32).reshape(shape)


def _blended_rows(
    model: InDeed,
    image: Shaped[Tensor, "channel height width"],
    overlap: int,
    batch_tiles: int,
    progress: str | None,
    posteriors: _Posteriors | None,
    refine: int = 0,
    white: int | None = None,
) -> Iterator[tuple[int, Float[Tensor, "2 channel rows width"]]]:
    """Finished rows of (L, S) from top to bottom, with the index of the first; posteriors are stored where given."""
    from tqdm import tqdm

    channel, height, width = image.shape
    expect(channel == model.config.channels, "image", f"{channel} channels", f"the model's {model.config.channels}")
    expect(image.dtype in (torch.float32, torch.uint8, torch.uint16), "image", image.dtype, "float32, uint8 or uint16")
    if image.is_floating_point() and not bool(image.isfinite().all()):
        raise ValueError("image: got NaN or infinite values, expected finite ones")
    at_least(1, batch_tiles=batch_tiles)
    tile, device = model.config.patch_size, next(model.parameters()).device
    tops, lefts = tile_starts(height, tile, overlap), tile_starts(width, tile, overlap)
    vertical, horizontal = (blend_weights(starts, tile).to(image.device, torch.float32) for starts in (tops, lefts))
    inside_rows = reflected_indices(min(height, tile), tile).to(image.device)
    inside_columns = reflected_indices(width, max(width, tile)).to(image.device)
    open_rows = torch.zeros(2, channel, tile, max(width, tile), device=image.device)
    was_training = model.training
    model.eval()
    try:
        total = len(tops) * len(lefts)
        with tqdm(total=total, desc=progress, disable=progress is None, unit="tile", leave=False) as bar:
            for i, top in enumerate(tops):
                strip = unit_scale(image[:, top : top + tile], white)
                strip = strip.index_select(1, inside_rows).index_select(2, inside_columns)
                for first in range(0, len(lefts), batch_tiles):
                    batch = lefts[first : first + batch_tiles]
                    with torch.no_grad():
                        tiles = torch.stack([strip[:, :, left : left + tile] for left in batch]).to(device)
                        middle, means = model(tiles)
                        if refine:
                            middle = _refined(tiles, middle, refine)
                            means = middle.means
                        parts = torch.stack([means.low_rank, means.S], dim=1).to(image.device)
                    if posteriors is not None:
                        posteriors.store(i * len(lefts) + first, total, middle)
                    for j, (left, part) in enumerate(zip(batch, parts, strict=True), start=first):
                        open_rows[..., left : left + tile] += vertical[i][:, None] * horizontal[j] * part
                    bar.update(len(batch))
                finished = (tops[i + 1] if i + 1 < len(tops) else height) - top
                yield top, open_rows[:, :, :finished, :width]
                open_rows = torch.cat([open_rows[:, :, finished:], torch.zeros_like(open_rows[:, :, :finished])], dim=2)
    finally:
        model.train(was_training)


def _refined(tiles: Float[Tensor, "tile channel side side"], middle: MiddleLevel, sweeps: int) -> MiddleLevel:
    """Refined posterior, computed in double precision and one tile after the other: each needs much memory."""
    refined = []
    for k in range(len(tiles)):
        one = MiddleLevel(*(GaussianFactor(*(x[k : k + 1].double() for x in factor)) for factor in middle))
        refined.append(factor_refinement.refine(tiles[k : k + 1].double(), one, sweeps=sweeps).middle)
    factors = zip(*refined, strict=True)  # those of A of all tiles, then of B, then of S
    return MiddleLevel(*(GaussianFactor(*(torch.cat(x).to(tiles) for x in zip(*q, strict=True))) for q in factors))
