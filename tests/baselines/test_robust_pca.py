"""Principal component pursuit: optimality, recovery, and agreement of everything that solves the same problem."""

import contextlib
import io
import math

import pytest
import torch
from jaxtyping import TypeCheckError

from indeed.baselines import thresholding
from indeed.baselines.robust_pca import (
    NotConvergedError,
    accelerated_proximal_gradient,
    inexact_augmented_lagrangian,
    stable_pursuit,
)
from indeed.baselines.thresholding import threshold_entries
from indeed.data.samples import sample_image

SOLVERS = [inexact_augmented_lagrangian, accelerated_proximal_gradient]


def problem(height, width, rank, share, seed=0, gross=10.0):
    """Low-rank matrix of normal factors, plus errors of random sign in a random share of the entries."""
    generator = torch.Generator().manual_seed(seed)
    A, B = (torch.randn(side, rank, generator=generator, dtype=torch.float64) for side in (height, width))
    where = torch.rand(height, width, generator=generator) < share
    sign = torch.rand(height, width, generator=generator).round() * 2 - 1
    return A @ B.mT, (gross * where * sign).double()


def patch(side=64):
    """A piece of a photograph, which cannot be separated exactly."""
    return sample_image("camera")[0, 128 : 128 + side, 200 : 200 + side].double()


def objective(L, S):
    return (torch.linalg.matrix_norm(L, "nuc") + S.abs().sum() / max(S.shape) ** 0.5).item()


def error(estimate, truth):
    return ((estimate - truth).norm() / truth.norm()).item()


def twin(y, tolerance=1e-7, growth=1.5):
    """The inexact augmented Lagrangian method with whole decompositions, one matrix at a time."""
    weight, spectral = max(y.shape) ** -0.5, torch.linalg.matrix_norm(y, 2)
    penalty = 1.25 / spectral
    highest = 1e7 * penalty
    dual, L = y / max(spectral, y.abs().max() / weight), torch.zeros_like(y)
    for _ in range(1000):
        S = y - L + dual / penalty
        S = S.sign() * (S.abs() - weight / penalty).clamp(min=0)
        U, s, Vh = torch.linalg.svd(y - S + dual / penalty, full_matrices=False)
        L = U @ torch.diag((s - 1 / penalty).clamp(min=0)) @ Vh
        dual = dual + penalty * (y - L - S)
        penalty = min(growth * penalty, highest)
        if (y - L - S).norm() <= tolerance * y.norm():
            return L, S
    raise AssertionError


def faint_beside_bright():
    """Low rank plus errors, and in rows and columns of its own a block so faint that at first it counts for nothing."""
    return torch.block_diag(sum(problem(180, 180, rank=3, share=0.1)), torch.full((80, 80), 0.01).double())


class TestRecovery:
    @pytest.mark.slow
    @pytest.mark.parametrize("solver", SOLVERS)
    @pytest.mark.parametrize("shape", [(120, 120), (90, 150), (150, 90)])
    def test_low_rank_and_sparse_part_are_recovered(self, solver, shape):
        L, S = problem(*shape, rank=4, share=0.05)
        found = solver(L + S)
        assert error(found.L, L) < 1e-6
        assert error(found.S, S) < 1e-6
        assert found.residual <= 1e-7

    def test_the_bar_of_the_issue_is_met(self):
        L, S = problem(500, 500, rank=10, share=0.1)
        found = inexact_augmented_lagrangian(L + S)
        assert error(found.L, L) < 1e-6
        assert error(found.S, S) < 1e-6

    def test_pyrpca_finds_the_same(self):
        from pyrpca import rpca_pcp_ialm

        L, S = problem(100, 80, rank=3, share=0.1)
        with contextlib.redirect_stdout(io.StringIO()):
            theirs = rpca_pcp_ialm((L + S).numpy(), 100**-0.5, tol=1e-7, verbose=False)
        found = inexact_augmented_lagrangian(L + S)
        assert error(found.L, torch.from_numpy(theirs[0])) < 1e-6
        assert error(found.S, torch.from_numpy(theirs[1])) < 1e-6


