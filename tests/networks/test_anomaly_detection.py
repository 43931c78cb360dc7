"""Maps of whole images agree with single tiles; a detector brings images to its side and its maps back."""

import math
from typing import get_args

import pytest
import torch
from jaxtyping import TypeCheckError

from indeed.bayes.anomaly_maps import ANOMALY_MAPS, smoothed
from indeed.bayes.conjugate_updates import solve_leaf_level
from indeed.bayes.generative_model import Hyperpriors
from indeed.images.detection_metrics import image_score
from indeed.images.pixels import as_channels
from indeed.networks.anomaly_detection import Detector, MapForm, MapSettings, anomaly_maps, load_detector
from indeed.networks.checkpoint import CheckpointError, save_checkpoint
from indeed.networks.inference_network import InDeed, network_preset

TILE = 16
MAP = {"form": "standardised", "smoothing": 1.0, "good_scores": [0.25, 0.5]}


@pytest.fixture(scope="module", params=[1, 3], ids=["grey", "colour"])
def model(request) -> InDeed:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return InDeed(network_preset("tiny", channels=request.param)).eval()


def random_images(model: InDeed, *size: int) -> torch.Tensor:
    return torch.rand(size[0], model.config.channels, *size[1:], generator=torch.Generator().manual_seed(0))


def untiled(model: InDeed, images: torch.Tensor, form: str, hyperpriors: Hyperpriors | None = None) -> torch.Tensor:
    with torch.no_grad():
        middle, _ = model(images)
        return ANOMALY_MAPS[form](images, middle, solve_leaf_level(images, middle, hyperpriors or Hyperpriors()))


def test_the_forms_are_the_functions_of_the_posterior():
    assert set(get_args(MapForm)) == set(ANOMALY_MAPS)


@pytest.mark.parametrize("form", get_args(MapForm))
def test_the_map_of_one_tile_is_the_untiled_one(model, form):
    images = random_images(model, 2, TILE, TILE)
    torch.testing.assert_close(anomaly_maps(model, images, form=form), untiled(model, images, form))


def test_tiles_that_do_not_overlap_stand_side_by_side(model):
    images = random_images(model, 2, 2 * TILE, 3 * TILE)
    maps = anomaly_maps(model, images, overlap=0)
    for top in range(0, 2 * TILE, TILE):
        for left in range(0, 3 * TILE, TILE):
            window = (..., slice(top, top + TILE), slice(left, left + TILE))
            torch.testing.assert_close(maps[window], untiled(model, images[window], "magnitude"))


def test_where_tiles_overlap_the_map_lies_between_theirs(model):
    images = random_images(model, 1, TILE, 24)
    first, second = (untiled(model, images[..., left : left + TILE], "magnitude")[0] for left in (0, 8))
    shared = torch.stack([first[:, 8:], second[:, :8]])
    blended = anomaly_maps(model, images, overlap=8)[0, :, 8:TILE]
    assert (blended >= shared.amin(0) - 1e-6).all()
    assert (blended <= shared.amax(0) + 1e-6).all()
    assert not torch.equal(blended, shared[0])


@pytest.mark.parametrize("form", get_args(MapForm))
@pytest.mark.parametrize("batch_tiles", [1, 5, 100])
def test_a_batch_of_images_is_mapped_as_one_by_one(model, form, batch_tiles):
    images = random_images(model, 3, 25, 37)
    maps = anomaly_maps(model, images, form=form, smoothing=1.5, batch_tiles=batch_tiles)
    alone = [anomaly_maps(model, image[None], form=form, smoothing=1.5) for image in images]
    torch.testing.assert_close(maps, torch.cat(alone))


def test_smoothing_is_that_of_the_blended_map(model):
    images = random_images(model, 1, 25, 37)
    expected = smoothed(anomaly_maps(model, images), 2.0)
    torch.testing.assert_close(anomaly_maps(model, images, smoothing=2.0), expected)


def test_smoothing_keeps_a_constant_map(model, monkeypatch):
    monkeypatch.setitem(ANOMALY_MAPS, "magnitude", lambda y, middle, leaf: torch.full_like(middle.S.mean[:, 0], 0.7))
    maps = anomaly_maps(model, random_images(model, 1, 25, 37), smoothing=3.0)
    torch.testing.assert_close(maps, torch.full((1, 25, 37), 0.7))


def test_only_the_prior_scale_depends_on_the_hyperpriors(model):
    images, other = random_images(model, 1, TILE, TILE), Hyperpriors(omega_rate=0.1)
    for form in get_args(MapForm):
        default = anomaly_maps(model, images, form=form)
        changed = anomaly_maps(model, images, form=form, hyperpriors=other)
        torch.testing.assert_close(changed, untiled(model, images, form, other))
        assert torch.equal(default, changed) == (form != "prior_scale")


