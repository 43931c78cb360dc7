"""Table 5: active generalisation to noise that the denoisers were not trained on, cell by cell.

``python -m indeed.experiments.table5 --help``. A cell is one data set, one method, one seed and one part of the images,
and has a row for each of these. The data sets are real camera noise and the shifts of :mod:`indeed.images.shifts` on
packaged photographs, where every setting was fixed. The protocol is that of :mod:`indeed.images.metrics`. Images are
taken whole; grey ones go through the grey model.
"""

import csv
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal, NamedTuple

import torch

from indeed.baselines.denoisers import denoise_classically
from indeed.bayes.conjugate_updates import solve_leaf_level
from indeed.bayes.generative_model import Hyperpriors
from indeed.data.benchmarks import DataMissingError, evenly
from indeed.data.camera_noise import CameraPair, LoadedPair, camera_pairs
from indeed.data.patches import PatchSampler
from indeed.data.samples import SAMPLES, sample_image, sample_path
from indeed.experiments.cells import cell_name, run_command, run_rows
from indeed.images.metrics import psnr, ssim
from indeed.images.noise import GREY_LEVEL
from indeed.images.noise_estimation import NoiseLaw, estimate_noise
from indeed.images.pixels import eight_bit
from indeed.images.shifts import SHIFTS
from indeed.images.tiling import spread_tiles
from indeed.learning.adaptation.config import AdaptationConfig, adaptation_preset
from indeed.learning.adaptation.engine import Estimate, adapt
from indeed.learning.adaptation.noise import law_level, level_range
from indeed.learning.adaptation.online import Online
from indeed.learning.adaptation.stopping import LowestFreeEnergy
from indeed.learning.diagnostics.discrepancy import (
    Features,
    loss_coordinates,
    permutation_p_value,
    squared_mmd,
    standardised_features,
)
from indeed.learning.loading import sample_seed
from indeed.learning.training.config import training_preset
from indeed.learning.training.samples import denoising_samples, matched_replay
from indeed.networks.checkpoint import Shipped, load_checkpoint, shipped_checkpoint
from indeed.networks.inference_network import InDeed
from indeed.networks.whole_image import denoise
from indeed.record import records_folder, results_folder
from indeed.tables import Row, read_table, write_table
from indeed.types import Image

Key = dict[str, str | int]
Profile = Literal["smoke", "cpu"]

TESTED = ("astronaut", "camera", "coffee", "flower", "grass", "gravel")
"""Photographs that the shifts are applied to."""
TEXTURES = ("grass", "gravel")
"""Those without a flat place, where the estimate takes texture for noise: a group of their own."""
REPLAYED = ("brick", "chelsea", "china", "coins", "moon", "retina", "rocket")
"""Photographs that are replayed as clean, none of them tested: the network for colour sees those in colour, the grey
one sees all. Hubble's is neither: its own noise, of 5 grey levels, would be learned to be kept."""

SETS = {"polyu": "PolyU", "polyu_white": None, "sidd_small": "SIDD", **dict.fromkeys(SHIFTS)}
"""The data sets by name, and the paper's name for them. ``polyu_white`` are the clean references of PolyU with the
noise of the shift ``white``: the in-distribution reference of Fig. 5 and 6."""
PARTS = {"polyu": 5, "polyu_white": 5, "sidd_small": 8}
"""Parts of a set, 20 images each: of n parts, part k has every n-th image from the k-th on. Other sets have one."""

METHODS: dict[str, str | None] = {
    "noisy": None,
    "tv": None,
    "bm3d": None,
    "indeed": "InDeed",
    "ag_s": "InDeedAG",
    "ag_l": "InDeedAG-L",
    "ag_ls": "InDeedAG-LS",
    "oag_reset": "InDeedOAG",
    "oag_carried": "InDeedOAG",
    "oag_fast": None,
    "gains": None,
    "neighbor2neighbor": None,
    "noise2self": None,
    "replay_white": None,
    "replay_carried": None,
    "replay": None,
}
"""The methods by name, and the paper's name for them; its text does not say whether OAG resets the network.

``noisy`` is the observation, ``indeed`` the network as it is. The classical methods are told the level of the noise
that is estimated from the image. ``ag``: the paper's terms over all images of a cell. ``oag``: over one image, from the
original weights or from those of the image before; ``oag_fast`` has the steps and rate of the default. Controls, as
long as the default: ``gains`` alone, on the paper's terms, at TENT's rate; self-supervised fine-tuning;
``replay_white`` of the training's noise. ``replay`` is the default: of photographs with noise of the law that is
estimated from the image, where :func:`indeed.learning.adaptation.noise.law_to_replay` relies on it.
"""
DEFAULT = "replay"
ORACLE = "oracle"
"""The default, stopped at the best of the steps looked at by the clean image: no method, a yardstick in summaries."""
ALL = "all"

