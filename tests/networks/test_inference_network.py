from dataclasses import replace

import pytest
import torch
from jaxtyping import TypeCheckError

from indeed.networks.backbones import ResNet, normalisation, parameter_count
from indeed.networks.inference_network import InDeed, NetworkConfig, network_preset

TINY = network_preset("tiny", 1)
FORMS = {
    "paper": replace(
        TINY, norm="group", factor_halving=False, sparse_unshuffle=1, sparse_input="residual", sparse_output="sparse"
    ),
    "efficient": TINY,
}


def build(config: NetworkConfig, seed: int = 0) -> InDeed:
    torch.manual_seed(seed)
    return InDeed(config)


@pytest.mark.parametrize(("kernel_size", "blocks", "paper_millions"), [(3, 17, 5.8), (5, 10, 7.5), (7, 7, 8.8)])
def test_parameter_counts_stand_beside_those_of_table_3(kernel_size, blocks, paper_millions):
    with torch.device("meta"):
        count = parameter_count(InDeed(NetworkConfig(factor_kernel_size=kernel_size, factor_blocks=blocks)))
    assert {3: 5_836_294, 5: 7_426_310, 7: 8_956_934}[kernel_size] == count
    assert abs(count / 1e6 - paper_millions) < 0.2


def test_parameter_count_hardly_depends_on_the_maximal_rank_as_in_table_3():
    with torch.device("meta"):
        counts = [parameter_count(InDeed(NetworkConfig(max_rank=rank))) for rank in (4, 8, 16, 32, 96)]
    assert all(round(count / 1e6, 1) in (5.8, 5.9) for count in counts)


@pytest.mark.equation("10")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(16, 16), (24, 10)])
def test_posterior_has_the_shapes_of_the_model(form, channels, size):
    config = replace(FORMS[form], channels=channels)
    middle, draw = build(config)(torch.rand(2, channels, *size))
    height, width = size
    assert middle.A.mean.shape == middle.A.log_variance.shape == draw.A.shape == (2, channels, height, 4)
    assert middle.B.mean.shape == middle.B.log_variance.shape == draw.B.shape == (2, channels, width, 4)
    assert middle.S.mean.shape == middle.S.log_variance.shape == draw.S.shape == (2, channels, height, width)
    for factor in middle:
        assert factor.log_variance.min() >= config.log_variance_min
        assert factor.log_variance.max() <= config.log_variance_max


@pytest.mark.parametrize(
    ("seen", "same"),
    [
        ("residual", True),
        ("observation", False),
        ("observation_and_low_rank", False),
        ("observation_and_residual", False),
    ],
)
def test_sparse_part_of_the_same_residual_depends_on_the_image_only_where_f_S_sees_it(seen, same):
    f_S = build(replace(TINY, sparse_input=seen)).f_S
    y, low_rank = torch.rand(2, 1, 1, 16, 16)
    outputs = [f_S(y + shift, low_rank + shift).log_variance for shift in (0.0, 0.5)]
    assert torch.allclose(*outputs, atol=1e-6) == same


