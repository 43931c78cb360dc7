import math

import pytest
import torch

from indeed.data.patches import PatchSampler


def ramp(height: int, width: int) -> torch.Tensor:
    return torch.arange(height * width).remainder(256).reshape(1, height, width).to(torch.uint8)


def test_patches_are_crops_up_to_a_symmetry_of_the_square():
    image = ramp(9, 11)
    crops = image.unfold(1, 4, 1).unfold(2, 4, 1).reshape(-1, 4, 4)
    known = {
        bytes(view.contiguous().numpy())
        for crop in crops
        for turned in (torch.rot90(crop, k) for k in range(4))
        for view in (turned, turned.flip(1))
    }
    sampler, generator = PatchSampler([image], 4), torch.Generator().manual_seed(0)
    for _ in range(64):
        patch = sampler(generator)
        assert patch.shape == (1, 4, 4)
        assert bytes((patch[0] * 255).round().to(torch.uint8).contiguous().numpy()) in known


def test_all_images_places_and_symmetries_are_reached():
    asymmetric = torch.tensor([[0, 1], [2, 3]], dtype=torch.uint8)[None]
    sampler, generator = PatchSampler([asymmetric, asymmetric + 100], 2), torch.Generator().manual_seed(0)
    assert len({tuple(sampler(generator).flatten().tolist()) for _ in range(400)}) == 16


def test_same_generator_state_gives_the_same_patch():
    sampler = PatchSampler([ramp(20, 20)], 8)
    one, again = (sampler(torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(one, again)


def test_spread_varies_zoom_and_gamma_within_its_bounds():
    generator = torch.Generator().manual_seed(0)
    grey = PatchSampler([torch.full((1, 64, 64), 100, dtype=torch.uint8)], 32, spread=1.25)
    gammas = [math.log(grey(generator).mean().item()) / math.log(100 / 255) for _ in range(200)]
    assert 0.8 - 1e-5 <= min(gammas) < 0.83 < 1.2 < max(gammas) <= 1.25 + 1e-5
    # edges of stripes four pixels wide, which no gamma moves: eight in a patch, or as many as fit at its zoom
    stripes = PatchSampler([(torch.arange(64) // 4 % 2 * 255).byte().expand(1, 64, 64)], 32, spread=1.25)
    bright = [stripes(generator)[0] > 0.5 for _ in range(200)]
    edges = {max(int((b[0].diff() != 0).sum()), int((b[:, 0].diff() != 0).sum())) for b in bright}
    assert {6, 10} <= edges <= set(range(6, 11))
    small = PatchSampler([torch.zeros(1, 33, 33, dtype=torch.uint8)], 32, spread=1.5)
    assert all(small(generator).shape == (1, 32, 32) for _ in range(20))


def test_without_a_spread_nothing_more_is_drawn():
    """The patches of runs that were made without one stay what they were."""
    generator, same = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    PatchSampler([ramp(20, 20)], 8)(generator)
    torch.rand(4, generator=same, dtype=torch.float64)
    assert torch.equal(torch.rand(1, generator=generator), torch.rand(1, generator=same))


def test_saturation_varies_the_differences_of_the_colours_within_its_bounds_and_keeps_their_mean():
    colours = torch.tensor([90, 100, 110], dtype=torch.uint8)[:, None, None].expand(3, 8, 8)
    sampler, generator = PatchSampler([colours], 8, saturation=2.0), torch.Generator().manual_seed(0)
    patches = torch.stack([sampler(generator)[:, 0, 0] for _ in range(200)]) * 255
    assert torch.allclose(patches.mean(1), torch.tensor(100.0))
    factors = (patches[:, 2] - patches[:, 0]) / 20
    assert 0.5 - 1e-4 <= factors.min() < 0.55 < 1.8 < factors.max() <= 2 + 1e-4
    strong = PatchSampler([torch.tensor([0, 100, 255]).byte()[:, None, None].expand(3, 8, 8)], 8, saturation=4.0)
    drawn = torch.stack([strong(generator) for _ in range(50)])
    assert (drawn.min(), drawn.max()) == (0, 1)


def test_a_share_of_the_patches_is_varied_and_the_others_are_crops():
    sampler = PatchSampler([torch.full((1, 64, 64), 100, dtype=torch.uint8)], 32, spread=1.5, varied=0.25)
    generator = torch.Generator().manual_seed(0)
    varied = sum(sampler(generator)[0, 0, 0].item() != pytest.approx(100 / 255, abs=1e-6) for _ in range(400))
    assert 70 < varied < 130


@pytest.mark.parametrize("factor", ["spread", "saturation"])
@pytest.mark.parametrize("value", [0.5, float("nan"), float("inf")])
def test_an_unusable_spread_or_share_is_named(factor, value):
    with pytest.raises(ValueError, match=rf"{factor}: got .*, expected a finite number of at least 1"):
        PatchSampler([ramp(20, 20)], 8, **{factor: value})
    with pytest.raises(ValueError, match=r"varied: got 1.5, expected a number in \[0, 1\]"):
        PatchSampler([ramp(20, 20)], 8, varied=1.5)


@pytest.mark.parametrize(
    ("images", "named"),
    [
        ([], "at least one"),
        ([torch.zeros(1, 3, 9, dtype=torch.uint8)], "at least 4 a side"),
        ([torch.zeros(1, 9, 9, dtype=torch.uint8), torch.zeros(3, 9, 9, dtype=torch.uint8)], "channels"),
    ],
)
def test_unusable_images_are_named(images, named):
    with pytest.raises(ValueError, match=named):
        PatchSampler(images, 4)
