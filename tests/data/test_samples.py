"""The embedded photographs are there without a network, and are what the packages' own loaders give."""

import socket

import numpy as np
import pytest

from indeed.data.samples import SAMPLES, sample_image, sample_names, sample_path


@pytest.mark.parametrize("name", sample_names())
def test_each_photograph_is_installed_and_as_described(name, monkeypatch):
    def no_network(*_args, **_options):
        raise AssertionError("a sample reached for the network")

    monkeypatch.setattr(socket, "socket", no_network)
    image = sample_image(name)
    assert image.shape[0] == SAMPLES[name].channels
    assert min(image.shape[1:]) >= 256
    assert 0 <= image.min() < 0.3 < 0.5 < image.max() <= 1
    assert SAMPLES[name].licence


@pytest.mark.parametrize("name", ["astronaut", "camera", "chelsea", "coffee", "rocket"])
def test_photographs_are_those_of_scikit_image(name):
    import skimage.data

    expected = np.atleast_3d(getattr(skimage.data, name)()).transpose(2, 0, 1) / 255
    assert np.allclose(sample_image(name).numpy(), expected, atol=1e-6)


def test_kinds_partition_the_names():
    assert sorted(sample_names(1) + sample_names(3)) == sorted(sample_names())


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"name: got 'lena', expected one of astronaut"):
        sample_path("lena")


def test_a_package_that_lost_the_file_is_named(monkeypatch):
    monkeypatch.setitem(SAMPLES, "camera", SAMPLES["camera"]._replace(file="data/gone.png"))
    with pytest.raises(FileNotFoundError, match=r"data/gone\.png: not in the installed package 'skimage'"):
        sample_path("camera")
