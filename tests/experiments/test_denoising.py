import pytest
import torch

from indeed.data.samples import sample_image
from indeed.experiments.denoising import figures_of_merit, observe
from indeed.networks.checkpoint import load_checkpoint, shipped_checkpoint


def test_noisy_psnr_is_that_of_the_noise():
    model, _ = load_checkpoint(shipped_checkpoint("denoise_grey"))
    merits = figures_of_merit(model, torch.full((1, 64, 64), 0.5), sigma=25, seed=0)
    assert merits.psnr_noisy == pytest.approx(20.17, abs=0.15)


def test_noise_depends_on_the_seed_and_the_size_of_the_image_only():
    clean = torch.rand(3, 20, 24, generator=torch.Generator().manual_seed(1))
    noise = observe(clean, 50, seed=0) - clean
    torch.testing.assert_close(observe(torch.zeros_like(clean), 50, seed=0), noise)
    assert not torch.allclose(observe(clean, 50, seed=1) - clean, noise)
    assert bool((observe(clean, 50, seed=0) < 0).any())  # unclipped


@pytest.mark.parametrize(("name", "photograph"), [("denoise_grey", "camera"), ("denoise_color", "astronaut")])
def test_shipped_models_denoise_a_photograph_they_have_never_seen(name, photograph):
    model, _ = load_checkpoint(shipped_checkpoint(name))
    clean = sample_image(photograph)[:, 64:256, 128:320]
    for sigma in (15, 50):
        merits = figures_of_merit(model, clean, sigma, seed=0)
        assert merits.psnr > merits.psnr_noisy + 4
        assert merits.psnr > merits.psnr_low_rank
