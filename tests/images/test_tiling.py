"""Tiles put together give back the image, for every size and every overlap."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from indeed.images.tiling import blend_weights, overlap_zones, reflected_indices, split, stitch, tile_starts

tiles_and_overlaps = st.integers(1, 12).flatmap(lambda tile: st.tuples(st.just(tile), st.integers(0, tile - 1)))


@given(st.integers(1, 40), st.integers(1, 40), tiles_and_overlaps)
def test_stitch_inverts_split(height, width, tile_and_overlap):
    tile, overlap = tile_and_overlap
    image = torch.rand(2, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    tiles = split(image, tile, overlap)
    assert tiles.shape[1:] == (2, 3, tile, tile)
    assert torch.allclose(stitch(tiles, height, width, overlap), image, rtol=0, atol=1e-14)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (127, 129), (128, 128), (321, 481)])
@pytest.mark.parametrize("overlap", [0, 1, 32, 64, 100, 127])
def test_stitch_inverts_split_at_the_size_of_real_tiles(size, overlap):
    if overlap == 127:
        size = tuple(min(side, 135) for side in size)  # every pixel starts a tile: 8 by 8 of them are enough
    image = torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(stitch(split(image, 128, overlap), *size, overlap), image, rtol=0, atol=1e-6)


@pytest.mark.slow
@given(st.integers(1, 200), tiles_and_overlaps)
def test_weights_are_a_partition_of_unity(length, tile_and_overlap):
    tile, overlap = tile_and_overlap
    starts = tile_starts(length, tile, overlap)
    weights = blend_weights(starts, tile)
    total = torch.zeros(max(length, tile), dtype=torch.float64)
    for start, weight in zip(starts, weights, strict=True):
        total[start : start + tile] += weight
    assert torch.allclose(total, torch.ones_like(total), rtol=0, atol=1e-14)
    assert weights.min() >= -1e-15


@given(st.integers(1, 500), tiles_and_overlaps)
def test_tiles_cover_the_axis_and_end_at_its_border(length, tile_and_overlap):
    tile, overlap = tile_and_overlap
    starts = tile_starts(length, tile, overlap)
    assert starts[0] == 0
    assert starts[-1] == max(length - tile, 0)
    gaps = np.diff(starts)
    assert (gaps > 0).all()
    assert (gaps <= tile - overlap).all()


def test_the_blend_is_smooth():
    starts = tile_starts(300, 128, 32)
    steps = blend_weights(starts, 128).diff(dim=1).abs()
    assert steps.max() < 1.6 / 32  # the cubic step climbs at most 1.5 times as steeply as a straight line


def test_a_seam_between_unequal_tiles_is_blended_over_the_overlap():
    tiles = torch.stack([torch.full((1, 1, 8, 8), value, dtype=torch.float64) for value in (0.0, 1.0)])
    seam = stitch(tiles, 8, 12, 4)[0, 0, 0]
    assert torch.equal(seam[:4], torch.zeros(4, dtype=torch.float64))
    assert torch.allclose(seam[8:], torch.ones(4, dtype=torch.float64))
    assert bool((seam.diff() >= 0).all())


@given(st.integers(1, 30), st.integers(1, 100))
def test_reflection_agrees_with_numpy(length, target):
    if target >= length:
        expected = np.pad(np.arange(length), (0, target - length), mode="reflect")
        assert reflected_indices(length, target).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: tile_starts(0, 8, 2), "length"),
        (lambda: tile_starts(8, 0, 0), "tile"),
        (lambda: tile_starts(8, 8, 8), "overlap"),
        (lambda: tile_starts(8, 8, -1), "overlap"),
        (lambda: reflected_indices(0, 3), "length"),
        (lambda: stitch(torch.zeros(3, 1, 1, 8, 8), 8, 12, 4), "tiles"),
    ],
)
def test_bad_arguments_are_named(call, name):
    with pytest.raises(ValueError, match=f"^{name}: got"):
        call()


@given(st.integers(1, 40), st.integers(1, 40), tiles_and_overlaps)
def test_zones_of_overlap_are_the_pixels_of_several_tiles(height, width, tile_and_overlap):
    tile, overlap = tile_and_overlap
    count = torch.zeros(max(height, tile), max(width, tile))
    for top in tile_starts(height, tile, overlap):
        for left in tile_starts(width, tile, overlap):
            count[top : top + tile, left : left + tile] += 1
    assert torch.equal(overlap_zones(height, width, tile, overlap), count[:height, :width] > 1)
