"""Seams: an error where tiles overlap is found, whatever the picture; the shipped model has none that can be seen."""

import pytest
import torch

from indeed.data.samples import sample_image
from indeed.images.noise import seeded_gaussian
from indeed.images.tiling import overlap_zones
from indeed.networks import seams
from indeed.networks.checkpoint import load_checkpoint, shipped_checkpoint
from indeed.networks.inference_network import InDeed, network_preset
from indeed.networks.seams import seam_difference

TILE16 = InDeed(network_preset("tiny", 1))  # only the size of its tiles is looked at


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_an_error_that_grows_where_tiles_overlap_is_measured_exactly(monkeypatch, factor):
    clean = torch.rand(1, 64, 70, generator=torch.Generator().manual_seed(0))
    # Harder towards the right, so that another part of the picture would be no fair comparison.
    hardness = 0.01 + 0.1 * torch.linspace(0, 1, 70).expand(64, 70)

    def errors(model, image, overlap):
        top, left = (0, 0) if image[0, 0, 0] == clean[0, 0, 0] else (6, 6)
        zone = overlap_zones(*image.shape[1:], 16, overlap)
        place = hardness[top : top + image.shape[1], left : left + image.shape[2]]
        return image + place * torch.where(zone, factor, 1.0)

    monkeypatch.setattr(seams, "denoise", errors)
    expected = -20 * torch.log10(torch.tensor(factor)).item()
    assert seam_difference(TILE16, clean, clean, overlap=4) == pytest.approx(expected, abs=1e-3)


@pytest.mark.shipped
def test_seams_of_the_shipped_model_cannot_be_seen():
    model, _ = load_checkpoint(shipped_checkpoint("denoise_color"))
    tile = model.config.patch_size
    side = tile + 3 * (tile - tile // 4)
    clean = sample_image("astronaut")[:, :side, :side].contiguous()
    assert seam_difference(model, seeded_gaussian(clean, 25, seed=0), clean) > -0.05


def test_what_cannot_be_compared_is_named():
    clean = torch.zeros(1, 64, 40)
    with pytest.raises(ValueError, match="overlap: got 8, expected more than 0 and less than 8"):
        seam_difference(TILE16, clean, clean, overlap=8)
    with pytest.raises(ValueError, match=r"clean: got \(64, 40\) pixels, expected at least 52 a side"):
        seam_difference(TILE16, clean, clean, overlap=4)
