"""Table 5: active generalisation to noise that the denoisers were not trained on, cell by cell.

``python -m indeed.experiments.table5 --help``. A cell is one data set, one method, one seed and one part of the images,
and has a row for each of these. The data sets are real camera noise and the shifts of :mod:`indeed.images.shifts` on
packaged photographs, where every setting was fixed. The protocol is that of :mod:`indeed.images.metrics`. Images are
taken whole; grey ones go through the grey model.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import torch

from indeed.bayes.conjugate_updates import solve_leaf_level
from indeed.bayes.generative_model import Hyperpriors
from indeed.checks import expect
from indeed.data.benchmarks import evenly
from indeed.data.camera_noise import CameraPair, LoadedPair, camera_pairs
from indeed.data.samples import SAMPLES, sample_image, sample_path
from indeed.experiments.methods import TABLE5_METHODS, TABLE5_SETS
from indeed.experiments.program import Cell, Job, Key, Table, Values, on_disk
from indeed.experiments.table5_methods import ADAPTATIONS, DEFAULT, REPLAYED, Item, Restored, psnr_of, restore
from indeed.experiments.table5_summary import gains, lines
from indeed.figures.active_generalisation import adaptation_gains
from indeed.images.metrics import ssim
from indeed.images.noise import GREY_LEVEL
from indeed.images.shifts import SHIFTS
from indeed.images.tiling import spread_tiles
from indeed.learning.adaptation.noise_replay import rms_noise_sd
from indeed.learning.diagnostics.discrepancy import FeatureTable, loss_coordinates
from indeed.learning.loading import sample_seed
from indeed.networks.checkpoint import Shipped, load_checkpoint, shipped_checkpoint
from indeed.networks.inference_network import InDeed
from indeed.record import Profile
from indeed.types import Image

TESTED = ("astronaut", "camera", "coffee", "flower", "grass", "gravel")
"""Photographs that the shifts are applied to."""
TEXTURES = ("grass", "gravel")
"""Those without a flat place, where the estimate takes texture for noise: a group of their own."""
PARTS = {"polyu": 5, "polyu_white": 5, "sidd_small": 8}
"""Parts of a set, 20 images each: of n parts, part k has every n-th image from the k-th on. Other sets have one."""


@dataclass(frozen=True)
class Size:
    """What a profile is."""

    images: int | None = None
    """Photographs that are tested; None: all."""
    crop: int = 512
    """Side of the largest centre of a packaged photograph that is taken."""
    steps: int | None = None
    """Adaptation steps; None: those of the method."""
    patch_size: int | None = None
    """Side of the patches that are adapted on; None: the network's."""


SIZES: dict[Profile, Size] = {"smoke": Size(images=2, crop=128, steps=2, patch_size=32), "cpu": Size()}
MODELS: dict[int, Shipped] = {1: "denoise_grey", 3: "denoise_color"}


def cells(profile: Profile) -> list[Values]:
    """Cells of a profile: (dataset, method, seed, part), for the sets that are on disk.

    ``smoke``: the shift ``demosaicked`` on two photographs. ``cpu``: of PolyU, all images for ``noisy``, ``indeed`` and
    the default, 20 for the other methods but ``replay_carried``, and a second seed for ``indeed`` and the default; on
    the other sets these and ``noisy``.

    At 0.25 s a step and one for a pass over 512 x 512 pixels, the default takes about 15 s for an image: 60 steps, and
    passes before, after and twice between. That makes some two hours of one core for PolyU, and ten minutes for the
    shifts. The cells are independent of each other.
    """
    if profile == "smoke":
        return [
            *(("demosaicked", method, 0, 0) for method in TABLE5_METHODS if method != "bm3d"),
            ("white", "indeed", 0, 0),
        ]
    methods = [name for name in TABLE5_METHODS if name != "replay_carried" and (name != "bm3d" or find_spec("bm3d"))]
    few = ["noisy", "indeed", DEFAULT]
    plan = {"polyu": methods, "sidd_small": methods, "polyu_white": few} | dict.fromkeys(SHIFTS, few)
    present = on_disk(plan, lambda name: _items(name, SIZES["cpu"]))
    found: list[Values] = [(name, method, 0, 0) for name in present for method in plan[name]]
    if "polyu" in present:
        found += [("polyu", method, 0, part) for part, method in product(range(1, PARTS["polyu"]), few)]
        found += [("polyu", method, 1, 0) for method in ("indeed", DEFAULT)]
    return found


