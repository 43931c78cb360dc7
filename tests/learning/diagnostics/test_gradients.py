from dataclasses import replace

import pytest
import torch

from indeed.bayes.objectives import amortised_terms, training_loss
from indeed.learning.diagnostics.gradients import flat_gradient, gradient_noise
from indeed.learning.loading import Sample, draw_batch
from indeed.learning.training.config import training_preset
from indeed.learning.training.task import supervised_denoising
from indeed.networks.inference_network import InDeed, network_preset

CONFIG = replace(training_preset("tiny"), target_precision=10.0)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return InDeed(network_preset("tiny", 1)).double()


def sample(generator):
    clean = torch.rand(1, 16, 16, generator=generator, dtype=torch.float64)
    return Sample(clean + 0.1 * torch.randn(1, 16, 16, generator=generator, dtype=torch.float64), clean)


def batches(count, size=1):
    return [draw_batch(sample, range(size * k, size * (k + 1))) for k in range(count)]


def loss(model, batch, leaf_generators=None):
    middle, draw = model(batch.observed, batch.generators())
    supervision = supervised_denoising(middle, draw, batch, CONFIG)
    terms = amortised_terms(
        batch.observed, middle, draw, supervision, CONFIG.hyperpriors, leaf_generator=leaf_generators
    )
    return training_loss(terms, orthogonality_weight=CONFIG.orthogonality_weight, elements=16 * 16)


def test_flat_gradient_is_what_backward_leaves_in_the_parameters(model):
    batch = batches(1, 2)[0]
    vector = flat_gradient(loss(model, batch), model.parameters())
    loss(model, batch).backward()
    torch.testing.assert_close(vector, torch.cat([p.grad.flatten() for p in model.parameters()]))


def test_flat_gradient_is_zero_where_the_loss_does_not_reach(model):
    middle, _ = model(batches(1)[0].observed)
    vector = flat_gradient(middle.A.mean.sum(), model.parameters())
    size = sum(p.numel() for p in model.f_A.parameters())
    assert vector[:size].any()
    assert not vector[size:].any()


@pytest.mark.equation("14", "15")
def test_draws_of_the_leaf_level_leave_the_expected_gradient_as_it_is(model):
    """The terms are linear in the precisions: draws are noise around the gradient with their means."""
    batch = batches(1)[0]
    expected = flat_gradient(loss(model, batch), model.parameters())
    count = 60
    draws = torch.stack(
        [
            flat_gradient(loss(model, batch, [torch.Generator().manual_seed(seed)]), model.parameters())
            for seed in range(count)
        ]
    )
    error = (draws.mean(0) - expected).square().sum()
    variance = draws.var(0).sum()
    assert variance > 0
    assert error < 4 * variance / count
    assert error < 0.1 * expected.square().sum()


@pytest.mark.slow
def test_the_three_sources_add_up_to_the_variance_of_a_training_step(model):
    many = batches(60)
    noise = gradient_noise(model, many, CONFIG, leaf_draws=1)
    steps = torch.stack(
        [
            flat_gradient(loss(model, batch, [torch.Generator().manual_seed(index)]), model.parameters())
            for index, batch in enumerate(many)
        ]
    )
    assert sum(noise) == pytest.approx(steps.var(0).sum().item(), rel=0.3)


@pytest.mark.slow
def test_one_batch_over_and_over_has_no_noise_from_the_batch(model):
    same = batches(1)[0]
    again = [same._replace(seeds=(1000 + number,)) for number in range(40)]
    noise = gradient_noise(model, again, CONFIG)
    assert noise.draw > 0
    assert abs(noise.batch) < 0.3 * noise.draw


def test_leaf_noise_does_not_depend_on_the_target_precision_which_scales_the_rest(model):
    few = batches(4)
    quiet, loud = (gradient_noise(model, few, replace(CONFIG, target_precision=p)) for p in (1e5, 1e7))
    assert quiet.leaf == pytest.approx(loud.leaf, rel=1e-3)
    assert loud.batch / quiet.batch == pytest.approx(1e4, rel=0.1)


@pytest.mark.parametrize(
    ("number", "options", "name"),
    [(1, {}, "batches"), (2, {"draws": 1}, "draws"), (2, {"leaf_draws": 0}, "leaf_draws")],
)
def test_too_few_to_estimate_a_variance_is_refused(model, number, options, name):
    with pytest.raises(ValueError, match=rf"{name}: got \d, expected at least"):
        gradient_noise(model, batches(number), CONFIG, **options)
