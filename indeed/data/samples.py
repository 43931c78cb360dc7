"""Real photographs that ship inside installed packages: the embedded default of the book, the tests and the command.

They are read from the packages' folders, never through their download helpers: no call in this module reaches a
network.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

from indeed.checks import one_of
from indeed.data.image_files import read_image
from indeed.types import Image


class SampleImage(NamedTuple):
    """One photograph: where it is installed, what it shows, and the licence as its package states it."""

    package: str
    file: str
    channels: Literal[1, 3]
    title: str
    licence: str


SAMPLES: dict[str, SampleImage] = {
    "astronaut": SampleImage("skimage", "data/astronaut.png", 3, "Eileen Collins (NASA Great Images)", "public domain"),
    "brick": SampleImage("skimage", "data/brick.png", 1, "brick wall (CC0Textures)", "CC0"),
    "camera": SampleImage("skimage", "data/camera.png", 1, "cameraman (Lav Varshney)", "CC0"),
    "chelsea": SampleImage("skimage", "data/chelsea.png", 3, "Chelsea the cat (Stefan van der Walt)", "CC0"),
    "china": SampleImage(
        "sklearn", "datasets/images/china.jpg", 3, "temple in China (danielbuechele, flickr.com, 2011)", "CC BY 2.0"
    ),
    "coffee": SampleImage("skimage", "data/coffee.png", 3, "cup of coffee (Rachel Michetti)", "CC0"),
    "coins": SampleImage(
        "skimage", "data/coins.png", 1, "Greek coins from Pompeii (Brooklyn Museum)", "no known copyright restrictions"
    ),
    "flower": SampleImage(
        "sklearn", "datasets/images/flower.jpg", 3, "flower (vultilion, flickr.com, 2011)", "CC BY 2.0"
    ),
    "grass": SampleImage("skimage", "data/grass.png", 1, "grass (linolafett, DeviantArt)", "CC0"),
    "gravel": SampleImage("skimage", "data/gravel.png", 1, "gravel (CC0Textures)", "CC0"),
    "hubble": SampleImage(
        "skimage", "data/hubble_deep_field.jpg", 3, "Hubble eXtreme Deep Field (NASA)", "may be freely used"
    ),
    "moon": SampleImage("skimage", "data/moon.png", 1, "surface of the moon", "not stated by scikit-image"),
    "retina": SampleImage("skimage", "data/retina.jpg", 3, "human retina (Wikimedia Commons)", "CC0"),
    "rocket": SampleImage("skimage", "data/rocket.jpg", 3, "launch of DSCOVR on a Falcon 9 (SpaceX)", "public domain"),
}
"""Photographs by name; the notes are those of scikit-image's docstrings and of scikit-learn's ``images/README.txt``."""


def sample_names(channels: Literal[1, 3] | None = None) -> tuple[str, ...]:
    """Names of the photographs, of one kind if `channels` is given (1 grey, 3 colour).

    Examples
    --------
    >>> sample_names(1)
    ('brick', 'camera', 'coins', 'grass', 'gravel', 'moon')
    """
    return tuple(name for name, sample in SAMPLES.items() if channels in (None, sample.channels))


def sample_path(name: str) -> Path:
    """File of a photograph inside the installed package.

    Raises
    ------
    ValueError
        If no photograph has that name.
    FileNotFoundError
        If the package is not installed or no longer ships the file.
    """
    one_of(SAMPLES, name=name)
    sample = SAMPLES[name]
    spec = find_spec(sample.package)  # does not import the package
    folders = (spec.submodule_search_locations if spec else None) or []
    for folder in folders:
        path = Path(folder) / sample.file
        if path.is_file():
            return path
    raise FileNotFoundError(f"{sample.file}: not in the installed package {sample.package!r}")


def sample_image(name: str) -> Image:
    """Photograph as a float32 image in [0, 1].

    Raises
    ------
    ValueError, FileNotFoundError
        As `sample_path`.

    Examples
    --------
    >>> sample_image("astronaut").shape
    torch.Size([3, 512, 512])
    """
    return read_image(sample_path(name)).tensor()
