"""Whether the tiles of a whole image can be seen in its error."""

import math

from indeed.checks import expect
from indeed.images.tiling import overlap_zones
from indeed.networks.inference_network import InDeed
from indeed.networks.whole_image import denoise
from indeed.types import Image


def seam_difference(model: InDeed, noisy: Image, clean: Image, *, overlap: int | None = None) -> float:
    """PSNR of pixels where tiles overlap minus that of the same pixels inside one tile, in dB.

    The image is denoised on two grids of tiles, shifted by half a step. Pixels that lie in an overlap of one grid and
    inside a tile of the other are compared with themselves: so the difference is that of the tiles and not of what the
    picture shows there. A step from the border of the image is left out.

    Raises
    ------
    ValueError
        If the overlap is half a tile or more (then no pixel lies in one tile only), or the image is too small.
    """
    tile = model.config.patch_size
    overlap = tile // 4 if overlap is None else overlap
    expect(0 < overlap < tile // 2, "overlap", overlap, f"more than 0 and less than {tile // 2}, half a tile")
    step = tile - overlap
    # The largest part of the image that both grids cover without a tile out of step.
    height, width = (tile + (size - tile) // step * step for size in clean.shape[1:])
    if min(height, width) < tile + 3 * step:
        raise ValueError(f"clean: got {tuple(clean.shape[1:])} pixels, expected at least {tile + 3 * step} a side")
    shift = step // 2
    ends = (height - step + shift, width - step + shift)
    inner = tuple(slice(step, end - step) for end in ends)
    errors, zones = [], []
    for first, (bottom, right) in ((0, (height, width)), (shift, ends)):
        part = (slice(None), slice(first, bottom), slice(first, right))
        error = (denoise(model, noisy[part].contiguous(), overlap=overlap) - clean[part]).square().mean(0)
        zone = overlap_zones(bottom - first, right - first, tile, overlap)
        window = tuple(slice(one.start - first, one.stop - first) for one in inner)
        errors.append(error[window].double())
        zones.append(zone[window])
    one, other = zones[0] & ~zones[1], zones[1] & ~zones[0]
    overlapped = errors[0][one].sum() + errors[1][other].sum()
    alone = errors[1][one].sum() + errors[0][other].sum()
    return 10 * math.log10(alone / overlapped)
