"""Sub-problem 2 by stochastic gradient: it ends where coordinate ascent ends."""

import pytest
import torch

from indeed.bayes.conjugate_updates import solve_leaf_level
from indeed.bayes.coordinate_ascent import fit, free_energy, svd_start
from indeed.bayes.elbo import sub_problem_2_terms
from indeed.bayes.generative_model import Hyperpriors
from indeed.bayes.posterior_summaries import sampled_squared_residual
from indeed.bayes.stochastic_gradient import descend
from indeed.bayes.variational_family import GaussianFactor, MiddleLevel


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def image(size, rank=3, seed=0):
    source = generator(seed)
    A, B = (torch.randn(1, 1, size, rank, dtype=torch.float64, generator=source) for _ in "AB")
    truth = 0.2 * A @ B.mT / rank**0.5
    return truth + 0.02 * torch.randn(truth.shape, dtype=torch.float64, generator=source)


def nats_per_pixel(y, middle):
    return free_energy(y, middle, Hyperpriors(), "scalar").item() / y.numel()


def assert_same_free_energy(y, columns, within, **options):
    start = svd_start(y, columns)
    ascent = fit(y, start, noise="scalar", prune=False, tolerance=1e-7, max_sweeps=3000)
    (descent,) = descend(y, start, generator=generator(), noise="scalar", **options).values()
    best = nats_per_pixel(y, ascent.middle)
    assert nats_per_pixel(y, start) > best + 1
    assert abs(nats_per_pixel(y, descent) - best) < within


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked_annotations")  # checks are half of the time; the tests below have them
@pytest.mark.equation("8")
def test_gradient_descent_ends_at_the_free_energy_of_coordinate_ascent():
    assert_same_free_energy(image(16, rank=2), columns=4, within=0.01, steps=2000, learning_rate=0.1)


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked_annotations")  # checks are half of the time; the tests below have them
def test_gradient_descent_comes_near_the_free_energy_of_coordinate_ascent_on_a_larger_image():
    assert_same_free_energy(image(32), columns=8, within=0.1, steps=1000, learning_rate=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("residual", ["sampled", "expected"])
@pytest.mark.parametrize("noise", ["pixel", "scalar"])
def test_the_first_step_goes_down_the_sampled_gradient(make_problem, noise, residual):
    # Adam's first step is the learning rate times the sign of the gradient.
    p = make_problem()
    draw = p.middle.rsample(generator(3))
    leaf = solve_leaf_level(p.y, p.middle, p.hyperpriors, draw=draw if residual == "sampled" else None, noise=noise)
    free = MiddleLevel(*(GaussianFactor(*(x.clone().requires_grad_() for x in q)) for q in p.middle))
    squared = sampled_squared_residual(p.y, free.rsample(generator(3)))
    objective = torch.stack(list(sub_problem_2_terms(free, leaf, squared))).sum()
    gradient = torch.autograd.grad(objective, [x for q in free for x in q])
    one = descend(
        p.y, p.middle, p.hyperpriors, steps=1, generator=generator(3), noise=noise, residual=residual, learning_rate=0.1
    )[1]
    for x, moved, slope in zip([x for q in p.middle for x in q], [x for q in one for x in q], gradient, strict=True):
        torch.testing.assert_close(moved - x, -0.1 * slope.sign(), rtol=0, atol=1e-5)


def test_snapshots_are_those_of_one_run(make_problem):
    p = make_problem()
    kept = descend(p.y, p.middle, p.hyperpriors, steps=[5, 1, 20], generator=generator())
    assert list(kept) == [1, 5, 20]
    last = descend(p.y, p.middle, p.hyperpriors, steps=20, generator=generator())
    for q, r in zip(kept[20], last[20], strict=True):
        assert torch.equal(q.mean, r.mean)
        assert not q.mean.requires_grad
    energies = [free_energy(p.y, kept[k], p.hyperpriors).sum() for k in (1, 5, 20)]
    assert energies == sorted(energies, reverse=True)


def test_the_start_is_left_as_it_was(make_problem):
    p = make_problem()
    before = [x.clone() for q in p.middle for x in q]
    descend(p.y, p.middle, p.hyperpriors, steps=3, generator=generator(), leaf_every=2)
    assert all(torch.equal(x, z) for x, z in zip(before, [x for q in p.middle for x in q], strict=True))


@pytest.mark.usefixtures("unchecked_annotations")
def test_bad_input_is_refused_by_name(make_problem):
    p = make_problem()

    def call(y=p.y, start=p.middle, **options):
        return descend(y, start, **({"steps": 1, "generator": generator()} | options))

    for wrong, error, message in [
        ({"steps": 0}, ValueError, "steps: got 0, expected at least 1"),
        ({"steps": []}, ValueError, "steps: got .*, expected at least 1"),
        ({"residual": "both"}, ValueError, "residual: got 'both', expected one of sampled, expected"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate: got 0.0, expected a positive number"),
        ({"leaf_every": 0}, ValueError, "leaf_every: got 0, expected a positive number"),
        ({"noise": "row"}, ValueError, "noise: got .*, expected one of"),
        ({"y": p.y * torch.nan}, ValueError, "y: got .*, expected finite"),
        ({"y": p.y[..., :2]}, ValueError, "start.B: got shape"),
    ]:
        with pytest.raises(error, match=message):
            call(**wrong)
