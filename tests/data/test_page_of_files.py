"""The table of the book on what is read is true: each line is made into a file and read."""

import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from png_writer import chunk, png
from tag_writer import packed, tiff
from test_metadata import PIXELS, exif_of

from indeed.data.image_files import ImageFileError, lost, read_image, write_image
from indeed.data.samples_of_files import Metadata

PAGE = Path(__file__).parents[2] / "book" / "files.md"
HEIGHT, WIDTH = PIXELS.shape[:2]
TIFF_KINDS = {
    "grey": (1, 1, None), "grey, 0 is white": (0, 1, None), "colour": (2, 3, None), "colour with alpha": (2, 4, 2),
    "colour multiplied by alpha": (2, 4, 1), "colour and a fourth channel": (2, 4, 0), "palette": (3, 1, None),
    "CMYK": (5, 4, None), r"CIE L\*a\*b\*": (8, 3, None),
}  # fmt: skip
"""Layout: photometric interpretation, samples of a pixel, what the extra one is."""


def table(first: str) -> list[list[str]]:
    """Rows of the table whose first column has that title."""
    _, rest = PAGE.read_text(encoding="utf-8").split(f"| {first} |")
    rows = rest.split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def lines() -> list[tuple[str, str, str, str]]:
    """Kind of file, layout, depth and outcome, for each depth."""
    return [
        (kind, layout, depth, outcome)
        for kind, layout, depths, outcome in table("format")
        for depth in re.findall(r"\d+|float", depths)
    ]


def make_tiff(path: Path, layout: str, depth: str) -> None:
    if layout == "stack":
        data = np.zeros((3, HEIGHT, WIDTH), f"uint{depth}")
        tifffile.imwrite(path, data, photometric="minisblack")
        return
    photometric, count, extra = TIFF_KINDS[layout]
    bits = 32 if depth == "float" else int(depth)
    rng = np.random.default_rng(0)
    shape = (HEIGHT, WIDTH * count)
    values = rng.random(shape, np.float32) if depth == "float" else rng.integers(0, 2 ** min(bits, 16), shape)
    tags = {
        256: (4, [WIDTH]), 257: (4, [HEIGHT]), 258: (3, [bits] * count), 259: (3, [1]), 262: (3, [photometric]),
        277: (3, [count]), 278: (4, [HEIGHT]), 339: (3, [3 if depth == "float" else 1] * count),
    }  # fmt: skip
    if extra is not None:
        tags[338] = (3, [extra])
    if photometric == 3:
        tags[320] = (3, rng.integers(0, 65536, 3 * 2**bits).tolist())
    path.write_bytes(tiff(tags, [packed(values, bits)]))


def make(path: Path, kind: str, layout: str, depth: str) -> None:
    if kind == "TIFF":
        make_tiff(path, layout, depth)
        return
    if kind == "PNG" and layout != "animation":
        colour_type, count = {"grey": (0, 1), "colour": (2, 3), "palette": (3, 1), "colour with alpha": (6, 4)}[layout]
        values = np.random.default_rng(0).integers(0, 2 ** int(depth), (HEIGHT, WIDTH, count))
        colours = [chunk(b"PLTE", bytes(3 << int(depth)))] if layout == "palette" else []
        path.write_bytes(png(values, int(depth), colour_type, before=colours))
        return
    if depth == "12":
        import imagecodecs

        path.write_bytes(imagecodecs.jpeg_encode(PIXELS[..., 0].astype(np.uint16), bitspersample=12))
        return
    grey = Image.fromarray(PIXELS[..., 0])
    image = {
        "grey": grey,
        "palette": grey.convert("P"),
        "animation": grey,
        "colour": Image.fromarray(PIXELS),
        "colour with alpha": Image.fromarray(np.dstack([PIXELS, PIXELS[..., 0]])),
        "CMYK": Image.fromarray(PIXELS).convert("CMYK"),
    }[layout]
    more = {"save_all": True, "append_images": [Image.fromarray(255 - PIXELS[..., 0])]} if layout == "animation" else {}
    image.save(path, kind.upper(), **more)


@pytest.mark.parametrize(("kind", "layout", "depth", "outcome"), lines())
def test_the_table_of_the_book_is_true(tmp_path, kind, layout, depth, outcome):
    path = tmp_path / "a"
    make(path, kind, layout, depth)
    if outcome == "read":
        picture = read_image(path)
        assert picture.pixels.shape[:2] == (HEIGHT, WIDTH)
        assert picture.channels == (1 if layout.startswith("grey") else 3)
        assert (picture.alpha is not None) == (layout == "colour with alpha")
        wanted = np.float32 if depth == "float" else np.uint8 if int(depth) <= 8 else np.uint16
        assert picture.pixels.dtype == wanted
    else:
        with pytest.raises(ImageFileError, match=outcome.removeprefix("refused: ")):
            read_image(path)


SAYS = {
    "colour profile": (".png", {"icc_profile": b"a profile"}),
    "resolution": (".png", {"dpi": (300, 150)}),
    "EXIF: camera, date, artist, exposure, place": (".jpg", {"exif": exif_of(orientation=1)}),
    "EXIF: a description": (".jpg", {"exif": {0x010E: "a description"}}),
    "description of ImageJ": (".tif", {"imagej": True, "resolution": (300, 300), "metadata": {"unit": "inch"}}),
    "description of OME": (".tif", {"ome": True, "metadata": {"PhysicalSizeX": 84.0, "PhysicalSizeY": 84.0}}),
    "XMP": (".tif", {"extratags": [(700, "B", 3, b"xmp", True)]}),
    "thumbnail": (".tif", {}),
}


def say(path: Path, what: str, options: dict) -> None:
    """File that says something besides its pixels."""
    if path.suffix == ".tif":
        with tifffile.TiffWriter(path, imagej=options.pop("imagej", False), ome=options.pop("ome", False)) as writer:
            writer.write(PIXELS[..., 0], **options)
            if what == "thumbnail":
                writer.write(PIXELS[::2, ::2, 0], subfiletype=1)
        return
    if isinstance(exif := options.get("exif"), dict):
        options["exif"] = Image.Exif()
        options["exif"].update(exif)
    Image.fromarray(PIXELS).save(path, **options)


def per_metre(metadata: Metadata) -> tuple[float, ...]:
    if metadata.resolution is None:
        return ()
    x, y, unit = metadata.resolution
    return x / unit, y / unit


@pytest.mark.parametrize(("what", "in_png", "in_jpeg", "in_tiff"), table("what the file says"))
def test_what_the_book_calls_kept_is_kept_and_what_it_calls_named_is_named(tmp_path, what, in_png, in_jpeg, in_tiff):
    suffix, options = SAYS[what]
    say(tmp_path / f"a{suffix}", what, dict(options))
    picture = read_image(tmp_path / f"a{suffix}")
    said = picture.metadata._replace(dropped=())
    for target, outcome in ((".png", in_png), (".jpg", in_jpeg), (".tif", in_tiff)):
        write_image(tmp_path / f"b{target}", picture)
        again = read_image(tmp_path / f"b{target}").metadata
        left = lost(tmp_path / f"b{target}", picture)
        assert outcome == ("named" if left else "kept")
        if outcome == "kept":
            assert per_metre(again) == pytest.approx(per_metre(said), rel=1e-3)
            assert (again.icc_profile, again.exif) == (said.icc_profile, said.exif)
            assert (again.description or "")[:7] == (said.description or "")[:7]
        else:
            assert len(left) == 1
        assert again.dropped == ()


def test_the_tables_are_there():
    assert len(lines()) > 30
    assert [row[0] for row in table("what the file says")] == list(SAYS)
