"""What a file says besides its pixels: kept where the format can hold it, and named where it is not."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from png_writer import chunk, png

from indeed.data.exif import for_tiff, place_holder, put_into_tiff
from indeed.data.image_files import ImageFileError, lost, read_image, write_image

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
SUFFIXES = (".png", ".tif", ".jpg")


@pytest.mark.parametrize("target", SUFFIXES)
@pytest.mark.parametrize("source", SUFFIXES)
def test_the_resolution_goes_from_each_format_into_each(tmp_path, source, target):
    Image.fromarray(PIXELS).save(tmp_path / f"a{source}", dpi=(300, 150))
    picture = read_image(tmp_path / f"a{source}")
    write_image(tmp_path / f"b{target}", picture)
    with Image.open(tmp_path / f"b{target}") as image:
        assert [float(x) for x in image.info["dpi"]] == pytest.approx([300, 150], rel=1e-3)
    assert lost(Path(f"b{target}"), picture) == ()


def test_the_size_of_a_pixel_of_a_microscope_goes_into_a_png_and_is_named_where_it_cannot(tmp_path):
    said = {"resolution": (10, 5), "metadata": {"unit": "um"}}
    tifffile.imwrite(tmp_path / "a.tif", PIXELS[..., 0], imagej=True, **said)
    picture = read_image(tmp_path / "a.tif")
    write_image(tmp_path / "b.tif", picture)
    assert read_image(tmp_path / "b.tif").metadata == picture.metadata
    write_image(tmp_path / "b.png", picture)
    assert read_image(tmp_path / "b.png").metadata.resolution == (10e6, 5e6, 1)
    assert lost(Path("b.png"), picture) == ("the description of ImageJ",)
    assert lost(Path("b.jpg"), picture) == ("the description of ImageJ", "resolution")


def exif_of(*, orientation: int = 6) -> Image.Exif:
    """What a camera would note; each part of it is there, and the artist has other letters than ASCII."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0112], exif[0x013B] = "a camera", orientation, "Müller".encode()
    exif.get_ifd(0x8769).update({0x829A: 0.25, 0x9000: b"0232", 0xA002: 11, 0xA005: {1: "R98"}})
    exif.get_ifd(0x8825).update({1: "N", 2: (50.0, 3.0, 12.5)})
    return exif


@pytest.mark.parametrize("target", SUFFIXES)
@pytest.mark.parametrize("source", [*SUFFIXES, ".webp"])
def test_exif_is_kept_without_orientation(tmp_path, source, target):
    if source == ".tif":
        Image.fromarray(PIXELS).save(tmp_path / "a.jpg", exif=exif_of())
        write_image(tmp_path / "a.tif", read_image(tmp_path / "a.jpg"))
    else:
        Image.fromarray(PIXELS).save(tmp_path / f"a{source}", exif=exif_of())
    picture = read_image(tmp_path / f"a{source}")
    assert picture.pixels.shape == (11, 9, 3)
    write_image(tmp_path / f"b{target}", picture)
    with Image.open(tmp_path / f"b{target}") as image:
        again = image.getexif()
        assert again[0x010F] == "a camera"
        assert again[0x013B].encode("latin-1").decode() == "Müller"
        assert again.get(0x0112, 1) == 1
        exposure = again.get_ifd(0x8769)
        assert {code: exposure[code] for code in (0x829A, 0x9000)} == {0x829A: 0.25, 0x9000: b"0232"}
        assert 0xA002 not in exposure  # it was the width, and is the height now
        assert again.get_ifd(0xA005) == {1: "R98"}
        assert again.get_ifd(0x8825) == {1: "N", 2: (50.0, 3.0, 12.5)}
    assert lost(Path(f"b{target}"), picture) == ()
    copy = read_image(tmp_path / f"b{target}")
    assert copy.metadata.exif == picture.metadata.exif
    assert copy.metadata.dropped == ()
    assert np.array_equal(copy.pixels, picture.pixels) or target == ".jpg"


