from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from indeed.bayes.conjugate_updates import solve_leaf_level
from indeed.bayes.elbo import elbo_terms, negative_elbo
from indeed.bayes.generative_model import Hyperpriors
from indeed.bayes.objectives import (
    LossTerms,
    amortised_terms,
    denoising_supervision,
    training_loss,
)
from indeed.bayes.variational_family import Draw
from indeed.images.noise import gaussian
from indeed.learning.adaptation.config import AdaptationConfig
from indeed.learning.adaptation.engine import adapt
from indeed.learning.adaptation.loss import adaptation_loss, diagonal_fisher
from indeed.learning.adaptation.stopping import DriftCap, LowestFreeEnergy, Verdict
from indeed.learning.loading import Batch, Sample, draw_batch
from indeed.learning.training.config import training_preset
from indeed.learning.training.step import train_step
from indeed.learning.training.task import DENOISING, DETECTION
from indeed.networks.inference_network import InDeed, network_preset
from indeed.networks.whole_image import denoise

TINY = replace(network_preset("tiny", 1), sparse_blocks=2)
TRAINING = training_preset("tiny")
REPLAY = AdaptationConfig(objective=None, replay_weight=1.0, learning_rate=1e-3, steps=3, training=TRAINING)
FAST = AdaptationConfig(learning_rate=1e-3, steps=3, training=TRAINING)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(**changes) -> InDeed:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return InDeed(replace(TINY, **changes))


def picture(height: int = 16, width: int = 16, seed: int = 0) -> torch.Tensor:
    waves = torch.cos(0.3 * torch.arange(height))[:, None] * torch.sin(0.2 * torch.arange(width))
    return 0.5 + 0.4 * waves[None] + 0.1 * torch.randn(1, height, width, generator=seeded(seed))


def source(generator: torch.Generator) -> Sample:
    clean = 0.2 + 0.6 * torch.rand(1, 1, 1, generator=generator).expand(1, 16, 16)
    return Sample(gaussian(clean[None], 0.1, generator)[0], clean)


def state(model: InDeed):
    """All that a caller could find changed in a network."""
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    flags = [parameter.requires_grad for parameter in model.parameters()]
    modes = [module.training for module in model.modules()]
    gradients = [parameter.grad for parameter in model.parameters()]
    return tensors, flags, modes, gradients, [type(module) for module in model.modules()]


def assert_same(one, other) -> None:
    assert one[0].keys() == other[0].keys()
    assert all(torch.equal(one[0][name], other[0][name]) for name in one[0])
    assert one[1:] == other[1:]


def changed(model: InDeed, adapted: InDeed) -> set[str]:
    before, after = model.state_dict(), adapted.state_dict()
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


# -- what is minimised -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("modules", "without"), [("S", "rank"), ("L", "sparsity"), ("LS", None)])
def test_the_loss_of_a_step_is_the_training_loss_without_supervision_and_the_other_modules_term(modules, without):
    model, y = network(), torch.stack([picture(seed=1), picture(seed=2)])
    config = replace(FAST, modules=modules)
    middle, draw = model(y, seeded())
    zero = torch.zeros(2)
    terms = amortised_terms(y, middle, draw, zero, TRAINING.hyperpriors)
    wanted = terms if without is None else terms._replace(**{without: zero})
    loss, trace = adaptation_loss(model, y, None, config, seeded())
    torch.testing.assert_close(loss, training_loss(wanted, orthogonality_weight=0, elements=256))
    assert trace["fidelity"] == pytest.approx(terms.fidelity.mean().item() / 256)


@pytest.mark.equation("38")
def test_replay_at_weight_1_is_the_training_loss_of_the_union_of_both_sets_times_2():
    model, y = network(), torch.stack([picture(seed=1), picture(seed=2)])
    batch = draw_batch(source, range(2))
    config = replace(FAST, modules="LS", replay_weight=1.0, training=replace(TRAINING, orthogonality_weight=0.0))
    parts = []
    for observed, clean, generator in ((y, None, seeded()), (batch.observed, batch.target, batch.generators())):
        middle, draw = model(observed, generator)
        known = torch.zeros(2) if clean is None else denoising_supervision(draw, clean, TRAINING.target_precision)
        parts.append(amortised_terms(observed, middle, draw, known, TRAINING.hyperpriors))
    union = LossTerms(*(torch.cat(pair) for pair in zip(*parts, strict=True)))
    loss, _ = adaptation_loss(model, y, batch, config, seeded())
    torch.testing.assert_close(loss, 2 * training_loss(union, orthogonality_weight=0, elements=256))


