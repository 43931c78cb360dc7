"""How well scores find anomalies: average precision, AUROC, the score of an image, classes grouped by rank.

The protocol of DRAEM, whose metrics the paper quotes: all pixels of all test images of a class, the good ones included,
go into one average precision and one AUROC; means are taken over classes. An average precision can be judged only
beside its base rate, which is that of a useless score.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Shaped
from numpy.typing import NDArray
from torch import Tensor

from indeed.bayes.posterior_summaries import effective_rank
from indeed.checks import expect, finite
from indeed.images.tiling import split
from indeed.types import Maps, PerSample

Scores = Float[Tensor, "..."]
Labels = Shaped[Tensor, "..."]

SCORE_WINDOW = 21
"""Side of the window of `image_score`, in pixels, as in DRAEM."""

_BLOCK = 1 << 16


class DetectionMetrics:
    r"""Average precision, AUROC and base rate of all that `update` has been given, exact.

    Only the scores are kept, those of normal and of anomalous pixels apart, and sorted when a value is asked for. With
    :math:`P` anomalous scores :math:`a_i` and :math:`N` normal ones :math:`b_j` both metrics are means over the
    anomalous pixels,

    .. math::
        \mathrm{AP} = \frac1P \sum_i \frac{|\{k : a_k \ge a_i\}|}{|\{k : a_k \ge a_i\}| + |\{j : b_j \ge a_i\}|},
        \qquad
        \mathrm{AUROC} = \frac1P \sum_i \frac{|\{j : b_j < a_i\}| + |\{j : b_j \le a_i\}|}{2N} ,

    and each count is one binary search. These are the values of scikit-learn on the concatenated pixels, whatever the
    order and the size of the updates. A pixel costs 4 bytes in single precision, and 8 while they are being sorted; a
    score in double precision is kept as it is, not rounded, and costs twice that.

    Examples
    --------
    >>> metrics = DetectionMetrics()
    >>> metrics.update(torch.tensor([[0.1, 0.4]]), torch.tensor([[0, 0]]))
    >>> metrics.update(torch.tensor([[0.35, 0.8]]), torch.tensor([[1, 1]]))
    >>> metrics.auroc(), metrics.average_precision(), metrics.base_rate()
    (0.75, 0.8333, 0.5)
    """

    def __init__(self) -> None:
        # the first array of each list is in ascending order
        self._normal: list[NDArray[np.floating]] = [np.empty(0, np.float32)]
        self._anomalous: list[NDArray[np.floating]] = [np.empty(0, np.float32)]

    def update(self, scores: Scores, labels: Labels) -> None:
        """Add pixels, or images.

        Parameters
        ----------
        scores
            Larger means more anomalous; any shape, any floating-point type, any device.
        labels
            Boolean, or 0 and 1, one where anomalous; same shape.

        Raises
        ------
        ValueError
            If the shapes differ, a score is not a finite floating-point number, or a label is neither 0 nor 1; nothing
            is added then.
        """
        if scores.shape != labels.shape:
            raise ValueError(f"scores: got shape {tuple(scores.shape)}, expected the labels' {tuple(labels.shape)}")
        expect(scores.is_floating_point(), "scores", scores.dtype, "floating-point numbers")
        finite(scores=scores)
        expect(bool(((labels == 0) | (labels == 1)).all()), "labels", "other values than 0 and 1", "those only")
        # numpy has no bfloat16; the step from half to single precision is exact
        values = scores.detach().to("cpu", torch.promote_types(scores.dtype, torch.float32)).numpy()
        anomalous: NDArray[np.bool_] = labels.detach().to("cpu", torch.bool).numpy()
        self._normal.append(values[~anomalous])
        self._anomalous.append(values[anomalous])

    def average_precision(self) -> float:
        """Area under the precision-recall curve as a step function.

        Raises
        ------
        ValueError
            If there is no anomalous or no normal pixel.
        """
        normal, anomalous = self._sorted()
        sums = []
        for some in _blocks(anomalous):
            found = len(anomalous) - np.searchsorted(anomalous, some)
            false = len(normal) - np.searchsorted(normal, some)
            sums.append((found / (found + false)).sum())
        return math.fsum(sums) / len(anomalous)

    def auroc(self) -> float:
        """Probability that an anomalous pixel scores above a normal one, ties counting half.

        Below one half the score is the wrong way round; it is not turned, as some evaluations do without saying.

        Raises
        ------
        ValueError
            If there is no anomalous or no normal pixel.
        """
        normal, anomalous = self._sorted()
        twice = sum(
            int(np.searchsorted(normal, some, side).sum()) for some in _blocks(anomalous) for side in ("left", "right")
        )
        return twice / (2 * len(normal) * len(anomalous))

    def base_rate(self) -> float:
        """Share of anomalous pixels: the average precision to compare with.

        Raises
        ------
        ValueError
            If there is no pixel.
        """
        normal, anomalous = (sum(map(len, parts)) for parts in (self._normal, self._anomalous))
        expect(normal + anomalous != 0, "labels", "none", "at least one")
        return anomalous / (normal + anomalous)

    def _sorted(self) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Scores of the normal and of the anomalous pixels in ascending order, which take the place of the parts."""
        for name, parts in (("normal", self._normal), ("anomalous", self._anomalous)):
            if len(parts) > 1:
                parts[:] = [np.concatenate(parts)]
                parts[0].sort()
            expect(len(parts[0]), "labels", f"no {name} pixel", "at least one")
        return self._normal[0], self._anomalous[0]


