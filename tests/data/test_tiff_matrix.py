"""Every layout of a TIFF file: all pixels are right, or it is refused by name. No layout is read wrongly in silence.

What is right is computed here from the values that were written, without a decoder. Two writers make the files:
tifffile, and a writer of single tags.
"""

import zlib
from itertools import product

import numpy as np
import pytest
import tifffile
from tag_writer import packed, tiff

from indeed.data.image_files import ImageFileError, read_image

HEIGHT, WIDTH = 7, 9
PHOTOMETRIC = {"white is zero": (0, 1), "grey": (1, 1), "rgb": (2, 3), "palette": (3, 1), "cmyk": (5, 4)}
"""Name: value of the tag, colours."""
READ_BITS = (1, 2, 4, 8, 10, 12, 14, 16)
CODECS = {"none": 1, "deflate": 8, "lzw": 5, "packbits": 32773, "lzma": 34925, "zstd": 50000}


def values_of(bits: int, count: int) -> np.ndarray:
    values = np.random.default_rng(bits * 10 + count).integers(0, 2**bits, (HEIGHT, WIDTH, count))
    values[0, 0], values[0, 1] = 0, 2**bits - 1
    return values


def full_range(values: np.ndarray, bits: int) -> np.ndarray:
    """Values over all of 8 or 16 bits, rounded to the nearest."""
    top = 255 if bits <= 8 else 65535
    return np.rint(values * (top / (2**bits - 1))).astype(np.uint8 if bits <= 8 else np.uint16)


def right(photometric: str, values: np.ndarray, bits: int, colour_map: np.ndarray | None) -> np.ndarray:
    """Colours that the samples stand for, (row, column, 1 or 3)."""
    samples = full_range(values, bits)
    top = int(np.iinfo(samples.dtype).max)
    if photometric == "white is zero":
        return top - samples[..., :1]
    if photometric == "palette":
        assert colour_map is not None
        return (colour_map.T[values[..., 0]] >> 8).astype(np.uint8)
    if photometric == "cmyk":
        light = 1 - samples[..., :4] / top
        return np.floor(top * light[..., :3] * light[..., 3:] + 0.5).astype(samples.dtype)
    return samples[..., : 3 if photometric == "rgb" else 1]


def check(path, expected: np.ndarray, alpha: np.ndarray | None) -> None:
    picture = read_image(path)
    assert picture.pixels.dtype == expected.dtype
    assert np.array_equal(picture.pixels, expected)
    assert (picture.alpha is None) == (alpha is None)
    if alpha is not None:
        assert np.array_equal(picture.alpha, alpha)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", READ_BITS)
@pytest.mark.parametrize("photometric", PHOTOMETRIC)
def test_what_is_written_tag_by_tag_is_read_or_refused_by_name(tmp_path, photometric, bits, order):
    tag, colours = PHOTOMETRIC[photometric]
    path = tmp_path / "a.tif"
    for number, described in enumerate(product((1, 2), (None, 0, 1, 2), (1, 8), (1, 2))):
        planes, extra, codec, fill = described
        count = colours + (extra is not None)
        values = values_of(bits, count)
        rows = values.reshape(HEIGHT, -1)[None] if planes == 1 else values.transpose(2, 0, 1)
        strips = [packed(plane, bits, order, fill=fill) for plane in rows]
        if codec == 8:
            strips = [zlib.compress(strip) for strip in strips]
        tags = {
            256: (4, [WIDTH]), 257: (4, [HEIGHT]), 258: (3, [bits] * count), 259: (3, [codec]), 262: (3, [tag]),
            277: (3, [count]), 278: (4, [HEIGHT]), 284: (3, [planes]), 266: (3, [fill]),
        }  # fmt: skip
        if extra is not None:
            tags[338] = (3, [extra])
        colour_map = None
        if photometric == "palette" and bits <= 8:
            colour_map = np.random.default_rng(1).integers(0, 65536, (3, 2**bits))
            colour_map[0, 0] = 65535
            tags[320] = (3, colour_map.ravel().tolist())
        path.write_bytes(tiff(tags, strips, order, big=number % 3 == 0))
        reasons = {
            "unspecified meaning": extra == 0,
            "multiplied by alpha": extra == 1,
            "has a palette of": photometric == "palette" and bits > 8,
            "order of bits": fill == 2 and (bits >= 8 or codec == 8),
        }
        words = "|".join(text for text, holds in reasons.items() if holds)
        if words:
            with pytest.raises(ImageFileError, match=words):
                read_image(path)
        else:
            alpha = full_range(values[..., colours], bits) if extra else None
            check(path, right(photometric, values, bits, colour_map), alpha)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32", "float64"])
