from dataclasses import replace

import pytest
import torch

from indeed.networks.backbones import parameter_count
from indeed.networks.inference_network import InDeed, NetworkConfig, network_preset
from indeed.networks.stages import dependences, stages

TINY = network_preset("tiny", 1)


FORMS = {
    "tiny": TINY,
    "paper": NetworkConfig(factor_width=8, factor_blocks=2, sparse_width=8, sparse_blocks=3, max_rank=5, patch_size=16),
    "transformer": replace(
        TINY, backbone="transformer", transformer_width=8, transformer_blocks=2, transformer_patch=4
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_stages_hold_all_parameters_and_all_operations_of_convolutions(form):
    from torch.utils.flop_counter import FlopCounterMode

    config = FORMS[form]
    model = InDeed(config).train()
    found = stages(config, 16, 32)
    assert sum(stage.parameters for stage in found) == parameter_count(model)
    y = torch.zeros(1, config.channels, 16, 32)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(y)
    # What is no module: the product of the factors, and the moments that the heads see.
    product = 2 * config.channels * config.max_rank * 16 * 32
    rest = counter.get_total_flops() - sum(stage.operations for stage in found) - product
    assert 0 <= rest < 0.05 * counter.get_total_flops()


def test_stages_are_runs_of_equal_modules_with_the_shapes_they_have_in_the_model():
    found = stages(FORMS["paper"], 16, 24)
    by_name = {(stage.module, stage.name): stage for stage in found}
    blocks = by_name["f_S", "blocks.0 to 2"]
    assert (blocks.kind, blocks.repeats, blocks.shape) == ("ResidualBlock", 3, (8, 16, 24))
    heads = by_name["f_B", "mean_head, log_variance_head"]
    assert (heads.repeats, heads.seen, heads.shape) == (2, (8, 24), (3 * 5, 24))


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_modules_depend_on_one_another_as_the_posterior_is_factorised(form):
    images = {("Y", "f_A"), ("Y", "f_B"), ("Y", "f_S")}
    assert dependences(FORMS[form], 16, 16) == images | {("f_A", "f_S"), ("f_B", "f_S")}
