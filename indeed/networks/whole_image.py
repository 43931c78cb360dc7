"""Whole images of any size through the network, evaluated at the posterior means.

L comes from overlapped tiles that are blended; a tile is as large as the patches the network was trained on. f_S is a
convolution, so where an output pixel depends on no more than a neighbourhood (`SparseNetwork.reach`) it sees the
blended L of the whole image, in large blocks with a halo of that neighbourhood: the values are those of one block, and
nothing is computed twice but the halo. An f_S that normalises over what it sees, or attends to all of it, is held to
the tiles, and S is blended as L is.

All is worked off from top to bottom, and a row of pixels is released as soon as nothing later reaches it, so besides
the image and the result only a strip is in memory.
"""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from indeed.bayes import factor_refinement
from indeed.bayes.generative_model import low_rank
from indeed.bayes.variational_family import GaussianFactor, MiddleLevel
from indeed.checks import at_least, expect
from indeed.images.pixels import quantised, unit_scale
from indeed.images.tiling import blend_weights, reflected_indices, tile_starts
from indeed.networks.inference_network import InDeed
from indeed.types import Image

BLOCK_PIXELS = 2**20
"""Pixels, halo included, that f_S sees at once where it is not held to the tiles: its maps take some 300 bytes each."""


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
    """Gaussian factors of all tiles: A and B (tile, channel, side, rank), S (tile, channel, side, side). Within a tile
    A Bᵀ plus the mean of S is the denoised image, unless S too was blended from tiles."""
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
    grid = _grid(model, image, overlap, batch_tiles)
    posteriors = _Posteriors(scratch, image.device, grid.total)
    # L, S, and the log-variance of S where it is that of the whole image
    parts = image.new_empty(2 if model.f_S.reach is None else 3, *image.shape)
    with _evaluated(model):
        for top, rows in _finished_rows(model, image, grid, batch_tiles, progress, posteriors, refine):
            parts[:, :, top : top + rows.shape[2]] = rows
        L, S, *log_variance = parts
        if log_variance:
            known = torch.cat([image, L + S, *log_variance])
            for top, (refined,) in _blended_rows(known, grid, _tile_posteriors(posteriors, refine), batch_tiles):
                if refine:
                    before = L[:, top : top + refined.shape[1]]
                    S[:, top : top + refined.shape[1]] += before - refined
                    before.copy_(refined)
    posterior = MiddleLevel(**posteriors.factors)
    return Decomposition(L=L, S=S, N=image - (L + S), posterior=posterior, tops=grid.tops, lefts=grid.lefts)


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
    grid = _grid(model, image, overlap, batch_tiles)
    result = torch.empty_like(image)
    with _evaluated(model):
        for top, (L, S, *_) in _finished_rows(model, image, grid, batch_tiles, progress, white=white):
            result[:, top : top + L.shape[1]] = quantised(L + S, image.dtype, white)
    return result


@dataclass(frozen=True)
class _Grid:
    """Tiles of an image: their side and where they start."""

    side: int
    tops: tuple[int, ...]
    lefts: tuple[int, ...]

    @property
    def total(self) -> int:
        return len(self.tops) * len(self.lefts)


TileParts = Callable[[int, Tensor], Float[Tensor, "tile part channel side side"]]
"""What is blended of some tiles, of which the first has the given index."""


def _grid(model: InDeed, image: Tensor, overlap: int | None, batch_tiles: int) -> _Grid:
    channel, height, width = image.shape
    expect(channel == model.config.channels, "image", f"{channel} channels", f"the model's {model.config.channels}")
    expect(image.dtype in (torch.float32, torch.uint8, torch.uint16), "image", image.dtype, "float32, uint8 or uint16")
    if image.is_floating_point() and not bool(image.isfinite().all()):
        raise ValueError("image: got NaN or infinite values, expected finite ones")
    at_least(1, batch_tiles=batch_tiles)
    side = model.config.patch_size
    shared = side // 4 if overlap is None else overlap
    return _Grid(side, tile_starts(height, side, shared), tile_starts(width, side, shared))