@pytest.mark.parametrize("colours", [1, 3])
def test_what_tifffile_writes_is_read(tmp_path, codec, dtype, colours):
    rng = np.random.default_rng(0)
    path = tmp_path / "a.tif"
    for alpha, order, planar, tile, predictor in product(
        (False, True), "<>", ("contig", "separate"), (None, (16, 16)), (False, True)
    ):
        if codec == "packbits" and dtype.startswith("float"):
            continue
        if predictor and codec not in ("deflate", "lzw", "lzma", "zstd"):
            continue
        count = colours + alpha
        shape = (HEIGHT, WIDTH, count)
        values = (
            rng.random(shape).astype(dtype)
            if dtype.startswith("float")
            else rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
        )
        stored = values[..., 0] if count == 1 else values if planar == "contig" else values.transpose(2, 0, 1)
        tifffile.imwrite(
            path, stored, byteorder=order, photometric="rgb" if colours == 3 else "minisblack",
            planarconfig=planar if count > 1 else None, extrasamples=["unassalpha"] if alpha else None,
            compression=None if codec == "none" else codec, predictor=predictor or None, tile=tile, metadata=None,
        )  # fmt: skip
        read_type = np.float32 if dtype.startswith("float") else dtype
        check(path, values[..., :colours].astype(read_type), values[..., colours].astype(read_type) if alpha else None)


REFUSED = {
    "CIE L*a*b*": {262: (3, [8]), 277: (3, [3]), 258: (3, [8, 8, 8])},
    "transparency mask": {262: (3, [4])},
    "colour filter array": {262: (3, [32803])},
    "linear raw": {262: (3, [34892]), 277: (3, [3]), 258: (3, [8, 8, 8])},
    "YCbCr without JPEG": {262: (3, [6]), 277: (3, [3]), 258: (3, [8, 8, 8])},
    "inks other than CMYK": {262: (3, [5]), 277: (3, [4]), 258: (3, [8] * 4), 332: (3, [2])},
    "samples of different kinds": {262: (3, [2]), 277: (3, [3]), 258: (3, [5, 6, 5])},
    "holds int8 samples": {339: (3, [2])},
    "compression 6": {259: (3, [6])},
    "compression 32809": {259: (3, [32809])},
    "expected 3 for RGB": {262: (3, [2])},
    "2 alpha channels": {277: (3, [3]), 258: (3, [8] * 3), 338: (3, [2, 2])},
    "2 extra channels of unspecified meaning": {277: (3, [3]), 258: (3, [8] * 3)},
    "holds several pictures": {32997: (4, [2])},
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_is_not_read_is_refused_by_name(tmp_path, words):
    tags = {
        256: (4, [WIDTH]), 257: (4, [HEIGHT]), 258: (3, [8]), 259: (3, [1]), 262: (3, [1]), 277: (3, [1]),
        278: (4, [HEIGHT]),
    } | REFUSED[words]  # fmt: skip
    (tmp_path / "a.tif").write_bytes(tiff(tags, [bytes(HEIGHT * WIDTH * 8)]))
    with pytest.raises(ImageFileError, match=words.replace("*", r"\*")):
        read_image(tmp_path / "a.tif")
