"""Logo, favicon and the photographs of the welcome page: what is committed is what the code makes."""

import io
import re
from xml.etree import ElementTree

import artwork
import numpy as np
import pytest
import torch
from PIL import Image


def pixels(data):
    with Image.open(io.BytesIO(data)) as picture:
        return torch.from_numpy(np.array(picture)).double() / 255


@pytest.mark.parametrize("name", ["logo", "favicon"])
def test_drawings_are_what_the_code_draws(name):
    committed = (artwork.ASSETS / f"{name}.svg").read_text(encoding="utf-8")
    assert committed == getattr(artwork, name)()
    assert ElementTree.fromstring(committed).tag.endswith("svg")


def test_the_colour_of_the_signs_is_seen_on_white_and_on_black():
    channels = [int(artwork.GREY[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    assert min(1.05 / (luminance + 0.05), (luminance + 0.05) / 0.05) > 3


def test_the_square_y_has_the_sparse_cells_of_the_square_s():
    drawn = artwork.tiles()
    places = {
        name: {re.search(r'x="\d+" y="\d+"', cell)[0] for cell in drawn[name].split("/>") if artwork.ORANGE in cell}
        for name in "YS"
    }
    assert places["Y"] == places["S"]
    assert len(places["S"]) == len(artwork.SPARSE)


@pytest.mark.shipped
@pytest.mark.slow
def test_photographs_are_what_the_network_makes():
    made = artwork.photographs()
    assert list(made) == list("YLSN")
    committed = {name: pixels((artwork.ASSETS / f"welcome-{name}.jpg").read_bytes()) for name in made}
    for name, image in made.items():
        again = pixels(artwork.jpeg(image))
        assert again.shape == committed[name].shape
        assert (again - committed[name]).abs().mean() < 2 / 255, name
    assert (committed["Y"] - committed["L"]).abs().mean() > 8 / 255  # so another part would have been noticed