def networks(key: Key, profile: Profile) -> dict[Path, str]:
    """Shipped denoisers that a method puts the images through."""
    if key["method"] != "indeed" and key["method"] not in ADAPTATIONS:
        return {}
    dataset = str(key["dataset"])
    chosen = _items(dataset, SIZES[profile])[int(key["part"]) :: PARTS.get(dataset, 1)]
    return {shipped_checkpoint(MODELS[item.channels]): "" for item in chosen}


def cell(job: Job, dataset: str, method: str, seed: int, part: int) -> Cell:
    """Make ready a cell.

    Parameters
    ----------
    job
        What it is measured with. The classical methods run on the CPU.
    dataset, method
        Names in :data:`indeed.experiments.methods.TABLE5_SETS` and ``TABLE5_METHODS``.
    seed
        Seed of the noise that is added and of the adaptation. Every image has its own noise, whatever the cell.
    part
        Which of the `PARTS` of the set.

    Returns
    -------
    A row for each ``image``, with its ``camera`` (of the packaged photographs: photograph or texture), and

    - ``psnr`` (dB) and ``ssim``;
    - ``image_seconds`` of the adaptation, with the estimate of the noise and without the passes over the whole image
      before and after it, which cost as much as ``indeed`` each; of a method that does not adapt, of all that it does;
    - ``steps`` and ``forwards`` of the adaptation: of a set, the share of the image;
    - ``psnr_by_step``, such as ``0:31.25 60:32.5``: of the network as it is, after the last step and, of the default,
      between;
      ``oracle_psnr`` and ``oracle_step`` are the best of these;
    - ``sigma`` (grey levels), ``neighbour_correlation`` and ``floor_rise`` of the noise as estimated from the image,
      where the method does so; for ``noisy`` the first two of the difference to the clean image;
    - ``rank_term`` and ``sparsity_term``, by `coordinates`, after the adaptation;

    NaN where there is no such number.

    Raises
    ------
    DataError, DataMissingError
        If the images are not good or missing.
    ValueError
        If the set has no such part.
    """
    expect(part in range(PARTS.get(dataset, 1)), "part", part, f"less than {PARTS.get(dataset, 1)}")
    items = _items(dataset, SIZES[job.profile])
    chosen = items[part :: PARTS.get(dataset, 1)]
    files = {path for item in chosen for path in item.files} | set(job.networks)
    if "replay" in method:
        files |= {sample_path(name) for name in REPLAYED}

    def compute() -> list[dict[str, float | str]]:
        loaded = (load_checkpoint(path, job.device)[0] for path in job.networks)
        models = {model.config.channels: model for model in loaded}
        size = SIZES[job.profile]
        restored = restore(chosen, method, models, seed, steps=size.steps, patch_size=size.patch_size)
        return [_values(item, item.load(seed), method, one) for item, one in zip(chosen, restored, strict=True)]

    data = f"{dataset} ({len(chosen)} of {len(items)} images)"
    return Cell(compute, data, files, seed, job.device if job.networks else "cpu")


def _items(dataset: str, size: Size) -> list[Item]:
    if dataset in SHIFTS:
        names = TESTED if size.images is None else evenly(TESTED, size.images)
        return [
            Item(
                name,
                "texture" if name in TEXTURES else "photograph",
                SAMPLES[name].channels,
                index,
                (sample_path(name),),
                partial(_shifted, partial(_centre, name, size.crop), dataset, index),
            )
            for index, name in enumerate(names)
        ]
    items = []
    for index, pair in enumerate(camera_pairs(dataset.removesuffix("_white"))):
        white = partial(_shifted, partial(_clean, pair), "white", index)
        load = white if dataset == "polyu_white" else partial(_as_taken, pair)
        items.append(Item(pair.name, pair.camera, 3, index, (pair.noisy_file, pair.clean_file), load))
    return items