_ONLINE = replace(adaptation_preset("paper"), stop=LowestFreeEnergy())
_SET = replace(adaptation_preset("paper"), steps=5, stop=LowestFreeEnergy(patience=1))
_REPLAY = adaptation_preset("replay")
_own = partial(replace, _REPLAY, replay_weight=0.0)
ADAPTATIONS: dict[str, AdaptationConfig] = {
    "ag_s": _SET,
    "ag_l": replace(_SET, modules="L"),
    "ag_ls": replace(_SET, modules="LS"),
    "oag_reset": _ONLINE,
    "oag_carried": _ONLINE,
    "oag_fast": _own(objective="variational", modules="S"),
    "gains": _own(objective="variational", parameters="affine", learning_rate=1e-3),
    "neighbor2neighbor": _own(objective="neighbor2neighbor"),
    "noise2self": _own(objective="noise2self"),
    "replay_white": _REPLAY,
    "replay_carried": _REPLAY,
    "replay": _REPLAY,
}
"""What each method does; those of a set take so many steps for each of its images."""


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


def cells(profile: Profile) -> list[Key]:
    """Keys of the cells of a profile: (dataset, method, seed, part), for the sets that are on disk.

    ``smoke``: the shift ``demosaicked`` on two photographs. ``cpu``: of PolyU, all images for ``noisy``, ``indeed`` and
    the default, 20 for the other methods but ``replay_carried``, and a second seed for ``indeed`` and the default; on
    the other sets these and ``noisy``.

    At 0.25 s a step and one for a pass over 512 x 512 pixels, the default takes about 15 s for an image: 60 steps, and
    passes before, after and twice between. That makes some two hours of one core for PolyU, and ten minutes for the
    shifts. The cells are independent of each other.
    """
    if profile == "smoke":
        chosen = [("demosaicked", method, 0, 0) for method in METHODS if method != "bm3d"]
        return [_key(*key) for key in [*chosen, ("white", "indeed", 0, 0)]]
    methods = [name for name in METHODS if name != "replay_carried" and (name != "bm3d" or find_spec("bm3d"))]
    few = ["noisy", "indeed", DEFAULT]
    plan = {"polyu": methods, "sidd_small": methods, "polyu_white": few} | dict.fromkeys(SHIFTS, few)
    plan = {name: some for name, some in plan.items() if _present(name)}
    keys = [_key(name, method, 0, 0) for name, some in plan.items() for method in some]
    if "polyu" in plan:
        keys += [_key("polyu", method, 0, part) for part, method in product(range(1, PARTS["polyu"]), few)]
        keys += [_key("polyu", method, 1, 0) for method in ("indeed", DEFAULT)]
    return keys


def cell_key(name: str) -> Key:
    """Key of a cell from its name.

    Raises
    ------
    ValueError
        If the name has not the form of `cell_name`.
    """
    parts = name.split("-")
    if len(parts) != 4 or not (parts[2].isdecimal() and parts[3].isdecimal()):
        raise ValueError(f"name must be dataset-method-seed-part, such as polyu-replay-0-0, got {name!r}")
    return _key(parts[0], parts[1], int(parts[2]), int(parts[3]))


