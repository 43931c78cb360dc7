"""Anomalies are what they state: Y = U_N + U_A exactly, seen where the mask is and nowhere else, as often as asked."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d

from indeed.data.patches import PatchSampler
from indeed.images import anomaly_families, anomaly_synthesis
from indeed.learning.loading import Sample, draw_batch

FAMILIES = sorted(anomaly_families.FAMILIES)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def textured(batch: int = 3, channel: int = 1, height: int = 24, width: int = 32) -> torch.Tensor:
    """Smooth patterns with a little noise, in [0.3, 0.7]."""
    phase = torch.arange(1.0, batch * channel + 1).view(batch, channel, 1, 1)
    waves = torch.sin(phase + 0.5 * torch.arange(height)[:, None]) * torch.cos(0.3 * phase * torch.arange(width))
    return 0.5 + 0.15 * waves + 0.05 * (2 * torch.rand(waves.shape, generator=seeded()) - 1)


def bounding_box(mask: torch.Tensor) -> tuple[slice, slice]:
    rows, columns = (mask.any(axis).nonzero().flatten() for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def assert_is_anomalous(sample: anomaly_synthesis.AnomalySample, area: tuple[float, float], contrast: float) -> None:
    assert torch.equal(sample.observed - sample.normal, sample.anomaly)
    assert torch.equal(sample.mask, (sample.anomaly != 0).any(0))
    assert (sample.anomaly[:, sample.mask].abs().amax(0) >= anomaly_families.VISIBLE).all()
    assert sample.anomaly[:, sample.mask].abs().mean() >= contrast
    share = sample.mask.double().mean().item()
    assert 0 < area[0] <= share <= area[1] < 1
    assert sample.observed.min() >= 0
    assert sample.observed.max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_anomaly_is_exact_visible_and_within_its_bounds_whatever_the_seed(family):
    for normal in (textured(), textured(channel=3, height=16, width=16)):
        for seed in range(25):
            sample = anomaly_synthesis.anomalous(normal, seeded(seed), families=(family,), clean=0)
            assert sample.family == (family,) * 3
            for one in zip(*sample[:4], strict=True):
                assert_is_anomalous(
                    anomaly_synthesis.AnomalySample(*one, (family,)),
                    anomaly_families.FAMILIES[family].area,
                    anomaly_families.CONTRAST,
                )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_even_an_image_of_one_colour_gets_a_visible_anomaly(family, level):
    flat = torch.full((3, 32, 20), level, dtype=torch.float64)
    for seed in range(2):
        sample = anomaly_synthesis.anomalous_sample(flat, lambda _: flat, seeded(seed), families=(family,), clean=0)
        assert_is_anomalous(sample, anomaly_families.FAMILIES[family].area, anomaly_families.CONTRAST)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_bounds_of_area_and_contrast_can_be_chosen(family):
    normal = textured(1, height=48)[0]
    for seed in range(10):
        sample = anomaly_synthesis.anomalous_sample(
            normal, lambda _: normal, seeded(seed), families=(family,), clean=0, area=(0.01, 0.05), contrast=0.06
        )
        assert_is_anomalous(sample, (0.01, 0.05), 0.06)


@pytest.mark.parametrize("family", ["cutpaste", "scar"])
@pytest.mark.parametrize("foreign", [False, True])
def test_only_foreign_matter_brings_greys_that_the_image_does_not_have(family, foreign):
    dark, bright = 0.1 * textured(1)[0], torch.full((1, 40, 40), 0.9, dtype=torch.float64)
    sample = anomaly_synthesis.anomalous_sample(
        dark, lambda _: bright, seeded(), families=(family,), clean=0, contrast=0.01, foreign=foreign
    )
    assert (sample.observed.max() > 0.5) == foreign


def test_a_clean_sample_is_the_normal_image():
    normal = textured()
    sample = anomaly_synthesis.anomalous(normal, seeded(), clean=1)
    assert torch.equal(sample.observed, normal)
    assert torch.equal(sample.normal, normal)
    assert not sample.anomaly.any()
    assert not sample.mask.any()
    assert sample.family == ("clean",) * 3


@pytest.mark.slow
def test_clean_samples_and_families_are_as_frequent_as_asked_for():
    count = 400
    images = textured(1, height=16, width=16).expand(count, 1, 16, 16)
    sample = anomaly_synthesis.anomalous(images, seeded(), clean=0.25)
    for name, share in (("clean", 0.25), ("perlin", 0.5), ("cutpaste", 0.25)):
        assert abs(sample.family.count(name) / count - share) < 4 * math.sqrt(share * (1 - share) / count)
    empty = torch.tensor([name == "clean" for name in sample.family])
    assert torch.equal(~sample.mask.any(2).any(1), empty)


def test_the_same_seed_gives_the_same_anomalies_and_another_seed_others():
    normal = textured(4)
    first, again, other = (anomaly_synthesis.anomalous(normal, seeded(seed), families=FAMILIES) for seed in (1, 1, 2))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(first[:4], again[:4], strict=True))
    assert first.family == again.family
    assert not torch.equal(first.observed, other.observed)


def test_a_batch_is_its_samples_drawn_in_turn_with_the_other_images_as_textures():
    normal = textured(4, channel=3)
    batch = anomaly_synthesis.anomalous(normal, seeded(5), families=FAMILIES)
    generator = seeded(5)
    for index in range(4):
        others = [image for other, image in enumerate(normal) if other != index]

        def one_of(generator, others=others):
            return others[int(torch.rand(1, generator=generator, dtype=torch.float64) * len(others))]

        sample = anomaly_synthesis.anomalous_sample(normal[index], one_of, generator, families=FAMILIES)
        assert sample.family == batch.family[index : index + 1]
        for alone, together in zip(sample[:4], batch[:4], strict=True):
            assert torch.equal(alone, together[index])


def test_a_sample_of_a_training_run_depends_on_its_index_alone():
    patches = PatchSampler([(255 * image).to(torch.uint8) for image in textured()], 16)

    def draw(generator):
        sample = anomaly_synthesis.anomalous_sample(patches(generator), patches, generator, clean=0)
        return Sample(sample.observed, sample.normal)

    together, alone = draw_batch(draw, range(5, 9)), draw_batch(draw, [7])
    assert torch.equal(together.observed[2:3], alone.observed)
    assert (together.observed != together.target).flatten(1).any(1).all()


def test_textures_come_from_the_images_given_of_any_size():
    normal = torch.zeros(1, 1, 16, 24)
    grey = torch.full((1, 9, 40), 0.5)
    sample = anomaly_synthesis.anomalous(normal, seeded(), families=("perlin",), clean=0, textures=[grey])
    # One shift and one opacity: what is blended in has one value, as the texture does.
    values = sample.anomaly[0][:, sample.mask[0]]
    assert torch.allclose(values, values[:, :1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_generator_of_the_processor_gives_the_same_anomalies_on_a_gpu():
    normal = textured(channel=3)
    here, there = (anomaly_synthesis.anomalous(image, seeded(), families=FAMILIES) for image in (normal, normal.cuda()))
    assert here.family == there.family
    assert torch.equal(here.mask, there.mask.cpu())
    assert torch.allclose(here.anomaly, there.anomaly.cpu(), atol=1e-5)


def test_perlin_noise_interpolates_the_planes_at_the_corners():
    angles = 2 * math.pi * torch.rand(4, 5, generator=seeded(), dtype=torch.float64)
    gradients = torch.stack((angles.sin(), angles.cos()), -1)
    y, x = (limit * torch.rand(50, generator=seeded(seed), dtype=torch.float64) for seed, limit in ((1, 3), (2, 4)))
    for value, row, column in zip(anomaly_families.perlin_noise(gradients, y, x), y.tolist(), x.tolist(), strict=True):
        total = 0.0
        for i in (math.floor(row), math.floor(row) + 1):
            for j in (math.floor(column), math.floor(column) + 1):
                down, right = abs(row - i), abs(column - j)
                weight = math.prod(1 - t**3 * (10 - 15 * t + 6 * t**2) for t in (down, right))
                total += weight * (gradients[i, j, 0].item() * (row - i) + gradients[i, j, 1].item() * (column - j))
        assert value.item() == pytest.approx(math.sqrt(2) * total, abs=1e-12)


def test_the_largest_perlin_noise_is_one():
    diagonal = math.sqrt(0.5)
    # All four gradients point to the middle of the cell.
    gradients = diagonal * torch.tensor([[[1.0, 1.0], [1.0, -1.0]], [[-1.0, 1.0], [-1.0, -1.0]]], dtype=torch.float64)
    y, x = torch.meshgrid(*2 * [torch.linspace(0, 1 - 1e-9, 41, dtype=torch.float64)], indexing="ij")
    noise = anomaly_families.perlin_noise(gradients, y, x)
    assert noise.max().item() == pytest.approx(1, abs=1e-12)
    assert noise[20, 20] == noise.max()


@pytest.mark.slow
def test_no_perlin_mask_is_empty_or_everything():
    shares = [anomaly_families.perlin_mask(40, 24, seeded(seed)).double().mean().item() for seed in range(200)]
    assert 0.002 <= min(shares)
    assert max(shares) <= 0.3
    assert len(set(shares)) > 100


def test_a_blend_of_draem():
    normal, texture = textured(2)
    mask = anomaly_families.perlin_mask(24, 32, seeded())
    b, M = 0.3, mask.float()
    expected = (1 - M) * normal + (1 - b) * M * texture + b * M * normal
    observed = anomaly_families.blend(normal, texture, mask, 1 - b)
    assert torch.allclose(observed, expected)
    assert torch.equal(observed[:, ~mask], normal[:, ~mask])
    assert torch.allclose(anomaly_families.blend(normal, texture, mask, 1.0)[:, mask], texture[:, mask])


def test_cutpaste_fills_a_rectangle_with_a_slightly_recoloured_one_of_the_source():
    normal, source = torch.zeros(2, 16, 20, dtype=torch.float64), textured(1, 2, 14, 17)[0].double()
    for seed in range(5):
        pasted = anomaly_families.cutpaste(normal, source, seeded(seed), area=(0.05, 0.15))
        mask = (pasted != 0).any(0)
        rows, columns = bounding_box(mask)
        assert mask[rows, columns].all()
        patch = pasted[:, rows, columns].flatten(1)
        patch = patch - patch.mean(1, keepdim=True)
        windows = source.unfold(1, rows.stop - rows.start, 1).unfold(2, columns.stop - columns.start, 1)
        residuals, gains = [], []
        for window in windows.flatten(1, 2).flatten(2).transpose(0, 1):
            centred = window - window.mean(1, keepdim=True)
            gains.append(((patch * centred).sum() / centred.square().sum()).item())
            residuals.append((patch - gains[-1] * centred).abs().max().item())
        best = int(np.argmin(residuals))
        assert residuals[best] < 1e-12
        assert 0.9 <= gains[best] <= 1.1


def test_a_scar_is_a_thin_rectangle():
    normal, source = torch.zeros(1, 96, 96), torch.ones(1, 96, 96)
    directions = []
    for seed in range(20):
        mask = anomaly_families.scar(normal, source, seeded(seed), area=(0.02, 0.05))[0] != 0
        assert 0.018 < mask.double().mean() < 0.055
        short, long = np.linalg.eigvalsh(np.cov(mask.nonzero().double().numpy().T))
        # A uniform rectangle has variances of side^2 / 12.
        assert 2 * 0.9 < math.sqrt(long / short) < 10 * 1.1
        assert 12 * math.sqrt(long * short) == pytest.approx(mask.sum().item(), rel=0.05)
        directions.append(int(mask.any(1).sum() > mask.any(0).sum()))
    assert 0 < sum(directions) < 20


def test_a_blemish_is_one_grey_within_an_ellipse_and_softer_towards_its_edge():
    normal = torch.full((3, 96, 96), 0.5, dtype=torch.float64)
    grounds = []
    for seed in range(30):
        drawn = anomaly_families.blemish(normal, normal, seeded(seed), area=(0.01, 0.03))
        change = drawn - normal
        # towards one colour by an opacity that all channels share
        depth = change.flatten(1).abs().amax(1, keepdim=True)
        profiles = change.flatten(1).abs()[depth[:, 0] > 0] / depth[depth[:, 0] > 0]
        assert (profiles - profiles[0]).abs().max() < 1e-5
        marked = (change != 0).any(0)
        if marked.sum() > 60:  # within the image
            inside = profiles[0].reshape(96, 96)
            rim = marked & ~(avg_pool2d(marked[None].double(), 3, 1, 1)[0] > 0.999)
            assert inside[rim].mean() < inside[marked].mean()
            assert marked.double().mean() < 1.3 * 0.03  # the rough edge may lie outside of the ellipse
        grounds.append(change.mean() > 0)
    assert 0 < sum(grounds) < 30


def test_poisson_paste_has_the_laplacian_of_the_source_and_the_border_of_the_background():
    background, source = torch.rand(2, 3, 13, 10, generator=seeded(), dtype=torch.float64)
    pasted = anomaly_families.poisson_paste(background, source)

    def laplacian(image):
        inner = image[:, 1:-1, 1:-1]
        return image[:, 2:, 1:-1] + image[:, :-2, 1:-1] + image[:, 1:-1, 2:] + image[:, 1:-1, :-2] - 4 * inner

    assert torch.allclose(laplacian(pasted), laplacian(source), rtol=0, atol=1e-12)
    border = torch.ones(13, 10, dtype=torch.bool)
    border[1:-1, 1:-1] = False
    assert torch.equal(pasted[:, border], background[:, border])


def test_poisson_paste_is_the_sparse_solution():
    from scipy.sparse import diags_array, eye_array, kron
    from scipy.sparse.linalg import spsolve

    background, source = torch.rand(2, 1, 7, 9, generator=seeded(), dtype=torch.float64)
    rows, columns = (diags_array([1.0, -2.0, 1.0], offsets=[-1, 0, 1], shape=(n, n)) for n in (7, 9))
    laplacian = (kron(rows, eye_array(9)) + kron(eye_array(7), columns)).tocsr()
    inner = np.zeros((7, 9), dtype=bool)
    inner[1:-1, 1:-1] = True
    known, unknown = np.flatnonzero(~inner), np.flatnonzero(inner)
    boundary = background[0].numpy().ravel()[known]
    right = (laplacian @ source[0].numpy().ravel())[unknown] - laplacian[unknown][:, known] @ boundary
    solution = spsolve(laplacian[unknown][:, unknown].tocsc(), right)
    pasted = anomaly_families.poisson_paste(background, source)[0].numpy()
    np.testing.assert_allclose(pasted[1:-1, 1:-1].ravel(), solution, atol=1e-12)


def test_pasting_an_image_on_itself_changes_nothing():
    image = textured(1)[0]
    assert torch.allclose(anomaly_families.poisson_paste(image, image - 0.1), image, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"normal": torch.rand(1, 15, 32)}, "height, width"),
        ({"normal": torch.full((1, 16, 16), 1.5)}, "normal"),
        ({"normal": torch.full((1, 16, 16), math.nan)}, "normal"),
        ({"families": ()}, "families"),
        ({"families": ("clean",)}, "families"),
        ({"clean": 1.5}, "clean"),
        ({"clean": math.nan}, "clean"),
        ({"area": (0.0, 0.1)}, "area"),
        ({"area": (0.2, 0.1)}, "area"),
        ({"area": (0.1, 1.0)}, "area"),
        ({"area": (0.97, 0.98), "families": ("perlin",)}, "area"),
        ({"contrast": 1.0}, "contrast"),
        ({"contrast": 0.99, "families": ("scar",)}, "area, contrast"),
        ({"textures": lambda _: torch.rand(3, 16, 16), "families": ("perlin",)}, "textures"),
    ],
)
def test_bad_arguments_are_named(change, name):
    arguments = {"normal": torch.full((1, 16, 16), 0.5), "textures": lambda _: torch.rand(1, 16, 16), "clean": 0.0}
    with pytest.raises(ValueError, match=f"^{name}: got"):
        anomaly_synthesis.anomalous_sample(**arguments | change, generator=seeded())


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda x, g: anomaly_synthesis.anomalous(x[:0], g), "normal"),
        (lambda x, g: anomaly_synthesis.anomalous(x, g, textures=[]), "textures"),
        (lambda x, g: anomaly_families.blend(x[0], x[0], x[0, 0] > 0, 0.0), "opacity"),
        (lambda x, g: anomaly_families.perlin_mask(8, 16, g), "height, width"),
        (lambda x, g: anomaly_families.cutpaste(x[0], x[0, :, :1], g), "source"),
        (lambda x, g: anomaly_families.cutpaste(x[0], x[0], g, area=(0.0, 0.1)), "area"),
        (lambda x, g: anomaly_families.scar(x[0], x[0], g, area=(0.0, 0.1)), "area"),
        (lambda x, g: anomaly_families.poisson_paste(x[0], x[0, :, 1:]), "background, source"),
        (lambda x, g: anomaly_families.poisson_paste(x[0, :, :2], x[0, :, :2]), "background, source"),
    ],
)
def test_bad_arguments_of_the_parts_are_named(call, name):
    with pytest.raises(ValueError, match=f"^{name}: got"):
        call(torch.full((1, 1, 16, 16), 0.5), seeded())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_camouflaged_anomaly_has_the_mean_of_what_it_hides(family):
    normal = 0.4 + 0.2 * torch.rand(3, 64, 64, generator=seeded(0))
    dark = 0.3 * torch.rand(3, 128, 128, generator=seeded(1))
    means = {}
    for camouflage in (0.0, 1.0):
        generator, differences = seeded(2), []
        for _ in range(8):
            sample = anomaly_synthesis.anomalous_sample(
                normal, lambda _: dark, generator, families=(family,), clean=0, foreign=True, camouflage=camouflage
            )
            assert torch.equal(sample.observed - normal, sample.anomaly)
            assert sample.anomaly[:, sample.mask].abs().mean() >= anomaly_families.CONTRAST
            differences.append(sample.anomaly[:, sample.mask].mean(1).abs().max().item())
        means[camouflage] = max(differences)
    assert means[1.0] < 0.02 < means[0.0]  # clipping, and what is no longer visible, leave little
