"""The metrics agree with formulas written out independently, and keep the pinned protocol."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from scipy.signal import convolve2d

from indeed.images.metrics import psnr, ssim


def pair(seed: int = 0, batch: int = 2, channel: int = 3, height: int = 24, width: int = 19):
    generator = torch.Generator().manual_seed(seed)
    reference = torch.rand(batch, channel, height, width, generator=generator, dtype=torch.float64)
    return reference + 0.2 * torch.randn(reference.shape, generator=generator, dtype=torch.float64), reference


def eight_bits(image: torch.Tensor) -> np.ndarray:
    return np.rint(np.clip(image.numpy(), 0, 1) * 255)


@given(st.integers(0, 1000))
def test_psnr_is_that_of_the_clipped_rounded_colours_image_by_image(seed):
    estimate, reference = pair(seed)
    squared = (eight_bits(estimate) - eight_bits(reference)) ** 2
    expected = [10 * math.log10(255**2 / error.mean()) for error in squared]
    assert psnr(estimate, reference).tolist() == pytest.approx(expected, abs=1e-9)


def test_psnr_is_not_pooled_over_the_batch():
    reference = torch.full((2, 1, 64, 64), 100 / 255)
    estimate = reference + torch.tensor([5 / 255, 50 / 255]).reshape(2, 1, 1, 1)
    values = psnr(estimate, reference)
    assert values[0] - values[1] == pytest.approx(20, abs=1e-6)


def test_psnr_of_equal_images_is_infinite_and_clipping_is_forgiven():
    estimate, _ = pair()
    assert bool(psnr(estimate, estimate.clamp(0, 1)).isinf().all())


def ssim_from_the_definition(x: np.ndarray, y: np.ndarray) -> float:
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(window, window) / window.sum() ** 2

    def local(z):
        return convolve2d(z, window, mode="valid")

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mx, my = local(x), local(y)
    vx, vy, vxy = local(x * x) - mx**2, local(y * y) - my**2, local(x * y) - mx * my
    return float((((2 * mx * my + c1) * (2 * vxy + c2)) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean())


@given(st.integers(0, 1000), st.sampled_from([1, 3]))
def test_ssim_is_that_of_wang_et_al_with_the_gaussian_window(seed, channel):
    estimate, reference = pair(seed, channel=channel)
    expected = [
        np.mean([ssim_from_the_definition(a, b) for a, b in zip(x, y, strict=True)])
        for x, y in zip(eight_bits(estimate), eight_bits(reference), strict=True)
    ]
    assert ssim(estimate, reference).tolist() == pytest.approx(expected, abs=1e-10)


def test_ssim_of_equal_images_is_one():
    _, reference = pair(height=11, width=11)
    assert ssim(reference, reference).tolist() == pytest.approx([1, 1])


def test_images_of_different_shapes_are_refused():
    with pytest.raises((ValueError, TypeCheckError)):  # whichever looks first: the function, or the shape hook
        psnr(torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 16, 15))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda x: psnr(x * math.nan, x), "estimate"),
        (lambda x: psnr(x, x / 0), "reference"),
        (lambda x: ssim(x[..., :10], x[..., :10]), "estimate"),
    ],
)
def test_bad_arguments_are_named(call, name):
    with pytest.raises(ValueError, match=f"^{name}: got"):
        call(torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
