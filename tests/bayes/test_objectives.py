"""Eq. 12, 14-15, 35 and 42-45: what is minimised, against loops; and what the gradient of training sees."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Normal

from indeed.bayes.anomaly_maps import ANOMALY_MAPS
from indeed.bayes.conjugate_updates import solve_leaf_level
from indeed.bayes.elbo import MiddleTerms, elbo_terms, sub_problem_2_terms
from indeed.bayes.objectives import (
    LossTerms,
    active_generalisation_loss,
    amortised_terms,
    anomaly_supervision,
    denoising_supervision,
    expected_negative_elbo,
    mask_supervision,
    orthogonality,
    training_loss,
)
from indeed.bayes.posterior_summaries import expected_squared_residual, sampled_squared_residual
from indeed.bayes.variational_family import Draw, GaussianFactor, LeafLevel, MiddleLevel

PROPERTY = settings(max_examples=30)


def supervised_terms(p, **options):
    supervision = denoising_supervision(p.draw, p.target, 10.0)
    return amortised_terms(p.y, p.middle, p.draw, supervision, p.hyperpriors, **options)


# -- supervision -----------------------------------------------------------------------------------------------------


@pytest.mark.equation("44")
def test_eq_44_by_loops(make_problem):
    p, precision = make_problem(), 7.0
    by_loops = torch.zeros(2, dtype=torch.float64)
    for b, c, j, k in itertools.product(*(range(n) for n in p.sizes[:4])):
        L, S, U = p.draw.A[b, c, j] @ p.draw.B[b, c, k], p.draw.S[b, c, j, k], p.target[b, c, j, k]
        by_loops[b] += precision / 2 * ((L + S - U) ** 2 + (L - U) ** 2)
    torch.testing.assert_close(denoising_supervision(p.draw, p.target, precision), by_loops)


@pytest.mark.equation("44")
def test_first_half_of_eq_44_is_a_normal_of_precision_sigma_0(make_problem):
    p, precision = make_problem(), 7.0
    exact_low_rank = denoising_supervision(p.draw, p.draw.low_rank, precision)  # U = L: only ||S||² is left
    torch.testing.assert_close(exact_low_rank, precision / 2 * p.draw.S.square().sum((1, 2, 3)))
    other = p.draw.low_rank + p.draw.S
    second_half = precision / 2 * p.draw.S.square().sum((1, 2, 3))
    log_density = Normal(other, precision**-0.5).log_prob(other + 0.3).sum((1, 2, 3))
    first_half = (
        denoising_supervision(p.draw, other + 0.3, precision)
        - precision / 2 * (p.draw.S + 0.3).square().sum((1, 2, 3))
    )  # fmt: skip
    constant = p.y[0].numel() / 2 * math.log(2 * math.pi / precision)
    torch.testing.assert_close(first_half + constant, -log_density)
    torch.testing.assert_close(denoising_supervision(p.draw, other, precision), second_half)


@pytest.mark.equation("45")
def test_eq_45_by_loops(make_problem):
    p, precision = make_problem(), 3.0
    anomaly = p.y - p.target
    by_loops = torch.zeros(2, dtype=torch.float64)
    for b, c, j, k in itertools.product(*(range(n) for n in p.sizes[:4])):
        L, S = p.draw.A[b, c, j] @ p.draw.B[b, c, k], p.draw.S[b, c, j, k]
        by_loops[b] += precision / 2 * ((L - p.target[b, c, j, k]) ** 2 + (S - anomaly[b, c, j, k]) ** 2)
    torch.testing.assert_close(anomaly_supervision(p.draw, p.target, anomaly, precision), by_loops)


def test_mask_supervision_is_the_cross_entropy_of_the_map(make_problem):
    p = make_problem()
    share = ANOMALY_MAPS["share"](p.y, p.middle, p.leaf)
    mask = torch.rand(share.shape, generator=torch.Generator().manual_seed(0)) < 0.4
    cross_entropy = torch.nn.functional.binary_cross_entropy(share, mask.double(), reduction="none")
    found = mask_supervision(p.y, p.middle, mask)
    torch.testing.assert_close(found, cross_entropy.sum((1, 2)), rtol=1e-3, atol=0)  # but for a floor of 1e-5


def test_the_gradient_of_mask_supervision_is_finite_where_the_sparse_part_is_zero(make_problem):
    p = make_problem()
    mean = torch.zeros_like(p.middle.S.mean, requires_grad=True)
    middle = p.middle._replace(S=p.middle.S._replace(mean=mean))
    for mask in (torch.zeros_like(p.y[:, 0], dtype=torch.bool), torch.ones_like(p.y[:, 0], dtype=torch.bool)):
        loss = mask_supervision(p.y, middle, mask)
        (gradient,) = torch.autograd.grad(loss.sum(), mean)
        assert loss.isfinite().all()
        assert gradient.isfinite().all()


def test_supervision_passes_gradcheck(make_problem):
    p = make_problem(batch=1, channels=1)
    flat = [x.detach().clone().requires_grad_() for x in p.draw]
    assert torch.autograd.gradcheck(lambda *x: denoising_supervision(Draw(*x), p.target, 2.0), flat)
    assert torch.autograd.gradcheck(lambda *x: anomaly_supervision(Draw(*x), p.target, p.y, 2.0), flat)


@pytest.mark.parametrize("precision", [0.0, -1.0, math.nan])
def test_a_target_precision_that_is_not_positive_is_refused_by_name(make_problem, precision):
    p = make_problem()
    with pytest.raises(ValueError, match=r"target_precision: got .*, expected a positive number"):
        denoising_supervision(p.draw, p.target, precision)
    with pytest.raises(ValueError, match=r"target_precision: got .*, expected a positive number"):
        anomaly_supervision(p.draw, p.target, p.y, precision)


# -- orthogonality ---------------------------------------------------------------------------------------------------


@pytest.mark.equation("42")
def test_eq_42_by_loops(make_problem):
    p = make_problem(rank=3)
    literal, cosine = torch.zeros(2, 2, dtype=torch.float64)
    for b, c, i, j in itertools.product(range(2), range(3), range(3), range(3)):
        for factor in (p.draw.A[b, c], p.draw.B[b, c]):
            x, y = factor[:, i], factor[:, j]
            literal[b] += (x @ y - float(i == j)) ** 2
            if i != j:
                cosine[b] += (x @ y / (x.norm() * y.norm())) ** 2
    torch.testing.assert_close(orthogonality(p.draw), literal)
    torch.testing.assert_close(orthogonality(p.draw, "literal"), literal)
    torch.testing.assert_close(orthogonality(p.draw, "cosine"), cosine)


def test_orthonormal_columns_cost_nothing_and_give_singular_values_of_one(make_problem):
    p = make_problem(rank=3)
    A, B = (torch.linalg.qr(x)[0] for x in p.draw[:2])
    draw = Draw(A, B, p.draw.S)
    assert orthogonality(draw).abs().max() < 1e-24
    torch.testing.assert_close(torch.linalg.svdvals(draw.low_rank)[..., :3], torch.ones(2, 3, 3, dtype=torch.float64))
    stretched = Draw(2 * A, B / 2, p.draw.S)
    assert orthogonality(stretched, "cosine").abs().max() < 1e-24
    assert (orthogonality(stretched, "literal") > 1).all()


@PROPERTY
@given(seed=st.integers(0, 1000), scales=st.lists(st.floats(-5, 5), min_size=6, max_size=6))
def test_cosine_form_ignores_the_length_of_every_column(make_problem, seed, scales):
    p = make_problem(seed=seed, rank=3)
    factors = torch.tensor(scales, dtype=torch.float64).exp()
    draw = Draw(p.draw.A * factors[:3], p.draw.B * factors[3:], p.draw.S)
    torch.testing.assert_close(orthogonality(draw, "cosine"), orthogonality(p.draw, "cosine"))


@pytest.mark.parametrize("form", ["literal", "cosine"])
def test_a_column_of_zeros_has_a_finite_penalty_and_gradient(make_problem, form):
    p = make_problem()
    A = p.draw.A.detach().clone()
    A[..., 0] = 0
    A.requires_grad_()
    value = orthogonality(p.draw._replace(A=A), form)
    (gradient,) = torch.autograd.grad(value.sum(), A)
    assert value.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("form", ["literal", "cosine"])
def test_orthogonality_passes_gradcheck(make_problem, form):
    p = make_problem(batch=1, channels=1)
    A, B = (x.detach().clone().requires_grad_() for x in p.draw[:2])
    assert torch.autograd.gradcheck(lambda A, B: orthogonality(Draw(A, B, p.draw.S), form), (A, B))


# -- the loss of one step --------------------------------------------------------------------------------------------


@pytest.mark.equation("14", "15")
@pytest.mark.parametrize("residual", ["sampled", "expected"])
def test_terms_are_those_of_sub_problem_2_at_the_solution_of_sub_problem_1(make_problem, residual):
    p = make_problem()
    sampled = residual == "sampled"
    leaf = solve_leaf_level(p.y, p.middle, p.hyperpriors, draw=p.draw if sampled else None)
    squared = sampled_squared_residual(p.y, p.draw) if sampled else expected_squared_residual(p.y, p.middle)
    supervision = denoising_supervision(p.draw, p.target, 10.0)
    expected = sub_problem_2_terms(p.middle, leaf, squared, supervision)
    terms = supervised_terms(p, residual=residual, orthogonality_form="cosine")
    for ours, theirs in zip(terms, (*expected, orthogonality(p.draw, "cosine")), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_defaults_are_the_papers_sampled_residual_and_literal_orthogonality(make_problem):
    p = make_problem()
    for ours, theirs in zip(
        supervised_terms(p), supervised_terms(p, residual="sampled", orthogonality_form="literal"), strict=True
    ):
        assert torch.equal(ours, theirs)
    assert not torch.allclose(supervised_terms(p).fidelity, supervised_terms(p, residual="expected").fidelity)


@pytest.mark.equation("14", "15")
@pytest.mark.parametrize("residual", ["sampled", "expected"])
def test_no_gradient_flows_through_the_leaf_level(make_problem, residual):
    """Autograd agrees with finite differences at a leaf level held fixed, not with those at a moving one."""
    p = make_problem(batch=1, channels=1, height=3, width=2)
    noise = [p.normal(*q.mean.shape) for q in p.middle]
    start = torch.cat([x.flatten() for q in p.middle for x in q])

    def unpack(x):
        parts, at = [], 0
        for q in p.middle:
            n = q.mean.numel()
            parts.append(
                GaussianFactor(x[at : at + n].reshape(q.mean.shape), x[at + n : at + 2 * n].reshape(q.mean.shape))
            )
            at += 2 * n
        middle = MiddleLevel(*parts)
        return middle, Draw(*(q.mean + q.std * eta for q, eta in zip(middle, noise, strict=True)))

    def loss(x, leaf=None):
        """The training loss before reduction, from its parts, with the leaf level given or solved anew."""
        middle, draw = unpack(x)
        sampled = residual == "sampled"
        if leaf is None:
            leaf = solve_leaf_level(p.y, middle, p.hyperpriors, draw=draw if sampled else None)
        squared = sampled_squared_residual(p.y, draw) if sampled else expected_squared_residual(p.y, middle)
        parts = sub_problem_2_terms(middle, leaf, squared, denoising_supervision(draw, p.target, 10.0))
        return (sum(parts) + orthogonality(draw)).item()

    def finite_differences(f):
        step = 1e-6
        moves = step * torch.eye(len(start), dtype=torch.float64)
        return torch.tensor([(f(start + m) - f(start - m)) / (2 * step) for m in moves], dtype=torch.float64)

    x = start.clone().requires_grad_()
    middle, draw = unpack(x)
    supervision = denoising_supervision(draw, p.target, 10.0)
    terms = amortised_terms(p.y, middle, draw, supervision, p.hyperpriors, residual=residual)
    (gradient,) = torch.autograd.grad(sum(terms).sum(), x)

    middle, draw = unpack(start)
    fixed = solve_leaf_level(p.y, middle, p.hyperpriors, draw=draw if residual == "sampled" else None)
    torch.testing.assert_close(gradient, finite_differences(lambda x: loss(x, fixed)), rtol=1e-6, atol=1e-6)
    assert (gradient - finite_differences(loss)).abs().max() > 0.1


@PROPERTY
@given(seed=st.integers(0, 1000), order=st.permutations(range(4)))
def test_permuting_the_columns_changes_no_term(make_problem, seed, order):
    p = make_problem(seed=seed, rank=4)
    A, B = (GaussianFactor(*(x[..., order] for x in q)) for q in p.middle[:2])
    draw = Draw(p.draw.A[..., order], p.draw.B[..., order], p.draw.S)
    supervision = denoising_supervision(draw, p.target, 10.0)
    permuted = amortised_terms(p.y, MiddleLevel(A, B, p.middle.S), draw, supervision, p.hyperpriors)
    for ours, reference in zip(permuted, supervised_terms(p), strict=True):
        torch.testing.assert_close(ours, reference)


def test_samples_of_a_batch_do_not_see_each_other(make_problem):
    p = make_problem()
    together = supervised_terms(p)
    for b in range(2):
        keep = slice(b, b + 1)
        middle = MiddleLevel(*(GaussianFactor(*(x[keep] for x in q)) for q in p.middle))
        draw = Draw(*(x[keep] for x in p.draw))
        supervision = denoising_supervision(draw, p.target[keep], 10.0)
        alone = amortised_terms(p.y[keep], middle, draw, supervision, p.hyperpriors)
        for ours, reference in zip(alone, together, strict=True):
            torch.testing.assert_close(ours, reference[keep])


# -- reductions ------------------------------------------------------------------------------------------------------


@pytest.mark.equation("12")
def test_eq_12_is_the_mean_of_the_seven_terms_over_the_batch(make_problem):
    p = make_problem()
    terms = elbo_terms(p.y, p.middle, p.leaf, p.hyperpriors)
    by_loops = sum(term[b].item() for term in terms for b in range(2)) / 2
    assert expected_negative_elbo(terms).item() == pytest.approx(by_loops)


@pytest.mark.equation("35", "43")
def test_training_loss_is_eq_35_plus_weighted_orthogonality_per_element():
    terms = LossTerms(*torch.tensor([[1.0, 2.0], [10.0, 20.0], [100.0, 200.0], [1e3, 2e3], [1e4, 2e4]]))
    loss = training_loss(terms, orthogonality_weight=0.5, elements=3)
    by_loops = sum(1111 * (b + 1) + 0.5 * 1e4 * (b + 1) for b in range(2)) / 2 / 3
    assert loss.item() == pytest.approx(by_loops)
    without = training_loss(terms, orthogonality_weight=0.0, elements=3)
    assert without.item() == pytest.approx(1111 * 1.5 / 3)
    supervised = training_loss(terms, orthogonality_weight=0.5, elements=3, variational=False)
    assert supervised.item() == pytest.approx((10 + 0.5 * 1e4) * 1.5 / 3)


@pytest.mark.usefixtures("unchecked_annotations")
def test_bad_arguments_are_refused_by_name(make_problem):
    p = make_problem()
    terms = supervised_terms(p)
    with pytest.raises(ValueError, match="residual: got 'mean', expected one of sampled, expected"):
        supervised_terms(p, residual="mean")
    with pytest.raises(ValueError, match="form: got 'gram', expected 'literal' or 'cosine'"):
        supervised_terms(p, orthogonality_form="gram")
    for weight in (-1.0, math.nan):
        with pytest.raises(ValueError, match=r"orthogonality_weight: got .*, expected at least 0"):
            training_loss(terms, orthogonality_weight=weight, elements=3)
    with pytest.raises(ValueError, match="elements: got 0, expected at least 1"):
        training_loss(terms, orthogonality_weight=1.0, elements=0)


def test_terms_with_sampled_precisions_are_those_of_the_means_on_average(make_problem):
    p, count = make_problem(batch=1), 20_000
    squared = sampled_squared_residual(p.y, p.draw)
    one = sub_problem_2_terms(p.middle, p.leaf, squared)
    many = [type(part)(*(x.expand(count, *x.shape[1:]) for x in part)) for part in (*p.middle, *p.leaf)]
    middle, leaf = MiddleLevel(*many[:3]), LeafLevel(*many[3:])
    sampled = sub_problem_2_terms(middle, leaf, squared.expand(count, -1, -1, -1), generator=p.generator)
    for name in ("fidelity", "rank", "sparsity"):
        values = getattr(sampled, name)
        error = values.std() / count**0.5
        assert error > 0
        assert abs(values.mean() - getattr(one, name)) < 4 * error


def test_each_sample_draws_its_precisions_from_its_own_generator(make_problem):
    p = make_problem()

    def sources() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in (5, 6)]

    together = supervised_terms(p, leaf_generator=sources())
    second = [type(part)(*(x[1:] for x in part)) for part in (*p.middle, p.draw)]
    supervision = denoising_supervision(second[3], p.target[1:], 10.0)
    alone = amortised_terms(
        p.y[1:], MiddleLevel(*second[:3]), second[3], supervision, p.hyperpriors, leaf_generator=sources()[1:]
    )
    torch.testing.assert_close([term[1:] for term in together], list(alone))


@pytest.mark.equation("39", "40", "41")
@pytest.mark.parametrize(("modules", "without"), [("S", "rank"), ("L", "sparsity"), ("LS", None)])
def test_the_loss_of_a_module_is_the_training_loss_without_supervision_and_the_other_modules_term(
    make_problem, modules, without
):
    p = make_problem()
    zero = torch.zeros_like(p.y[:, 0, 0, 0])
    terms = amortised_terms(p.y, p.middle, p.draw, zero, p.hyperpriors)
    loss = active_generalisation_loss(MiddleTerms(*terms[:4]), modules)
    wanted = terms if without is None else terms._replace(**{without: zero})
    torch.testing.assert_close(loss.mean(), training_loss(wanted, orthogonality_weight=0, elements=1))