@pytest.mark.parametrize("noise", ["pixel", "neighbourhood", "scalar"])
@pytest.mark.parametrize("residual", ["sampled", "expected"])
def test_every_form_of_the_noise_precision_gives_a_finite_gradient_to_the_adapted_module_alone(noise, residual):
    adapted = adapt(network(), [picture()], replace(FAST, noise=noise, residual=residual), seeded())
    assert adapted.stopped == "budget"
    assert {name.split(".")[0] for name in changed(network(), adapted.model)} == {"f_S"}


class Identity(InDeed):
    """Denoises nothing."""

    def forward(self, y, generator=None):
        factor = y.new_zeros(*y.shape[:3], 1)
        return None, Draw(factor, y.new_zeros(*y.shape[:2], y.shape[3], 1), y)


@pytest.mark.parametrize(("objective", "expected"), [("noise2self", 1.25), ("neighbor2neighbor", 2.0)])
def test_a_copy_of_the_noisy_image_costs_what_independent_noise_says(objective, expected):
    # Noise2Self compares a pixel with the mean of four others, Neighbor2Neighbor with one other.
    y = 0.5 + 0.1 * torch.randn(8, 1, 64, 64, generator=seeded())
    config = replace(FAST, objective=objective, training=replace(TRAINING, target_precision=2.0))
    losses = [adaptation_loss(Identity(TINY), y, None, config, seeded(k))[0].item() for k in range(4)]
    assert sum(losses) / 4 == pytest.approx(expected * 0.01, rel=0.05)


def test_noise2self_is_blind_to_the_pixels_it_is_judged_at():
    # With the pixels hidden, changing one changes the loss by its own squared error and nothing else.
    model, y = network(), picture()[None]
    config = replace(FAST, objective="noise2self", training=replace(TRAINING, target_precision=2.0))
    y.requires_grad_()
    loss, _ = adaptation_loss(model, y, None, config, seeded())
    (gradient,) = torch.autograd.grad(loss, y)
    row, column = torch.randint(4, (2,), generator=seeded()).tolist()
    hidden = torch.zeros(16, 16, dtype=torch.bool)
    hidden[row::4, column::4] = True
    errors = -gradient[0, 0][hidden] * 16 / 2  # d/dy of the mean over 16 pixels of (estimate - y)^2, estimate fixed
    torch.testing.assert_close(errors.square().mean(), loss)


def test_neighbor2neighbor_compares_pixels_side_by_side():
    ramp = (10.0 * torch.arange(16)[:, None] + torch.arange(16)).expand(3, 3, 16, 16)
    config = replace(FAST, objective="neighbor2neighbor", training=replace(TRAINING, target_precision=2.0))
    loss, _ = adaptation_loss(Identity(TINY), ramp, None, config, seeded())
    # A pixel and the one below differ by 10, side by side by 1; diagonally it would be 9 or 11.
    share = (loss.item() - 1) / 99
    assert share * 3 * 64 == pytest.approx(round(share * 3 * 64), abs=1e-3)
    assert share == pytest.approx(0.5, abs=0.1)


# -- what adapts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("modules", "names"), [("L", {"f_A", "f_B"}), ("S", {"f_S"}), ("LS", {"f_A", "f_B", "f_S"})])
@pytest.mark.parametrize("parameters", ["all", "affine"])
def test_only_the_chosen_modules_change(modules, names, parameters):
    config = replace(FAST, modules=modules, parameters=parameters)
    names_changed = changed(network(), adapt(network(), [picture()], config, seeded()).model)
    assert {name.split(".")[0] for name in names_changed} == names


def test_without_normalisation_affine_adaptation_scales_the_channels_in_front_of_each_relu():
    model = network()
    adapted = adapt(model, [picture()], replace(FAST, parameters="affine"), seeded()).model
    blocks = range(2)
    names = {f"f_S.trunk.blocks.{k}.conv1.{part}" for k in blocks for part in ("weight", "bias")}
    assert changed(model, adapted) == names
    for k in blocks:
        ratio = adapted.f_S.trunk.blocks[k].conv1.weight / model.f_S.trunk.blocks[k].conv1.weight
        gain = adapted.f_S.trunk.blocks[k].conv1.bias / model.f_S.trunk.blocks[k].conv1.bias
        torch.testing.assert_close(ratio, gain[:, None, None, None].expand_as(ratio))


def test_with_normalisation_affine_adaptation_moves_its_scales_and_shifts_alone():
    model = network(norm="group")
    adapted = adapt(model, [picture()], replace(FAST, parameters="affine"), seeded()).model
    names = {f"f_S.trunk.blocks.{k}.norm{n}.{part}" for k in (0, 1) for n in (1, 2) for part in ("weight", "bias")}
    assert changed(model, adapted) == names


