import torch

from indeed.bayes.coordinate_ascent import free_energy
from indeed.bayes.generative_model import Hyperpriors
from indeed.experiments import free_energy_alone
from indeed.experiments.free_energy_alone import SEED, TABLE, clean_tiles
from indeed.images.noise import GREY_LEVEL, gaussian
from indeed.networks.inference_network import InDeed, network_preset


def test_training_for_the_free_energy_alone_lowers_it_on_other_tiles(tmp_path, monkeypatch):
    torch.manual_seed(0)
    network = InDeed(network_preset("tiny", 1))
    clean = clean_tiles(network.config.patch_size, "smoke")
    y = gaussian(clean, 25 * GREY_LEVEL, torch.Generator().manual_seed(SEED)).float()
    with torch.no_grad():
        before = free_energy(y, network(y)[0], Hyperpriors(), "scalar").item() / y[0].numel()
    monkeypatch.setattr(free_energy_alone, "load_checkpoint", lambda _: (network, {}))
    (row,) = TABLE.table("smoke", tmp_path, runs=tmp_path / "runs")
    assert float(row["free_energy"]) < before
    assert float(row["steps"]) == 4
    assert float(row["psnr"]) > 0
