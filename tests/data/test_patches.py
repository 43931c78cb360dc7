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


@pytest.mark.parametrize(
    ("images", "named"),
    [
        ([], "at least one"),
        ([torch.zeros(1, 3, 9, dtype=torch.uint8)], "patch_size"),
        ([torch.zeros(1, 9, 9, dtype=torch.uint8), torch.zeros(3, 9, 9, dtype=torch.uint8)], "channels"),
    ],
)
def test_unusable_images_are_named(images, named):
    with pytest.raises(ValueError, match=named):
        PatchSampler(images, 4)
