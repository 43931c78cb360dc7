"""Layouts of PNG, JPEG, BMP and WebP files, and of such ones inside TIFF: every pixel right, or refused by name."""

import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image
from png_writer import chunk, png

from indeed.data.image_files import ImageFileError, read_image

HEIGHT, WIDTH = 11, 13
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
DEPTHS = [
    (0, 1),
    (0, 2),
    (0, 4),
    (0, 8),
    (0, 16),
    (2, 8),
    (2, 16),
    (3, 1),
    (3, 2),
    (3, 4),
    (3, 8),
    (4, 8),
    (4, 16),
    (6, 8),
]
DEPTHS += [(6, 16)]


def values_of(colour_type: int, depth: int) -> np.ndarray:
    shape = (HEIGHT, WIDTH, SAMPLES[colour_type])
    return np.random.default_rng(depth).integers(0, 2**depth, shape)


def palette_of(depth: int) -> np.ndarray:
    return np.random.default_rng(9).integers(0, 256, (2**depth, 3), np.uint8)


def read(path, data: bytes):
    path.write_bytes(data)
    return read_image(path)


def refused(path, data: bytes, words: str) -> None:
    with pytest.raises(ImageFileError, match=words):
        read(path, data)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize(("colour_type", "depth"), DEPTHS)
def test_every_png_of_the_standard_is_read(tmp_path, capfd, colour_type, depth, transparent, interlaced):
    values = values_of(colour_type, depth)
    palette = palette_of(depth)
    before = [chunk(b"PLTE", palette.tobytes())] if colour_type == 3 else []
    own_alpha = colour_type in (4, 6)
    if transparent and not own_alpha:
        key = values[2, 3].tolist()
        before.append(chunk(b"tRNS", bytes([7, 200]) if colour_type == 3 else struct.pack(f">{len(key)}H", *key)))
    picture = read(tmp_path / "a.png", png(values, depth, colour_type, before=before, interlaced=interlaced))
    top = 65535 if depth == 16 else 255
    scaled = values * (top // (2**depth - 1))
    if colour_type == 3:
        expected, alpha = palette[values[..., 0]], np.array([7, 200] + [255] * 254)[values[..., 0]]
    else:
        expected = scaled[..., :-1] if own_alpha else scaled
        alpha = scaled[..., -1] if own_alpha else np.where((values == values[2, 3]).all(axis=2), 0, top)
    assert picture.pixels.dtype == (np.uint16 if depth == 16 else np.uint8)
    assert np.array_equal(picture.pixels, expected)
    assert (picture.alpha is not None) == (own_alpha or transparent)
    if picture.alpha is not None:
        assert np.array_equal(picture.alpha, alpha)
    assert capfd.readouterr() == ("", "")  # libpng had nothing to say


@pytest.mark.parametrize(
    ("words", "options"),
    {
        "not in the order": {"after": [chunk(b"tRNS", b"\0\1")]},
        "its chunks are not": {"before": [chunk(b"tRNS", b"\0\1"), chunk(b"tRNS", b"\0\2")]},
        "order of the standard": {"after": [chunk(b"tEXt", b"a\0b"), chunk(b"IDAT", zlib.compress(b"more"))]},
        "transparent values do not go": {"before": [chunk(b"tRNS", b"\0\1\0\1\0\1")]},
        "palette does not go": {"before": [chunk(b"PLTE", bytes(6))]},
        "do not end where they should": {"surplus": b"\0"},
        "not end where": {"after": [chunk(b"IDAT", b"more")]},
        "the critical chunk 'CgBI'": {"before": [chunk(b"CgBI", bytes(4))]},
        "the sum of the chunk 'gAMA'": {"before": [chunk(b"gAMA", bytes(4), wrong=True)]},
    }.items(),
)  # fmt: skip
def test_a_png_that_libpng_only_warns_of_is_refused(tmp_path, capfd, words, options):
    refused(tmp_path / "a.png", png(values_of(0, 8), 8, 0, **options), words)
    assert capfd.readouterr() == ("", "")


def test_a_palette_that_is_too_short_is_refused(tmp_path):
    values = values_of(3, 4)
    short = chunk(b"PLTE", palette_of(4)[: values.max()].tobytes())
    refused(tmp_path / "a.png", png(values, 4, 3, before=[short]), rf"has the index {values.max()}, and {values.max()}")
    refused(tmp_path / "a.png", png(values, 4, 3), "palette does not go")
    whole = chunk(b"PLTE", palette_of(4).tobytes())
    refused(tmp_path / "a.png", png(values, 4, 3, before=[chunk(b"tRNS", b"\7"), whole]), "not in the order")
    refused(tmp_path / "a.png", png(values, 4, 3, before=[whole, chunk(b"tRNS", bytes(17))]), "transparent values")


def test_a_profile_that_would_fill_the_memory_is_left_out_and_named(tmp_path):
    profile = chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(2**24 + 1)))
    picture = read(tmp_path / "a.png", png(values_of(0, 8), 8, 0, before=[profile]))
    assert picture.metadata.dropped == ("a damaged colour profile",)


