"""Pairs of a noisy photograph and its clean reference, from real cameras: PolyU and SIDD small.

Names and pairs are checked when a set is listed, pixels when a pair is loaded. What cannot be trusted raises a
`DataError` (an image that cannot be decoded an `ImageFileError`) that names the file.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from indeed.checks import one_of
from indeed.data.benchmarks import DataError, benchmark
from indeed.data.image_files import read_image
from indeed.types import Image


class _Layout(NamedTuple):
    """How a set names its files: a pattern with groups camera and kind; what the groups stand for."""

    pattern: str
    noisy: str
    clean: str
    cameras: Mapping[str, str]


_LAYOUTS = {
    "polyu": _Layout(
        r"(?P<camera>[^_]+)_.+_(?P<kind>real|mean)\.JPG",
        "real",
        "mean",
        {
            "Canon5D2": "Canon 5D Mark II",
            "Canon600D": "Canon 600D",
            "Canon80D": "Canon 80D",
            "NikonD800": "Nikon D800",
            "Sony": "Sony A7 II",
        },
    ),
    "sidd_small": _Layout(
        r"\d{4}_\d{3}_(?P<camera>[^_]+)_.+_(?P<kind>NOISY|GT)_SRGB_\d{3}\.PNG",
        "NOISY",
        "GT",
        {
            "G4": "LG G4",
            "GP": "Google Pixel",
            "IP": "Apple iPhone 7",
            "N6": "Motorola Nexus 6",
            "S6": "Samsung Galaxy S6 Edge",
        },
    ),
}


class LoadedPair(NamedTuple):
    """Pixels of a pair, float32 in [0, 1]."""

    noisy: Image
    clean: Image


@dataclass(frozen=True)
class CameraPair:
    """One scene twice, read when `load` is called."""

    name: str
    """Name of the noisy file without its ending and without the word that says that it is noisy."""
    camera: str
    """Maker and model."""
    noisy_file: Path
    clean_file: Path

    def load(self) -> LoadedPair:
        """Read both images.

        Raises
        ------
        ImageFileError
            If one cannot be read.
        DataError
            If they differ in size or channels.
        """
        pair = LoadedPair(*(read_image(file).tensor() for file in (self.noisy_file, self.clean_file)))
        if pair.noisy.shape != pair.clean.shape:
            shapes = [tuple(image.shape) for image in pair]
            raise DataError(f"{self.noisy_file}: shape {shapes[0]}, expected {shapes[1]} as {self.clean_file}")
        return pair


def camera_pairs(name: str) -> tuple[CameraPair, ...]:
    """Pairs of ``polyu`` (100 of five cameras) or ``sidd_small`` (160 of five phones), in the order of their names.

    Only names are looked at, no image is opened.

    Raises
    ------
    ValueError
        If no set of pairs has that name.
    DataMissingError
        If it is not on disk.
    DataError
        If a file's name is not of the set's layout, its camera is unknown, or it is without its other half.
    """
    one_of(_LAYOUTS, name=name)
    layout = _LAYOUTS[name]
    halves: dict[str, dict[str, Path]] = {}
    cameras = {}
    for path in benchmark(name):
        match = re.fullmatch(layout.pattern, path.name)
        if not match:
            raise DataError(f"{path}: not named as in {name}, expected {layout.pattern}")
        if match["camera"] not in layout.cameras:
            raise DataError(f"{path}: camera {match['camera']!r}, expected one of {', '.join(layout.cameras)}")
        start, end = match.span("kind")
        scene = (path.stem[:start] + path.stem[end:].lstrip("_")).rstrip("_")
        halves.setdefault(scene, {})[match["kind"]] = path
        cameras[scene] = layout.cameras[match["camera"]]
    for there in halves.values():
        for kind, other in ((layout.noisy, layout.clean), (layout.clean, layout.noisy)):
            if other not in there:
                what = (
                    "noisy image without its clean one" if kind == layout.noisy else "clean image without its noisy one"
                )
                expected = re.sub(rf"_{kind}(?=[_.])", f"_{other}", there[kind].name)
                raise DataError(f"{there[kind]}: {what}, expected {there[kind].with_name(expected)}")
    return tuple(
        CameraPair(scene, cameras[scene], there[layout.noisy], there[layout.clean])
        for scene, there in sorted(halves.items())
    )