# -- the network of the caller ---------------------------------------------------------------------------------------


def unusual_network() -> InDeed:
    """With buffers, some frozen weights, and modules in different modes."""
    model = network(norm="batch").train()
    model.f_A.requires_grad_(False)
    model.f_S.trunk.blocks[0].eval()
    return model


@pytest.mark.parametrize("config", [FAST, replace(FAST, parameters="affine", modules="LS"), REPLAY])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["observer", "replay", "rule"])
def test_a_crash_in_the_middle_leaves_the_network_of_the_caller_as_it_was(config, error, where):
    model, calls = unusual_network(), []
    before = state(model)

    def crash(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise error
        return source(arguments[0]) if where == "replay" else Verdict(0, False)

    options = {"replay": source}
    if where == "observer":
        options["observe"] = crash
    elif where == "replay":
        options["replay"] = crash
        config = replace(config, replay_weight=1.0)
    else:
        config = replace(config, stop=crash)
    with pytest.raises(error):
        adapt(model, [picture()], config, seeded(), **options)
    assert len(calls) == 3
    assert_same(state(model), before)


@pytest.mark.parametrize("parameters", ["all", "affine"])
def test_the_result_is_a_copy_with_the_predictions_of_both_networks(parameters):
    model, image = network(), picture(20, 30)
    before = state(model)
    adapted = adapt(model, [image], replace(FAST, parameters=parameters), seeded())
    assert_same(state(model), before)
    assert torch.equal(adapted.before[0], denoise(model, image))
    assert torch.equal(adapted.after[0], denoise(adapted.model, image))
    assert not torch.equal(adapted.before[0], adapted.after[0])
    assert not adapted.model.training
    memory = {value.data_ptr() for value in model.state_dict().values()}
    for copy in (adapted.model, adapted.original):
        assert memory.isdisjoint(value.data_ptr() for value in copy.state_dict().values())
        assert state(copy)[1] == before[1]
        assert all(parameter.grad is None for parameter in copy.parameters())


def test_the_prediction_before_is_that_of_the_weights_before_whatever_becomes_of_the_network_later():
    model, image = network(), picture()
    expected = denoise(model, image)
    adapted = adapt(model, [image], FAST, seeded())
    torch.nn.init.zeros_(model.f_S.mean_head.weight)
    assert torch.equal(adapted.before[0], expected)


def test_the_same_seed_gives_the_same_weights_and_the_observer_changes_nothing():
    rule, seen = LowestFreeEnergy(patience=1), []
    images = [picture(20, 30), picture(24, 18, seed=1)]

    def look(step, estimate):
        seen.append(step)
        torch.rand(3)
        estimate(images[0])

    config = replace(FAST, replay_weight=0.5, stop=rule)
    one = adapt(network(), images, config, seeded(), replay=source, observe=look)
    two = adapt(network(), images, config, seeded(), replay=source)
    assert not changed(one.model, two.model)
    assert one.trace == two.trace
    assert seen == list(range(one.steps + 1))


def test_the_observer_sees_the_estimate_of_the_moment():
    seen, image = [], picture()
    adapted = adapt(network(), [image], FAST, seeded(), observe=lambda _, estimate: seen.append(estimate(image)))
    assert torch.equal(seen[0], adapted.before[0])
    assert torch.equal(seen[-1], adapted.after[0])


def test_a_linear_schedule_takes_smaller_and_smaller_steps_from_the_same_first_one():
    weights = {}
    for schedule in ("constant", "linear"):
        for steps in (1, 2):
            config = replace(FAST, schedule=schedule, steps=steps)
            after = adapt(network(), [picture()], config, seeded()).model.f_S.mean_head.weight
            weights[schedule, steps] = after - network().f_S.mean_head.weight
    assert torch.equal(weights["constant", 1], weights["linear", 1])
    second = {name: weights[name, 2] - weights["constant", 1] for name in ("constant", "linear")}
    torch.testing.assert_close(second["linear"], second["constant"] / 2, rtol=1e-3, atol=1e-7)


# -- sets and sequences of images ------------------------------------------------------------------------------------


def test_the_images_of_a_set_take_turns():
    dark, bright = torch.zeros(1, 16, 16), torch.full((1, 16, 16), 4.0)
    adapted = adapt(network(), [dark, bright], replace(FAST, stop=LowestFreeEnergy(9)), seeded())
    assert (adapted.steps, len(adapted.monitors), len(adapted.after)) == (6, 4, 2)
    rank = adapted.trace["rank"]  # its modules do not adapt, so it tells the image
    assert rank[0] == rank[2] == rank[4] != rank[1] == rank[3] == rank[5]


def test_an_image_smaller_than_a_patch_is_adapted_to_as_its_reflection():
    small, config = picture(9, 40), replace(FAST, modules="LS")
    mirrored = torch.nn.functional.pad(small, (0, 0, 0, 7), "reflect")
    one, other = (adapt(network(), [image], config, seeded()) for image in (small, mirrored))
    assert one.after[0].shape == small.shape
    assert one.trace == other.trace
    assert not changed(one.model, other.model)


# -- supervision, forgetting -----------------------------------------------------------------------------------------


def gradient_of_training(model: InDeed, batch: Batch, task=DENOISING) -> list[torch.Tensor]:
    """Gradient of the training loss, read off a step of plain gradient descent as training takes it."""
    after = deepcopy(model)
    optimizer = torch.optim.SGD(after.parameters(), lr=1.0)
    train_step(after, optimizer, [batch], replace(TRAINING, gradient_clip=1e9), task=task)
    return [old - new for old, new in zip(model.f_S.parameters(), after.f_S.parameters(), strict=True)]


@pytest.mark.parametrize("task", [DENOISING, DETECTION])
def test_replayed_samples_are_learned_from_as_in_training(task):
    model, batch = network(), draw_batch(source, range(3))
    config = replace(REPLAY, task=task)
    loss, trace = adaptation_loss(model, batch.observed, batch, config, seeded())
    gradients = torch.autograd.grad(loss, list(model.f_S.parameters()))
    for ours, theirs in zip(gradients, gradient_of_training(model, batch, task), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * theirs.abs().max().item() + 1e-6)
    assert set(trace) == {f"replay_{name}" for name in LossTerms._fields}


@pytest.mark.parametrize("task", [DENOISING, DETECTION])
def test_the_fisher_information_is_the_mean_of_squared_gradients_of_single_samples(task):
    model, batch = network(), draw_batch(source, range(3))
    fisher = diagonal_fisher(model, list(model.f_S.parameters()), batch, TRAINING, task)
    singles = [Batch(batch.observed[k : k + 1], batch.target[k : k + 1], (s,)) for k, s in enumerate(batch.seeds)]
    squares = [[g.square() for g in gradient_of_training(model, one, task)] for one in singles]
    for ours, theirs in zip(fisher, zip(*squares, strict=True), strict=True):
        mean = torch.stack(theirs).mean(0)
        torch.testing.assert_close(ours, mean, rtol=1e-2, atol=1e-3 * mean.max().item() + 1e-9)


def test_the_fisher_penalty_holds_the_weights_back():
    drifts, penalties = [], []
    for weight in (0.0, 1e4):
        config = replace(FAST, steps=15, fisher_weight=weight, fisher_samples=4, stop=DriftCap(1e9))
        adapted = adapt(network(), [picture()], config, seeded(), source=source)
        drifts.append(adapted.monitors[-1].drift)
        penalties.append(adapted.trace.get("penalty"))
    assert drifts[1] < 0.7 * drifts[0]
    assert penalties[0] is None
    assert penalties[1][0] == 0 < penalties[1][1]


def test_replay_brings_the_error_on_the_replayed_law_down():
    def noisy(generator):
        return Sample(gaussian(picture()[None], 0.1, generator)[0], picture())

    config = replace(REPLAY, modules="LS", steps=40, learning_rate=1e-2)
    supervision = adapt(network(), [picture()], config, seeded(), replay=noisy).trace["replay_supervision"]
    assert max(supervision[-5:]) < 0.5 * min(supervision[:5])


# -- when to stop ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leak", [0.0, 0.2])
def test_where_the_last_relu_is_dead_only_a_leak_lets_the_sparse_network_learn(leak):
    model = network(norm="none")
    torch.nn.init.constant_(model.f_S.trunk.blocks[-1].conv2.bias, -100.0)  # below zero whatever the image
    adapted = adapt(model, [picture()], replace(REPLAY, modules="S", leak=leak), seeded(), replay=source)
    trunk = zip(adapted.model.f_S.trunk.parameters(), model.f_S.trunk.parameters(), strict=True)
    assert all(torch.equal(now, then) for now, then in trunk) == (leak == 0)
    assert (adapted.model.f_S.leak, model.f_S.leak) == (leak, 0)


def test_weights_from_before_the_first_step_come_back_without_a_leak():
    config = replace(REPLAY, leak=0.2, stop=lambda history: Verdict(0, len(history) > 2))
    adapted = adapt(network(), [picture()], config, seeded(), replay=source)
    assert (adapted.kept, adapted.model.f_S.leak) == (0, 0.0)
    assert torch.equal(adapted.after[0], adapted.before[0])


@pytest.mark.parametrize("keep", [0, 1, 2])
def test_the_weights_that_the_rule_keeps_are_those_that_come_back(keep):
    seen, image = [], picture()

    def rule(entries):
        return Verdict(min(len(entries) - 1, keep), len(entries) == 3)

    adapted = adapt(
        network(),
        [image],
        replace(FAST, stop=rule, steps=9),
        seeded(),
        observe=lambda _, estimate: seen.append(estimate(image)),
    )
    assert (adapted.kept, adapted.steps, adapted.stopped) == (keep, 2, "rule")
    assert torch.equal(adapted.after[0], seen[keep])
    torch.testing.assert_close(adapted.monitors[keep].output[0], seen[keep])


def test_the_rule_sees_the_full_free_energy_of_the_observed_image():
    model, image = network(), picture()
    adapted = adapt(model, [image], replace(FAST, stop=LowestFreeEnergy()), seeded())
    y = image[None]
    with torch.no_grad():
        middle, _ = model(y)
        energy = negative_elbo(elbo_terms(y, middle, solve_leaf_level(y, middle, Hyperpriors()), Hyperpriors()))
    assert adapted.monitors[0].free_energy == pytest.approx(energy.item() / 256, rel=1e-6)
    assert adapted.monitors[0].drift == 0 < adapted.monitors[1].drift


def test_at_a_gradient_that_is_not_finite_the_last_good_weights_are_kept():
    calls = []

    def bad(generator):
        calls.append(generator)
        return Sample(*(part * float("nan" if len(calls) == 3 else 1) for part in source(generator)))

    adapted = adapt(network(), [picture()], REPLAY, seeded(), replay=bad)
    assert (adapted.steps, adapted.kept, adapted.stopped) == (2, 2, "not finite")
    assert all(bool(value.isfinite().all()) for value in adapted.model.state_dict().values())
    assert len(adapted.trace["replay_fidelity"]) == 2


# -- cost ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        AdaptationConfig(steps=2),
        replace(FAST, patches=2, stop=LowestFreeEnergy(9)),
        replace(FAST, objective="noise2self"),
        replace(FAST, objective="neighbor2neighbor", patches=2),
        replace(REPLAY, replay_patches=2),
        replace(FAST, replay_weight=1.0, patches=2, fisher_weight=1.0, fisher_samples=3),
    ],
)
def test_the_cost_is_the_pixels_that_pass_the_network_counted(config):
    model, passed = network(), []

    def count(module, inputs, output):
        share = inputs[0][:, :1].numel() / 256
        passed.append(3 * share if torch.is_grad_enabled() else share)

    model.f_S.register_forward_hook(count)
    adapted = adapt(model, [picture()], config, seeded(), replay=source)
    assert sum(passed) == adapted.patch_forwards
    for _ in range(2):  # the predictions are made when they are asked for, and once
        assert len(adapted.before + adapted.after) == 2
    assert sum(passed) == adapted.patch_forwards + 2
    extra = 3 * config.fisher_samples * bool(config.fisher_weight) + config.patches * (config.stop is not None)
    assert adapted.patch_forwards == config.forwards_per_step * config.patches * adapted.steps + extra


# -- bad input -------------------------------------------------------------------------------------------------------


def spoiled(value: float) -> torch.Tensor:
    image = picture()
    image[0, 3, 4] = value
    return image


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "images: got none"),
        ([picture(), spoiled(float("nan"))], r"images\[1\]: got NaN"),
        ([spoiled(float("inf"))], r"images\[0\]: got NaN or infinite"),
        ([picture().expand(3, -1, -1)], r"images\[0\]: got shape \(3, 16, 16\), expected \(1, height, width\)"),
        ([picture().double()], r"images\[0\]: got torch.float64"),
    ],
)
def test_a_bad_image_is_refused_by_name(images, message):
    with pytest.raises(ValueError, match=message):
        adapt(network(), images, FAST, seeded())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (replace(FAST, patch_size=7), "patch_size: got 7, expected a positive multiple of 2"),
        (replace(FAST, objective="neighbor2neighbor", patch_size=6), "multiple of 4"),
        (REPLAY, "replay: got None"),
        (replace(FAST, fisher_weight=1.0), "source: got None"),
    ],
)
def test_what_the_configuration_lacks_is_named(config, message):
    with pytest.raises(ValueError, match=message):
        adapt(network(), [picture()], config, seeded())
