"""The one interface of the classical methods: decompose and denoise."""

import sys
import types

import pytest
import torch
from jaxtyping import TypeCheckError

from indeed.baselines import DECOMPOSITIONS, DENOISERS, decompose_classically, denoise_classically
from indeed.baselines.low_rank import optimal_shrinkage, truncated_svd
from indeed.baselines.robust_pca import inexact_augmented_lagrangian
from indeed.data.samples import sample_image
from indeed.images.metrics import psnr
from indeed.images.noise import GREY_LEVEL, gaussian

OPTIONS = {"svd": {"rank": 3}, "stable-pcp": {"sigma": 0.05}, "pcp-apg": {"relaxation": 0.05}}
FREE = ["tv", "nlm", "wavelet"]


def photograph(name, side=96):
    return sample_image(name)[None, :, 100 : 100 + side, 150 : 150 + side]


def spoiled(clean, sigma):
    return gaussian(clean, sigma * GREY_LEVEL, torch.Generator().manual_seed(0))


class TestDecompose:
    @pytest.mark.parametrize("method", DECOMPOSITIONS)
    def test_the_parts_add_up_and_keep_type_and_shape(self, method):
        y = spoiled(photograph("chelsea", 32), 10)
        parts = decompose_classically(y, method, **OPTIONS.get(method, {}))
        for part in parts:
            assert part.shape == y.shape
            assert part.dtype == y.dtype
        torch.testing.assert_close(parts.L + parts.S + parts.N, y)

    def test_each_method_is_the_function_of_its_name(self):
        y = spoiled(photograph("chelsea", 32), 10)
        torch.testing.assert_close(decompose_classically(y, "svd", rank=2).L, truncated_svd(y, 2))
        torch.testing.assert_close(decompose_classically(y, "shrinkage", sigma=0.1).L, optimal_shrinkage(y, 0.1))
        torch.testing.assert_close(decompose_classically(y).S, inexact_augmented_lagrangian(y).S)

    def test_only_stable_pursuit_has_a_noise_part_beside_a_sparse_part(self):
        y = spoiled(photograph("camera", 48), 25)
        assert decompose_classically(y, "pcp").N.abs().max() < 1e-5
        stable = decompose_classically(y, "stable-pcp", sigma=25 * GREY_LEVEL)
        assert stable.N.std() > 10 * GREY_LEVEL
        assert stable.S.any()
        assert not decompose_classically(y, "shrinkage").S.any()

    def test_an_unknown_method_is_answered_with_the_known_ones(self):
        with pytest.raises(ValueError, match=r"method: got 'rpca', expected one of svd, shrinkage, pcp"):
            decompose_classically(photograph("camera"), "rpca")


class TestDenoise:
    @pytest.mark.parametrize("method", FREE)
    @pytest.mark.parametrize("sigma", [10, 50])
    @pytest.mark.parametrize("name", ["camera", "chelsea"])
    def test_every_method_gains_on_photographs_that_chose_no_constant(self, method, sigma, name):
        clean = photograph(name)
        y = spoiled(clean, sigma)
        found = denoise_classically(y, method, sigma * GREY_LEVEL)
        assert found.shape == y.shape
        assert found.dtype == y.dtype
        assert psnr(found, clean) > psnr(y, clean) + (1 if sigma == 10 else 5)

    @pytest.mark.parametrize("method", FREE)
    def test_a_batch_gives_what_a_loop_gives(self, method):
        y = spoiled(torch.cat([photograph("camera", 40), 1 - photograph("camera", 40)]), 25)
        together = denoise_classically(y.double(), method, 25 * GREY_LEVEL)
        alone = [denoise_classically(one[None].double(), method, 25 * GREY_LEVEL) for one in y]
        assert torch.equal(together, torch.cat(alone))

    @pytest.mark.parametrize("method", FREE)
    def test_a_grey_image_in_three_channels_stays_grey_and_a_constant_one_constant(self, method):
        flat = torch.full((1, 3, 40, 30), 0.5)
        torch.testing.assert_close(denoise_classically(flat, method, 0.1), flat)

    def test_an_empty_batch_is_empty(self):
        assert denoise_classically(torch.zeros(0, 1, 20, 20), "tv", 0.1).shape == (0, 1, 20, 20)

    @pytest.mark.parametrize("method", ["tv", "nlm"])
    def test_a_single_pixel_is_kept(self, method):
        pixel = torch.full((1, 1, 1, 1), 0.25)
        torch.testing.assert_close(denoise_classically(pixel, method, 0.1), pixel)

    def test_an_image_too_small_for_wavelets_is_refused(self):
        with pytest.raises(ValueError, match=r"got 13 x 40 pixels, expected sides of at least 14"):
            denoise_classically(torch.zeros(1, 1, 13, 40), "wavelet", 0.1)

    def test_an_unknown_method_is_answered_with_the_known_ones(self):
        with pytest.raises(ValueError, match=f"method: got 'median', expected one of {', '.join(DENOISERS)}"):
            denoise_classically(photograph("camera"), "median", 0.1)

    @pytest.mark.parametrize("sigma", [0.0, -0.1, float("nan"), float("inf")])
    def test_a_noise_level_must_be_positive(self, sigma):
        with pytest.raises(ValueError, match="sigma: got"):
            denoise_classically(photograph("camera"), "tv", sigma)

    def test_values_that_are_not_finite_are_refused(self):
        with pytest.raises(ValueError, match="y: got NaN or infinite values"):
            denoise_classically(torch.full((1, 1, 20, 20), torch.nan), "tv", 0.1)

    @pytest.mark.parametrize("y", [torch.zeros(1, 1, 20, 20, dtype=torch.long), torch.zeros(20, 20)])
    def test_other_tensors_are_refused(self, y):
        with pytest.raises((TypeError, ValueError, TypeCheckError)):
            denoise_classically(y, "tv", 0.1)

    def test_two_channels_are_refused(self):
        with pytest.raises(ValueError, match=r"expected \(batch, 1 or 3, height, width\)"):
            denoise_classically(torch.zeros(1, 2, 20, 20), "tv", 0.1)


class TestBm3d:
    def test_where_it_is_not_installed_the_error_says_why_and_what_to_do(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "bm3d", None)
        with pytest.raises(ModuleNotFoundError, match=r"non-commercial use only.*pip install bm3d"):
            denoise_classically(photograph("camera"), "bm3d", 0.1)

    @pytest.mark.parametrize(("name", "called"), [("camera", "bm3d"), ("chelsea", "bm3d_rgb")])
    def test_grey_and_colour_go_to_their_own_function_with_the_noise_level(self, monkeypatch, name, called):
        calls = []

        def stand_in(function):
            def filtered(image, sigma):
                calls.append((function, image.shape, sigma))
                return image / 2

            return filtered

        package = types.SimpleNamespace(bm3d=stand_in("bm3d"), bm3d_rgb=stand_in("bm3d_rgb"))
        monkeypatch.setitem(sys.modules, "bm3d", package)
        y = photograph(name, 20)
        torch.testing.assert_close(denoise_classically(y, "bm3d", 0.1), y / 2)
        assert calls == [(called, (20, 20) if called == "bm3d" else (20, 20, 3), 0.1)]
