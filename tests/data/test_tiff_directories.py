"""Which picture a TIFF file holds: never a thumbnail, a level, a mask, or one of several without a word."""

import numpy as np
import pytest
import tifffile
from tag_writer import directory, packed, tiff

from indeed.data.image_files import ImageFileError, read_image

FULL = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
SMALL = FULL[::4, ::4]
TAGS = {256: (4, [9]), 257: (4, [7]), 258: (3, [8]), 259: (3, [1]), 262: (3, [1]), 277: (3, [1]), 278: (4, [7])}
GREY = np.random.default_rng(1).integers(0, 256, (7, 9), np.uint8)


def written(path, first, inner=(), after=()):
    """Directories as (pixels, kind of sub-file); the inner ones are inside the first."""
    with tifffile.TiffWriter(path) as writer:
        for index, (pixels, kind) in enumerate((first, *inner, *after)):
            writer.write(
                pixels, photometric="rgb" if pixels.ndim == 3 else "minisblack", subfiletype=kind, metadata=None,
                **({"subifds": len(inner)} if not index and inner else {}),
            )  # fmt: skip
    return path


def test_a_full_picture_inside_its_preview_is_read(tmp_path):
    path = written(tmp_path / "a.dng", (SMALL, 1), inner=[(SMALL, 1), (FULL, 0)])
    assert np.array_equal(read_image(path).pixels, FULL)


def test_a_preview_that_is_not_said_to_be_one_makes_two_pictures(tmp_path):
    path = written(tmp_path / "a.dng", (SMALL, 0), inner=[(FULL, 0)])
    with pytest.raises(ImageFileError, match="holds several pictures"):
        read_image(path)


@pytest.mark.parametrize("kind", [0, 1])
def test_levels_of_a_pyramid_are_left(tmp_path, kind):
    path = written(tmp_path / "a.tif", (FULL, 0), inner=[(FULL[::2, ::2], kind), (SMALL, kind)])
    assert np.array_equal(read_image(path).pixels, FULL)


def test_thumbnails_behind_the_picture_are_left_and_named(tmp_path):
    path = written(tmp_path / "a.tif", (FULL, 0), after=[(SMALL[..., 0], 1)])
    picture = read_image(path)
    assert np.array_equal(picture.pixels, FULL)
    assert picture.metadata.dropped == ("reduced pictures",)


def test_a_second_picture_is_not_left(tmp_path):
    for pixels in (FULL, SMALL):
        with pytest.raises(ImageFileError, match="holds several pictures"):
            read_image(written(tmp_path / "a.tif", (FULL, 0), after=[(pixels, 0)]))


def test_a_file_of_previews_only_is_refused(tmp_path):
    with pytest.raises(ImageFileError, match="holds reduced pictures only"):
        read_image(written(tmp_path / "a.tif", (SMALL, 1)))


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_old_tag_of_reduced_pictures_is_known(tmp_path, order):
    data = tiff(TAGS | {255: (3, [2])}, [GREY.tobytes()], order)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(ImageFileError, match="holds reduced pictures only"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("missing", [277, 278, 284])
def test_tags_that_old_writers_left_out_have_their_defaults(tmp_path, missing):
    (tmp_path / "a.tif").write_bytes(tiff({k: v for k, v in TAGS.items() if k != missing}, [GREY.tobytes()]))
    assert np.array_equal(read_image(tmp_path / "a.tif").pixels[..., 0], GREY)


def test_one_bit_is_the_default_of_depth(tmp_path):
    bits = GREY % 2
    (tmp_path / "a.tif").write_bytes(tiff({k: v for k, v in TAGS.items() if k != 258}, [packed(bits, 1)]))
    assert np.array_equal(read_image(tmp_path / "a.tif").pixels[..., 0], bits * 255)


@pytest.mark.parametrize(
    ("tags", "parts", "words"),
    [
        ({262: None}, 1, "does not say what its samples mean"),
        ({278: (4, [2])}, 3, "a part of the pixels is missing"),
        ({317: (3, [2])}, 1, "predictor 2 of samples that do not go with it"),
        ({258: (3, [32]), 339: (3, [3]), 262: (3, [0])}, 4, "neither grey, where 1 is white, nor RGB"),
        ({256: (4, [90])}, 1, "is damaged"),
    ],
)
def test_what_would_be_read_wrongly_is_refused(tmp_path, tags, parts, words):
    both = {code: value for code, value in (TAGS | tags).items() if value is not None}
    (tmp_path / "a.tif").write_bytes(tiff(both, [GREY.tobytes()] * parts))
    with pytest.raises(ImageFileError, match=words):
        read_image(tmp_path / "a.tif")


def test_a_circle_inside_a_directory_is_no_hang(tmp_path):
    body = b"II*\0" + (8).to_bytes(4, "little")
    tags = TAGS | {273: (4, [8]), 279: (4, [63]), 330: (4, [8])}
    (tmp_path / "a.tif").write_bytes(body + directory(tags, 8, 0) + bytes(99))
    assert read_image(tmp_path / "a.tif").pixels.shape == (7, 9, 1)


@pytest.mark.parametrize("value", [(12, [4095.0]), (3, [4095])])
def test_white_is_a_float_or_an_integer(tmp_path, value):
    grey = GREY.astype(np.uint16) * 16
    (tmp_path / "a.tif").write_bytes(tiff(TAGS | {258: (3, [16]), 341: value}, [grey.tobytes()]))
    assert read_image(tmp_path / "a.tif").white == 4095
