"""Streaming metrics equal those of scikit-learn; image scores and groups follow their definitions."""

import math
import tracemalloc

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from indeed.data.samples import sample_image
from indeed.images.detection_metrics import (
    DetectionMetrics,
    allowed_false_positives,
    class_rank,
    image_score,
    rank_group,
    score_threshold,
)


def measured(*parts):
    metrics = DetectionMetrics()
    for scores, labels in parts:
        metrics.update(scores, labels)
    return metrics.average_precision(), metrics.auroc(), metrics.base_rate()


def expected(scores, labels):
    truth, values = labels.numpy().ravel(), scores.double().numpy().ravel()
    return average_precision_score(truth, values), roc_auc_score(truth, values), truth.mean()


def problem(pixels, dtype=torch.float32, decimals=4, seed=0, share=0.02):
    """Scores with ties, those of the anomalous pixels one standard deviation above the others."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.rand(pixels, generator=generator) < share
    scores = torch.randn(pixels, generator=generator, dtype=dtype) + labels
    return scores.round(decimals=decimals), labels


# Few values, so that ties are the rule; both zeros, and values that only double precision tells apart.
values = st.sampled_from([-1e30, -2.0, -0.0, 0.0, 1e-40, 0.5, 1.0, 1.0 + 1e-12, 3.0])
scored_labels = st.lists(st.tuples(values, st.booleans()), min_size=2, max_size=40).filter(
    lambda rows: 0 < sum(label for _, label in rows) < len(rows)
)


@pytest.mark.slow
@given(scored_labels, st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]))
def test_metrics_are_those_of_scikit_learn_with_ties_at_each_precision(rows, dtype):
    scores = torch.tensor([score for score, _ in rows], dtype=torch.float64).clamp(-6e4, 6e4).to(dtype)
    labels = torch.tensor([label for _, label in rows])
    assert measured((scores, labels)) == pytest.approx(expected(scores, labels), abs=1e-12, rel=0)


@given(scored_labels, st.integers(0, 40), st.integers(0, 40))
def test_updates_in_any_order_and_of_any_size_give_the_same_bits(rows, first, second):
    scores, labels = torch.tensor([score for score, _ in rows]), torch.tensor([label for _, label in rows])
    low, high = sorted((first, second))
    parts = [(scores[part], labels[part]) for part in (slice(high, None), slice(low), slice(low, high))]
    assert measured(*parts) == measured((scores, labels))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_metrics_are_those_of_scikit_learn_over_several_blocks_of_anomalous_pixels(dtype):
    scores, labels = problem(300_000, dtype, share=0.6)
    assert measured(*zip(scores.split(65_536), labels.split(65_536), strict=True)) == pytest.approx(
        expected(scores, labels), abs=1e-12, rel=0
    )


@pytest.mark.slow
def test_metrics_are_those_of_scikit_learn_at_a_million_pixels():
    scores, labels = problem(10**6, decimals=5)
    assert measured(*zip(scores.split(65_536), labels.split(65_536), strict=True)) == pytest.approx(
        expected(scores, labels), abs=1e-12, rel=0
    )


@pytest.mark.parametrize("share", [0.02, 0.5])
def test_a_pixel_costs_eight_bytes_at_the_peak(share):
    pixels = 2_000_000
    parts = [problem(100_000, seed=seed, share=share) for seed in range(pixels // 100_000)]
    tracemalloc.start()
    measured(*parts)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * pixels + 4_000_000  # and the counts of one block


def test_metrics_may_be_read_between_updates():
    (scores, labels), (more, more_labels) = problem(1000), problem(1000, seed=1)
    metrics = DetectionMetrics()
    metrics.update(scores, labels)
    assert metrics.auroc() == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    metrics.update(more, more_labels)
    together = torch.cat([scores, more]), torch.cat([labels, more_labels])
    assert metrics.auroc() == pytest.approx(expected(*together)[1], abs=1e-12)
    assert metrics.average_precision() == pytest.approx(expected(*together)[0], abs=1e-12)


def test_the_callers_scores_are_left_as_they_are_and_need_no_gradient_taken_off():
    scores, labels = problem(1000)
    before = scores.clone()
    assert measured((scores.requires_grad_(), labels)) == measured((before, labels))
    assert torch.equal(scores, before)


@given(scored_labels)
def test_auroc_below_one_half_is_not_turned_round(rows):
    scores, labels = torch.tensor([score for score, _ in rows]), torch.tensor([label for _, label in rows])
    assert measured((-scores, labels))[1] == pytest.approx(1 - measured((scores, labels))[1], abs=1e-12)


def test_a_perfect_score_has_one_a_reversed_one_zero_and_a_useless_one_the_base_rate():
    labels = torch.arange(1000).reshape(1, 10, 100) % 8 == 0
    assert measured((labels.float(), labels)) == (1, 1, 0.125)
    assert measured((-labels.float(), labels))[1] == 0
    assert measured((torch.zeros(labels.shape), labels)) == (0.125, 0.5, 0.125)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32], ids=str)
def test_labels_are_boolean_or_zero_and_one_of_any_type(dtype):
    scores, labels = problem(1000)
    assert measured((scores, labels.to(dtype))) == measured((scores, labels))


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (torch.ones(2, 3), torch.ones(3, 2), r"scores: got shape \(2, 3\), expected the labels' \(3, 2\)"),
        (torch.tensor([1, 2]), torch.tensor([0, 1]), r"scores: got torch\.int64, expected floating-point"),
        (torch.tensor([1.0, math.nan]), torch.tensor([0, 1]), "scores: got NaN or infinite"),
        (torch.tensor([1.0, math.inf]), torch.tensor([0, 1]), "scores: got NaN or infinite"),
        (torch.ones(2), torch.tensor([0, 255]), "labels: got other values than 0 and 1"),
        (torch.ones(2), torch.tensor([-1, 1]), "labels: got other values than 0 and 1"),
        (torch.ones(2), torch.tensor([0.0, math.nan]), "labels: got other values than 0 and 1"),
    ],
)
def test_bad_pixels_are_named_and_none_is_added(scores, labels, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # so that the library's own errors show
    metrics = DetectionMetrics()
    with pytest.raises(ValueError, match=f"^{message}"):
        metrics.update(scores, labels)
    with pytest.raises(ValueError, match=r"^labels: got none"):
        metrics.base_rate()


@pytest.mark.parametrize(("label", "missing"), [(0, "anomalous"), (1, "normal")])
def test_metrics_of_one_class_alone_are_refused(label, missing):
    metrics = DetectionMetrics()
    metrics.update(torch.rand(5), torch.full((5,), label))
    for metric in (metrics.average_precision, metrics.auroc):
        with pytest.raises(ValueError, match=f"^labels: got no {missing} pixel, expected at least one"):
            metric()
    assert metrics.base_rate() == label


# -- images ----------------------------------------------------------------------------------------------------------


def test_image_score_is_the_largest_mean_of_a_window_by_loops():
    maps = torch.randn(2, 9, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    means = [[[x[i : i + 5, j : j + 5].mean() for j in range(8)] for i in range(5)] for x in maps.numpy()]
    assert image_score(maps, window=5).tolist() == pytest.approx([np.max(x) for x in means], abs=1e-12)


@settings(max_examples=15)
@given(st.integers(0, 100), st.integers(21, 40), st.integers(21, 40))
def test_image_score_of_a_map_without_negative_values_is_that_of_the_map_extended_by_zeros(seed, height, width):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(2, height, width, generator=generator, dtype=torch.float64).pow(8)
    extended = torch.nn.functional.avg_pool2d(maps[:, None], 21, stride=1, padding=10).amax((1, 2, 3))
    torch.testing.assert_close(image_score(maps), extended)


def test_image_auroc_takes_one_score_an_image():
    spots = torch.zeros(4, 32, 32)
    spots[0, 3:20, 4:21] = 1
    spots[1, 30, 30] = 50  # one bright pixel alone
    assert measured((image_score(spots), torch.tensor([True, False, False, False])))[1] == 1


def test_a_window_larger_than_the_map_is_refused():
    with pytest.raises(ValueError, match=r"^window: got 21, expected 1 to 20"):
        image_score(torch.zeros(1, 20, 64))


# -- thresholds ------------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.7, 2.0]), min_size=1, max_size=30), st.integers(1, 99))
def test_threshold_is_the_smallest_good_score_that_at_most_the_share_exceeds(scores, percent):
    def resolved(threshold):
        return 100 * sum(score > threshold for score in scores) <= percent * len(scores)

    if percent * len(scores) < 100:
        with pytest.raises(ValueError, match=f"at least 1/{len(scores)}"):
            score_threshold(scores, percent / 100)
    else:
        assert score_threshold(scores, percent / 100) == min(filter(resolved, scores))


@pytest.mark.parametrize("rate", [-0.1, 0.0, 1.0, 5.0, math.nan])
def test_a_rate_that_is_no_share_is_refused(rate):
    with pytest.raises(ValueError, match=r"^false_positive_rate: got .* expected a share"):
        allowed_false_positives(rate, 100)


@pytest.mark.parametrize("count", [0, 19])
def test_a_rate_that_the_good_images_cannot_resolve_is_refused(count):
    with pytest.raises(ValueError, match=f"{count} good images cannot resolve"):
        allowed_false_positives(0.05, count)


# -- groups ----------------------------------------------------------------------------------------------------------


def of_rank(rank, height, width, channels=1):
    generator = torch.Generator().manual_seed(rank)
    left, right = (torch.randn(channels, n, rank, generator=generator, dtype=torch.float64) for n in (height, width))
    return torch.linalg.qr(left).Q @ torch.linalg.qr(right).Q.mT


def test_rank_of_a_class_is_the_mean_over_its_images_whatever_their_size():
    small, colour, large = of_rank(5, 128, 128), of_rank(20, 128, 128, channels=3), of_rank(8, 300, 260)
    assert class_rank([small, colour, large]) == pytest.approx((5 + 20 + 8) / 3)


def test_an_image_smaller_than_a_tile_keeps_its_rank():
    assert class_rank([of_rank(7, 100, 60)]) == 7


def test_noise_raises_the_rank_so_that_groups_come_from_clean_images():
    # 27, 43 and 75: the numbers of the docstring
    brick = sample_image("brick")
    noise = torch.randn(brick.shape, generator=torch.Generator().manual_seed(0)) / 255
    ranks = [class_rank([brick + sigma * noise]) for sigma in (0, 2.55, 5)]
    assert ranks == pytest.approx([27, 43, 75], abs=1)


def test_groups_are_the_thirds_of_the_ranks_of_a_tile():
    groups = [rank_group(rank) for rank in range(129)]
    assert groups == ["Low"] * 43 + ["Mid"] * 43 + ["High"] * 43
    assert [rank_group(rank, tile=3) for rank in (0.99, 1, 1.99, 2)] == ["Low", "Mid", "Mid", "High"]


@pytest.mark.parametrize("rank", [-1, 129, math.nan])
def test_an_impossible_rank_is_refused(rank):
    with pytest.raises(ValueError, match=r"^rank: got"):
        rank_group(rank)


def test_a_class_without_images_is_refused():
    with pytest.raises(ValueError, match=r"^images: got none"):
        class_rank([])