@contextmanager
def _evaluated(model: InDeed) -> Iterator[None]:
    """Context in which the model is in evaluation mode and no gradient is kept."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


class _Posteriors:
    """Posteriors of all tiles, stored as they come: in memory, or in memory-mapped files of a scratch folder."""

    def __init__(self, scratch: Path | None, device: torch.device, total: int) -> None:
        self.scratch = scratch
        self.device = device
        self.total = total
        self.factors: dict[str, GaussianFactor] = {}

    def store(self, first: int, **factors: GaussianFactor) -> None:
        """Store the posteriors of some tiles, of which the first has the index ``first``."""
        for name, factor in factors.items():
            if name not in self.factors:
                shape = (self.total, *factor.mean.shape[1:])
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


def _finished_rows(
    model: InDeed,
    image: Shaped[Tensor, "channel height width"],
    grid: _Grid,
    batch_tiles: int,
    progress: str | None,
    posteriors: _Posteriors | None = None,
    refine: int = 0,
    white: int | None = None,
) -> Iterator[tuple[int, Float[Tensor, "part channel rows width"]]]:
    """Finished rows of L, S and, if f_S sees large blocks, the log-variance of S, with the index of the first."""
    if model.f_S.reach is None:
        return _blended_rows(image, grid, _tile_parts(model, posteriors, refine), batch_tiles, progress, white)
    rows = _blended_rows(image, grid, _low_rank_tiles(model, posteriors), batch_tiles, progress, white)
    return _sparse_rows(model, image, rows, model.f_S.reach, white)


def _tile_parts(model: InDeed, posteriors: _Posteriors | None, refine: int) -> TileParts:
    """L and S of tiles, each seen alone."""

    def parts(first: int, tiles: Tensor) -> Tensor:
        middle, means = model(tiles.to(_device(model)))
        if refine:
            middle = _refined(tiles.to(_device(model)), middle, refine)
            means = middle.means
        if posteriors is not None:
            posteriors.store(first, **middle._asdict())
        return torch.stack([means.low_rank, means.S], dim=1).to(tiles)

    return parts


def _low_rank_tiles(model: InDeed, posteriors: _Posteriors | None) -> TileParts:
    """L of tiles."""

    def parts(first: int, tiles: Tensor) -> Tensor:
        y = tiles.to(_device(model))
        A, B = model.f_A(y), model.f_B(y)
        if posteriors is not None:
            posteriors.store(first, A=A, B=B)
        return low_rank(A.mean, B.mean)[:, None].to(tiles)

    return parts


def _tile_posteriors(posteriors: _Posteriors, refine: int) -> TileParts:
    """L of tiles whose A and B are known, from tiles of image, denoised image and log-variance; stores S too."""

    def parts(first: int, tiles: Tensor) -> Tensor:
        y, total, log_variance = tiles.chunk(3, dim=1)
        A, B = (GaussianFactor(*(x[first : first + len(y)] for x in posteriors.factors[name])) for name in "AB")
        middle = MiddleLevel(A, B, GaussianFactor(total - low_rank(A.mean, B.mean), log_variance))
        if refine:
            middle = _refined(y, middle, refine)
        posteriors.store(first, **middle._asdict())
        return middle.means.low_rank[:, None]

    return parts


def _device(model: InDeed) -> torch.device:
    return next(model.parameters()).device


def _blended_rows(
    image: Shaped[Tensor, "channel height width"],
    grid: _Grid,
    parts: TileParts,
    batch_tiles: int,
    progress: str | None = None,
    white: int | None = None,
) -> Iterator[tuple[int, Float[Tensor, "part _ rows width"]]]:
    """Finished rows of the blended parts of tiles from top to bottom, with the index of the first."""
    from tqdm import tqdm

    height, width = image.shape[1:]
    tile, tops, lefts = grid.side, grid.tops, grid.lefts
    vertical, horizontal = (blend_weights(starts, tile).to(image.device, torch.float32) for starts in (tops, lefts))
    inside_rows = reflected_indices(min(height, tile), tile).to(image.device)
    inside_columns = reflected_indices(width, max(width, tile)).to(image.device)
    open_rows: Tensor | None = None
    with tqdm(total=grid.total, desc=progress, disable=progress is None, unit="tile", leave=False) as bar:
        for i, top in enumerate(tops):
            strip = unit_scale(image[:, top : top + tile], white)
            strip = strip.index_select(1, inside_rows).index_select(2, inside_columns)
            for first in range(0, len(lefts), batch_tiles):
                batch = lefts[first : first + batch_tiles]
                found = parts(i * len(lefts) + first, torch.stack([strip[..., left : left + tile] for left in batch]))
                if open_rows is None:
                    open_rows = found.new_zeros(*found.shape[1:4], max(width, tile))
                for j, (left, part) in enumerate(zip(batch, found, strict=True), start=first):
                    open_rows[..., left : left + tile] += vertical[i][:, None] * horizontal[j] * part
                bar.update(len(batch))
            assert open_rows is not None
            finished = (tops[i + 1] if i + 1 < len(tops) else height) - top
            yield top, open_rows[:, :, :finished, :width]
            open_rows = torch.cat([open_rows[:, :, finished:], torch.zeros_like(open_rows[:, :, :finished])], dim=2)


def _sparse_rows(
    model: InDeed,
    image: Shaped[Tensor, "channel height width"],
    low_rank_rows: Iterator[tuple[int, Float[Tensor, "1 channel _ width"]]],
    reach: int,
    white: int | None,
) -> Iterator[tuple[int, Float[Tensor, "3 channel rows width"]]]:
    """Finished rows of L, S and its log-variance, where f_S sees blocks of the image and of the blended L."""
    height, width = image.shape[1:]
    multiple, device = model.config.multiple, _device(model)
    halo = math.ceil(reach / multiple) * multiple
    rows, columns = (
        reflected_indices(side, math.ceil(side / multiple) * multiple).to(image.device) for side in (height, width)
    )
    across = max(math.isqrt(BLOCK_PIXELS), BLOCK_PIXELS // len(rows))
    down = BLOCK_PIXELS // min(across, len(columns))
    L = torch.empty(len(image), 0, width, device=image.device)
    above = 0  # rows that are released
    for top, bottom in _spans(len(rows), down, halo, multiple):
        low, high = max(top - halo, 0), min(bottom + halo, len(rows))
        while above + L.shape[1] < min(high, height):
            L = torch.cat([L, next(low_rank_rows)[1][0]], dim=1)
        last = min(bottom, height)
        found = L.new_empty(3, len(image), last - top, width)
        found[0] = L[:, top - above : last - above]
        for left, right in _spans(len(columns), across, halo, multiple):
            start, stop = max(left - halo, 0), min(right + halo, len(columns))
            y = unit_scale(image[:, low:high, start:stop], white)
            block = torch.stack([y, L[:, low - above :, start:stop][:, : high - low]])
            block = block.index_select(2, rows[low:high] - low).index_select(3, columns[start:stop] - start)
            inside = slice(top - low, last - low), slice(left - start, min(right, width) - start)
            for part, whole in enumerate(model.f_S(*block[:, None].to(device)), start=1):
                found[part, :, :, left:right] = whole[0, :, *inside]
        yield top, found
        released = max(bottom - halo - above, 0)
        L, above = L[:, released:], above + released


def _spans(length: int, block: int, halo: int, multiple: int) -> list[tuple[int, int]]:
    """Cut an axis into parts, multiples of so many pixels, of even size and with their halos no longer than a block.

    >>> _spans(96, block=48, halo=8, multiple=4)
    [(0, 32), (32, 64), (64, 96)]
    """
    inner = length if length <= block else max(multiple, (block - 2 * halo) // multiple * multiple)
    size = math.ceil(length / math.ceil(length / inner) / multiple) * multiple
    return [(start, min(start + size, length)) for start in range(0, length, size)]


def _refined(tiles: Float[Tensor, "tile channel side side"], middle: MiddleLevel, sweeps: int) -> MiddleLevel:
    """Refined posterior, computed in double precision and one tile after the other: each needs much memory."""
    refined = []
    for k in range(len(tiles)):
        one = MiddleLevel(*(GaussianFactor(*(x[k : k + 1].double() for x in factor)) for factor in middle))
        refined.append(factor_refinement.refine(tiles[k : k + 1].double(), one, sweeps=sweeps).middle)
    factors = zip(*refined, strict=True)  # those of A of all tiles, then of B, then of S
    return MiddleLevel(*(GaussianFactor(*(torch.cat(x).to(tiles) for x in zip(*q, strict=True))) for q in factors))
