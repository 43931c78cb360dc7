"""The table of the book on what is read is true: each line is made into a file and read."""

import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from tag_writer import packed, tiff
from test_metadata import PIXELS

from indeed.data.image_files import ImageFileError, read_image

PAGE = Path(__file__).parents[2] / "book" / "files.md"
HEIGHT, WIDTH = PIXELS.shape[:2]
TIFF_KINDS = {
    "grey": (1, 1, None), "grey, 0 is white": (0, 1, None), "colour": (2, 3, None), "colour with alpha": (2, 4, 2),
    "colour multiplied by alpha": (2, 4, 1), "colour and a fourth channel": (2, 4, 0), "palette": (3, 1, None),
    "CMYK": (5, 4, None), r"CIE L\*a\*b\*": (8, 3, None),
}  # fmt: skip
"""Layout: photometric interpretation, samples of a pixel, what the extra one is."""


def lines() -> list[tuple[str, str, str, str]]:
    found = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 4 and "---" not in line and cells[0] != "format":
            kind, layout, depths, outcome = cells
            found += [(kind, layout, depth, outcome) for depth in re.findall(r"\d+|float", depths)]
    return found


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
    if kind == "PNG" and (depth == "16" or (layout == "grey" and depth != "8")):
        import imagecodecs

        count = {"grey": 1, "colour": 3, "colour with alpha": 4}[layout]
        if depth == "16":
            data = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH, count), np.uint16)
            path.write_bytes(imagecodecs.png_encode(data[..., 0] if count == 1 else data))
        else:
            levels = Image.fromarray(PIXELS[..., 0] >> (8 - int(depth)))
            (levels.point(lambda x: 255 * x).convert("1") if depth == "1" else levels).save(path, kind)
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


def test_the_table_is_there():
    assert len(lines()) > 30
