"""Networks that reconstruct the normal image: convolutional autoencoder and DRAEM."""

import pytest
import torch
from jaxtyping import TypeCheckError
from skimage.metrics import structural_similarity
from sklearn.metrics import roc_auc_score
from torch.nn import functional

from indeed.baselines.classical_detectors import ClassicalDetector
from indeed.baselines.reconstruction import (
    AUTOENCODER_TASK,
    DRAEM,
    DRAEM_TASK,
    Autoencoder,
    AutoencoderConfig,
    DRAEMConfig,
    EncoderDecoder,
    autoencoder_preset,
    draem_preset,
    load_autoencoder,
    load_draem,
)
from indeed.baselines.reconstruction_losses import draem_losses, focal_loss, ssim_map
from indeed.bayes.objectives import anomaly_supervision
from indeed.bayes.variational_family import Draw
from indeed.learning.loading import Batch, Sample
from indeed.learning.training.config import TrainingConfig
from indeed.learning.training.trainer import Trainer
from indeed.networks.backbones import parameter_count
from indeed.networks.checkpoint import CheckpointError, save_checkpoint, shipped_checkpoint

SIDE = 32
CONFIG = TrainingConfig(
    steps=150,
    batch_size=8,
    learning_rate=1e-2,
    warmup_steps=10,
    ema_decay=0.9,
    variational=False,
    orthogonality_weight=0.0,
    log_every=50,
)
LOADERS = {"autoencoder": load_autoencoder, "DRAEM": load_draem}
TASKS = {"autoencoder": AUTOENCODER_TASK, "DRAEM": DRAEM_TASK}


def small(name, channels=1):
    torch.manual_seed(0)
    if name == "autoencoder":
        return Autoencoder(autoencoder_preset("tiny", channels))
    return DRAEM(draem_preset("tiny", channels))


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def texture(generator):
    """Texture of rank one and a little noise, with a phase of its own."""
    grid = torch.arange(SIDE)
    rows, columns = 6.3 * torch.rand(2, generator=generator)
    wave = torch.sin(0.7 * grid + rows)[:, None] * torch.cos(0.4 * grid + columns)
    return (0.5 + 0.15 * wave + 0.01 * torch.randn(SIDE, SIDE, generator=generator))[None]


def with_blobs(count, seed=99):
    """Textures with a bright disc somewhere, and where it is."""
    generator = torch.Generator().manual_seed(seed)
    row, column = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    images = torch.stack([texture(generator) for _ in range(count)])
    centre = torch.randint(5, SIDE - 5, (2, count, 1, 1), generator=generator)
    mask = (row - centre[0]).square() + (column - centre[1]).square() < 3.5**2
    return images + 0.2 * mask[:, None], mask


def good(generator):
    image = texture(generator)
    return Sample(image, image)


def with_rectangles(generator):
    """Anomalies of another kind than those tested: brighter or darker rectangles, in two of three samples."""
    image = texture(generator)
    spoiled = image.clone()
    if torch.rand((), generator=generator) < 2 / 3:
        height, width = torch.randint(3, 12, (2,), generator=generator).tolist()
        top, left = (int(torch.randint(0, SIDE - side, (), generator=generator)) for side in (height, width))
        change = 0.8 * (torch.rand((), generator=generator) - 0.5)
        spoiled[:, top : top + height, left : left + width] += change
    return Sample(spoiled, image)


@pytest.mark.slow
def test_the_unchanged_loop_trains_an_autoencoder_of_good_textures_that_finds_blobs(tmp_path):
    options = {"build": Autoencoder, "task": AUTOENCODER_TASK}
    run = Trainer(autoencoder_preset("tiny"), CONFIG, good, tmp_path, **options)
    run.run(progress=False)
    tested, mask = with_blobs(16)
    clean = torch.stack([texture(torch.Generator().manual_seed(seed)) for seed in range(1000, 1016)])
    error = (run.average(clean) - clean).square().mean()
    assert error < 0.3 * clean.var()  # it has learned the texture, not its mean
    assert roc_auc_score(mask.numpy().ravel(), run.average.map(tested).numpy().ravel()) > 0.9


@pytest.mark.slow
def test_the_unchanged_loop_trains_draem_on_rectangles_and_it_finds_blobs(tmp_path):
    run = Trainer(draem_preset("tiny"), CONFIG, with_rectangles, tmp_path, build=DRAEM, task=DRAEM_TASK)
    run.run(stop_at=80, progress=False)
    tested, mask = with_blobs(16)
    assert roc_auc_score(mask.numpy().ravel(), run.average.map(tested).numpy().ravel()) > 0.95


