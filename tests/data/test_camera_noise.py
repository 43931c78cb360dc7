"""Pairs of camera noise: named by scene and camera, and refused by file where one half or its size is wrong."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from indeed.data import camera_noise
from indeed.data.benchmarks import SETS, DataError, DataMissingError
from indeed.data.camera_noise import camera_pairs
from indeed.data.image_files import ImageFileError, write_image
from indeed.data.picture import Picture

SCENES = {
    "polyu": ("Sony_4_200_3200_door_11_{}.JPG", "real", "mean"),
    "sidd_small": ("0001_001_S6_00100_00060_3200_L_{}_SRGB_010.PNG", "NOISY", "GT"),
}


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """Return a function: the folder of a set under INDEED_DATA, with small images of the given names."""
    monkeypatch.setenv("INDEED_DATA", str(tmp_path))

    def made(name: str, *files: str, side: int = 8) -> Path:
        place = tmp_path / SETS[name]
        place.mkdir(parents=True, exist_ok=True)
        for index, file in enumerate(files):
            write_image(place / file, Picture(np.full((side, side + 1, 3), 50 * index, np.uint8)))
        return place

    return made


@pytest.mark.parametrize("name", list(SCENES))
def test_a_pair_has_its_camera_and_loads_noisy_before_clean(folder, name):
    pattern, noisy, clean = SCENES[name]
    place = folder(name, pattern.format(noisy), pattern.format(clean))
    (pair,) = camera_pairs(name)
    assert pair.camera == {"polyu": "Sony A7 II", "sidd_small": "Samsung Galaxy S6 Edge"}[name]
    assert (
        pair.name == {"polyu": "Sony_4_200_3200_door_11", "sidd_small": "0001_001_S6_00100_00060_3200_L_SRGB_010"}[name]
    )
    assert pair.noisy_file == place / pattern.format(noisy)
    loaded = pair.load()
    assert loaded.noisy.shape == loaded.clean.shape == (3, 8, 9)
    assert torch.equal(loaded.noisy, torch.zeros(3, 8, 9))
    assert torch.allclose(loaded.clean, torch.full((3, 8, 9), 50 / 255), atol=0.02)


def test_scenes_of_several_words_and_either_order_of_names_are_paired_and_sorted(folder):
    names = [
        f"{scene}_{kind}.JPG"
        for scene in ("NikonD800_6_1_5000_plant__4", "Canon80D_8_8_800_GO_11")
        for kind in ("mean", "real")
    ]
    folder("polyu", *names)
    pairs = camera_pairs("polyu")
    assert [pair.camera for pair in pairs] == ["Canon 80D", "Nikon D800"]
    assert [pair.name for pair in pairs] == ["Canon80D_8_8_800_GO_11", "NikonD800_6_1_5000_plant__4"]
    assert all(pair.noisy_file.stem.removesuffix("real") == pair.clean_file.stem.removesuffix("mean") for pair in pairs)


@pytest.mark.parametrize("name", list(SCENES))
@pytest.mark.parametrize("kept", [0, 1])
def test_half_a_pair_is_named_with_the_file_that_is_missing(folder, name, kept):
    pattern, *kinds = SCENES[name]
    place = folder(name, pattern.format(kinds[kept]))
    with pytest.raises(DataError, match="image without its") as fault:
        camera_pairs(name)
    assert str(fault.value).startswith(f"{place / pattern.format(kinds[kept])}: {('noisy', 'clean')[kept]}")
    assert str(fault.value).endswith(f"expected {place / pattern.format(kinds[1 - kept])}")


@pytest.mark.parametrize(
    ("name", "file", "fault"),
    [
        ("polyu", "Leica_4_200_3200_door_11_real.JPG", "camera 'Leica'"),
        ("sidd_small", "0001_001_XX_00100_00060_3200_L_GT_SRGB_010.PNG", "camera 'XX'"),
        ("polyu", "door_11.JPG", "not named as in polyu"),
        ("sidd_small", "GT_SRGB_010.PNG", "not named as in sidd_small"),
    ],
)
def test_an_unknown_camera_or_name_is_refused_by_file(folder, name, file, fault):
    place = folder(name, file)
    with pytest.raises(DataError, match=fault) as error:
        camera_pairs(name)
    assert str(error.value).startswith(str(place / file))


def test_halves_of_different_size_are_refused_when_they_are_loaded(folder):
    pattern, noisy, clean = SCENES["polyu"]
    folder("polyu", pattern.format(noisy))
    place = folder("polyu", pattern.format(clean), side=9)
    (pair,) = camera_pairs("polyu")
    with pytest.raises(DataError, match=r"real.JPG: shape \(3, 8, 9\), expected \(3, 9, 10\) as .*mean.JPG"):
        pair.load()
    (place / pattern.format(clean)).write_bytes(b"no image")
    with pytest.raises(ImageFileError, match=r"mean.JPG"):
        pair.load()


def test_an_empty_folder_and_an_unknown_set_are_named(folder):
    place = folder("polyu")
    with pytest.raises(DataMissingError, match=f"polyu: no images in {place}"):
        camera_pairs("polyu")
    with pytest.raises(ValueError, match="cbsd68"):
        camera_pairs("cbsd68")


@pytest.mark.data
def test_polyu_has_its_hundred_pairs_of_five_cameras(monkeypatch):
    if not os.environ.get("INDEED_DATA"):
        pytest.skip("INDEED_DATA is not set")
    monkeypatch.setattr(camera_noise, "read_image", None)  # names only: no image is opened
    try:
        pairs = camera_pairs("polyu")
    except DataMissingError as missing:
        pytest.skip(str(missing))
    counts = Counter(pair.camera for pair in pairs)
    assert sum(counts.values()) == 100
    assert counts.keys() == set(camera_noise._LAYOUTS["polyu"].cameras.values())
