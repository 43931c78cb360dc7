"""What a file says besides its pixels: kept where the format can hold it, and named where it is not."""

import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

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


@pytest.mark.parametrize("target", [".png", ".jpg"])
@pytest.mark.parametrize("source", [".png", ".jpg", ".webp"])
def test_exif_is_kept_without_orientation(tmp_path, source, target):
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "a camera", 6
    exif.get_ifd(0x8769)[0x829A] = 0.25
    Image.fromarray(PIXELS).save(tmp_path / f"a{source}", exif=exif)
    picture = read_image(tmp_path / f"a{source}")
    assert picture.pixels.shape == (11, 9, 3)
    write_image(tmp_path / f"b{target}", picture)
    with Image.open(tmp_path / f"b{target}") as image:
        again = image.getexif()
        assert again[0x010F] == "a camera"
        assert 0x0112 not in again
        assert again.get_ifd(0x8769)[0x829A] == 0.25
    assert lost(Path("c.tif"), picture) == ("EXIF",)


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