def _blocks(scores: NDArray[np.floating]) -> Iterator[NDArray[np.floating]]:
    """Parts of an array: counts are 8 bytes each, too many to hold for all pixels at once."""
    return (scores[start : start + _BLOCK] for start in range(0, len(scores), _BLOCK))


def image_score(anomaly_map: Maps, window: int = SCORE_WINDOW) -> PerSample:
    """Score of each image: the largest mean of its map over a square window, 21 pixels wide as in DRAEM.

    The mean keeps a single bright pixel from deciding. Windows lie within the image: DRAEM extends the map by zeros,
    which changes nothing where no score is negative, because a window cut off by the border has no more in it than the
    nearest whole one.

    Raises
    ------
    ValueError
        If a side is shorter than the window, or the window than one pixel.

    Examples
    --------
    >>> spot = torch.zeros(1, 64, 64)
    >>> spot[0, 30, 30] = 441.0
    >>> image_score(spot).item()
    1.0
    """
    if not 1 <= window <= min(anomaly_map.shape[-2:]):
        raise ValueError(f"window: got {window}, expected 1 to {min(anomaly_map.shape[-2:])}, the shorter side")
    means: Tensor = torch.nn.functional.avg_pool2d(anomaly_map[:, None], window, stride=1)
    return means.amax((1, 2, 3))


def allowed_false_positives(false_positive_rate: float, count: int) -> int:
    """How many of so many good images may score above a threshold.

    Raises
    ------
    ValueError
        Unless the rate is above 0 and below 1, and at least one in ``count``: a lower one cannot be told from 0.

    Examples
    --------
    >>> allowed_false_positives(0.29, 100)
    29
    """
    expect(0 < false_positive_rate < 1, "false_positive_rate", false_positive_rate, "a share between 0 and 1")
    allowed = int(Fraction(str(false_positive_rate)) * count)  # the decimal as written: as a float, 0.29 * 100 < 29
    least = f"at least 1/{count} and below 1: {count} good images cannot resolve a lower one, more of them can"
    expect(allowed >= 1, "false_positive_rate", false_positive_rate, least)
    return allowed


def score_threshold(good_scores: Sequence[float], false_positive_rate: float) -> float:
    """Smallest of the scores of good images that at most the given share of them exceeds.

    Raises
    ------
    ValueError
        As `allowed_false_positives`.

    Examples
    --------
    >>> score_threshold([0.3, 0.1, 0.2, 0.9], 0.25)
    0.3
    """
    allowed = allowed_false_positives(false_positive_rate, len(good_scores))
    return sorted(good_scores)[-1 - allowed]


def class_rank(images: Iterable[Float[Tensor, "_ _ _"]]) -> float:
    r"""Mean effective rank of the test images of a class: what Table 6 groups by, in a form of our own.

    The paper takes "the rank of test images estimated by SVD" and states neither threshold nor image size, on which
    that rank depends as much as on the content. Here it is that of the model's tiles, 128 pixels wide, which cover the
    image with the least overlap: the singular values above 0.3 % of the largest, as in
    :func:`~indeed.bayes.posterior_summaries.effective_rank`, averaged over the tiles of an image, its channels, and
    the images, (channel, height, width) of any sizes. Sides shorter than a tile are extended by reflection.

    Take images without added noise: noise of standard deviation :math:`\sigma` has singular values up to
    :math:`2\sigma\sqrt{128}`, which pass the threshold from about 2 of 255 on. The rank of the brick texture of
    scikit-image is 27; with noise of 2.55 it is 43, with noise of 5 it is 75.

    Raises
    ------
    ValueError
        If there is no image, or as `effective_rank` and `indeed.images.tiling.tile_starts`.
    """
    tiles = (split(image[None], 128, overlap=0).flatten(0, 1) for image in images)
    ranks = [effective_rank(some, 0.003).double().mean().item() for some in tiles]
    expect(ranks, "images", "none", "at least one")
    return math.fsum(ranks) / len(ranks)


def rank_group(rank: float, tile: int = 128) -> Literal["Low", "Mid", "High"]:
    """Group of a class in Table 6 by its `class_rank`: Low, Mid or High third of the ranks that a tile can have.

    The thresholds, 42.7 and 85.3 of 128, are ours. They are fixed, not terciles of the classes at hand, so that a class
    has the same group whatever else is evaluated.

    Raises
    ------
    ValueError
        If the rank is not between 0 and `tile`.

    Examples
    --------
    >>> [rank_group(rank) for rank in (15, 60, 107)]
    ['Low', 'Mid', 'High']
    """
    expect(0 <= rank <= tile, "rank", rank, f"0 to {tile}")
    return "Low" if 3 * rank < tile else "Mid" if 3 * rank < 2 * tile else "High"