def cell(
    dataset: str,
    method: str,
    seed: int,
    part: int,
    *,
    profile: Profile,
    runs: Path | None = None,
    device: str = "cpu",
) -> list[Row]:
    """Measure one cell, or read what was measured before.

    Parameters
    ----------
    dataset, method
        Names in `SETS` and `METHODS`.
    seed
        Of the noise that is added and of the adaptation. Every image has its own, whatever the others of the cell are.
    part
        Which of the `PARTS` of the set.
    profile
        Size of the images and of the adaptation.
    runs
        Folder of the cells; None: `cells_folder`.
    device
        Where the networks run; the classical methods run on the CPU.

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

    NaN where there is no such number, with the columns of :func:`indeed.experiments.cells.run_rows`.

    Raises
    ------
    DataError, DataMissingError, ModuleNotFoundError
        If the images are not good or missing, or the package of the method is.
    ValueError
        If an argument is out of range, an image cannot be adapted to, or the file of the cell is damaged.
    """
    for name, value, known in (
        ("dataset", dataset, SETS),
        ("method", method, METHODS),
        ("part", part, range(PARTS.get(dataset, 1))),
    ):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(map(str, known))}, got {value!r}")
    items = _items(dataset, SIZES[profile])
    chosen = items[part :: PARTS.get(dataset, 1)]
    networks = _networks(method, chosen)
    files = {path for item in chosen for path in item.files} | set(networks.values())
    if "replay" in method:
        files |= {sample_path(name) for name in REPLAYED}

    def compute() -> list[dict[str, float | str]]:
        models = {channels: load_checkpoint(path, device)[0] for channels, path in networks.items()}
        restored = _restore(chosen, method, models, seed, SIZES[profile])
        return [_values(item, item.load(seed), method, one) for item, one in zip(chosen, restored, strict=True)]

    key = _key(dataset, method, seed, part)
    return run_rows(
        (runs or cells_folder(profile)) / f"{cell_name(key)}.csv",
        key,
        compute,
        profile=profile,
        seed=seed,
        data=f"{dataset} ({len(chosen)} of {len(items)} images)",
        device=device if networks else "cpu",
        files=sorted(files),
    )


class _Item(NamedTuple):
    """An image of a data set."""

    name: str
    camera: str
    channels: int
    place: int
    """Place in the whole set: its noise and its adaptation are functions of the seed and of this."""
    files: tuple[Path, ...]
    load: Callable[[int], LoadedPair]
    """Observed and clean image for a seed."""