def test_the_mode_of_the_network_is_left_as_it_was(model):
    model.train()
    anomaly_maps(model, random_images(model, 1, TILE, TILE))
    assert model.training
    model.eval()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_images_that_are_not_finite_are_refused(model, value):
    images = random_images(model, 2, TILE, TILE)
    images[1, 0, 3, 4] = value
    with pytest.raises(ValueError, match=r"^images: got NaN or infinite"):
        anomaly_maps(model, images)


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ({"form": "loudness"}, "form"),
        ({"smoothing": -1.0}, "smoothing"),
        ({"smoothing": math.nan}, "smoothing"),
        ({"smoothing": math.inf}, "smoothing"),
        ({"turns": 0}, "turns"),
        ({"turns": 5}, "turns"),
        ({"batch_tiles": 0}, "batch_tiles"),
        ({"overlap": TILE}, "overlap"),
        ({"overlap": -1}, "overlap"),
    ],
)
def test_options_out_of_range_are_named(model, option, named):
    # a misspelt form is caught by the type hook of the test suite, or by the function itself
    with pytest.raises((ValueError, TypeCheckError), match=named):
        anomaly_maps(model, random_images(model, 1, TILE, TILE), **option)


@pytest.mark.parametrize("turns", [2, 4])
def test_a_map_is_the_mean_over_orientations_and_of_all_four_turns_with_the_image(model, turns):
    images = random_images(model, 2, 24, 37)
    each = [anomaly_maps(model, images.rot90(turn, (2, 3)), overlap=4).rot90(-turn, (1, 2)) for turn in range(turns)]
    found = anomaly_maps(model, images, turns=turns, smoothing=1.5, overlap=4)
    torch.testing.assert_close(found, smoothed(torch.stack(each).mean(0), 1.5))
    turned = anomaly_maps(model, images.rot90(1, (2, 3)), turns=turns, smoothing=1.5, overlap=4).rot90(-1, (1, 2))
    assert torch.allclose(found, turned, atol=1e-6) == (turns == 4)


# detectors


def test_a_detector_without_a_side_maps_an_image_as_it_is(model):
    image = random_images(model, 1, 30, 45)
    found = Detector(model, None, MapSettings("prior_scale", 2.0, 1), (1.0,))(image[0])
    expected = anomaly_maps(model, image, form="prior_scale", smoothing=2.0)
    assert torch.equal(found.map, expected[0])
    assert found.score == image_score(expected).item()


def test_a_detector_with_a_side_scores_at_it_and_brings_the_map_to_the_size_of_the_image(model):
    detector = Detector(model, 24, MapSettings("magnitude", 0.0, 1), (1.0,))
    ramp = torch.linspace(0, 1, 60).expand(model.config.channels, 48, 60)
    at_side = torch.nn.functional.interpolate(ramp[None], (24, 24), mode="bilinear", antialias=True)
    found = detector(ramp)
    assert found.map.shape == (48, 60)
    expected = anomaly_maps(model, at_side)
    assert found.score == image_score(expected, 21).item()
    back = torch.nn.functional.interpolate(expected[None], (48, 60), mode="bilinear")[0, 0]
    torch.testing.assert_close(found.map, back)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (5, 9)])
def test_an_image_smaller_than_the_window_of_the_score_is_mapped_if_it_is_brought_to_a_side(model, size):
    image, settings = torch.rand(model.config.channels, *size), MapSettings("magnitude", 1.0, 1)
    found = Detector(model, 24, settings, (1.0,))(image)
    assert found.map.shape == size
    assert math.isfinite(found.score)
    with pytest.raises(ValueError, match=f"image: got {size[1]}x{size[0]} pixels, expected at least 21 on each side"):
        Detector(model, None, settings, (1.0,))(image)


def test_grey_and_colour_are_converted_to_what_the_network_takes(model):
    detector = Detector(model, None, MapSettings("magnitude", 0.0, 1), (1.0,))
    for channels in (1, 3):
        image = torch.rand(channels, 25, 25)
        assert torch.equal(detector(image).map, detector(as_channels(image, model.config.channels)).map)


def test_a_detector_is_loaded_with_how_its_maps_are_made(model, tmp_path):
    path = tmp_path / "detector.safetensors"
    save_checkpoint(path, model, {"task": "detect", "side": 24, "map": MAP})
    detector = load_detector(path)
    assert (detector.side, detector.settings) == (24, ("standardised", 1.0, 1))
    assert detector.good_scores == (0.25, 0.5)
    assert all(torch.equal(a, b) for a, b in zip(detector.model.parameters(), model.parameters(), strict=True))


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"task": "denoise"}, "got task 'denoise', expected a detector of anomalies"),
        ({}, "got task None, expected a detector of anomalies"),
        ({"task": "detect", "side": None}, "lacks 'map'"),
        ({"task": "detect", "map": MAP}, "lacks 'side'"),
        ({"task": "detect", "side": None, "map": {"form": "magnitude"}}, "lacks 'smoothing'"),
    ],
)
def test_a_checkpoint_of_another_task_is_named(model, tmp_path, record, words):
    path = tmp_path / "other.safetensors"
    save_checkpoint(path, model, record)
    with pytest.raises(CheckpointError, match=rf"other\.safetensors: .*{words}"):
        load_detector(path)
