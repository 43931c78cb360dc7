import pytest
import torch

from indeed.data.samples import sample_image
from indeed.networks.checkpoint import load_checkpoint, shipped_checkpoint
from indeed.networks.figures_of_merit import figures_of_merit


@pytest.mark.shipped
def test_noisy_psnr_is_that_of_the_noise():
    model, _ = load_checkpoint(shipped_checkpoint("denoise_grey"))
    merits = figures_of_merit(model, torch.full((1, 64, 64), 0.5), sigma=25, seed=0)
    assert merits.psnr_noisy == pytest.approx(20.17, abs=0.15)


@pytest.mark.shipped
@pytest.mark.parametrize(("name", "photograph"), [("denoise_grey", "camera"), ("denoise_color", "astronaut")])
def test_shipped_models_denoise_a_photograph_they_have_never_seen(name, photograph):
    model, _ = load_checkpoint(shipped_checkpoint(name))
    clean = sample_image(photograph)[:, 64:256, 128:320]
    for sigma in (15, 50):
        merits = figures_of_merit(model, clean, sigma, seed=0)
        assert merits.psnr > merits.psnr_noisy + 4
        assert merits.psnr > merits.psnr_low_rank
