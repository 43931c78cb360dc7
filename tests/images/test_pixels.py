"""Two greys, colour repeats grey, and integers are rounded, clipped and of unit scale."""

import numpy as np
import pytest
import torch
from PIL import Image

from indeed.images.pixels import as_channels, eight_bit, quantised, unit_scale


def test_grey_of_a_colour_image_is_that_of_pillow():
    pixels = np.random.default_rng(0).integers(0, 256, (12, 17, 3), dtype=np.uint8)
    grey = as_channels(torch.from_numpy(pixels).permute(2, 0, 1) / 255, 1)
    np.testing.assert_allclose(grey[0] * 255, np.asarray(Image.fromarray(pixels).convert("L")), atol=0.51)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_that_has_the_channels_stays_as_it_is(channels):
    image = torch.rand(channels, 4, 5)
    assert as_channels(image, channels) is image


def test_colour_of_a_grey_image_has_it_in_each_channel():
    image = torch.rand(1, 4, 5)
    assert torch.equal(as_channels(image, 3), torch.cat([image] * 3))


@pytest.mark.parametrize(("of", "to"), [(2, 1), (4, 3), (1, 2)])
def test_other_numbers_of_channels_are_refused(of, to):
    with pytest.raises(ValueError, match=f"^image, channels: got {of} channels and {to}"):
        as_channels(torch.zeros(of, 4, 5), to)


def test_eight_bits_are_rounded_clipped_and_in_the_channels():
    image = torch.tensor([-0.1, 0.0, 0.2, 0.498, 1.0, 1.3]).reshape(1, 2, 3)
    assert eight_bit(image, 1).flatten().tolist() == [0, 0, 51, 127, 255, 255]
    assert torch.equal(eight_bit(image, 3), torch.cat([eight_bit(image, 1)] * 3))
    colour = torch.tensor([0.0, 0.3, 0.9]).reshape(3, 1, 1)
    assert eight_bit(colour, 1).item() == 102


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_stored_values_come_back_as_they_were(dtype):
    levels = torch.arange(torch.iinfo(dtype).max + 1).to(dtype)
    scaled = unit_scale(levels)
    assert (scaled[0], scaled[-1]) == (0, 1)
    assert torch.equal(quantised(scaled, dtype), levels)
