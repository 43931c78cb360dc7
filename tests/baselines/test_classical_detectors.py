"""Classical detectors of anomalies: mean image, principal components, robust PCA."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

from indeed.baselines.classical_detectors import DETECTORS, MeanImage, PrincipalComponents, RobustPCA, fit_detector
from indeed.baselines.robust_pca import inexact_augmented_lagrangian
from indeed.images.noise import GREY_LEVEL

SIDE = 32


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random(*shape, seed=0):
    return torch.rand(*shape, generator=generator(seed), dtype=torch.float64)


def textures(count, channels=1, seed=0, aligned=True):
    """Low-rank textures of two waves and a little noise; aligned ones differ in the strength of the waves only."""
    source = generator(seed)
    grid = torch.arange(SIDE, dtype=torch.float64)
    images = []
    for _ in range(count):
        strength = 0.05 + 0.1 * torch.rand(2, generator=source, dtype=torch.float64)
        phase = torch.zeros(4) if aligned else 6.3 * torch.rand(4, generator=source)
        first = torch.sin(0.7 * grid + phase[0])[:, None] * torch.cos(0.4 * grid + phase[1])
        second = torch.cos(1.1 * grid + phase[2])[:, None] * torch.sin(1.3 * grid + phase[3])
        noise = 0.01 * torch.randn(channels, SIDE, SIDE, generator=source, dtype=torch.float64)
        images.append(0.5 + strength[0] * first + strength[1] * second + noise)
    return torch.stack(images)


def with_blobs(images, seed=1):
    """Images with a bright disc somewhere, and where it is."""
    source = generator(seed)
    row, column = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    centre = torch.randint(5, SIDE - 5, (2, len(images), 1, 1), generator=source)
    mask = (row - centre[0]).square() + (column - centre[1]).square() < 3.5**2
    return images + 0.15 * mask[:, None], mask


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("method", "options", "aligned"),
    [
        ("mean", {}, True),
        ("mean", {"standardise": False}, True),
        ("pca", {"explained": 0.9}, True),
        ("pca", {"explained": 0.9, "patch": 8}, True),
        ("pca", {"explained": 0.9, "patch": 8}, False),
        ("rpca", {}, True),
        ("rpca", {}, False),
    ],
)
def test_blobs_stand_out_of_a_texture_none_of_whose_good_images_has_one(method, options, aligned, channels):
    detector = fit_detector(textures(30, channels, aligned=aligned), method, **options)
    tested, mask = with_blobs(textures(4, channels, seed=5, aligned=aligned))
    found = detector.map(tested)
    assert found.shape == mask.shape
    assert found.dtype == tested.dtype
    assert roc_auc_score(mask.numpy().ravel(), found.numpy().ravel()) > 0.9


def test_of_unaligned_textures_the_mean_image_knows_the_intensities_and_not_the_structure():
    good = textures(200, aligned=False)
    detector, patches = fit_detector(good, "mean"), fit_detector(good, "pca", patch=8)
    tested, mask = with_blobs(textures(6, seed=5, aligned=False))
    bright = tested + 0.3 * mask[:, None]
    # the same pixels in another order within a square: a wrong structure of the right intensities
    shuffled, square = textures(20, seed=6, aligned=False), torch.zeros(20, SIDE, SIDE, dtype=torch.bool)
    square[:, 8:24, 8:24] = True
    order = torch.randperm(256, generator=generator(7))
    shuffled[..., 8:24, 8:24] = shuffled[..., 8:24, 8:24].flatten(-2)[..., order].unflatten(-1, (16, 16))
    assert roc_auc_score(mask.numpy().ravel(), detector.map(bright).numpy().ravel()) > 0.95
    assert abs(roc_auc_score(square.numpy().ravel(), detector.map(shuffled).numpy().ravel()) - 0.5) < 0.05
    assert roc_auc_score(square.numpy().ravel(), patches.map(shuffled).numpy().ravel()) > 0.8


class TestMeanImage:
    def test_the_map_is_the_squared_standard_score_summed_over_the_colours(self):
        good, tested = random(7, 3, 5, 6), random(2, 3, 5, 6, seed=1)
        array = good.numpy()
        score = (tested.numpy() - array.mean(0)) / array.std(0, ddof=1)
        np.testing.assert_allclose(fit_detector(good, "mean").map(tested), (score**2).sum(1))
        plain = ((tested.numpy() - array.mean(0)) ** 2).sum(1)
        np.testing.assert_allclose(fit_detector(good, "mean", standardise=False).map(tested), plain)

    @pytest.mark.slow
    def test_a_pixel_that_never_varied_is_measured_in_grey_levels(self):
        good = torch.full((3, 1, 4, 4), 0.5)
        found = fit_detector(good, "mean").map(good[:1] + 2 * GREY_LEVEL)
        torch.testing.assert_close(found, torch.full((1, 4, 4), 4.0))


class TestPrincipalComponents:
    @pytest.mark.parametrize("count", [20, 60])
    def test_of_whole_images_they_are_those_of_scikit_learn(self, count):
        # fewer and more images than pixels, and more than one chunk
        good, tested = random(count, 3, 4, 3), random(5, 3, 4, 3, seed=1)
        ours = fit_detector(good, "pca", explained=0.8)
        theirs = PCA(0.8, svd_solver="full").fit(good.flatten(1).numpy())
        assert len(ours.components) == theirs.n_components_
        assert ours.explained == pytest.approx(theirs.explained_variance_ratio_.sum())
        projection = theirs.inverse_transform(theirs.transform(tested.flatten(1).numpy()))
        np.testing.assert_allclose(ours.reconstruct(tested).flatten(1), projection, atol=1e-12)
        residual = (tested.flatten(1).numpy() - projection) ** 2
        np.testing.assert_allclose(ours.map(tested), residual.reshape(5, 3, 4, 3).sum(1), atol=1e-12)

    @pytest.mark.slow
    def test_of_patches_a_pixel_is_the_mean_over_the_patches_that_hold_it(self):
        good, tested = random(6, 2, 9, 8), random(1, 2, 7, 10, seed=1)
        ours = fit_detector(good, "pca", explained=0.5, patch=4)
        V = ours.components.flatten(1)
        total, times = torch.zeros_like(tested), torch.zeros_like(tested)
        for row in range(7 - 3):
            for column in range(10 - 3):
                here = (..., slice(row, row + 4), slice(column, column + 4))
                centred = tested[here].flatten() - ours.mean.flatten()
                total[here] += (V.T @ (V @ centred)).view(1, 2, 4, 4) + ours.mean
                times[here] += 1
        torch.testing.assert_close(ours.reconstruct(tested), total / times)

    def test_patches_half_a_side_apart_are_what_they_are_fitted_to(self):
        good = random(20, 1, 8, 10)
        patches = good.unfold(2, 4, 2).unfold(3, 4, 2).reshape(-1, 16)
        ours = fit_detector(good, "pca", explained=0.7, patch=4)
        theirs = PCA(0.7, svd_solver="full").fit(patches.numpy())
        cosines = (ours.components.flatten(1) * torch.from_numpy(theirs.components_)).sum(1).abs()
        torch.testing.assert_close(cosines, torch.ones_like(cosines))

    def test_an_image_of_their_span_has_no_residual_and_all_components_leave_none_of_the_good(self):
        good = random(5, 1, 6, 6)
        ours = fit_detector(good, "pca", explained=1 - 1e-12)
        assert len(ours.components) == 4
        weights = torch.tensor([0.5, -1.0, 2.0, 0.0, -0.5], dtype=torch.float64)
        assert ours.map((weights[:, None, None, None] * good).sum(0, keepdim=True)).max() < 1e-20

    @pytest.mark.parametrize("explained", [0.0, 1.0, -0.1, float("nan")])
    def test_a_share_outside_of_zero_and_one_is_refused(self, explained):
        with pytest.raises(ValueError, match=r"explained: got .*, expected a share"):
            fit_detector(random(3, 1, 4, 4), "pca", explained=explained)

    @pytest.mark.parametrize("patch", [0, 5])
    def test_a_patch_that_does_not_fit_is_refused(self, patch):
        with pytest.raises(ValueError, match=rf"patch: got {patch}, expected 1 to 4 for 6 x 4 pixels"):
            fit_detector(random(3, 1, 6, 4), "pca", patch=patch)

    @pytest.mark.parametrize("value", [0.0, 0.3])
    def test_equal_images_have_no_components(self, value):
        with pytest.raises(ValueError, match="images: got equal ones"):
            fit_detector(torch.full((20, 1, 8, 8), value), "pca")

    def test_patches_take_other_sizes_and_whole_images_do_not(self):
        good = random(4, 1, 8, 8)
        assert fit_detector(good, "pca", patch=4).map(random(1, 1, 5, 12)).shape == (1, 5, 12)
        with pytest.raises(ValueError, match=r"got \(1, 9, 8\), expected the \(1, 8, 8\) of the fit$"):
            fit_detector(good, "pca").map(random(1, 1, 9, 8))
        with pytest.raises(ValueError, match=r"got \(1, 3, 8\), expected the \(1, 4, 4\) of the fit or larger"):
            fit_detector(good, "pca", patch=4).map(random(1, 1, 3, 8))
        with pytest.raises(ValueError, match="of the fit"):
            fit_detector(good, "pca", patch=4).map(random(1, 3, 8, 8))


class TestRobustPCA:
    def test_the_map_is_the_absolute_sparse_part_summed_over_the_colours(self):
        tested, _ = with_blobs(textures(2, channels=3))
        sparse = inexact_augmented_lagrangian(tested, 0.1, tolerance=1e-5).S
        torch.testing.assert_close(fit_detector(tested, "rpca", sparsity_weight=0.1).map(tested), sparse.abs().sum(1))

    @pytest.mark.parametrize("option", ["sparsity_weight", "tolerance"])
    def test_options_must_be_positive(self, option):
        with pytest.raises(ValueError, match=f"{option}: got 0.0"):
            fit_detector(random(1, 1, 4, 4), "rpca", **{option: 0.0})


class TestInterface:
    def test_the_names_stand_for_the_detectors(self):
        good = random(3, 1, 4, 4)
        kinds = {name: type(fit_detector(good, name)) for name in DETECTORS}
        assert kinds == {"mean": MeanImage, "pca": PrincipalComponents, "rpca": RobustPCA}

    @pytest.mark.parametrize("method", DETECTORS)
    def test_a_batch_gives_what_a_loop_gives_and_an_empty_one_nothing(self, method):
        detector = fit_detector(textures(6), method)
        tested, _ = with_blobs(textures(3, seed=2))
        alone = torch.cat([detector.map(one[None]) for one in tested])
        torch.testing.assert_close(detector.map(tested), alone)
        assert detector.map(tested[:0]).shape == (0, SIDE, SIDE)

    @pytest.mark.parametrize("method", DETECTORS)
    def test_bad_images_are_refused_at_the_fit_and_at_the_map(self, method):
        good = random(3, 1, 4, 4)
        for use in (lambda images: fit_detector(images, method), fit_detector(good, method).map):
            with pytest.raises(ValueError, match="images: got NaN or infinite values"):
                use(good / 0)
        with pytest.raises(ValueError, match="expected at least"):
            fit_detector(good[:0], method)

    def test_the_mean_image_takes_no_other_size(self):
        with pytest.raises(ValueError, match=r"got \(1, 4, 5\), expected the \(1, 4, 4\)"):
            fit_detector(random(3, 1, 4, 4), "mean").map(random(1, 1, 4, 5))

    def test_an_unknown_method_is_answered_with_the_known_ones(self):
        with pytest.raises(ValueError, match="method: got 'median', expected one of mean, pca, rpca"):
            fit_detector(random(3, 1, 4, 4), "median")
