from dataclasses import replace

import pytest
import torch
from jaxtyping import TypeCheckError

from indeed.networks.backbones import ResidualUNet, Transformer, UNet, parameter_count, positions
from indeed.networks.inference_network import InDeed, NetworkConfig, network_preset

TINY = replace(
    network_preset("tiny", 3),
    backbone="transformer",
    transformer_width=16,
    transformer_blocks=2,
    transformer_patch=4,
    factor_unshuffle=1,
    sparse_unshuffle=1,
)


def build(config=TINY, seed=0):
    torch.manual_seed(seed)
    return InDeed(config)


def test_transformer_of_the_papers_size_has_79_million_parameters():
    """Model 11 of Table 3: eight blocks of width 512 a module are 96 % of them."""
    with torch.device("meta"):
        model = InDeed(NetworkConfig(backbone="transformer", sparse_width=64))
    blocks = sum(parameter_count(getattr(model, name).trunk.blocks) for name in ("f_A", "f_B", "f_S"))
    assert blocks == 3 * 8 * (12 * 512**2 + 13 * 512)
    assert parameter_count(model) == 78_631_750
    assert round(parameter_count(model) / 1e6) == 79


@pytest.mark.parametrize("size", [(16, 16), (4, 8), (24, 12)])
@pytest.mark.parametrize("pooled", [None, "height", "width"])
def test_features_are_per_pixel_but_per_patch_along_a_pooled_axis(size, pooled):
    trunk = Transformer(3, features=5, width=8, blocks=1, patch=4, pooled=pooled)
    height, width = size
    expected = {None: (height, width), "height": (height // 4, width), "width": (height, width // 4)}[pooled]
    assert trunk(torch.rand(2, 3, *size)).shape == (2, 5, *expected)


def test_a_network_of_transformers_has_the_shapes_of_the_model_and_gradients_everywhere():
    model, y = build(), torch.rand(2, 3, 24, 12)
    middle, draw = model(y, torch.Generator().manual_seed(0))
    assert middle.A.mean.shape == (2, 3, 24, 4)
    assert middle.B.mean.shape == (2, 3, 12, 4)
    assert middle.S.mean.shape == y.shape
    loss = (draw.low_rank - y).square().sum() + (draw.low_rank + draw.S - y).square().sum()
    (loss + sum(factor.log_variance.square().sum() for factor in middle)).backward()
    silent = [name for name, parameter in model.named_parameters() if not parameter.grad.abs().sum() > 0]
    assert silent == []


def test_each_output_pixel_sees_the_whole_image():
    torch.manual_seed(0)
    trunk, image = Transformer(1, features=1, width=16, blocks=1, patch=4), torch.rand(1, 1, 16, 16, requires_grad=True)
    (gradient,) = torch.autograd.grad(trunk(image)[0, 0, 0, 0], image)
    assert bool((gradient != 0).all())


def test_tokens_know_their_place():
    """Without positions the features of equal patches would be equal: attention does not see an order."""
    torch.manual_seed(0)
    trunk, grey = Transformer(1, features=3, width=16, blocks=2, patch=4), torch.full((1, 1, 16, 16), 0.5)
    tokens = trunk(grey)[..., ::4, ::4].flatten(2)
    distances = torch.cdist(tokens[0].T, tokens[0].T) + torch.eye(16)
    assert distances.min() > 1e-4


def test_positions_of_rows_and_columns_are_sines_and_cosines_of_their_own():
    encoded = positions(8, 5, 7)
    assert encoded.shape == (8, 5, 7)
    rows, columns = torch.arange(5.0), torch.arange(7.0)
    torch.testing.assert_close(encoded[0], rows.sin()[:, None].expand(5, 7))
    torch.testing.assert_close(encoded[2], rows.cos()[:, None].expand(5, 7))
    torch.testing.assert_close(encoded[4], columns.sin().expand(5, 7))
    torch.testing.assert_close(encoded[7], (columns / 100).cos().expand(5, 7))
    flat = encoded.flatten(1).T
    assert (torch.cdist(flat, flat) + torch.eye(35)).min() > 0.01  # no two alike


def test_training_and_evaluation_agree_and_samples_do_not_see_each_other():
    """No dropout, no statistics of the batch; evaluation takes PyTorch's fused path, training does not."""
    model, y = build(), torch.rand(3, 3, 16, 16)
    trained = model.train()(y)[1]
    with torch.no_grad():
        evaluated = model.eval()(y)[1]
        alone = model(y[1:2])[1]
    torch.testing.assert_close(trained.S, evaluated.S, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(evaluated.S[1:2], alone.S, rtol=1e-4, atol=1e-5)


def test_blocks_start_different_from_each_other():
    trunk = build().f_A.trunk
    first, second = (block.linear1.weight for block in trunk.blocks)
    assert not torch.equal(first, second)


def test_start_of_the_transformer_is_no_saddle_of_the_low_rank_fit():
    model, clean = build(), torch.rand(4, 3, 16, 16)
    (model(clean)[1].low_rank - clean).square().mean().backward()
    for module in (model.f_A, model.f_B):
        assert module.mean_head.weight.grad.norm() > 1e-3


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"features": 0}, "features"),
        ({"blocks": 0}, "blocks"),
        ({"width": 18}, "multiple of 4"),
        ({"width": 160}, "of 64"),
    ],
)
def test_bad_sizes_of_a_transformer_are_named(change, named):
    sizes = {"in_channels": 3, "features": 8, "width": 16, "blocks": 1, "patch": 4} | change
    with pytest.raises(ValueError, match=named):
        Transformer(**sizes)


