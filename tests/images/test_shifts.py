"""The shifts have the moments that they state; JPEG is what its quantisation makes of an image."""

import io
import math

import numpy as np
import pytest
import torch

from indeed.data.samples import sample_image
from indeed.images import shifts
from indeed.images.metrics import psnr
from indeed.images.noise import GREY_LEVEL


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def flat(level: float, batch: int = 4, channels: int = 3, side: int = 128) -> torch.Tensor:
    return torch.full((batch, channels, side, side), level, dtype=torch.float64)


def demosaicking(side: int) -> np.ndarray:
    """Matrix from the raw values of a periodic Bayer mosaic to the three colours, written pixel by pixel."""
    matrix = np.zeros((3, side, side, side, side))
    for y, x in np.ndindex(side, side):
        for colour in range(3):
            sampled = [
                (abs(dy) + abs(dx), (y + dy) % side, (x + dx) % side)
                for dy in (-1, 0, 1)
                for dx in (-1, 0, 1)
                if ((y + dy) % 2 + (x + dx) % 2) == colour and (colour != 1 or abs(dy) + abs(dx) < 2)
            ]
            nearest = min(distance for distance, *_ in sampled)
            those = [place for distance, *place in sampled if distance == nearest]
            for row, column in those:
                matrix[colour, y, x, row, column] = 1 / len(those)
    return matrix.reshape(3, side, side, -1)


def test_demosaicked_noise_has_the_covariance_of_bilinear_interpolation():
    noise = shifts.demosaicked_gaussian(flat(0.5), 0.1, seeded()) - 0.5
    assert abs(noise.mean().item()) < 5 * 0.1 / math.sqrt(noise[:, 0].numel())
    matrix = demosaicking(8)
    for lag in ((0, 0), (0, 1), (1, 1), (2, 0)):
        moved = np.roll(matrix, [-each for each in lag], (1, 2))
        exact = 0.01 * np.einsum("cyxn,dyxn->yxcd", matrix, moved)[:2, :2]
        pairs = torch.einsum("nchw,ndhw->hwcd", noise, noise.roll([-each for each in lag], (2, 3)))
        pairs = pairs[:126, :126].reshape(63, 2, 63, 2, 3, 3).mean((0, 2)) / len(noise)
        # the error of a mean of products over 4 * 63^2 pixels, correlated over some of their neighbours
        np.testing.assert_allclose(pairs.numpy(), exact, atol=5 * 0.01 * 2 / math.sqrt(4 * 63**2))


def test_demosaicked_noise_has_the_stated_mean_variances_and_the_border_is_no_exception():
    noise = shifts.demosaicked_gaussian(flat(0.0, batch=3000, side=4), 1.0, seeded())
    variance = noise.square().mean(0)
    expected = torch.tensor([9 / 16, 5 / 8, 9 / 16], dtype=torch.float64)
    assert torch.allclose(variance.mean((1, 2)), expected, rtol=0.05)
    assert torch.allclose(variance[:, :2, :2], variance[:, 2:, 2:], rtol=0.2)


def test_a_grey_image_has_the_luma_of_the_demosaicked_noises():
    colour = shifts.demosaicked_gaussian(flat(0.5), 0.1, seeded()) - 0.5
    grey = shifts.demosaicked_gaussian(flat(0.5, channels=1), 0.1, seeded()) - 0.5
    luma = (colour * torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)[:, None, None]).sum(1, keepdim=True)
    assert torch.allclose(grey, luma, atol=1e-7)


@pytest.mark.parametrize("level", [0.2, 0.9])
def test_speckle_has_the_image_as_its_mean_and_a_standard_deviation_in_proportion(level):
    noisy = shifts.speckle(flat(level), 0.3, seeded())
    assert abs(noisy.mean().item() - level) < 5 * 0.3 * level / math.sqrt(noisy.numel())
    assert abs(noisy.std().item() / (0.3 * level) - 1) < 5 / math.sqrt(2 * noisy.numel())
    assert (noisy > 1).any() == (level == 0.9)


def test_salt_and_pepper_replaces_the_fraction_by_as_many_zeros_as_ones():
    noisy = shifts.salt_and_pepper(flat(0.3), 0.1, seeded())
    n = noisy.numel()
    for value, share in ((0.0, 0.05), (1.0, 0.05), (0.3, 0.9)):
        assert abs((noisy == value).double().mean().item() - share) < 5 * math.sqrt(share * (1 - share) / n)
    assert abs(noisy.mean().item() - (0.9 * 0.3 + 0.05)) < 5 * noisy.std().item() / math.sqrt(n)
    assert abs(noisy.square().mean().item() - (0.9 * 0.09 + 0.05)) < 5 * noisy.square().std().item() / math.sqrt(n)
    assert torch.equal(shifts.salt_and_pepper(flat(0.3), 0.0, seeded()), flat(0.3))