@pytest.mark.parametrize("options", [{}, {"byteorder": ">"}, {"bigtiff": True}])
def test_exif_goes_into_tiff_files_of_every_kind(tmp_path, options):
    Image.fromarray(PIXELS).save(tmp_path / "a.jpg", exif=exif_of(orientation=1))
    block = read_image(tmp_path / "a.jpg").metadata.exif
    places = [(place_holder(code), "I", 1, 0, True) for code in for_tiff(block)[1]]
    tifffile.imwrite(tmp_path / "b.tif", PIXELS, photometric="rgb", extratags=places, **options)
    put_into_tiff(tmp_path / "b.tif", block)
    with Image.open(tmp_path / "b.tif") as image:
        assert image.getexif().get_ifd(0x8825) == {1: "N", 2: (50.0, 3.0, 12.5)}
        assert image.getexif().get_ifd(0x8769)[0xA002] == 11
    assert np.array_equal(read_image(tmp_path / "b.tif").pixels, PIXELS)


def test_what_of_exif_a_tiff_file_does_not_hold_is_named(tmp_path):
    exif = Image.Exif()
    exif[0x010E], exif[0x4746] = "ImageJ=1.0\nimages=9", 5  # as the description it would make a stack of the copy
    Image.fromarray(PIXELS).save(tmp_path / "a.jpg", exif=exif)
    picture = read_image(tmp_path / "a.jpg")
    assert lost(Path("b.tif"), picture) == ("EXIF ImageDescription", "EXIF Rating")
    write_image(tmp_path / "b.tif", picture)
    assert np.array_equal(read_image(tmp_path / "b.tif").pixels, picture.pixels)


def test_the_thumbnail_of_exif_is_left_out_and_named(tmp_path):
    first = b"MM\0*\0\0\0\x08" + b"\0\1\1\x0f\0\2\0\0\0\2c\0\0\0" + (26).to_bytes(4, "big")
    block = b"Exif\0\0" + first + b"\0\1\1\3\0\3\0\0\0\1\0\6\0\0\0\0\0\0"  # and one more directory, of JPEG data
    Image.fromarray(PIXELS).save(tmp_path / "a.jpg", exif=block)
    picture = read_image(tmp_path / "a.jpg")
    assert picture.metadata.dropped == ("thumbnail",)
    write_image(tmp_path / "b.jpg", picture)
    assert read_image(tmp_path / "b.jpg").metadata.dropped == ()


def test_a_damaged_directory_of_exif_is_no_fault_of_the_pixels(tmp_path):
    places = [(place_holder(0x8769), "I", 1, 0, True)]
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, photometric="rgb", extratags=places, metadata=None)
    put_into_tiff(tmp_path / "a.tif", exif_of().tobytes().replace(b"\x88\x25", b"\x88\x20"))
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        place = file.pages[0].tags[0x8769].offset + 8
    data[place : place + 4] = (10**9).to_bytes(4, sys.byteorder)
    (tmp_path / "a.tif").write_bytes(data)
    picture = read_image(tmp_path / "a.tif")
    assert np.array_equal(picture.pixels, PIXELS)
    assert picture.metadata.dropped == ("an empty or damaged directory of EXIF",)


def test_the_orientation_counts_beside_a_damaged_directory(tmp_path):
    block = exif_of(orientation=8).tobytes().replace(b"\x88\x25\0\4\0\0\0\1\0\0", b"\x88\x25\0\4\0\0\0\1\x7f\0")
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=block)
    picture = read_image(tmp_path / "a.png")
    assert np.array_equal(picture.pixels, np.rot90(PIXELS))
    assert picture.metadata.dropped == ("an empty or damaged directory of EXIF",)
    assert picture.metadata.exif is not None


