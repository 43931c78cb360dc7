from functools import partial

import pytest
import torch
from sklearn.metrics import average_precision_score

from indeed.baselines.classical_detectors import PrincipalComponents, fit_detector
from indeed.baselines.reconstruction import load_autoencoder, load_draem
from indeed.bayes.anomaly_maps import smoothed
from indeed.images.anomaly_synthesis import Synthesis
from indeed.learning.training.trainer import Trainer
from indeed.networks.checkpoint import CheckpointError, read_record, shipped_checkpoint
from indeed.recipes import detector, rivals
from indeed.recipes.choice import SMOOTHING, chosen_map, synthetic_anomalies
from indeed.recipes.detector import PART_SURFACE, TEXTURE_SURFACE, surface_of, validation_on
from indeed.recipes.good_images import UNSEEN_FAMILIES, good_images
from indeed.recipes.rivals import PATCH, choose, classical, train_rival, trained

SMOKE = {"data": "textures", "profile": "smoke", "progress": False}
MODELS = ("autoencoder", "draem")


@pytest.fixture(scope="module", autouse=True)
def small():
    """Few anomalies to choose settings on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rivals, "synthetic_anomalies", partial(synthetic_anomalies, least=3))
        patch.setattr(detector, "chosen_map", partial(chosen_map, least=3))
        patch.setattr(detector, "validation_on", partial(validation_on, count=4))
        yield


@pytest.fixture(scope="module")
def networks(small, tmp_path_factory):
    """One step of each network."""
    folder = tmp_path_factory.mktemp("networks")
    return {model: train_rival(model, folder=folder, steps=1, **SMOKE) for model in (*MODELS, "indeed")}


@pytest.fixture
def samples():
    images = list(torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(1)))
    return synthetic_anomalies(images, Synthesis(("perlin",)), least=8)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_a_killed_training_continues_to_the_same_network(model, tmp_path, monkeypatch):
    two = SMOKE | {"steps": 2}
    load = load_draem if model == "draem" else load_autoencoder
    whole, record = load(train_rival(model, folder=tmp_path / "whole", **two))
    run = Trainer.run
    monkeypatch.setattr(Trainer, "run", lambda self, *_: run(self, stop_at=1, progress=False))
    path = train_rival(model, folder=tmp_path / "killed", **two)
    path.unlink()
    monkeypatch.setattr(Trainer, "run", run)
    resumed, again = load(train_rival(model, folder=tmp_path / "killed", **two))
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in whole.state_dict().items())
    assert record["map"] == again["map"]
    assert (record["task"], record["steps"], record["model"]) == ("detect", 2, model)


@pytest.mark.slow
def test_baselines_see_the_images_and_the_anomalies_that_indeed_sees(networks):
    records = [read_record(path)["record"] for path in networks.values()]
    for name in ("training_images", "validation_images", "side", "steps", "task"):
        assert len({record[name] for record in records}) == 1, name
    assert len({tuple(record["validation"]["families"]) for record in records}) == 1
    assert len({record["validation"]["seed"] for record in records}) == 1
    for name in ("noise_high", "learning_rate", "batch_size", "seed", "schedule", "ema_decay", "precision"):
        assert len({record["training"][name] for record in records}) == 1, name


@pytest.mark.slow
@pytest.mark.shipped
def test_trained_networks_come_back_with_their_settings(networks):
    images = torch.rand(1, 1, PATCH, PATCH, generator=torch.Generator().manual_seed(0))
    for model, path in networks.items():
        map_of, choice = trained(model, path)
        assert map_of(images).shape == (1, PATCH, PATCH)
        made = read_record(path)["record"]["map"]
        assert choice.option == (made["form"] if model == "indeed" else made["option"])
        assert choice.smoothing == made["smoothing"]
        assert 0 < choice.average_precision < 1
    with pytest.raises(CheckpointError, match="holds no DRAEM"):
        trained("draem", networks["autoencoder"])
    with pytest.raises(CheckpointError, match="expected a detector of anomalies"):
        trained("indeed", shipped_checkpoint("denoise_grey"))


def test_the_choice_is_the_best_of_all_maps_and_smoothings(samples):
    generator = torch.Generator().manual_seed(2)
    noisy = [sample.mask + 2 * torch.rand(sample.mask.shape, generator=generator) for sample in samples]
    index = {id(sample.observed): number for number, sample in enumerate(samples)}
    maps = {
        "noise": lambda images: torch.rand(images[:, 0].shape, generator=torch.Generator().manual_seed(3)),
        "right": lambda images: noisy[index[id(images)]],
    }
    truth = torch.cat([sample.mask.flatten() for sample in samples]).numpy()
    expected = {
        sigma: average_precision_score(
            truth, torch.cat([(smoothed(found, sigma) if sigma else found).flatten() for found in noisy]).numpy()
        )
        for sigma in SMOOTHING
    }
    choice = choose(maps, samples)
    assert choice.option == "right"
    assert choice.smoothing == max(expected, key=expected.get) > 0
    assert choice.average_precision == pytest.approx(expected[choice.smoothing], rel=1e-6)
    with pytest.raises(ValueError, match="maps: got none"):
        choose({}, samples)


@pytest.mark.slow
def test_a_classical_method_is_fitted_to_tiles_of_the_training_images_with_the_chosen_option(monkeypatch):
    fitted = []

    def fit(images, method, **options):
        fitted.append(images)
        return fit_detector(images, method, **options)

    monkeypatch.setattr(rivals, "fit_detector", fit)
    map_of, choice = classical("pca", "textures", [{"patch": 8, "explained": share} for share in (0.5, 0.9)])
    assert all(images.shape == (3 * 5 * 3, 1, PATCH, PATCH) for images in fitted)  # three images of 384 x 256 pixels
    first = good_images("textures", 1, PATCH).train[0][:, :PATCH, :PATCH].float() / 255
    assert torch.equal(fitted[0][0], first)
    share = float(choice.option.removeprefix("patch=8 explained="))
    assert share in (0.5, 0.9)
    expected = PrincipalComponents.fit(fitted[0], patch=8, explained=share).map(first[None])
    assert torch.equal(map_of(first[None]), expected)


def test_no_detector_of_textures_is_trained_or_set_on_the_families_of_the_test():
    assert not set(TEXTURE_SURFACE.synthesis.families) & set(UNSEEN_FAMILIES)
    assert set(UNSEEN_FAMILIES) <= set(PART_SURFACE.synthesis.families)
    assert (surface_of("textures"), surface_of("magnetic_tile")) == (TEXTURE_SURFACE, PART_SURFACE)