def _as_taken(pair: CameraPair, _: int) -> LoadedPair:
    return pair.load()


def _clean(pair: CameraPair) -> Image:
    return pair.load().clean


def _centre(name: str, side: int) -> Image:
    image = sample_image(name)
    height, width = (min(side, length) for length in image.shape[1:])
    top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
    return image[:, top : top + height, left : left + width].contiguous()


def _shifted(clean: Callable[[], Image], shift: str, index: int, seed: int) -> LoadedPair:
    image = clean()
    generator = torch.Generator().manual_seed(sample_seed(seed, index))
    return LoadedPair(SHIFTS[shift].apply(image[None], generator)[0], image)


@torch.no_grad()
def coordinates(model: InDeed, image: Image, tiles: int = 9) -> FeatureTable:
    r"""Coordinates :math:`(\ell_{rank}, \ell_{sparse})` of an image, (1, 2): means over some of its tiles.

    The tiles do not overlap and are spread evenly over the image; the leaf level is solved for the expected residual.
    """
    some = spread_tiles(image, model.config.patch_size, tiles).to(next(model.parameters()))
    middle, _ = model(some)
    found: FeatureTable = loss_coordinates(middle, solve_leaf_level(some, middle, Hyperpriors()))
    return found.mean(0, keepdim=True).cpu()


def _values(item: Item, pair: LoadedPair, method: str, restored: Restored) -> dict[str, float | str]:
    level = correlation = rise = rank = sparsity = oracle = best = math.nan
    if restored.model is not None:
        rank, sparsity = coordinates(restored.model, pair.noisy)[0].tolist()
    if restored.law is not None:
        level, correlation = rms_noise_sd(restored.law, pair.noisy), restored.law.neighbour_correlation
        rise = restored.law.floor_rise
    elif method == "noisy":
        level, correlation = _statistics(pair.noisy - pair.clean)
    if restored.by_step:
        best, oracle = max(restored.by_step.items(), key=lambda point: point[1])
    return {
        "image": item.name,
        "camera": item.camera,
        "psnr": psnr_of(restored.image, pair.clean),
        "ssim": ssim(restored.image[None], pair.clean[None]).item(),
        "image_seconds": restored.seconds,
        "steps": restored.steps,
        "forwards": restored.forwards,
        "psnr_by_step": " ".join(f"{step}:{value:.4f}" for step, value in sorted(restored.by_step.items())),
        "oracle_psnr": oracle,
        "oracle_step": best,
        "sigma": level / GREY_LEVEL,
        "neighbour_correlation": correlation,
        "floor_rise": rise,
        "rank_term": rank,
        "sparsity_term": sparsity,
    }


def _statistics(noise: Image) -> tuple[float, float]:
    """Return the standard deviation, and the correlation of neighbours of the same colour, zero without noise."""
    noise = noise.double() - noise.double().mean()
    power = noise.square().mean().item()
    products = (noise[:, 1:] * noise[:, :-1]).mean() + (noise[..., 1:] * noise[..., :-1]).mean()
    return math.sqrt(power), products.item() / (2 * power) if power else 0.0


TABLE = Table(
    name="table5",
    key={"dataset": TABLE5_SETS, "method": TABLE5_METHODS, "seed": int, "part": int},
    example="polyu-replay-0-0",
    cells=cells,
    measure=cell,
    networks=networks,
    report=lines,
    drawings={"table5_gains.svg": lambda rows: adaptation_gains(gains(rows))},
    profiles=("smoke", "cpu"),
)

if __name__ == "__main__":
    TABLE.main()