def test_whatever_else_a_file_says_is_named(tmp_path):
    tags = [(269, "s", 0, "a document", True), (33550, "d", 3, (1.0, 1.0, 0.0), True), (65000, "H", 1, 7, True)]
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, photometric="rgb", extratags=tags)
    assert read_image(tmp_path / "a.tif").metadata.dropped == ("DocumentName", "ModelPixelScaleTag", "65000")
    values = PIXELS[..., :1].astype(int)
    chunks = [chunk(b"tIME", bytes(7)), chunk(b"tEXt", b"a\0b"), chunk(b"sRGB", b"\0")]
    (tmp_path / "a.png").write_bytes(png(values, 8, 0, before=chunks))
    assert read_image(tmp_path / "a.png").metadata.dropped == ("sRGB", "tIME", "text")
    first, second = (Image.fromarray(PIXELS + np.uint8(level)) for level in (0, 9))
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second], quality=95)
    picture = read_image(tmp_path / "a.jpg")
    assert "further pictures" in picture.metadata.dropped
    first.save(tmp_path / "b.jpg", quality=95)
    assert np.array_equal(picture.pixels, read_image(tmp_path / "b.jpg").pixels)


def test_the_profile_of_inks_and_a_text_that_describes_are_named(tmp_path):
    inks = np.dstack([PIXELS, PIXELS[..., 0]])
    options = {"photometric": "separated", "iccprofile": b"inks", "description": "a text", "metadata": None}
    tifffile.imwrite(tmp_path / "a.tif", inks, **options)
    picture = read_image(tmp_path / "a.tif")
    assert picture.metadata.icc_profile is None
    assert lost(Path("b.tif"), picture) == ("the colour profile", "the description")


def test_the_profile_of_colours_does_not_go_with_a_chosen_channel(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, photometric="rgb", iccprofile=b"rgb")
    assert read_image(tmp_path / "a.tif").metadata.icc_profile == b"rgb"
    metadata = read_image(tmp_path / "a.tif", channels=(2,)).metadata
    assert (metadata.icc_profile, metadata.dropped) == (None, ("the colour profile",))


def test_white_of_few_bits_in_eight_is_kept_or_named(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS[..., 0] % 16, metadata=None, extratags=[(281, "H", 1, 15, True)])
    picture = read_image(tmp_path / "a.tif")
    for suffix, white, left in ((".tif", 15, ()), (".png", 255, ("the value of white",))):
        write_image(tmp_path / f"b{suffix}", picture)
        assert read_image(tmp_path / f"b{suffix}").white == white
        assert lost(tmp_path / f"b{suffix}", picture) == left


def test_a_description_of_imagej_is_named_where_imagej_has_no_such_files(tmp_path):
    said = {"unit": "um", "cf": "0", "min": "1"}
    tifffile.imwrite(tmp_path / "a.tif", PIXELS[..., 0], imagej=True, resolution=(10, 5), metadata=said)
    picture = read_image(tmp_path / "a.tif")
    assert lost(Path("b.tif"), picture) == ("ImageJ cf",)
    with_alpha = replace(picture, alpha=picture.pixels[..., 0])
    assert lost(Path("b.tif"), with_alpha) == ("ImageJ cf", "the description of ImageJ")


def test_without_the_package_a_file_is_refused_rather_than_read_by_another(tmp_path, monkeypatch):
    for suffix in SUFFIXES:
        Image.fromarray(PIXELS).save(tmp_path / f"a{suffix}")
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    for suffix in (".png", ".tif"):
        with pytest.raises(ImageFileError, match="needs the package imagecodecs, which is not installed"):
            read_image(tmp_path / f"a{suffix}")
    assert read_image(tmp_path / "a.jpg").channels == 3


def test_a_codec_that_is_missing_is_no_damage(tmp_path, monkeypatch):
    import imagecodecs

    tifffile.imwrite(tmp_path / "a.tif", PIXELS[..., 0], compression="zstd")

    def absent(*_args, **_options):
        raise imagecodecs.DelayedImportError("zstd_decode")

    monkeypatch.setattr(tifffile.TiffPage, "asarray", absent)
    with pytest.raises(ImageFileError, match="needs the package imagecodecs with all of its codecs"):
        read_image(tmp_path / "a.tif")