@pytest.mark.parametrize("name", LOADERS)
class TestBoth:
    def test_it_is_a_detector(self, name):
        model = small(name).eval()
        assert isinstance(model, ClassicalDetector)
        found = model.map(torch.rand(3, 1, 21, 9))
        assert found.shape == (3, 21, 9)
        assert bool((found >= 0).all())
        assert not found.requires_grad

    def test_a_batch_gives_what_a_loop_gives(self, name):
        model, images = small(name).double().eval(), random(3, 1, 16, 16)
        torch.testing.assert_close(model.map(images), torch.cat([model.map(one[None]) for one in images]))

    def test_a_checkpoint_gives_the_same_network_back(self, name, tmp_path):
        model, path = small(name), tmp_path / "model.safetensors"
        model.train()(torch.rand(2, 1, 16, 16))  # running statistics that differ from the initial ones
        save_checkpoint(path, model, {"steps": 7})
        again, record = LOADERS[name](path)
        image = torch.rand(1, 1, 16, 16)
        assert torch.equal(again.map(image), model.eval().map(image))
        assert record == {"steps": 7}

    @pytest.mark.shipped
    def test_the_checkpoint_of_another_network_is_refused(self, name, tmp_path):
        load = LOADERS[name]
        with pytest.raises(CheckpointError, match=f"holds no {name}"):
            load(shipped_checkpoint("denoise_grey"))
        (other,) = set(LOADERS) - {name}
        save_checkpoint(tmp_path / "other.safetensors", small(other), {})
        with pytest.raises(CheckpointError, match=f"other.safetensors: holds no {name}"):
            load(tmp_path / "other.safetensors")
        with pytest.raises(CheckpointError, match="no such file"):
            load(tmp_path / "none.safetensors")

    def test_other_channels_are_refused(self, name):
        with pytest.raises(ValueError, match="y: got 3 channels, expected 1"):
            small(name).eval().map(torch.rand(1, 3, 8, 8))

    def test_every_parameter_is_learned(self, name):
        model, batch = small(name), Batch(torch.rand(2, 1, 16, 16), torch.rand(2, 1, 16, 16), (0, 1))
        task = TASKS[name]
        task.objective(task.loss(model, batch, CONFIG), CONFIG, 256).backward()
        assert all(bool(parameter.grad.any()) for parameter in model.parameters())


@pytest.mark.parametrize("channels", [1, 3])
def test_the_cpu_sizes_have_half_a_million_to_a_million_parameters(channels):
    for model in (Autoencoder(autoencoder_preset("cpu", channels)), DRAEM(draem_preset("cpu", channels))):
        assert 500_000 < parameter_count(model) < 1_000_000


def test_bad_sizes_and_names_are_named():
    for config, options in (
        (AutoencoderConfig, {"channels": 2}),
        (AutoencoderConfig, {"bottleneck": 0}),
        (DRAEMConfig, {"channels": 4}),
        (DRAEMConfig, {"depth": 0}),
        (DRAEMConfig, {"width": 0}),
    ):
        with pytest.raises(ValueError, match=next(iter(options))):
            config(**options)
    for preset in (autoencoder_preset, draem_preset):
        with pytest.raises((ValueError, TypeCheckError), match="paper"):
            preset("paper")


class TestEncoderDecoder:
    @pytest.mark.parametrize("size", [(1, 1), (5, 3), (16, 24)])
    @pytest.mark.parametrize("skips", [False, True])
    def test_an_image_of_any_size_keeps_it(self, size, skips):
        network = EncoderDecoder(2, 3, width=4, depth=3, skips=skips).eval()
        assert network(torch.rand(1, 2, *size)).shape == (1, 3, *size)

    def test_without_skips_all_passes_through_the_bottleneck(self):
        network = EncoderDecoder(1, 1, width=4, depth=2, skips=False, bottleneck=3).eval()
        seen = []
        network.squeeze[0].register_forward_hook(lambda module, inputs, output: seen.append(output))
        y = torch.rand(1, 1, 16, 16)
        network(y)
        assert seen[0].shape == (1, 3, 4, 4)
        torch.nn.init.zeros_(network.squeeze[0].weight)
        assert torch.equal(network(y), network(1 - y))


