"""Tiles of a whole image add up to it, agree with single tiles, and need no more memory for a taller image."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from indeed.images.tiling import split, stitch
from indeed.networks.inference_network import InDeed, network_preset
from indeed.networks.whole_image import decompose, denoise


@pytest.fixture(scope="module", params=[1, 3], ids=["grey", "colour"])
def model(request) -> InDeed:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return InDeed(network_preset("tiny", channels=request.param)).eval()


def random_image(model: InDeed, height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(model.config.channels, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.slow
@settings(max_examples=30)
@given(st.integers(1, 50), st.integers(1, 50), st.integers(0, 15), st.integers(1, 5))
def test_the_parts_add_up_to_the_image_at_any_size(model, height, width, overlap, batch_tiles):
    image = random_image(model, height, width)
    parts = decompose(model, image, overlap=overlap, batch_tiles=batch_tiles)
    assert torch.allclose(parts.L + parts.S + parts.N, image, rtol=0, atol=2e-7)
    assert len(parts.posterior.A.mean) == len(parts.tops) * len(parts.lefts)


def test_eight_bit_pixels_come_back_exactly(model):
    pixels = torch.randint(0, 256, (model.config.channels, 37, 41), generator=torch.Generator().manual_seed(0))
    parts = decompose(model, pixels.float() / 255)
    assert torch.equal(((parts.L + parts.S + parts.N) * 255).round().long(), pixels)


def test_one_tile_is_the_network_itself(model):
    image = random_image(model, 16, 16)
    with torch.no_grad():
        middle, draw = model(image[None])
    parts = decompose(model, image)
    assert torch.allclose(parts.L, draw.low_rank[0], atol=1e-6)
    assert torch.allclose(parts.S, draw.S[0], atol=1e-6)
    assert torch.allclose(parts.posterior.A.log_variance, middle.A.log_variance, atol=1e-6)


def test_the_strips_blend_as_stitch_does(model):
    image = random_image(model, 45, 61)
    tiles = split(image[None], 16, 5)
    with torch.no_grad():
        _, draw = model(tiles.flatten(0, 1))
    expected = stitch(draw.low_rank.unflatten(0, tiles.shape[:2]), 45, 61, 5)[0]
    parts = decompose(model, image, overlap=5, batch_tiles=3)
    assert torch.allclose(parts.L, expected, atol=1e-5)
    assert torch.allclose(parts.posterior.A.mean, middle_of(model, tiles).A.mean, atol=1e-5)


def middle_of(model: InDeed, tiles: torch.Tensor):
    with torch.no_grad():
        return model(tiles.flatten(0, 1))[0]


def test_the_posterior_lies_where_the_positions_say(model):
    image = random_image(model, 40, 50)
    parts = decompose(model, image, overlap=4)
    k = len(parts.lefts) + 2  # second row of tiles, third column
    top, left = parts.tops[1], parts.lefts[2]
    alone = decompose(model, image[:, top : top + 16, left : left + 16])
    assert torch.allclose(parts.posterior.S.mean[k], alone.posterior.S.mean[0], atol=1e-5)


@pytest.mark.parametrize("overlap", [0, 5])
def test_refinement_moves_what_L_can_explain_out_of_S_and_leaves_the_sum(model, overlap):
    image = random_image(model, 33, 29)
    plain, refined = (decompose(model, image, overlap=overlap, batch_tiles=3, refine=sweeps) for sweeps in (0, 5))
    assert torch.allclose(refined.L + refined.S, plain.L + plain.S, atol=1e-6)
    assert torch.allclose(refined.N, plain.N, atol=1e-6)
    assert torch.allclose(refined.L + refined.S + refined.N, image, rtol=0, atol=2e-7)
    assert refined.S.abs().median() < 0.5 * plain.S.abs().median()
    one = decompose(model, image[:, :16, :16], refine=5)
    assert torch.allclose(refined.posterior.A.mean[0], one.posterior.A.mean[0], atol=1e-5)
    assert torch.allclose(one.L, one.posterior.means.low_rank[0], atol=1e-6)
    assert refined.posterior.A.mean.dtype == torch.float32


def test_denoised_is_low_rank_plus_sparse(model):
    image = random_image(model, 33, 29)
    parts = decompose(model, image)
    assert torch.allclose(denoise(model, image), parts.L + parts.S, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_integer_pixels_are_denoised_in_place_of_their_floats(model, dtype):
    white = torch.iinfo(dtype).max
    levels = (random_image(model, 30, 40) * white).round()
    expected = (denoise(model, levels / white).clamp(0, 1) * white).round()
    pixels = levels.permute(1, 2, 0).contiguous().to(dtype).permute(2, 0, 1)  # as an image file has them
    result = denoise(model, pixels)
    assert result.dtype == dtype
    assert result.stride() == pixels.stride()
    assert (result.float() - expected).abs().max() <= 1


def test_the_mode_of_the_model_is_put_back(model):
    model.train()
    denoise(model, random_image(model, 20, 20))
    assert model.training
    model.eval()
    denoise(model, random_image(model, 20, 20))
    assert not model.training


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda x: (torch.cat([x, x]), {}), "image"),
        (lambda x: (x * math.nan, {}), "image"),
        (lambda x: (x.double(), {}), "image"),
        (lambda x: (x[:, :0], {}), "length"),
        (lambda x: (x, {"overlap": 16}), "overlap"),
        (lambda x: (x, {"overlap": -1}), "overlap"),
        (lambda x: (x, {"batch_tiles": 0}), "batch_tiles"),
    ],
)
def test_bad_arguments_are_named(model, change, name):
    image, options = change(random_image(model, 20, 20))
    with pytest.raises(ValueError, match=f"^{name}: got"):
        denoise(model, image, **options)


def test_refinement_by_less_than_no_sweep_is_refused(model):
    with pytest.raises(ValueError, match=r"^refine: got -1"):
        decompose(model, random_image(model, 20, 20), refine=-1)


def test_posteriors_in_scratch_files_are_those_in_memory(model, tmp_path):
    image = random_image(model, 45, 61)
    in_memory, in_files = (decompose(model, image, batch_tiles=3, scratch=folder) for folder in (None, tmp_path))
    for one, other in zip(in_memory.posterior, in_files.posterior, strict=True):
        assert torch.equal(one.mean, other.mean)
        assert torch.equal(one.log_variance, other.log_variance)
    assert len(list(tmp_path.iterdir())) == 6