def test_jpeg_leaves_multiples_of_its_quantisation_table():
    from PIL import Image
    from scipy.fft import dctn

    photograph = 0.2 + 0.6 * sample_image("camera")[None, :, :128, :128]  # far from black and white: nothing is clipped
    decoded = shifts.jpeg(photograph, 20)
    file = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(file, "JPEG", quality=20)
    with Image.open(file) as image:
        table = np.array(image.quantization[0]).reshape(8, 8)
    blocks = (255 * decoded[0, 0].numpy() - 128).reshape(16, 8, 16, 8).swapaxes(1, 2)
    levels = dctn(blocks, axes=(2, 3), norm="ortho") / table
    # rounding to 8 bits moves each coefficient with a standard deviation of 0.29 grey levels
    assert np.abs(levels - np.rint(levels)).max() * table.min() < 6 * 0.29 + 0.5
    assert np.abs(levels - np.rint(levels)).mean() < 0.02
    assert (np.rint(levels) == 0).mean() > 0.8


def test_jpeg_is_nearer_at_higher_quality_and_clips_and_rounds():
    photograph = torch.stack([sample_image("coffee")[:, 100:164, 100:180], sample_image("china")[:, :64, :80]])
    errors = [(shifts.jpeg(photograph, quality) - photograph).square().mean().item() for quality in (10, 50, 95)]
    assert errors == sorted(errors, reverse=True)
    for image in (photograph, photograph[:, :1]):
        decoded = shifts.jpeg(3 * image - 1, 50)
        assert decoded.shape == image.shape
        assert decoded.dtype == image.dtype
        assert torch.allclose(255 * decoded, (255 * decoded).round(), atol=1e-4)
        assert decoded.min() >= 0
        assert decoded.max() <= 1


def test_a_camera_with_light_enough_delivers_the_file_of_the_image():
    image = 0.5 + sample_image("coffee")[None, :, 200:264, 200:272] / 2  # in the dark there is still the read noise
    assert psnr(shifts.camera(image, 1e9, seeded(), reduction=0), shifts.jpeg(image, 95)).item() > 40


@pytest.mark.parametrize("photons", [200, 800])
def test_noise_of_a_camera_has_the_slope_of_the_tone_curve_times_that_of_the_photons(photons):
    level = 0.5
    noise = shifts.camera(flat(level, side=256), photons, seeded(), reduction=0) - level
    # The luma, which the file keeps: its weights of the three interpolated noises, at the slope of x^(1/2.2).
    linear = level**2.2
    expected = math.sqrt(linear / photons + (1 / 512) ** 2) * linear ** (1 / 2.2 - 1) / 2.2
    shares = torch.tensor([0.299, 0.587, 0.114])
    luma = (shares[:, None, None] * noise).sum(1)
    raw = shifts.demosaicked_gaussian(flat(level, side=256), 1.0, seeded()) - level
    assert luma.std().item() == pytest.approx(expected * (shares[:, None, None] * raw).sum(1).std().item(), rel=0.05)


def test_noise_reduction_leaves_least_in_flat_places():
    stripes = 0.5 + 0.3 * (torch.arange(128) // 2 % 2).double()
    image = torch.cat([flat(0.5), stripes.expand(4, 3, 128, 128)], 3)
    kept = [(shifts.camera(image, 200, seeded(), reduction=share) - image)[..., 4:-4].square() for share in (0.0, 1.0)]
    ratios = [(kept[1][..., part].mean() / kept[0][..., part].mean()).item() for part in (slice(112), slice(132, 240))]
    assert ratios[0] < 0.3
    assert ratios[1] > 0.7


@pytest.mark.parametrize("name", list(shifts.SHIFTS))
@pytest.mark.parametrize("photograph", ["camera", "coffee"])
def test_a_shift_is_seeded_keeps_shape_and_range_as_stated_and_has_the_image_as_its_mean(name, photograph):
    shift = shifts.SHIFTS[name]
    clean = sample_image(photograph)[None, :, 200:264, 200:272].repeat(2, 1, 1, 1)
    observed = shift.apply(clean, seeded(1))
    assert observed.shape == clean.shape
    assert observed.dtype == clean.dtype
    assert torch.equal(observed, shift.apply(clean, seeded(1)))
    assert torch.equal(observed, shift.apply(clean, seeded(2))) == (name == "jpeg")
    assert bool((observed.min() >= 0) & (observed.max() <= 1)) == shift.clipped
    rms = (observed - clean).square().mean().sqrt().item()
    assert 3 * GREY_LEVEL < rms < 30 * GREY_LEVEL
    assert abs((observed - clean).mean().item()) < 4 * rms / math.sqrt(clean.numel() / 6) + 0.02 * 0.5


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda x, g: shifts.demosaicked_gaussian(x, -0.1, g), "sigma"),
        (lambda x, g: shifts.demosaicked_gaussian(x[:, :2], 0.1, g), "image, channels"),
        (lambda x, g: shifts.speckle(x, -0.1, g), "sigma"),
        (lambda x, g: shifts.salt_and_pepper(x, 1.1, g), "fraction"),
        (lambda x, _: shifts.jpeg(x, 0), "quality"),
        (lambda x, g: shifts.camera(x, 0, g), "photons"),
        (lambda x, g: shifts.camera(x, 500, g, 1.1), "reduction"),
        (lambda x, g: shifts.camera(x, 500, g, quality=96), "quality"),
        (lambda x, _: shifts.jpeg(x[:, :2], 50), "image"),
    ],
)
def test_bad_arguments_are_named(call, name):
    with pytest.raises(ValueError, match=f"^{name}: got"):
        call(flat(0.5, side=8), seeded())