def _items(dataset: str, size: Size) -> list[_Item]:
    if dataset in SHIFTS:
        names = TESTED if size.images is None else evenly(TESTED, size.images)
        return [
            _Item(
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
        items.append(_Item(pair.name, pair.camera, 3, index, (pair.noisy_file, pair.clean_file), load))
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


# -- what the methods do ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Restored:
    """An image restored, and how."""

    image: Image
    seconds: float
    model: InDeed | None = None
    law: NoiseLaw | None = None
    steps: float = 0.0
    forwards: float = 0.0
    by_step: dict[int, float] = field(default_factory=dict)


def _restore(
    items: Sequence[_Item], method: str, models: Mapping[int, InDeed], seed: int, size: Size
) -> Iterator[_Restored]:
    """Restored images, in the order of the items."""
    if method not in ADAPTATIONS:
        yield from (_restored(item.load(seed).noisy, method, models.get(item.channels)) for item in items)
        return
    config = replace(ADAPTATIONS[method], patch_size=size.patch_size)
    config = replace(config, steps=min(config.steps, size.steps or config.steps))
    if method.startswith("ag_"):
        found: dict[int, Iterator[_Restored]] = {}
        for channels, model in models.items():
            found[channels] = _adapted_to_set([x for x in items if x.channels == channels], model, config, seed)
        yield from (next(found[item.channels]) for item in items)
        return
    online = {channels: _online(method, model, config) for channels, model in models.items()}
    for item in items:
        yield _adapted_to_image(item, method, online[item.channels], config, seed)


def _online(method: str, model: InDeed, config: AdaptationConfig) -> Online:
    """Make the adaptation of a network to one image after the other."""
    reset: Literal["image", "never"] = "never" if method.endswith("_carried") else "image"
    if not config.replay_weight:
        return Online(model, config, reset=reset)
    patches = replayed(model.config.channels, config.patch_size or model.config.patch_size)
    if method == "replay_white":
        return Online(model, config, reset=reset, replay=denoising_samples(patches, training_preset("cpu")))
    # There is one image at a time, and one law.
    return Online(
        model, config, reset=reset, matched=lambda laws: matched_replay(patches, laws[0], level_range(laws[0]))
    )


def _restored(noisy: Image, method: str, model: InDeed | None) -> _Restored:
    start = time.perf_counter()
    law = None
    if model is not None:
        image = denoise(model, noisy)
    elif method == "noisy":
        image = noisy
    else:
        law = estimate_noise(noisy)
        # None of them takes a level of zero, which is what is found in many a JPEG image.
        image = denoise_classically(noisy[None], method, max(law_level(law, noisy), GREY_LEVEL / 2))[0]
    return _Restored(image, time.perf_counter() - start, model, law)


def _adapted_to_set(items: Sequence[_Item], model: InDeed, config: AdaptationConfig, seed: int) -> Iterator[_Restored]:
    pairs = [item.load(seed) for item in items]
    adapted = adapt(model, [pair.noisy for pair in pairs], config, torch.Generator().manual_seed(seed))
    for pair, before, after in zip(pairs, adapted.before, adapted.after, strict=True):
        by_step = {0: _psnr(before, pair.clean), adapted.kept // len(items): _psnr(after, pair.clean)}
        seconds, steps, forwards = (x / len(items) for x in (adapted.seconds, adapted.steps, adapted.patch_forwards))
        yield _Restored(after, seconds, adapted.model, None, steps, forwards, by_step)


def _adapted_to_image(item: _Item, method: str, online: Online, config: AdaptationConfig, seed: int) -> _Restored:
    noisy, clean = item.load(seed)
    by_step = {}
    every = max(1, config.steps // 3)

    def look(step: int, estimate: Estimate) -> None:
        if method == DEFAULT and step % every == 0 and 0 < step < config.steps:
            by_step[step] = _psnr(estimate(noisy), clean)

    generator = torch.Generator().manual_seed(sample_seed(seed, item.place))
    ((model, adapted, law, _, seconds),) = online([noisy], generator, observe=look)
    if adapted is None:
        by_step = {0: _psnr(denoise(online.model, noisy), clean)}
        return _Restored(denoise(model, noisy), seconds, model, law, by_step=by_step)
    # A network that was carried over starts elsewhere than the one as it is, whose step is 0.
    by_step = {0: _psnr(adapted.before[0], clean)} | by_step | {adapted.kept: _psnr(adapted.after[0], clean)}
    seconds += adapted.seconds
    return _Restored(adapted.after[0], seconds, model, law, adapted.steps, adapted.patch_forwards, by_step)


def replayed(channels: int, patch_size: int) -> PatchSampler:
    """Clean patches of the photographs that are `REPLAYED`, grey or in colour."""
    names = [name for name in REPLAYED if channels == 1 or SAMPLES[name].channels == 3]
    return PatchSampler([eight_bit(sample_image(name), channels) for name in names], patch_size)


# -- what is measured ------------------------------------------------------------------------------------------------


@torch.no_grad()
def coordinates(model: InDeed, image: Image, tiles: int = 9) -> Features:
    r"""Coordinates :math:`(\ell_{rank}, \ell_{sparse})` of an image, (1, 2): means over some of its tiles.

    The tiles do not overlap and are spread evenly over the image; the leaf level is solved for the expected residual.
    """
    some = spread_tiles(image, model.config.patch_size, tiles).to(next(model.parameters()))
    middle, _ = model(some)
    found: Features = loss_coordinates(middle, solve_leaf_level(some, middle, Hyperpriors()))
    return found.mean(0, keepdim=True).cpu()


def _values(item: _Item, pair: LoadedPair, method: str, restored: _Restored) -> dict[str, float | str]:
    level = correlation = rise = rank = sparsity = oracle = best = math.nan
    if restored.model is not None:
        rank, sparsity = coordinates(restored.model, pair.noisy)[0].tolist()
    if restored.law is not None:
        level, correlation = law_level(restored.law, pair.noisy), restored.law.neighbour_correlation
        rise = restored.law.floor_rise
    elif method == "noisy":
        level, correlation = _statistics(pair.noisy - pair.clean)
    if restored.by_step:
        best, oracle = max(restored.by_step.items(), key=lambda point: point[1])
    return {
        "image": item.name,
        "camera": item.camera,
        "psnr": _psnr(restored.image, pair.clean),
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


def _psnr(image: Image, clean: Image) -> float:
    return psnr(image[None], clean[None]).item()


def _statistics(noise: Image) -> tuple[float, float]:
    """Return the standard deviation, and the correlation of neighbours of the same colour, zero without noise."""
    noise = noise.double() - noise.double().mean()
    power = noise.square().mean().item()
    products = (noise[:, 1:] * noise[:, :-1]).mean() + (noise[..., 1:] * noise[..., :-1]).mean()
    return math.sqrt(power), products.item() / (2 * power) if power else 0.0


# -- the table -------------------------------------------------------------------------------------------------------


def cells_folder(profile: Profile) -> Path:
    """Where the cells of a profile are kept, unless another folder is chosen."""
    return Path("runs") / "table5" / profile


def table(profile: Profile, folder: Path | None = None, *, runs: Path | None = None, device: str = "cpu") -> list[Row]:
    """All cells of a profile, computed where they are missing, and written to ``<folder>/table5.csv``.

    ``folder`` is by default that of fresh records (:func:`indeed.record.records_folder`), with the name of the profile.
    """
    rows = [row for key in cells(profile) for row in cell(**key, profile=profile, runs=runs, device=device)]  # type: ignore[arg-type]
    folder = folder or records_folder() / profile
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "table5.csv", rows)
    return rows


Gains = dict[str, dict[str, list[float]]]
"""PSNR minus that of ``indeed`` on each image, in dB, by group of images and method."""


def gains(rows: Sequence[Mapping[str, str]], dataset: str | None = None) -> Gains:
    """Gains over the network as it is, with seed 0, on the images that all methods of a data set have been put through.

    Parameters
    ----------
    rows
        As `table` returns them.
    dataset
        The set whose cameras are the groups; None: the groups are the data sets.

    Examples
    --------
    >>> row = {"dataset": "white", "seed": "0", "image": "coffee", "camera": "photograph"}
    >>> gains([row | {"method": "indeed", "psnr": "30.5"}, row | {"method": "tv", "psnr": "28.0"}])
    {'white': {'indeed': [0.0], 'tv': [-2.5]}}
    """
    found: Gains = {}
    for row, gain in _with_gains(_with_oracle(_common(rows))):
        if dataset in (None, row["dataset"]):
            group = found.setdefault(row["dataset"] if dataset is None else row["camera"], {})
            group.setdefault(row["method"], []).append(gain)
    return found


def summary(rows: Sequence[Mapping[str, str]], *, common: bool = False) -> list[dict[str, Any]]:
    """Means over the images of each data set and method: over `ALL` of them, and over those of each camera.

    Parameters
    ----------
    rows
        As `table` returns them.
    common
        Whether only images count that all methods of the data set have been put through.

    Returns
    -------
    ``dataset``, ``method``, ``camera`` and the number of ``images``; with seed 0 the means of ``psnr``, ``ssim``,
    ``image_seconds``, ``steps`` and ``forwards``, of the ``gain`` in PSNR over ``indeed`` and ``over_noisy``, over the
    observation, on the same images (NaN if one is missing); and ``spread``, the standard deviation over the seeds of
    the mean PSNR on the images that all seeds have (NaN for a single seed). After the default stands its `ORACLE`.

    Examples
    --------
    >>> row = {"dataset": "white", "seed": "0", "image": "coffee", "camera": "photograph", "psnr": "30.5"}
    >>> row |= dict.fromkeys(("ssim", "image_seconds", "steps", "forwards"), "1")
    >>> found = summary([row | {"method": "indeed"}, row | {"method": "tv", "psnr": "28.0"}])
    >>> [(mean["method"], mean["camera"], mean["gain"]) for mean in found if mean["camera"] == ALL]
    [('indeed', 'all', 0.0), ('tv', 'all', -2.5)]
    """
    chosen = _common(rows) if common else list(rows)
    members: dict[tuple[str, str, str], list[tuple[Mapping[str, str], float, float]]] = {}
    both = (_with_gains(_with_oracle(chosen), over) for over in ("indeed", "noisy"))
    for (row, gain), (_, over_noisy) in zip(*both, strict=True):
        for camera in (ALL, row["camera"]):
            members.setdefault((row["dataset"], row["method"], camera), []).append((row, gain, over_noisy))
    means = []
    for (dataset, method, camera), some in members.items():
        entry: dict[str, Any] = {"dataset": dataset, "method": method, "camera": camera, "images": len(some)}
        for value in ("psnr", "ssim", "image_seconds", "steps", "forwards"):
            entry[value] = fmean(float(row[value]) for row, *_ in some)
        entry |= {"gain": fmean(gain for _, gain, _ in some), "over_noisy": fmean(over for *_, over in some)}
        means.append(entry | {"spread": _spread(rows, dataset, method, camera)})
    return means


def compare(rows: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """`summary` over the cameras of each data set, with the paper's means beside.

    ``psnr_paper``, ``ssim_paper`` and ``gain_paper``, over its own model without adaptation, with ``psnr_difference``
    (here minus paper); NaN where the paper has no such row, and where the images are not all those of the set. Its
    cameras are C1 to C5, and which those are it does not say. ``worst_camera`` is that of the least gain, the
    ``worst_gain``.
    """
    with (results_folder() / "paper" / "table5_ood_denoising.csv").open(newline="", encoding="utf-8") as file:
        printed = {
            (row["dataset"], row["method"], row["metric"]): float(row["value"])
            for row in csv.DictReader(file)
            if row["camera"] == "mean"
        }
    means = summary(rows)
    compared = []
    for mean in (mean for mean in means if mean["camera"] == ALL):
        name, theirs = SETS[mean["dataset"]], METHODS.get(mean["method"])
        found = {value: printed.get((name or "", theirs or "", value), math.nan) for value in ("PSNR", "SSIM")}
        entry = mean | {"psnr_paper": found["PSNR"], "ssim_paper": found["SSIM"]}
        entry["gain_paper"] = found["PSNR"] - printed.get((name or "", "InDeed", "PSNR"), math.nan)
        entry["psnr_difference"] = mean["psnr"] - found["PSNR"]
        cameras = [
            (other["gain"], other["camera"])
            for other in means
            if (other["dataset"], other["method"]) == (mean["dataset"], mean["method"]) and other["camera"] != ALL
        ]
        entry["worst_gain"], entry["worst_camera"] = min(cameras)
        compared.append(entry)
    return compared


class Separation(NamedTuple):
    """How well two sets are told apart by the coordinates of their images."""

    p_value: float
    """Of a permutation test on the maximum mean discrepancy: both are from one law."""
    auroc: float
    """Of a logistic regression on both coordinates, on images that it was not fitted to."""
    auroc_sparsity: float
    """Of the sparsity term alone, larger out of distribution, as the paper has it: nothing is fitted."""


def separation(inside: Features, outside: Features, *, seed: int = 0) -> Separation:
    """How well the images of an in- and an out-of-distribution set are told apart by two coordinates.

    The regression, fitted to examples of both sets, is scored by cross-validation with five folds, or as many as the
    smaller set has images. Without examples of the shift there is only the direction that the paper names. The images
    of the two sets must be different ones: a scene in both makes the test too cautious and the regression too good.

    Parameters
    ----------
    inside, outside
        Coordinates of at least two images each, (image, 2): rank term, sparsity term.
    seed
        Of the permutations and folds.

    Raises
    ------
    ValueError
        If a set has fewer than two images.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    first, second = standardised_features(inside.double(), outside.double())
    generator = torch.Generator().manual_seed(seed)
    p_value = permutation_p_value(first, second, squared_mmd, generator=generator)
    values, truth = torch.cat([first, second]).numpy(), [0] * len(first) + [1] * len(second)
    folds = StratifiedKFold(min(5, len(first), len(second)), shuffle=True, random_state=seed)
    scores = cross_val_predict(LogisticRegression(), values, truth, cv=folds, method="decision_function")
    return Separation(p_value, float(roc_auc_score(truth, scores)), float(roc_auc_score(truth, values[:, 1])))


def row_coordinates(rows: Sequence[Mapping[str, str]], dataset: str, method: str = "indeed") -> dict[str, list[float]]:
    """Rank term, sparsity term and PSNR of each image of a data set after a method, with seed 0, by image."""
    return {
        row["image"]: [float(row[name]) for name in ("rank_term", "sparsity_term", "psnr")]
        for row in rows
        if (row["dataset"], row["method"], row["seed"]) == (dataset, method, "0")
    }


def _common(rows: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """Rows of seed 0, of the images that every method of their data set has."""
    first = [row for row in rows if row["seed"] == "0"]
    having: dict[str, dict[str, set[str]]] = {}
    for row in first:
        having.setdefault(row["dataset"], {}).setdefault(row["method"], set()).add(row["image"])
    shared = {dataset: set.intersection(*of.values()) for dataset, of in having.items()}
    return [row for row in first if row["image"] in shared[row["dataset"]]]


def _with_oracle(rows: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """Rows, and those of the default once more at the best step that was looked at."""
    best = [
        dict(row) | {"method": ORACLE, "psnr": row["oracle_psnr"], "steps": row["oracle_step"], "ssim": "nan"}
        for row in rows
        if row["method"] == DEFAULT
    ]
    return [*rows, *best]


def _with_gains(rows: Sequence[Mapping[str, str]], over: str = "indeed") -> list[tuple[Mapping[str, str], float]]:
    """Rows of seed 0 with their PSNR minus that of another method on the same image; NaN if there is none."""
    first = [row for row in rows if row["seed"] == "0"]
    base = {(row["dataset"], row["image"]): float(row["psnr"]) for row in first if row["method"] == over}
    return [(row, float(row["psnr"]) - base.get((row["dataset"], row["image"]), math.nan)) for row in first]


def _spread(rows: Sequence[Mapping[str, str]], dataset: str, method: str, camera: str) -> float:
    by_seed: dict[str, dict[str, float]] = {}
    for row in rows:
        if (row["dataset"], row["method"]) == (dataset, method) and camera in (ALL, row["camera"]):
            by_seed.setdefault(row["seed"], {})[row["image"]] = float(row["psnr"])
    shared = set.intersection(*map(set, by_seed.values())) if by_seed else set()
    if len(by_seed) < 2 or not shared:
        return math.nan
    return stdev(fmean(found[image] for image in shared) for found in by_seed.values())


def _key(dataset: str, method: str, seed: int, part: int) -> Key:
    return {"dataset": dataset, "method": method, "seed": seed, "part": part}


def _present(dataset: str) -> bool:
    try:
        _items(dataset, SIZES["cpu"])
    except DataMissingError:
        return False
    return True


def _networks(method: str, items: Sequence[_Item]) -> dict[int, Path]:
    """Checkpoints that a method puts the images through, by their channels."""
    if method != "indeed" and method not in ADAPTATIONS:
        return {}
    return {item.channels: shipped_checkpoint(MODELS[item.channels]) for item in items}


def _print_names(profile: Profile = "cpu") -> None:
    """Print the name of each cell of a profile, and after it the trained networks that it measures."""
    for key in cells(profile):
        networks = _networks(str(key["method"]), _items(str(key["dataset"]), SIZES[profile]))
        print(cell_name(key), *map(os.path.relpath, networks.values()))


def _print_cell(name: str, profile: Profile = "cpu", runs: Path | None = None, device: str = "cpu") -> None:
    """Compute one cell, unless it is there, and print its means."""
    _print_means(cell(**cell_key(name), profile=profile, runs=runs, device=device))  # type: ignore[arg-type]


def _print_table(
    profile: Profile = "cpu", folder: Path | None = None, runs: Path | None = None, device: str = "cpu"
) -> None:
    """Compute the cells that are missing, write table5.csv, and print the means over the images."""
    _print_means(table(profile, folder, runs=runs, device=device))


def _print_means(rows: Sequence[Row]) -> None:
    members: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        members.setdefault((row["dataset"], row["method"], row["seed"]), []).append(row)
    for (dataset, method, seed), some in members.items():
        quality, similarity, seconds = (
            fmean(float(row[name]) for row in some) for name in ("psnr", "ssim", "image_seconds")
        )
        label = f"{dataset:<16} {method:<16} seed {seed} {len(some):>3} images"
        print(f"{label} {quality:6.2f} dB {similarity:7.4f} {seconds:7.2f} s", flush=True)


def _draw(profile: Profile = "cpu", folder: Path | None = None) -> None:
    """Draw the gains in table5.csv: table5_gains.svg."""
    from indeed.figures import adaptation_gains

    folder = folder or records_folder() / profile
    adaptation_gains(gains(read_table(folder / "table5.csv")))[0].savefig(folder / "table5_gains.svg")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``python -m indeed.experiments.table5``."""
    run_command(
        "table5", {"list": _print_names, "cell": _print_cell, "table": _print_table, "figure": _draw}, arguments
    )


if __name__ == "__main__":
    main()
