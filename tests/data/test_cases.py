"""Small files that were once read wrongly: each is right now, or refused by name."""

from pathlib import Path

import numpy as np
import pytest

from indeed.data.image_files import ImageFileError, read_image
from indeed.data.stacks import opened_stack

CASES = Path(__file__).with_name("cases")
TWELVE_BITS = np.array([437, 302, 365])
"""First samples of the grey picture that most of the files hold, in 12 bits."""
GREY = [7006, 4845, 5850]
"""The same in 16 bits."""

READ = {
    "01_cmyk16.tif": (np.uint16, 3, [7006, 7630, 6987]),
    "02_miniswhite16_lzw.tif": (np.uint16, 1, GREY),
    "02_miniswhite16_deflate_right.tif": (np.uint16, 1, GREY),
    "10_maxsample4095.tif": (np.uint16, 1, TWELVE_BITS),
    "10_sbit12.png": (np.uint16, 1, TWELVE_BITS),
    "12_grey4.tif": (np.uint8, 1, [17, 17, 17]),
    "12_grey12.tif": (np.uint16, 1, np.rint(TWELVE_BITS * 4369 / 273)),
    "22_float_lzw.tif": (np.float32, 1, np.array(GREY) / 65535),
}
REFUSED = {
    "05_two_channels.tif": "has 1 extra channel of unspecified meaning: choose the channels to read",
    "05_rgb_nir.tif": "has 1 extra channel of unspecified meaning: choose the channels to read",
    "06_stack_one_ifd.tif": "holds several pictures",
    "07_photo.nef": "holds colour filter array, not supported",
    "08_ifd_loop.tif": "its directories refer to each other in a circle",
    "18_12000x12000.tif": "has 144000000 pixels, more than 89478485",
    "19_._appledouble.png": "is not a PNG, JPEG, TIFF, BMP or WebP image",
    "20_animated.png": "holds several pictures",
}


@pytest.mark.parametrize("name", READ)
def test_what_is_read_is_right(name):
    dtype, channels, first = READ[name]
    picture = read_image(CASES / name)
    assert picture.pixels.dtype == dtype
    assert picture.channels == channels
    assert picture.alpha is None
    assert picture.pixels.ravel()[:3].tolist() == pytest.approx(np.asarray(first).tolist(), abs=1e-5)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_named(name):
    with pytest.raises(ImageFileError, match=REFUSED[name]):
        read_image(CASES / name)


def test_white_where_zero_is_white_is_the_same_whatever_the_compression():
    first, second = (read_image(CASES / name).pixels for name in list(READ)[1:3])
    assert np.array_equal(first, second)


@pytest.mark.parametrize("name", ["10_maxsample4095.tif", "10_sbit12.png"])
def test_a_white_that_the_file_states_is_obeyed(name):
    picture = read_image(CASES / name)
    assert picture.white == 4095
    assert picture.tensor().flatten()[:3].tolist() == pytest.approx((TWELVE_BITS / 4095).tolist())


def test_twelve_bits_in_sixteen_are_the_image_of_sixteen_when_white_is_told():
    of_12 = read_image(CASES / "10_defect_12bit_in_uint16.tif", white=4095).tensor()
    of_16 = read_image(CASES / "10_defect_16bit.png").tensor()
    assert (of_12 - of_16).abs().max() < 1 / 4095


def test_the_transparent_value_of_a_two_bit_png_is_kept():
    picture = read_image(CASES / "09_grey2_trns3.png")
    assert set(np.unique(picture.pixels)) == {0, 85, 170, 255}
    assert np.array_equal(picture.alpha == 0, picture.pixels[..., 0] == 255)


@pytest.mark.parametrize(("name", "channels", "first"), [("05_two_channels.tif", (1,), 0), ("05_rgb_nir.tif", (4,), 3)])
def test_channels_are_chosen_by_their_place(name, channels, first):
    import tifffile

    raw = tifffile.imread(CASES / name)
    assert np.array_equal(read_image(CASES / name, channels=channels).pixels[..., 0], raw[..., first])
    with pytest.raises(ImageFileError, match="channels: got 9"):
        read_image(CASES / name, channels=(9,))


def test_a_stack_of_one_directory_is_read_plane_by_plane():
    with opened_stack(CASES / "06_stack_one_ifd.tif") as stack:
        assert stack is not None
        assert len(stack) == 5
        assert stack[0].pixels.ravel()[:3].tolist() == GREY
        assert np.array_equal(stack[4].pixels, stack[0].pixels)  # the file repeats one slice


def test_every_case_is_tested():
    apart = {"README.md", "09_grey2_trns3.png", "10_defect_12bit_in_uint16.tif", "10_defect_16bit.png"}
    assert {path.name for path in CASES.iterdir()} == READ.keys() | REFUSED.keys() | apart
