"""What the methods of Table 5 do with an image: restore it as it is, or adapt the network to it first."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from indeed.baselines.classical_denoisers import denoise_classically
from indeed.data.camera_noise import LoadedPair
from indeed.data.patches import PatchSampler
from indeed.data.samples import SAMPLES, sample_image
from indeed.images.metrics import psnr
from indeed.images.noise import GREY_LEVEL
from indeed.images.noise_estimation import NoiseLaw, estimate_noise
from indeed.images.pixels import eight_bit
from indeed.learning.adaptation.config import AdaptationConfig, adaptation_preset
from indeed.learning.adaptation.engine import Estimate, adapt
from indeed.learning.adaptation.noise_replay import level_range, rms_noise_sd
from indeed.learning.adaptation.online import Online
from indeed.learning.adaptation.stopping import LowestFreeEnergy
from indeed.learning.loading import sample_seed
from indeed.learning.training.config import training_preset
from indeed.learning.training.sources import denoising_samples, matched_replay
from indeed.networks.inference_network import InDeed
from indeed.networks.whole_image import denoise
from indeed.types import Image

REPLAYED = ("brick", "chelsea", "china", "coins", "moon", "retina", "rocket")
"""Photographs that are replayed as clean, none of them tested: the network for colour sees those in colour, the grey
one sees all. Hubble's is not one of them: a network would learn to keep its noise of 5 grey levels."""

DEFAULT = "replay"
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


class Item(NamedTuple):
    """An image of a data set."""

    name: str
    camera: str
    channels: int
    place: int
    """Place in the whole set: its noise and its adaptation are functions of the seed and of this."""
    files: tuple[Path, ...]
    load: Callable[[int], LoadedPair]
    """Observed and clean image for a seed."""


@dataclass(frozen=True, eq=False)
class Restored:
    """An image restored, and how."""

    image: Image
    seconds: float
    model: InDeed | None = None
    law: NoiseLaw | None = None
    steps: float = 0.0
    forwards: float = 0.0
    by_step: dict[int, float] = field(default_factory=dict)


def restore(
    items: Sequence[Item],
    method: str,
    models: Mapping[int, InDeed],
    seed: int,
    *,
    steps: int | None = None,
    patch_size: int | None = None,
) -> Iterator[Restored]:
    """Restore images in their order, by a network for each number of channels.

    ``steps`` and ``patch_size`` are those of the adaptation, where they should be less than the method's and the
    network's.
    """
    if method not in ADAPTATIONS:
        yield from (_restored(item.load(seed).noisy, method, models.get(item.channels)) for item in items)
        return
    config = replace(ADAPTATIONS[method], patch_size=patch_size)
    config = replace(config, steps=min(config.steps, steps or config.steps))
    if method.startswith("ag_"):
        found: dict[int, Iterator[Restored]] = {}
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


def _restored(noisy: Image, method: str, model: InDeed | None) -> Restored:
    start = time.perf_counter()
    law = None
    if model is not None:
        image = denoise(model, noisy)
    elif method == "noisy":
        image = noisy
    else:
        law = estimate_noise(noisy)
        # None of them takes a level of zero, which is the estimate for many JPEG images.
        image = denoise_classically(noisy[None], method, max(rms_noise_sd(law, noisy), GREY_LEVEL / 2))[0]
    return Restored(image, time.perf_counter() - start, model, law)


def _adapted_to_set(items: Sequence[Item], model: InDeed, config: AdaptationConfig, seed: int) -> Iterator[Restored]:
    pairs = [item.load(seed) for item in items]
    adapted = adapt(model, [pair.noisy for pair in pairs], config, torch.Generator().manual_seed(seed))
    for pair, before, after in zip(pairs, adapted.before, adapted.after, strict=True):
        by_step = {0: psnr_of(before, pair.clean), adapted.kept // len(items): psnr_of(after, pair.clean)}
        seconds, steps, forwards = (x / len(items) for x in (adapted.seconds, adapted.steps, adapted.patch_forwards))
        yield Restored(after, seconds, adapted.model, None, steps, forwards, by_step)


def _adapted_to_image(item: Item, method: str, online: Online, config: AdaptationConfig, seed: int) -> Restored:
    noisy, clean = item.load(seed)
    by_step = {}
    every = max(1, config.steps // 3)

    def look(step: int, estimate: Estimate) -> None:
        if method == DEFAULT and step % every == 0 and 0 < step < config.steps:
            by_step[step] = psnr_of(estimate(noisy), clean)

    generator = torch.Generator().manual_seed(sample_seed(seed, item.place))
    ((model, adapted, law, _, seconds),) = online([noisy], generator, observe=look)
    if adapted is None:
        by_step = {0: psnr_of(denoise(online.model, noisy), clean)}
        return Restored(denoise(model, noisy), seconds, model, law, by_step=by_step)
    # A network that was carried over does not start from the original one, to which step 0 belongs.
    by_step = {0: psnr_of(adapted.before[0], clean)} | by_step | {adapted.kept: psnr_of(adapted.after[0], clean)}
    seconds += adapted.seconds
    return Restored(adapted.after[0], seconds, model, law, adapted.steps, adapted.patch_forwards, by_step)


def replayed(channels: int, patch_size: int) -> PatchSampler:
    """Clean patches of the photographs that are `REPLAYED`, grey or in colour."""
    names = [name for name in REPLAYED if channels == 1 or SAMPLES[name].channels == 3]
    return PatchSampler([eight_bit(sample_image(name), channels) for name in names], patch_size)


def psnr_of(image: Image, clean: Image) -> float:
    """PSNR of one image in dB."""
    return psnr(image[None], clean[None]).item()
