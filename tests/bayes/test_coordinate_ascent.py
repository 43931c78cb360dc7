"""Coordinate ascent: no update raises the free energy, and the rank of an image is found."""

import itertools
import random

import pytest
import torch

from indeed.bayes.coordinate_ascent import FLAT, fit, free_energy, svd_start
from indeed.bayes.elbo import elbo_terms, negative_elbo
from indeed.bayes.generative_model import Hyperpriors
from indeed.bayes.variational_family import GaussianFactor, MiddleLevel

CHOICES = list(itertools.product(("diagonal", "full"), ("pixel", "scalar")))


def normal(seed, *size):
    return torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def low_rank_image(seed, size=32, rank=3, contrast=0.2, noise=0.1):
    """Low rank of standard deviation ``contrast``, and the same with noise, given as a share of it."""
    truth = normal(seed, 1, 1, size, rank) @ normal(seed + 1000, 1, 1, rank, size)
    truth = contrast * truth / truth.std()
    return truth, truth + noise * contrast * normal(seed + 2000, 1, 1, size, size)


class Descent:
    """Observer that notes each update and by how much it raised the free energy, relative to its size."""

    def __init__(self):
        self.updates, self.rises, self.last = [], [], None

    def __call__(self, update, free_energy):
        if self.last is not None:
            self.updates += [update] * free_energy.numel()
            self.rises.append(((free_energy - self.last) / (1 + self.last.abs())).max().item())
        self.last = free_energy


def random_fit(number, observer):
    """Fit with everything random: sizes, image, hyperpriors, start and options; families and noises in turn."""
    choose = random.Random(number)
    generator = torch.Generator().manual_seed(number)

    def draw(*size):
        return torch.randn(size, dtype=torch.float64, generator=generator)

    hyperpriors = Hyperpriors(*(10 ** choose.uniform(*limits) for limits in ((-1.5, 1), (-8, 0)) * 3))
    batch, channels, rank = (choose.randint(*limits) for limits in ((1, 8), (1, 3), (1, 3)))
    height, width = (choose.randint(1, 12) for _ in "hw")
    y = draw(batch, channels, height, rank) @ draw(batch, channels, rank, width)
    y = 10 ** choose.uniform(-2, 1) * (y + 10 ** choose.uniform(-3, 0) * draw(*y.shape))
    columns = choose.randint(1, min(height, width))
    start = svd_start(y, columns, hyperpriors)
    if choose.random() < 0.5:
        start = MiddleLevel(*(GaussianFactor(draw(*q.mean.shape), draw(*q.mean.shape) - 2) for q in start))
    family, noise = CHOICES[number % len(CHOICES)]
    options = {"family": family, "noise": noise, "sparse": choose.random() < 0.8, "prune": choose.random() < 0.7}
    return fit(y, start, hyperpriors, **options, max_sweeps=10, observer=observer)


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked_annotations")  # checks are half of the time; the tests below have them
def test_none_of_ten_thousand_updates_raises_the_free_energy():
    descent = Descent()
    for number in range(32):
        descent.last = None
        found = random_fit(number, descent)
        torch.testing.assert_close(found.free_energy[-1], descent.last, rtol=1e-12, atol=1e-12)
    assert len(descent.updates) >= 10_000
    assert set(descent.updates) == {"A", "B", "S", "gamma", "omega", "lambda", "switch off", "remove"}
    assert max(descent.rises) < 1e-13


def assert_found(size, rank, columns, seeds, family, misses=0):
    right = 0
    for seed in range(seeds):
        truth, y = low_rank_image(seed, size, rank)
        found = fit(y, svd_start(y, columns), family=family, noise="scalar")
        left, _, right_vectors = torch.linalg.svd(truth)
        U, V = left[..., :rank], right_vectors.mT[..., :rank]
        tangent = U @ (U.mT @ y) + (y @ V) @ V.mT - U @ (U.mT @ y @ V) @ V.mT
        assert (found.middle.means.low_rank - truth).norm() < 1.05 * (tangent - truth).norm()
        assert found.converged.all()
        right += found.rank.item() == rank
    assert right >= seeds - misses


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked_annotations")  # checks are half of the time; the tests below have them
@pytest.mark.parametrize("family", ["diagonal", "full"])
def test_rank_8_and_the_low_rank_part_are_found_as_if_the_subspaces_were_known_on_at_least_19_of_20_seeds(family):
    assert_found(size=64, rank=8, columns=16, seeds=20, family=family, misses=1)
    assert_found(size=128, rank=8, columns=64, seeds=1, family=family)