class TestOptimality:
    """The conditions of Karush, Kuhn and Tucker, on a photograph, where there is no truth to compare with."""

    @pytest.mark.parametrize(
        ("solve", "slack"),
        [
            (lambda y: inexact_augmented_lagrangian(y, growth=1.02), 2e-3),
            (lambda y: accelerated_proximal_gradient(y, relaxation=0.05, tolerance=1e-4), 1e-3),
        ],
    )
    def test_the_dual_certifies_the_optimum(self, solve, slack):
        L, S, Z, _, _ = solve(patch(40))
        weight = 40**-0.5
        assert torch.linalg.matrix_norm(Z, 2) <= 1 + slack
        assert Z.abs().max() <= weight * (1 + slack)
        # alignment with the subgradients: <Z, L> = ||L||_* and <Z, S> = weight ||S||_1
        assert (Z * L).sum() == pytest.approx(torch.linalg.matrix_norm(L, "nuc").item(), rel=slack)
        assert (Z * S).sum() == pytest.approx(weight * S.abs().sum().item(), rel=slack)
        U, s, Vh = torch.linalg.svd(L)
        rank = int((s > 1e-6).sum())
        assert 1 < rank < 40
        torch.testing.assert_close(U[:, :rank].mT @ Z @ Vh[:rank].mT, torch.eye(rank).double(), atol=slack, rtol=0)
        strong = S.abs() > 1e-3
        assert strong.any()
        torch.testing.assert_close(Z[strong], weight * S[strong].sign(), atol=slack, rtol=0)

    def test_the_gradient_method_leaves_the_dual_times_the_relaxation(self):
        y = patch(40)
        found = accelerated_proximal_gradient(y, relaxation=0.05)
        torch.testing.assert_close(y - found.L - found.S, 0.05 * found.dual)
        assert (y - found.L - found.S).norm() <= 0.05 * 40**0.5 * (1 + 1e-3)

    @pytest.mark.slow
    def test_both_methods_end_at_the_same_optimum(self):
        y = sum(problem(30, 25, rank=2, share=0.1)) + problem(30, 25, rank=25, share=0, seed=1)[0] / 10
        slow = inexact_augmented_lagrangian(y, growth=1.01)
        relaxed = accelerated_proximal_gradient(y, relaxation=1e-3)
        assert objective(relaxed.L, y - relaxed.L) == pytest.approx(objective(slow.L, slow.S), rel=1e-4)
        assert error(relaxed.L, slow.L) < 5e-3
        assert error(relaxed.S, slow.S) < 5e-3

    def test_a_slower_growth_ends_nearer_the_minimum(self):
        y = patch(40)
        values = [objective(*inexact_augmented_lagrangian(y, growth=growth)[:2]) for growth in (1.5, 1.1, 1.02)]
        assert values[0] > values[1] > values[2]
        assert values[0] < values[2] * (1 + 1e-3)

    def test_a_larger_weight_makes_the_sparse_part_sparser(self):
        y = patch(32)
        counts = [int((inexact_augmented_lagrangian(y, w).S.abs() > 1e-6).sum()) for w in (0.1, 0.2, 0.4)]
        assert counts[0] > counts[1] > counts[2]