class TestLosses:
    def test_the_loss_of_the_autoencoder_is_the_squared_error(self):
        model, normal = small("autoencoder").double(), random(3, 1, 12, 16)
        y = normal + 0.1 * random(3, 1, 12, 16, seed=1)
        terms = AUTOENCODER_TASK.loss(model, Batch(y, normal, (0, 1, 2)), CONFIG)
        loss = AUTOENCODER_TASK.objective(terms, CONFIG, 12 * 16)
        torch.testing.assert_close(loss, (model(y) - normal).square().mean())
        # up to a factor and a constant it is Eq. 45 of a network whose S is what the reconstruction leaves
        empty = y.new_zeros(3, 1, 12, 0), y.new_zeros(3, 1, 16, 0)
        eq_45 = anomaly_supervision(Draw(*empty, y - model(y)), normal, y - normal, target_precision=2.0)
        torch.testing.assert_close(eq_45 - normal.square().sum((1, 2, 3)), terms[0])

    @pytest.mark.parametrize("channels", [1, 3])
    def test_the_loss_of_draem_is_the_mean_of_its_three_parts_with_the_changed_pixels_as_mask(self, channels):
        model, normal = small("DRAEM", channels).double(), random(2, channels, 16, 12)
        y = normal.clone()
        y[0, -1, 3:7, 2:9] += 0.25
        mask = torch.zeros(2, 16, 12, dtype=torch.bool)
        mask[0, 3:7, 2:9] = True
        terms = DRAEM_TASK.loss(model, Batch(y, normal, (0, 1)), CONFIG)
        image, logits = model(y)
        parts = (image - normal).square(), 1 - ssim_map(image, normal), focal_loss(logits, mask)
        for term, part in zip(terms, parts, strict=True):
            torch.testing.assert_close(term.mean() / y[0].numel(), part.mean())
        assert DRAEM_TASK.terms == ("squared", "structural", "focal")
        total = DRAEM_TASK.objective(terms, CONFIG, y[0].numel())
        torch.testing.assert_close(total, sum(part.mean() for part in parts))

    def test_a_perfect_answer_costs_nothing_and_a_wrong_one_in_each_part(self):
        normal, mask = random(2, 1, 16, 16), random(2, 16, 16, seed=1) < 0.2
        right = torch.where(mask, 50.0, -50.0).double()
        for part in draem_losses(normal, right, normal, mask):
            torch.testing.assert_close(part, torch.zeros(2, dtype=torch.float64))
        for part in draem_losses(1 - normal, -right, normal, mask):
            assert part.min() > 0.1

    def test_the_focal_loss_is_the_weighted_cross_entropy(self):
        logits, mask = 6 * random(2, 5, 4) - 3, random(2, 5, 4, seed=1) < 0.4
        probability = torch.where(mask, logits.sigmoid(), 1 - logits.sigmoid())
        entropy = functional.binary_cross_entropy_with_logits(logits, mask.double(), reduction="none")
        torch.testing.assert_close(focal_loss(logits, mask), (1 - probability) ** 2 * entropy)
        torch.testing.assert_close(focal_loss(logits, mask, focus=0.5), (1 - probability).sqrt() * entropy)

    def test_the_focal_loss_of_a_certain_network_has_a_finite_gradient(self):
        logits = torch.tensor([[[-200.0, 0.0, 200.0]]], requires_grad=True)
        for mask in (torch.zeros(1, 1, 3, dtype=torch.bool), torch.ones(1, 1, 3, dtype=torch.bool)):
            (gradient,) = torch.autograd.grad(focal_loss(logits, mask).sum(), logits)
            assert bool(gradient.isfinite().all())


class TestSsimMap:
    def test_away_from_the_border_it_is_that_of_scikit_image(self):
        one, other = random(2, 3, 20, 24), random(2, 3, 20, 24, seed=1)
        ours = ssim_map(one, other)[..., 5:-5, 5:-5]
        for index in range(2):
            _, theirs = structural_similarity(
                one[index].numpy(),
                other[index].numpy(),
                data_range=1.0,
                channel_axis=0,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
                full=True,
            )
            torch.testing.assert_close(ours[index], torch.from_numpy(theirs)[..., 5:-5, 5:-5])

    def test_the_border_goes_on_by_reflection(self):
        one, other = random(1, 1, 16, 14), random(1, 1, 16, 14, seed=1)
        inside = [functional.pad(image, (5, 5, 5, 5), mode="reflect") for image in (one, other)]
        torch.testing.assert_close(ssim_map(one, other), ssim_map(*inside)[..., 5:-5, 5:-5])

    def test_equal_images_are_similar_at_any_size_and_the_gradient_is_finite(self):
        for size in ((1, 1), (3, 20)):
            image = torch.full((1, 1, *size), 0.5, requires_grad=True)
            similarity = ssim_map(image, image.detach())
            torch.testing.assert_close(similarity, torch.ones_like(similarity))
            (gradient,) = torch.autograd.grad(similarity.sum(), image)
            assert bool(gradient.isfinite().all())

    def test_other_shapes_are_refused(self):
        with pytest.raises((ValueError, TypeCheckError), match="estimate"):
            ssim_map(random(1, 1, 4, 4), random(1, 1, 4, 5))


def test_the_maps_of_the_autoencoder_are_its_residual_and_its_dissimilarity():
    model, y = small("autoencoder", channels=3).double().eval(), random(2, 3, 16, 16)
    with torch.no_grad():
        image = model(y)
    torch.testing.assert_close(model.map(y), ((image - y) ** 2).sum(1))
    torch.testing.assert_close(model.map(y, form="ssim"), (1 - ssim_map(y, image)).sum(1))
    with pytest.raises((ValueError, TypeCheckError), match="mse"):
        model.map(y, form="mse")
