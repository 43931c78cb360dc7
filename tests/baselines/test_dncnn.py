from dataclasses import replace

import pytest
import torch

from indeed.baselines.dncnn import DNCNN_TASK, DnCNN, DnCNNConfig, dncnn_denoise, load_dncnn
from indeed.bayes.objectives import denoising_supervision
from indeed.bayes.variational_family import Draw
from indeed.learning.loading import Batch
from indeed.learning.training.config import training_preset
from indeed.networks.backbones import parameter_count
from indeed.networks.checkpoint import CheckpointError, load_checkpoint, save_checkpoint, shipped_checkpoint


def small(channels=1, **options):
    torch.manual_seed(0)
    return DnCNN(DnCNNConfig(channels=channels, depth=4, width=6, **options))


@pytest.mark.parametrize(("channels", "expected"), [(1, 556_096), (3, 558_400)])
def test_it_has_the_layers_of_its_paper(channels, expected):
    # 17 layers of 64 maps: 9c64 + 64, then 15 times 64*9*64 and BatchNorm's 128, then 64*9c
    assert parameter_count(DnCNN(DnCNNConfig(channels))) == expected


def test_a_pixel_sees_as_far_as_the_depth():
    model = small().eval()
    y = torch.rand(1, 1, 21, 21, requires_grad=True)
    model.noise(y)[0, 0, 10, 10].backward()
    seen = y.grad[0, 0].abs().sum(0).nonzero().flatten()
    assert seen.min() >= 10 - 4
    assert seen.max() <= 10 + 4


@pytest.mark.slow
def test_the_image_is_estimate_plus_noise():
    model = small(channels=3).eval()
    y = torch.rand(2, 3, 12, 16)
    torch.testing.assert_close(model(y) + model.noise(y), y)
    torch.testing.assert_close(dncnn_denoise(model, y[1]), model(y)[1])


def test_its_loss_is_the_squared_error():
    model = small().double()
    generator = torch.Generator().manual_seed(1)
    clean = torch.rand(3, 1, 10, 12, dtype=torch.float64, generator=generator)
    y = clean + 0.1 * torch.randn(clean.shape, dtype=torch.float64, generator=generator)
    config = replace(training_preset("tiny"), target_precision=200.0)
    terms = DNCNN_TASK.loss(model, Batch(y, clean, (0, 1, 2)), config)
    loss = DNCNN_TASK.objective(terms, config, clean[0].numel())
    torch.testing.assert_close(loss, 100 * (model(y) - clean).square().mean())
    # up to a constant it is Eq. 44 of a network without a low-rank part
    eq_44 = denoising_supervision(Draw(y.new_zeros(3, 1, 10, 0), y.new_zeros(3, 1, 12, 0), model(y)), clean, 200.0)
    torch.testing.assert_close(eq_44 - 100 * clean.square().sum((1, 2, 3)), terms[0])


def test_a_checkpoint_gives_the_same_network_back(tmp_path):
    model, path = small(), tmp_path / "dncnn.safetensors"
    model.train()(torch.rand(2, 1, 16, 16))  # running statistics that differ from the initial ones
    save_checkpoint(path, model, {"steps": 7})
    again, record = load_dncnn(path)
    image = torch.rand(1, 16, 16)
    assert torch.equal(dncnn_denoise(again, image), dncnn_denoise(model.eval(), image))
    assert record == {"steps": 7}


@pytest.mark.shipped
def test_the_checkpoint_of_another_network_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="holds no DnCNN"):
        load_dncnn(shipped_checkpoint("denoise_grey"))
    save_checkpoint(tmp_path / "dncnn.safetensors", small(), {})
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "dncnn.safetensors")
    with pytest.raises(CheckpointError, match="no such file"):
        load_dncnn(tmp_path / "none.safetensors")


def test_bad_sizes_and_channels_are_named():
    for options in ({"channels": 2}, {"depth": 2}, {"width": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            DnCNNConfig(**options)
    with pytest.raises(ValueError, match="channels"):
        small(channels=1).eval()(torch.rand(1, 3, 8, 8))