class TestPartialDecomposition:
    @pytest.mark.parametrize(
        "y",
        [
            sum(problem(160, 200, rank=5, share=0.1)),
            sum(problem(150, 150, rank=5, share=0.1, gross=100.0)),  # the rank starts at zero and jumps
            sum(problem(150, 150, rank=25, share=0.02)),  # more vectors than are spared
            patch(128),
            sample_image("moon")[0, :150, :200].double(),
            faint_beside_bright(),
        ],
        ids=["low rank", "gross", "rank 25", "photograph", "smooth photograph", "faint beside bright"],
    )
    def test_it_ends_where_whole_decompositions_end(self, y):
        found = inexact_augmented_lagrangian(y)
        L, S = twin(y)
        assert (found.L - L).norm() <= 1e-8 * y.norm()
        assert (found.S - S).norm() <= 1e-8 * y.norm()

    def test_it_spares_most_whole_decompositions(self, monkeypatch):
        whole = []
        decompose = torch.linalg.svd

        def counted(x, **options):
            whole.append(min(x.shape[-2:]) == 200)
            return decompose(x, **options)

        monkeypatch.setattr(torch.linalg, "svd", counted)
        inexact_augmented_lagrangian(sum(problem(200, 200, rank=4, share=0.1)))
        assert len(whole) > 10
        assert sum(whole) == 0

    @pytest.mark.parametrize("level", [0.5, 5.0, 13.0, 50.0])
    def test_one_threshold_is_that_of_a_whole_decomposition(self, level):
        x = torch.stack([sum(problem(120, 100, rank=3, share=0.1, seed=seed, gross=3)) for seed in range(3)])
        levels = torch.full((3,), level, dtype=torch.float64)
        found, rank, _ = thresholding.threshold_singular_values(x, levels, 1e-9 * levels, *thresholding.random_basis(x))
        U, s, Vh = torch.linalg.svd(x, full_matrices=False)
        torch.testing.assert_close(found, (U * (s - level).clamp(min=0).unsqueeze(-2)) @ Vh, atol=1e-7, rtol=0)
        assert rank.tolist() == (s > level).sum(-1).tolist()

    def test_a_direction_orthogonal_to_all_that_were_followed_is_found(self):
        bright = torch.randn(80, 80, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        first = torch.block_diag(bright, torch.zeros(40, 40))[None]
        then = torch.block_diag(bright, torch.full((40, 40), 10.0))[None]
        level = torch.tensor([30.0]).double()
        _, *last = thresholding.threshold_singular_values(first, level, 1e-9 * level, *thresholding.random_basis(first))
        found, rank, _ = thresholding.threshold_singular_values(then, level, 1e-9 * level, *last)
        assert rank.item() == 1
        torch.testing.assert_close(found, torch.block_diag(0 * bright, torch.full((40, 40), 9.25))[None])

    def test_a_spectrum_without_a_gap_is_decomposed_whole(self):
        x = torch.randn(1, 100, 100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        s = torch.linalg.svdvals(x)[0]
        level = ((s[5] + s[6]) / 2)[None]
        found, rank, _ = thresholding.threshold_singular_values(x, level, 1e-12 * level, *thresholding.random_basis(x))
        assert rank.item() == 6
        assert torch.linalg.svdvals(found)[0, :6].sum() == pytest.approx((s[:6] - level).sum().item(), rel=1e-12)


@pytest.mark.parametrize("solver", SOLVERS)
class TestBatch:
    @pytest.mark.slow
    def test_a_batch_gives_what_a_loop_gives(self, solver):
        generator = torch.Generator().manual_seed(3)
        stack = [sum(problem(80, 70, rank, 0.05, seed=rank)) for rank in (1, 2, 6)]
        stack += [torch.zeros(80, 70).double(), torch.rand(80, 70, generator=generator).double() / 10]
        stack += [1000 * stack[0]]
        y = torch.stack(stack).reshape(2, 3, 80, 70)
        # a tiny relaxation takes the gradient method too long where the parts cannot be separated
        options = {} if solver is inexact_augmented_lagrangian else {"relaxation": 0.1}
        together = solver(y, **options)
        assert together.iterations.unique().numel() > 2
        for index in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]:
            alone = solver(y[index], **options)
            for ours, theirs in ((together.L, alone.L), (together.S, alone.S)):
                assert (ours[index] - theirs).norm() <= 1e-8 * y[index].norm()
            assert together.iterations[index] == alone.iterations
            torch.testing.assert_close(together.residual[index], alone.residual, rtol=1e-3, atol=1e-12)

    def test_an_empty_batch_is_empty(self, solver):
        found = solver(torch.zeros(0, 3, 5, 4))
        assert found.L.shape == found.S.shape == (0, 3, 5, 4)
        assert found.residual.shape == (0, 3)

    def test_nothing_is_made_of_nothing(self, solver):
        found = solver(torch.zeros(2, 1, 6, 5))
        assert not found.L.any()
        assert not found.S.any()
        assert not found.residual.any()

    def test_the_input_is_left_alone(self, solver):
        y = sum(problem(30, 30, 1, 0.05))
        before = y.clone()
        solver(y)
        assert torch.equal(y, before)

    def test_single_precision_is_computed_in_double(self, solver):
        y = sum(problem(40, 30, 1, 0.05)).float()
        found = solver(y)
        assert found.L.dtype == found.S.dtype == torch.float32
        torch.testing.assert_close(found.L, solver(y.double()).L.float())

    def test_the_transposed_matrix_has_transposed_parts(self, solver):
        y = sum(problem(50, 30, 2, 0.05))
        assert (solver(y.mT).L.mT - solver(y).L).norm() < 1e-6 * y.norm()


def test_a_constant_image_is_low_rank():
    y = torch.full((1, 1, 12, 9), 0.5)
    found = inexact_augmented_lagrangian(y)
    torch.testing.assert_close(found.L, y)


def test_a_single_pixel_is_split_somehow():
    found = inexact_augmented_lagrangian(torch.full((1, 1), 0.5))
    assert (found.L + found.S).item() == pytest.approx(0.5)


def test_stable_pursuit_leaves_the_noise_over():
    L, S = problem(100, 100, rank=3, share=0.05)
    noise = 0.1 * torch.randn(100, 100, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    y = L + S + noise
    stable, exact = stable_pursuit(y, 0.1), inexact_augmented_lagrangian(y)
    left = y - stable.L - stable.S
    assert 0.05 < left.std() < 0.1
    assert (left * noise).sum() / (left.norm() * noise.norm()) > 0.75
    assert (y - exact.L - exact.S).std() < 1e-6
    assert error(stable.L, L) < error(exact.L, L)
    assert error(stable.S, S) < error(exact.S, S)


def test_thresholding_an_entry_minimises_its_distance_plus_its_weight():
    x = torch.tensor([-2.0, -0.3, 0.0, 0.7, 1.5]).double()
    grid = torch.linspace(-3, 3, 6001).double()
    best = grid[((grid[:, None] - x) ** 2 / 2 + 0.5 * grid[:, None].abs()).argmin(0)]
    found = threshold_entries(x.reshape(1, 1, -1), torch.full((1, 1, 1), 0.5).double())
    torch.testing.assert_close(found.flatten(), best, atol=1e-3, rtol=0)


class TestErrors:
    def test_what_does_not_converge_says_how_far_it_got(self):
        y = torch.stack([sum(problem(40, 40, 1, 0.05)), torch.zeros(40, 40).double()])
        with pytest.raises(
            NotConvergedError, match=r"1 of 2 matrices not converged after 3 iterations: relative residual .* 1e-07"
        ):
            inexact_augmented_lagrangian(y, max_iterations=3)
        with pytest.raises(NotConvergedError, match=r"after 3 iterations: relative error of the certificate"):
            accelerated_proximal_gradient(y, max_iterations=3)
        assert issubclass(NotConvergedError, RuntimeError)

    @pytest.mark.parametrize("solver", SOLVERS)
    @pytest.mark.parametrize(
        ("options", "named"),
        [
            ({"sparsity_weight": 0.0}, "sparsity_weight: got 0.0"),
            ({"sparsity_weight": -1.0}, "sparsity_weight: got -1.0"),
            ({"sparsity_weight": math.nan}, "sparsity_weight: got nan"),
            ({"tolerance": 0.0}, "tolerance: got 0.0"),
            ({"max_iterations": 0}, "max_iterations: got 0"),
        ],
    )
    def test_an_option_out_of_range_is_named(self, solver, options, named):
        with pytest.raises(ValueError, match=named):
            solver(torch.ones(3, 3), **options)

    @pytest.mark.parametrize("growth", [1.0, math.inf, math.nan])
    def test_a_penalty_that_does_not_grow_is_refused(self, growth):
        with pytest.raises(ValueError, match="growth: got"):
            inexact_augmented_lagrangian(torch.ones(3, 3), growth=growth)

    @pytest.mark.parametrize("relaxation", [0.0, -1.0, math.nan, math.inf])
    def test_a_relaxation_must_be_positive(self, relaxation):
        with pytest.raises(ValueError, match="relaxation: got"):
            accelerated_proximal_gradient(torch.ones(3, 3), relaxation=relaxation)

    @pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan])
    def test_stable_pursuit_needs_noise(self, sigma):
        with pytest.raises(ValueError, match="sigma: got"):
            stable_pursuit(torch.ones(3, 3), sigma)

    @pytest.mark.parametrize("solver", SOLVERS)
    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_values_that_are_not_finite_are_refused(self, solver, value):
        with pytest.raises(ValueError, match="y: got NaN or infinite values"):
            solver(torch.full((3, 3), value))

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_integers_are_refused(self, solver):
        with pytest.raises((TypeError, TypeCheckError)):
            solver(torch.ones(3, 3, dtype=torch.long))

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_an_image_without_pixels_is_refused(self, solver):
        with pytest.raises(ValueError, match="at least one pixel"):
            solver(torch.zeros(3, 0))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_gpu_finds_the_same(solver):
    y = sum(problem(100, 80, 3, 0.05))
    found = solver(y.cuda())
    assert found.L.is_cuda
    assert (found.L.cpu() - solver(y).L).norm() < 1e-8 * y.norm()