@pytest.mark.parametrize(("colour_type", "bits"), [(4, [12, 16]), (6, [12, 12, 12, 16]), (0, [12]), (2, [12, 12, 12])])
def test_significant_bits_tell_white_beside_alpha_too(tmp_path, colour_type, bits):
    values = values_of(colour_type, 12)
    before = [chunk(b"sBIT", bytes(bits))]
    if colour_type in (0, 2):
        before.append(chunk(b"tRNS", struct.pack(f">{len(bits)}H", *values[0, 0].tolist())))
    picture = read(tmp_path / "a.png", png(values, 16, colour_type, before=before))
    assert picture.white == 4095
    assert picture.alpha is not None
    different = [*bits[:-2], 11, *bits[-1:]] if colour_type == 6 else [0] * len(bits)
    before[0] = chunk(b"sBIT", bytes(different))
    assert read(tmp_path / "a.png", png(values, 16, colour_type, before=before)).white == 65535


def smooth(channels: int) -> np.ndarray:
    """Colours that JPEG hardly changes."""
    row, column = np.mgrid[0:32, 0:48]
    planes = (40 + 4 * column, 220 - 3 * row, 60 + 2 * row + column, 30 + 2 * column + row)
    return np.stack(planes[:channels], axis=2).astype(np.uint8)


@pytest.mark.parametrize("form", ["CMYK", "YCCK"])
def test_jpeg_of_inks_is_read_as_they_print(tmp_path, form):
    import imagecodecs

    inks = smooth(4)
    # They are stored as what they leave of the light, as Adobe's software does.
    data = imagecodecs.jpeg8_encode(255 - inks, level=98, colorspace="CMYK", outcolorspace=form, subsampling="444")
    light = 255 - inks.astype(float)
    expected = light[..., :3] * light[..., 3:] / 255
    assert np.abs(read(tmp_path / "a.jpg", data).pixels - expected).max() <= 5


def test_jpeg_of_twelve_bits_is_refused(tmp_path):
    import imagecodecs

    data = imagecodecs.jpeg_encode(smooth(1)[..., 0].astype(np.uint16) * 16, level=98, bitspersample=12)
    refused(tmp_path / "a.jpg", data, "holds JPEG samples of 12 bits, expected 8")


def bitmap(
    pixels: bytes, *, width: int = WIDTH, height: int = HEIGHT, bits: int = 24, kind: int = 0, table=b""
) -> bytes:
    """BMP file with the header of Windows 3."""
    at = 54 + len(table)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, kind, len(pixels), 0, 0, len(table) // 4, 0)
    return b"BM" + struct.pack("<IHHI", at + len(pixels), 0, 0, at) + info + table + pixels


def test_bitmaps_are_read_from_the_top_down_and_from_the_bottom_up(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    rows = [row[:, ::-1].tobytes() + bytes(-3 * WIDTH % 4) for row in values]
    for height, order in ((HEIGHT, reversed(rows)), (-HEIGHT, rows)):
        assert np.array_equal(read(tmp_path / "a.bmp", bitmap(b"".join(order), height=height)).pixels, values)


@pytest.mark.parametrize(("bits", "kind"), [(8, 1), (4, 2)])
def test_bitmaps_of_run_lengths_are_read(tmp_path, bits, kind):
    values = np.repeat(np.random.default_rng(1).integers(0, 2**bits, (HEIGHT, 3)), 4, axis=1)
    palette = palette_of(bits)
    table = b"".join(bytes([*colour[::-1], 0]) for colour in palette)
    index = [value * (17 if bits == 4 else 1) for value in range(2**bits)]  # two pixels a byte
    lines = [b"".join(bytes([4, index[value]]) for value in row[::4]) + b"\0\0" for row in values[::-1]]
    data = bitmap(b"".join(lines) + b"\0\1", width=12, bits=bits, kind=kind, table=table)
    assert np.array_equal(read(tmp_path / "a.bmp", data).pixels, palette[values])


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".tif"])
def test_bytes_behind_the_end_change_nothing(tmp_path, suffix):
    Image.fromarray(smooth(3)).save(tmp_path / f"a{suffix}")
    pixels = read_image(tmp_path / f"a{suffix}").pixels
    data = (tmp_path / f"a{suffix}").read_bytes()
    assert np.array_equal(read(tmp_path / f"a{suffix}", data + b"more \xff\xd8\xff\0" * 9).pixels, pixels)


@pytest.mark.parametrize("tile", [None, (16, 16)])
@pytest.mark.parametrize("subsampling", [(1, 1), (2, 2)])
@pytest.mark.parametrize("colours", [1, 3])
def test_jpeg_in_tiff_is_the_picture_that_was_written(tmp_path, colours, subsampling, tile):
    values = smooth(colours)
    options = {"subsampling": subsampling} if colours == 3 else {}
    tifffile.imwrite(
        tmp_path / "a.tif", values if colours == 3 else values[..., 0], compression="jpeg", metadata=None, tile=tile,
        photometric="rgb" if colours == 3 else "minisblack", compressionargs={"level": 98}, **options,
    )  # fmt: skip
    assert np.abs(read_image(tmp_path / "a.tif").pixels - values.astype(int)).max() <= 6


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("colours", [1, 3])
def test_jpeg_2000_in_tiff_is_the_picture_that_was_written(tmp_path, dtype, colours):
    values = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (33, 40, colours), dtype, endpoint=True)
    tifffile.imwrite(
        tmp_path / "a.tif", values if colours == 3 else values[..., 0], compression="jpeg2000", metadata=None,
        photometric="rgb" if colours == 3 else "minisblack", compressionargs={"level": 0},
    )  # fmt: skip
    assert np.array_equal(read_image(tmp_path / "a.tif").pixels, values)