def test_evaluation_uses_the_means_and_training_samples_with_the_given_generator():
    model, y = build(TINY), torch.rand(2, 1, 16, 16)
    middle, draw = model(y)
    assert torch.equal(draw.A, middle.A.mean)
    assert torch.equal(draw.S, middle.S.mean)
    first, again, other = (model(y, torch.Generator().manual_seed(seed))[1] for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert all(not torch.equal(a, b) for a, b in zip(first, other, strict=True))
    # A and B have noises of their own, unlike the one symbol in the paper's text
    assert not torch.equal(first.A - middle.A.mean, first.B - middle.B.mean)


@pytest.mark.equation("10")
@pytest.mark.parametrize("form", FORMS)
def test_sparse_part_is_conditioned_on_the_drawn_low_rank_part(form):
    model, y = build(FORMS[form]), torch.rand(1, 1, 16, 16)
    with torch.no_grad():
        model.f_A.mean_head.weight.mul_(10)
    middle, draw = model(y, torch.Generator().manual_seed(0))
    from_draw = model.f_S(y, draw.low_rank)
    from_means = model.f_S(y, middle.means.low_rank)
    assert torch.equal(middle.S.mean, from_draw.mean)
    assert not torch.allclose(middle.S.mean, from_means.mean)


def test_shrinkage_output_leaves_a_share_of_the_residual_and_a_zero_head_half_of_it():
    model, y = build(replace(TINY, sparse_output="shrinkage")), torch.rand(1, 1, 16, 16)
    with torch.no_grad():
        _, draw = model(y)
        share = draw.S / (y - draw.low_rank)
        assert 0 < share.min() < 0.5 < share.max() < 1
        model.f_S.mean_head.weight.zero_()
        _, draw = model(y)
    torch.testing.assert_close(draw.S, (y - draw.low_rank) / 2)


def test_noise_output_means_that_a_zero_head_returns_the_observation():
    model, y = build(TINY), torch.rand(1, 1, 16, 16)
    with torch.no_grad():
        model.f_S.mean_head.weight.zero_()
    _, draw = model(y)
    torch.testing.assert_close(draw.low_rank + draw.S, y)


@pytest.mark.parametrize("form", FORMS)
def test_start_is_no_saddle_of_the_low_rank_fit(form):
    """At A = B = 0 both gradients of |A B^T - U|^2 vanish; the initial network must be away from there."""
    model = build(FORMS[form])
    clean = torch.rand(4, 1, 16, 16)
    _, draw = model(clean, torch.Generator().manual_seed(0))
    (draw.low_rank - clean).square().mean().backward()
    for module in (model.f_A, model.f_B):
        assert module.mean_head.weight.grad.norm() > 1e-3


@pytest.mark.parametrize("norm", ["group", "channel", "none"])
def test_samples_of_a_batch_do_not_see_each_other(norm):
    model = build(replace(TINY, norm=norm))
    y = torch.rand(3, 1, 16, 16)
    together, alone = model(y)[1].S[1:2], model(y[1:2])[1].S
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_batch_normalisation_mixes_the_batch_in_training_and_not_in_evaluation():
    model, y = build(replace(TINY, norm="batch")), torch.rand(3, 1, 16, 16)
    model.train()
    assert not torch.allclose(model(y)[1].S[1:2], model(y[1:2])[1].S, atol=1e-4)
    model.eval()
    torch.testing.assert_close(model(y)[1].S[1:2], model(y[1:2])[1].S, rtol=1e-4, atol=1e-5)


UNET = {
    "sparse_halvings": 2,
    "sparse_widest": 16,
    "sparse_residual": True,
}


@pytest.mark.parametrize("change", [{}, UNET])
def test_noise_of_an_f_S_without_biases_scales_with_what_it_sees(change):
    f_S = build(replace(TINY, sparse_bias=False, **change)).f_S
    y, low_rank = torch.rand(2, 1, 1, 16, 16)
    scaled = f_S(3 * y, 3 * low_rank).mean
    torch.testing.assert_close(scaled, 3 * f_S(y, low_rank).mean)
    biased = build(replace(TINY, **change)).f_S
    with torch.no_grad():
        for name, parameter in biased.trunk.named_parameters():
            parameter.add_(0.1 if name.endswith("bias") else 0.0)
    assert not torch.allclose(biased(3 * y, 3 * low_rank).mean, 3 * biased(y, low_rank).mean, atol=1e-3)


@pytest.mark.parametrize(("modules", "trained"), [("L", "AB"), ("S", "S"), ("LS", "ABS")])
def test_modules_are_frozen_one_by_one(modules, trained):
    model = build(TINY)
    model.set_trainable(modules)
    for name in "ABS":
        flags = {parameter.requires_grad for parameter in getattr(model, f"f_{name}").parameters()}
        assert flags == {name in trained}


def test_modules_can_be_swapped_between_networks():
    one, other, y = build(TINY, 0), build(TINY, 1), torch.rand(1, 1, 16, 16)
    before = one(y)[1]
    one.f_S = other.f_S
    after = one(y)[1]
    assert torch.equal(before.low_rank, after.low_rank)
    assert not torch.equal(before.S, after.S)


def test_halving_keeps_the_output_axis_and_leaves_one_pixel_of_the_other():
    trunk = ResNet(1, 8, blocks=4, norm="none", halve="width")
    assert trunk(torch.rand(1, 1, 9, 12)).shape == (1, 8, 9, 1)


def test_rank_of_the_low_rank_part_is_bounded_by_what_the_linear_heads_see():
    """With the plain mean of 8 features, A and B have rank 8 + 1 at most, however many columns they may have."""
    config = replace(FORMS["paper"], max_rank=16, factor_width=8, factor_moments=1, factor_positions=0)
    with torch.no_grad():
        middle, _ = build(config).double()(torch.rand(1, 1, 16, 16).double())
    values = torch.linalg.svdvals(middle.means.low_rank[0, 0])
    assert values[8] > 1e-9 * values[0] > values[9]


def test_log_variance_starts_at_its_initial_value():
    middle, _ = build(TINY)(torch.rand(1, 1, 16, 16))
    for factor in middle:
        assert abs(factor.log_variance.mean() - TINY.log_variance_init) < 0.5


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"channels": 2}, "channels"),
        ({"max_rank": 0}, "max_rank"),
        ({"max_rank": 17}, "max_rank"),
        ({"sparse_unshuffle": 3}, "sparse_unshuffle"),
        ({"sparse_input": "y"}, "sparse_input"),
        ({"sparse_output": "clean"}, "sparse_output"),
        ({"log_variance_init": 1.0}, "log_variance_init"),
    ],
)
def test_bad_configurations_are_named(change, named):
    # a misspelt name is caught by the type hook of the test suite, or by the class itself
    with pytest.raises((ValueError, TypeCheckError), match=named):
        replace(TINY, **change)


def test_bad_arguments_are_named():
    model = build(TINY)
    with pytest.raises(ValueError, match="y: got 3 channels, expected 1"):
        model(torch.rand(1, 3, 16, 16))
    with pytest.raises(ValueError, match="multiples of 2"):
        model(torch.rand(1, 1, 15, 16))
    with pytest.raises((ValueError, TypeCheckError), match="modules"):
        model.set_trainable("N")
    with pytest.raises(ValueError, match="multiple of 8"):
        normalisation("group", 12)
    with pytest.raises(ValueError, match="kernel_size"):
        ResNet(1, 8, 1, kernel_size=4)
    with pytest.raises((ValueError, TypeCheckError), match="name"):
        network_preset("huge", 1)
