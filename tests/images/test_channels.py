"""Grey is Pillow's luma, colour repeats grey."""

import numpy as np
import pytest
import torch
from PIL import Image

from indeed.images.channels import as_channels


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
