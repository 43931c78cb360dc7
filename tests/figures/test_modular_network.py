from dataclasses import replace

import numpy as np
import pytest
import torch

from indeed import figures
from indeed.networks.backbones import parameter_count
from indeed.networks.inference_network import InDeed, NetworkConfig, network_preset
from indeed.networks.stages import stages

TINY = network_preset("tiny", 1)


FORMS = {
    "tiny": TINY,
    "paper": NetworkConfig(factor_width=8, factor_blocks=2, sparse_width=8, sparse_blocks=3, max_rank=5, patch_size=16),
    "transformer": replace(
        TINY, backbone="transformer", transformer_width=8, transformer_blocks=2, transformer_patch=4
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_architecture_shows_every_stage(form, drawn):
    figure, data = figures.architecture(FORMS[form], 16, 16)
    shown = [text.get_text() for text in drawn(figure).axes[0].texts]
    for stage in data:
        assert any(label.startswith(f"{stage.name}\n") for label in shown)
    if form == "paper":
        assert shown.count("to 8 × 16") == 2  # the mean, in front of the heads of f_A and f_B


def test_receptive_fields_have_the_size_of_what_is_not_zero(drawn):
    gradient = torch.zeros(20, 30)
    gradient[5:9, 2:13] = 1e-12
    gradient[7, 4] = 3
    figure, data = figures.receptive_fields({"box": gradient, "none": torch.zeros(20, 30)})
    assert data == {"box": (4, 11), "none": (0, 0)}
    shown = drawn(figure).axes[0].images[0].get_array()
    assert shown[7, 4] == 0
    assert np.ma.getmaskarray(shown)[0, 0] or np.isnan(shown[0, 0])


def test_gradient_flow_labels_every_cell(drawn):
    norms = {"fidelity": {"f_A": 2.0, "f_S": 0.5}, "rank": {"f_A": 0.1, "f_S": 0.0}}
    figure, data = figures.gradient_flow(norms)
    assert data.tolist() == [[2.0, 0.5], [0.1, 0.0]]
    assert sorted(text.get_text() for text in drawn(figure).axes[0].texts) == ["0", "1.0e-01", "2.0e+00", "5.0e-01"]


def test_maps_share_one_scale(drawn):
    flat = torch.ones(4, 4)
    rows = {"a": {"x": 0 * flat, "y": 2 * flat}, "b": {"x": flat, "y": torch.eye(4)}}
    figure, data = figures.maps(rows, label="grey levels")
    assert data["b"]["y"].tolist() == torch.eye(4).tolist()
    limits = {ax.images[0].get_clim() for ax in drawn(figure).axes[:4]}
    assert limits == {(0, 2)}


def test_module_shares_fill_the_bars(drawn):
    figure, data = figures.module_shares({"tiny": stages(TINY, 16, 16)})
    model = InDeed(TINY)
    assert {name: values[0] for name, values in data["tiny"].items()} == {
        name: parameter_count(module) for name, module in model.named_children()
    }
    for ax in drawn(figure).axes:
        assert sum(bar.get_width() for bar in ax.patches) == pytest.approx(100)