def test_images_and_tiles_that_the_patches_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="multiples of 4"):
        build()(torch.rand(1, 3, 16, 18))
    with pytest.raises(ValueError, match="multiples of 4"):
        build().f_A.trunk(torch.rand(1, 3, 18, 16))
    with pytest.raises(ValueError, match="transformer_patch"):
        replace(TINY, patch_size=18)
    with pytest.raises((ValueError, TypeCheckError), match="backbone"):
        replace(TINY, backbone="mlp")


@pytest.mark.parametrize("size", [(8, 8), (24, 12)])
def test_features_of_a_u_net_have_the_size_of_the_image_and_see_across_its_halvings(size):
    torch.manual_seed(0)
    trunk, image = UNet(1, width=4, blocks=1, halvings=2, norm="none"), torch.rand(1, 1, *size, requires_grad=True)
    features = trunk(image)
    assert features.shape == (1, 4, *size)
    (gradient,) = torch.autograd.grad(features[0, :, 0, 0].sum(), image)
    assert gradient[0, 0, 7, 7] != 0


def test_a_u_net_moves_with_the_image_by_whole_blocks_and_its_stem_by_pixels():
    """Away from the border, a shift by 2^halvings pixels shifts all maps, and any shift those at full resolution."""
    torch.manual_seed(0)
    trunk, image = UNet(1, width=4, blocks=1, halvings=1, norm="none"), torch.zeros(1, 1, 48, 48)
    image[..., 20:28, 20:28] = torch.rand(8, 8)
    for shift, part in ((2, trunk), (1, trunk.stem)):
        moved = part(image.roll((shift, shift), (2, 3)))
        torch.testing.assert_close(
            moved[..., 16:32, 16:32], part(image).roll((shift, shift), (2, 3))[..., 16:32, 16:32]
        )


def test_unusable_sizes_of_a_u_net_are_named():
    for name in ("in_channels", "width", "blocks", "halvings"):
        with pytest.raises(ValueError, match=f"{name}: got 0, expected at least 1"):
            UNet(**{"in_channels": 1, "width": 4, "blocks": 1, "halvings": 1, "norm": "none"} | {name: 0})
    with pytest.raises(ValueError, match="multiples of 4"):
        UNet(1, width=4, blocks=1, halvings=2, norm="none")(torch.zeros(1, 1, 8, 6))


def test_a_network_with_a_u_net_for_f_S_has_gradients_everywhere_and_a_leak_reaches_its_last_maps():
    config = replace(network_preset("tiny", 1), sparse_halvings=2, sparse_output="shrinkage")
    model = build(config)
    middle, draw = model(torch.rand(2, 1, 16, 16), torch.Generator().manual_seed(0))
    (draw.S.square().sum() + sum(factor.log_variance.square().sum() for factor in middle)).backward()
    assert [name for name, parameter in model.named_parameters() if not parameter.grad.abs().sum() > 0] == []
    y = torch.rand(1, 1, 16, 16)
    without = model(y)[1].S
    model.f_S.leak = 0.5
    assert not torch.allclose(model(y)[1].S, without)


def test_maps_of_a_residual_u_net_double_up_to_the_widest():
    trunk = ResidualUNet(1, width=4, blocks=1, halvings=3, widest=8)
    assert [layer.out_channels for layer in trunk.down] == [8, 8, 8]
    assert [layer.out_channels for layer in trunk.up] == [4, 8, 8]
    assert trunk(torch.zeros(1, 1, 8, 16)).shape == (1, 4, 8, 16)


def test_what_a_residual_u_net_finds_at_halved_resolutions_is_added():
    torch.manual_seed(0)
    trunk, image = ResidualUNet(1, width=4, blocks=1, halvings=2, bias=False), torch.rand(1, 1, 8, 8)
    whole = trunk(image)
    torch.nn.init.zeros_(trunk.up[0].weight)
    assert not torch.allclose(trunk(image), whole)
    torch.testing.assert_close(trunk(image), trunk.behind[0](trunk.before[0](trunk.stem(image))))


def test_a_residual_u_net_names_what_does_not_fit():
    with pytest.raises(ValueError, match=r"widest: got 3, expected at least width \(4\)"):
        ResidualUNet(1, width=4, blocks=1, halvings=1, widest=3)
    with pytest.raises(ValueError, match="got \\(8, 6\\) pixels, expected multiples of 4"):
        ResidualUNet(1, width=4, blocks=1, halvings=2)(torch.zeros(1, 1, 8, 6))
