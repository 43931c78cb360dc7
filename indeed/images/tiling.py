r"""Overlapped tiles with a smooth blend: ``stitch(split(x)) == x`` for every image size and every overlap.

Along one axis the tiles start at :math:`p_0 < p_1 < \dots < p_n`, the last one shifted to end at the border. A smooth
step :math:`H_k` climbs from 0 to 1 where tiles k-1 and k overlap, and tile k weighs

.. math:: w_k = H_k - H_{k+1}, \qquad H_0 = 1, \; H_{n+1} = 0 .

The sum telescopes to one at each pixel whatever the overlap, so no buffer of summed weights is needed; the steps are
ordered, so no weight is negative; and w_k vanishes outside tile k. In two dimensions the weight is the product over the
axes.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from indeed.checks import expect
from indeed.types import Image, Images


def tile_starts(length: int, tile: int, overlap: int) -> tuple[int, ...]:
    """First pixels of the tiles that cover an axis; an axis shorter than a tile has one tile.

    Raises
    ------
    ValueError
        Unless ``length >= 1``, ``tile >= 1`` and ``0 <= overlap < tile``.

    Examples
    --------
    >>> tile_starts(300, tile=128, overlap=32)
    (0, 96, 172)
    """
    expect(length >= 1, "length", length, "at least 1 pixel")
    expect(tile >= 1, "tile", tile, "at least 1 pixel")
    expect(0 <= overlap < tile, "overlap", overlap, f"0 <= overlap < tile = {tile}")
    last = max(length - tile, 0)
    return (*range(0, last, tile - overlap), last)


def blend_weights(starts: tuple[int, ...], tile: int) -> Float[Tensor, "count tile"]:
    """Weights of the pixels of each tile along one axis, in float64: non-negative, at each pixel summing to one.

    Examples
    --------
    Two tiles of four pixels that share two of them:

    >>> weights = blend_weights((0, 2), tile=4)
    >>> weights[0]
    tensor([1.0000, 1.0000, 0.8438, 0.1562], dtype=torch.float64)
    >>> torch.equal(weights[0, 2:] + weights[1, :2], torch.ones(2, dtype=torch.float64))
    True
    """
    pixels = torch.tensor(starts)[:, None] + torch.arange(tile)
    weights = torch.ones(pixels.shape, dtype=torch.float64)
    for k in range(1, len(starts)):
        weights[k] = _climb(starts[k], starts[k - 1] + tile, pixels[k])
    for k in range(1, len(starts)):
        weights[k - 1] -= _climb(starts[k], starts[k - 1] + tile, pixels[k - 1])
    return weights


def _climb(start: int, stop: int, pixels: Int[Tensor, " tile"]) -> Float[Tensor, " tile"]:
    """Smooth step from 0 before pixel `start` to 1 from pixel `stop` on, evaluated at pixel centres."""
    # half a pixel is the steepest step that pixel centres can tell apart: it serves tiles that touch without overlap
    u = ((pixels.double() + 0.5 - start) / max(stop - start, 0.5)).clamp(0, 1)
    return u * u * (3 - 2 * u)


def overlap_zones(height: int, width: int, tile: int, overlap: int) -> Bool[Tensor, "{height} {width}"]:
    """Which pixels of an image lie in more than one tile.

    Examples
    --------
    >>> overlap_zones(1, 6, tile=4, overlap=2).tolist()
    [[False, False, True, True, False, False]]
    """
    rows, columns = (_overlapped(length, tile, overlap) for length in (height, width))
    return rows[:, None] | columns


def _overlapped(length: int, tile: int, overlap: int) -> Bool[Tensor, " length"]:
    starts = torch.tensor(tile_starts(length, tile, overlap))
    pixels = torch.arange(length)[:, None]
    return ((pixels >= starts) & (pixels < starts + tile)).sum(1) > 1


def reflected_indices(length: int, target: int) -> Int[Tensor, " target"]:
    """Pixels that extend an axis to `target` pixels by reflection, repeated as often as it takes.

    Examples
    --------
    >>> reflected_indices(3, 8).tolist()
    [0, 1, 2, 1, 0, 1, 2, 1]
    >>> reflected_indices(1, 3).tolist()
    [0, 0, 0]
    """
    expect(length >= 1, "length", length, "at least 1 pixel")
    period = max(2 * (length - 1), 1)
    phase = torch.arange(target) % period
    return torch.minimum(phase, period - phase)


def split(image: Images, tile: int, overlap: int) -> Float[Tensor, "count batch channel {tile} {tile}"]:
    """Tiles of an image, row by row; sides shorter than a tile are first extended by reflection.

    Raises
    ------
    ValueError
        As `tile_starts`.

    Examples
    --------
    >>> image = torch.rand(1, 3, 200, 1, dtype=torch.float64)
    >>> tiles = split(image, tile=64, overlap=16)
    >>> torch.allclose(stitch(tiles, 200, 1, overlap=16), image, rtol=0, atol=1e-15)
    True
    """
    height, width = image.shape[-2:]
    tops, lefts = tile_starts(height, tile, overlap), tile_starts(width, tile, overlap)
    rows = reflected_indices(height, max(height, tile)).to(image.device)
    columns = reflected_indices(width, max(width, tile)).to(image.device)
    padded = image.index_select(-2, rows).index_select(-1, columns)
    return torch.stack([padded[..., top : top + tile, left : left + tile] for top in tops for left in lefts])


def spread_tiles(image: Image, tile: int, count: int) -> Float[Tensor, "_ channel {tile} {tile}"]:
    """At most so many tiles of an image, without overlap and spread evenly over it."""
    tiles = split(image[None], tile, overlap=0)[:, 0]
    some = min(count, len(tiles))
    return tiles[[index * len(tiles) // some for index in range(some)]]


def stitch(
    tiles: Float[Tensor, "count batch channel tile tile"], height: int, width: int, overlap: int
) -> Float[Tensor, "batch channel {height} {width}"]:
    """Image of which `split` made the tiles, blended where they overlap; the reflected extension is cut off.

    Raises
    ------
    ValueError
        As `tile_starts`, or if the number of tiles is not that of the image.
    """
    count, tile = len(tiles), tiles.shape[-1]
    tops, lefts = tile_starts(height, tile, overlap), tile_starts(width, tile, overlap)
    expect(count == len(tops) * len(lefts), "tiles", count, f"{len(tops)} x {len(lefts)} for {height} x {width} pixels")
    vertical, horizontal = (blend_weights(starts, tile).to(tiles) for starts in (tops, lefts))
    image = tiles.new_zeros(*tiles.shape[1:3], max(height, tile), max(width, tile))
    for index, part in enumerate(tiles):
        row, column = divmod(index, len(lefts))
        top, left = tops[row], lefts[column]
        weight = vertical[row][:, None] * horizontal[column]
        image[..., top : top + tile, left : left + tile] += weight * part
    return image[..., :height, :width]
