"""Codes of LZW: those of whole streams pass, and what passes is decoded as the standard says; the rest is refused."""

import random

import numpy as np
import pytest
import tifffile

from indeed.data.image_files import ImageFileError, read_image
from indeed.data.lzw import check_lzw
from indeed.data.samples_of_files import UnsupportedError


def decoded(data: bytes) -> bytes | None:
    """Decoder from TIFF 6.0, section 13, code by code; None if a code is of no string, or there is no end."""
    bits = "".join(f"{byte:08b}" for byte in data)
    single = [bytes([value]) for value in range(256)] + [b"", b""]
    strings, before, width, place, found = list(single), b"", 9, 0, b""
    while place + width <= len(bits):
        code, place = int(bits[place : place + width], 2), place + width
        if code == 257:
            return found
        if code == 256:
            strings, before, width = list(single), b"", 9
            continue
        if code > len(strings) or (code == len(strings) and not before) or code > (4095 if before else 255):
            return None
        string = strings[code] if code < len(strings) else before + before[:1]
        if before and len(strings) < 4096:
            strings.append(before + string[:1])
        found, before = found + string, string
        width = next(width for width, most in ((9, 511), (10, 1023), (11, 2047), (12, 5000)) if len(strings) < most)
    return None


@pytest.mark.parametrize("values", [1, 2, 256])
@pytest.mark.parametrize("length", [1, 2, 300, 3837, 3838, 3839, 3840, 9000, 300_000])
def test_codes_of_whole_streams_pass(length, values):
    import imagecodecs

    data = np.random.default_rng(length).integers(0, values, length, np.uint8).tobytes()
    stream = imagecodecs.lzw_encode(data)
    check_lzw(stream)
    with pytest.raises(UnsupportedError, match="its LZW codes do not end"):
        check_lzw(stream[:-2])
    if length < 10_000:
        assert decoded(stream) == data


@pytest.mark.slow
def test_what_passes_is_decoded_as_the_standard_says_and_the_rest_is_refused():
    import imagecodecs

    source, counts = random.Random(0), [0, 0]
    for _ in range(300):
        length = source.choice((50, 2000, 6000))
        data = np.random.default_rng(length).integers(0, source.choice((2, 256)), length, np.uint8).tobytes()
        stream = bytearray(imagecodecs.lzw_encode(data))
        stream[source.randrange(2, len(stream))] ^= 1 << source.randrange(8)
        expected = decoded(stream)
        if expected is None:
            with pytest.raises(UnsupportedError, match=r"strings that there are not|do not end"):
                check_lzw(bytes(stream))
        else:
            check_lzw(bytes(stream))
            assert imagecodecs.lzw_decode(bytes(stream), out=len(expected)) == expected
        counts[expected is None] += 1
    assert min(counts) > 30


def test_a_file_with_such_a_code_is_refused(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (11, 13, 3), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", compression="lzw")
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        place = tiff.pages[0].dataoffsets[0]
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[place + 3] ^= 255
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(ImageFileError, match="its LZW codes are of strings that there are not"):
        read_image(tmp_path / "a.tif")