@pytest.mark.slow
def test_switching_off_at_once_ends_where_the_columns_would_have_ended():
    _, y = low_rank_image(0)
    hyperpriors = Hyperpriors()
    now, slow = (
        fit(y, svd_start(y, 8), noise="scalar", prune=prune, tolerance=1e-9, max_sweeps=3000) for prune in (True, False)
    )
    assert now.rank.item() == now.middle.A.mean.shape[-1] == 3
    assert slow.rank.item() == 8
    assert len(now.free_energy) < len(slow.free_energy) / 2
    torch.testing.assert_close(now.middle.means.low_rank, slow.middle.means.low_rank, rtol=0, atol=1e-5)
    # The columns that were not removed sit at the floor, and cost a few nats each.
    variances = slow.leaf.gamma.mean.reciprocal().flatten().sort().values
    floor = hyperpriors.gamma_rate / hyperpriors.gamma_shape
    torch.testing.assert_close(variances[:5], torch.full((5,), floor, dtype=torch.float64), rtol=0.05, atol=0)
    assert 0 < (slow.free_energy[-1] - now.free_energy[-1]).item() / 5 < 10


@pytest.mark.equation("11a")
@pytest.mark.parametrize(("family", "noise"), CHOICES)
def test_fit_is_a_fixed_point_with_the_reported_free_energy(family, noise):
    _, y = low_rank_image(1, size=12, rank=2)
    found = fit(y, svd_start(y, 4), Hyperpriors(2, 0.1, 2, 0.1, 2, 0.1), family=family, noise=noise, tolerance=1e-13)
    assert found.converged.all()
    hyperpriors = Hyperpriors(2, 0.1, 2, 0.1, 2, 0.1)
    reported = found.free_energy[-1].sum(-1)
    torch.testing.assert_close(free_energy(y, found.middle, hyperpriors, noise), reported)
    torch.testing.assert_close(negative_elbo(elbo_terms(y, found.middle, found.leaf, hyperpriors)), reported)
    again = fit(y, found.middle, hyperpriors, family=family, noise=noise, max_sweeps=1)
    for q, r in zip(found.middle, again.middle, strict=True):
        for x, z in zip(q, r, strict=True):
            torch.testing.assert_close(x, z, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("noise", ["pixel", "scalar"])
def test_full_covariances_never_end_above_the_diagonal_ones_they_start_from(noise):
    _, y = low_rank_image(2, size=16, rank=2)
    hyperpriors = Hyperpriors(2, 1e-2, 2, 1e-2, 2, 1e-2)
    diagonal = fit(y, svd_start(y, 4), hyperpriors, noise=noise)
    full = fit(y, diagonal.middle, hyperpriors, noise=noise, family="full")
    assert full.free_energy[-1] < diagonal.free_energy[-1]
    back = fit(y, full.middle, hyperpriors, noise=noise, family="diagonal", max_sweeps=1)
    assert isinstance(back.middle.A, GaussianFactor)


def test_with_one_noise_precision_and_no_sparse_part_full_covariances_are_diagonal():
    # B'B and the covariances are diagonal at the singular vectors, so every update keeps them so.
    _, y = low_rank_image(3)
    diagonal, full = (fit(y, svd_start(y, 8), family=f, noise="scalar", sparse=False) for f in ("diagonal", "full"))
    torch.testing.assert_close(full.free_energy, diagonal.free_energy)
    torch.testing.assert_close(full.middle.A.covariance, torch.diag_embed(diagonal.middle.A.variance[:, :, :1]))


def test_without_a_sparse_part_its_terms_are_left_out():
    _, y = low_rank_image(4, size=16)
    found = fit(y, svd_start(y, 4), noise="scalar", sparse=False)
    assert not found.middle.S.mean.any()
    assert not found.middle.S.variance.any()
    terms = elbo_terms(y, found.middle, found.leaf, Hyperpriors())
    kept = terms.fidelity + terms.rank + terms.gamma_prior + terms.lambda_prior
    torch.testing.assert_close(found.free_energy[-1, :, 0], kept)


def test_a_batch_is_a_loop_over_channels_of_images():
    y = torch.cat([low_rank_image(seed, size=16, rank=1 + seed % 3)[1] for seed in range(4)]).reshape(2, 2, 16, 16)
    start = svd_start(y, 6)
    together = fit(y, start, noise="scalar", max_sweeps=20, tolerance=1e-300)
    assert together.rank.tolist() == [[1, 2], [3, 1]]
    assert together.middle.A.mean.shape == (2, 2, 16, 3)
    for b, c in itertools.product(range(2), range(2)):
        one = MiddleLevel(*(type(q)(*(x[b : b + 1, c : c + 1] for x in q)) for q in start))
        alone = fit(y[b : b + 1, c : c + 1], one, noise="scalar", max_sweeps=20, tolerance=1e-300)
        assert alone.rank.item() == together.rank[b, c]
        torch.testing.assert_close(together.middle.means.low_rank[b, c], alone.middle.means.low_rank[0, 0])
        torch.testing.assert_close(together.leaf.lambda_.mean[b, c], alone.leaf.lambda_.mean[0, 0])
        # Columns switched off but kept for the sake of another image cost a few nats each.
        extra = together.free_energy[-1, b, c] - alone.free_energy[-1, 0, 0]
        columns = 3 - alone.rank.item()
        assert -1e-6 <= extra <= 10 * columns + 1e-6


@pytest.mark.parametrize(("family", "noise"), CHOICES)
@pytest.mark.parametrize(("value", "rank"), [(0.0, 0), (0.5, 1)])
def test_a_constant_image_has_rank_one_and_a_black_one_rank_zero(family, noise, value, rank):
    y = torch.full((1, 1, 9, 6), value, dtype=torch.float64)
    found = fit(y, svd_start(y, 6), family=family, noise=noise, max_sweeps=200)
    assert found.rank.item() == rank
    assert found.middle.A.mean.shape == (1, 1, 9, rank)
    torch.testing.assert_close(found.middle.means.low_rank, y, rtol=0, atol=1e-5)


def test_pure_noise_has_rank_zero():
    y = 0.1 * normal(0, 2, 3, 32, 24)
    found = fit(y, svd_start(y, 12), noise="scalar")
    assert not found.rank.any()
    torch.testing.assert_close(
        found.leaf.lambda_.mean.rsqrt(), torch.full((2, 3, 1, 1), 0.1).double(), rtol=0.1, atol=0
    )


def test_single_precision_finds_the_same():
    _, y = low_rank_image(5)
    single, double = (fit(z, svd_start(z, 8), noise="scalar", family="full") for z in (y.float(), y))
    assert single.middle.A.mean.dtype == torch.float32
    assert single.rank.item() == double.rank.item() == 3
    torch.testing.assert_close(single.middle.means.low_rank.double(), double.middle.means.low_rank, rtol=0, atol=1e-3)


def test_gross_errors_go_to_the_sparse_part():
    truth, y = low_rank_image(6, size=48)
    hit = normal(7, *y.shape) > 1.6
    y = torch.where(hit, y + torch.where(normal(8, *y.shape) > 0, 0.6, -0.6), y)
    found = fit(y, svd_start(y, 12), Hyperpriors(omega_shape=0.5), noise="scalar", family="full")
    assert found.rank.item() == 3
    assert (found.middle.S.mean.abs() > 0.3).equal(hit)
    without = fit(y, svd_start(y, 12), noise="scalar", sparse=False)
    error, error_without = ((x.middle.means.low_rank - truth).norm() for x in (found, without))
    assert error < error_without / 4


def test_flat_priors_let_the_data_decide_on_the_rank():
    truth, y = low_rank_image(9)
    found = fit(y, svd_start(y, 8), FLAT, family="full", noise="scalar", sparse=False)
    assert found.rank.item() == 3
    assert (found.middle.means.low_rank - truth).norm() < 0.5 * (y - truth).norm()


def test_fit_starts_where_it_is_told():
    _, y = low_rank_image(10, size=16)
    start = svd_start(y, 5)
    found = fit(y, start, noise="scalar", max_sweeps=1, prune=False)
    torch.testing.assert_close(found.free_energy[0].sum(-1), free_energy(y, start, Hyperpriors(), "scalar"))
    from_optimum = fit(y, fit(y, start, noise="scalar").middle, noise="scalar")
    assert len(from_optimum.free_energy) < 5


@pytest.mark.usefixtures("unchecked_annotations")
def test_bad_input_is_refused_by_name():
    _, y = low_rank_image(11, size=8)
    start = svd_start(y, 3)
    broken = y.clone()
    broken[0, 0, 2, 2] = torch.nan
    for call, error, message in [
        (lambda: svd_start(y, 9), ValueError, r"max_rank: got 9, expected 1 to min\(height, width\) = 8"),
        (lambda: svd_start(y, 0), ValueError, "max_rank: got 0, expected 1 to"),
        (lambda: svd_start(broken, 3), ValueError, "y: got .*, expected finite"),
        (lambda: fit(broken, start), ValueError, "y: got .*, expected finite"),
        (lambda: fit((255 * y).to(torch.uint8), start), TypeError, "y: got torch.uint8, expected a floating"),
        (lambda: fit(y[..., :7], start), ValueError, r"start.B: got shape .*, expected \(1, 1, 7, 3\)"),
        (lambda: fit(y, start._replace(B=svd_start(y, 4).B)), ValueError, "start.B: got shape .*, expected"),
        (lambda: fit(y, start._replace(S=GaussianFactor(y, y[..., :1]))), ValueError, "start.S: got variances of"),
        (
            lambda: fit(y, start._replace(S=GaussianFactor(broken, y))),
            ValueError,
            "start.S: got NaN .*, expected finite means",
        ),
        (lambda: fit(y, start, family="rows"), ValueError, "family: got 'rows', expected one of"),
        (lambda: fit(y, start, noise="row"), ValueError, "noise: got 'row', expected one of"),
        (lambda: fit(y, start, max_sweeps=0), ValueError, "max_sweeps: got 0, expected at least 1"),
    ]:
        with pytest.raises(error, match=message):
            call()
