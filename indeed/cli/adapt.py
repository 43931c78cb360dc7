"""``indeed adapt``: images denoised by a network that goes on learning for them first."""

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from indeed.bayes.conjugate_updates import solve_leaf_level
from indeed.bayes.elbo import elbo_terms, negative_elbo
from indeed.bayes.generative_model import Hyperpriors
from indeed.cli.faults import Faults
from indeed.cli.files import InputFiles, Out, image_paths, images_in, read_for, targets
from indeed.cli.models import Models, WithNoise, denoisers
from indeed.data.benchmarks import evenly
from indeed.data.files import read_image, write_image
from indeed.data.patches import PatchSampler
from indeed.data.samples import sample_names, sample_path
from indeed.images.noise import GREY_LEVEL
from indeed.images.noise_estimation import NoiseLaw
from indeed.images.pixels import eight_bit
from indeed.images.tiling import reflected_indices, split
from indeed.learning.adaptation import AdaptationConfig, Adapted, adapt, adaptation_preset
from indeed.learning.loading import SampleSource
from indeed.learning.noise_adaptation import law_to_replay, level_range, noise_level
from indeed.learning.training import matched_replay
from indeed.networks.inference_network import InDeed, NetworkConfig
from indeed.tables import ResumableTable, Row, data_hash
from indeed.types import AnySizeImage, Image

REPORTED_TILES = 8
"""Tiles of an image on which its free energy is reported, spread evenly over it."""


@dataclass(frozen=True, kw_only=True)
class Adapt(WithNoise):
    """Denoise images by a network that goes on learning for them first: active generalisation.

    By default the law of the noise is estimated from each image, and the network learns for a few steps from clean
    photographs with noise of that law: meant for noise that is not the white one of the training, such as that of a
    camera. The checkpoint is only read. An image too small or saturated to tell its noise is denoised without.

    The folder gets the denoised images, under their names and in their depth as by denoise, and adaptation.csv: for
    each image why and after how many steps the adaptation ended, its time and cost in passes of a patch; the estimated
    noise (standard deviation, 0..255) and the correlation of neighbours; free energy, fidelity, rank and sparsity
    before and after (nats a pixel and colour, on some tiles); the relative change of the weights. A run that was
    stopped goes on: an image that is there already, by the same settings, is not done again. Where images depend on
    each other (batch, reset never) all are, unless all are there.
    """

    images: InputFiles
    """PNG, JPEG or TIFF files, 8 or 16 bit (TIFF also float), or folders of them."""
    out: Out
    """Folder, made if it is not there."""
    mode: Literal["batch", "online"] = "online"
    """online: to one image after the other; batch: once, to all images together, those in grey apart."""
    preset: Literal["replay", "paper"] = "replay"
    """What is learned from: photographs with noise like that of the images (replay), or the images themselves by the
    unsupervised terms of Eq. 39 to 41 (paper)."""
    modules: Literal["S", "L", "LS"] | None = None
    """Modules that learn; default: the preset's, LS for replay, S for paper."""
    steps: int | None = None
    """Steps an image; default: the preset's."""
    learning_rate: float | None = None
    """Learning rate of the first step; default: the preset's."""
    reset: Literal["image", "never"] = "image"
    """Online, what an image starts from: the checkpoint, or the weights that the image before it has left (never)."""
    photographs: Path | None = None
    """Folder of clean photographs to replay; default: those inside installed packages."""

    def run(self, faults: Faults) -> None:
        """Adapt, denoise and report: images one after the other, or all together."""
        batch = self.mode == "batch"
        apart = not batch and self.reset == "image"
        if batch and self.reset == "never":
            raise ValueError("reset: got 'never', expected 'image': in batch mode there is one adaptation")
        if self.preset == "paper" and self.photographs:
            raise ValueError(f"photographs: got {self.photographs}, expected none: the preset paper replays nothing")
        given = {"modules": self.modules, "steps": self.steps, "learning_rate": self.learning_rate}
        changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        config = replace(adaptation_preset(self.preset), **changes)
        photographs = images_in(self.photographs) if self.photographs else []
        adaptation = Adaptation(config, self.seed, photographs)
        models = Models(self)
        made_by = data_hash(denoisers(self.checkpoint))
        written = targets(image_paths(self.images), self.out, folder=True)
        images = list(written)
        together = "" if apart else " ".join(data_hash([path]) for path in images if path.is_file())
        report = ResumableTable(
            self.out / "adaptation.csv", made_by, {"file", "steps", "image", "checkpoint"}, by="name"
        )
        settings = {
            "mode": self.mode,
            "preset": self.preset,
            "modules": config.modules,
            "budget": config.steps,
            "learning_rate": config.learning_rate,
            "reset": self.reset,
            "photographs": data_hash(photographs),
            "seed": self.seed,
            "overlap": self.overlap,
            "add_noise": self.add_noise,
            "all_images": hashlib.sha256(together.encode()).hexdigest()[:12] if together else None,
        }

        def found(path: Path) -> Row | None:
            there = path.is_file() and written[path].is_file()
            return report.find(path, **settings) if there else None

        go_on = apart or all(found(path) for path in images)
        carried: dict[int, InDeed] = {}
        for group in [images] if batch else [[path] for path in images]:
            pictures = {}
            for path in group:
                with faults.reported(path):
                    if go_on and (row := found(path)):
                        print(report_line(path, row))
                    else:
                        pictures[path] = read_for(path, written[path])
            for channels in sorted({picture.channels for picture in pictures.values()}):
                some = {path: picture for path, picture in pictures.items() if picture.channels == channels}
                with faults.reported(None if batch else group[0]):
                    model = models(channels)
                    observed = [self.observed(picture) for picture in some.values()]
                    label = f"{len(some)} images" if batch else group[0].name
                    outcomes = adaptation(carried.get(channels, model), observed, label, original=model)
                    if self.reset == "never":
                        carried[channels] = outcomes[-1].model
                    for (path, picture), outcome in zip(some.items(), outcomes, strict=True):
                        with faults.reported(path):
                            write_image(written[path], self.denoised(outcome.model, picture, path.name))
                            print(report_line(path, report.put(path, **outcome.row, **settings)), flush=True)


class _Outcome(NamedTuple):
    """Network for an image, and what the report says of its adaptation."""

    model: InDeed
    row: Row


class Adaptation:
    """Adaptation of networks to images, with the photographs that are replayed for it."""

    def __init__(self, config: AdaptationConfig, seed: int, photographs: Sequence[Path] = ()) -> None:
        self.config = config
        self.seed = seed
        # The noise that Hubble's photograph itself has would be learned to be kept.
        files = photographs or [sample_path(name) for name in sample_names() if name != "hubble"]
        self.photographs = [read_image(path) for path in files] if config.replay_weight else []
        self.patches: dict[tuple[int, int], PatchSampler] = {}

    def __call__(
        self,
        model: InDeed,
        images: Sequence[AnySizeImage],
        label: str,
        *,
        original: InDeed | None = None,
    ) -> list[_Outcome]:
        """Outcome for each image of one adaptation to all; ``original`` is where the network had its weights from.

        An image whose noise must be known, and is not, is left out: its network is the one that is there.
        """
        laws = [noise_law(original or model, image) for image in images]
        known = [law for law in laws if isinstance(law, NoiseLaw)]
        chosen = [k for k, law in enumerate(laws) if not self.photographs or isinstance(law, NoiseLaw)]
        adapted = self._adapted(model, [images[k] for k in chosen], known, label) if chosen else None
        return [
            self._outcome(image, law, model, original or model, adapted if k in chosen else None)
            for k, (image, law) in enumerate(zip(images, laws, strict=True))
        ]

    def _adapted(self, model: InDeed, images: Sequence[AnySizeImage], laws: Sequence[NoiseLaw], label: str) -> Adapted:
        from tqdm import tqdm

        seen = [_extended(image, model.config.patch_size) for image in images]
        total = self.config.steps * len(images)
        with tqdm(total=total, desc=label, disable=not sys.stderr.isatty(), unit="step", leave=False) as bar:
            return adapt(
                model,
                seen,
                self.config,
                torch.Generator().manual_seed(self.seed),
                replay=self._replay(laws, model.config) if self.photographs else None,
                observe=lambda step, _: bar.update(step - bar.n),
            )

    def _replay(self, laws: Sequence[NoiseLaw], network: NetworkConfig) -> SampleSource:
        """Source of photographs with noise of a law, any of the given ones."""
        patches = self._patches(network.channels, network.patch_size)
        sources = [matched_replay(patches, law, level_range(law)) for law in laws]
        return lambda generator: sources[int(torch.randint(len(sources), (), generator=generator))](generator)

    def _patches(self, channels: int, side: int) -> PatchSampler:
        if (channels, side) not in self.patches:
            suitable = [
                eight_bit(photograph.tensor(), channels)
                for photograph in self.photographs
                if photograph.channels >= channels and min(photograph.pixels.shape[:2]) >= side
            ]
            if not suitable:
                kind = "colour ones of" if channels == 3 else "ones of"
                raise ValueError(f"photographs: got none to replay, expected {kind} at least {side}x{side} pixels")
            self.patches[channels, side] = PatchSampler(suitable, side)
        return self.patches[channels, side]

    def _outcome(
        self,
        image: Image,
        law: NoiseLaw | str,
        model: InDeed,
        original: InDeed,
        adapted: Adapted | None,
    ) -> _Outcome:
        if adapted:
            model = adapted.model
        row: dict[str, object] = {
            "steps": adapted.steps if adapted else 0,
            "stopped": adapted.stopped if adapted else f"not adapted: {law}",
            "seconds": adapted.seconds if adapted else 0.0,
            "forwards": adapted.patch_forwards if adapted else 0.0,
            "noise_sd": "",
            "neighbour_correlation": "",
        }
        if isinstance(law, NoiseLaw):
            row["noise_sd"] = noise_level(law, image) / GREY_LEVEL
            row["neighbour_correlation"] = law.neighbour_correlation
        hyperpriors = self.config.training.hyperpriors
        before, after = (_free_energy(network, image, hyperpriors) for network in (original, model))
        for name in before:
            row |= {f"{name}_before": before[name], f"{name}_after": after[name]}
        now, then = (torch.cat([x.detach().flatten() for x in network.parameters()]) for network in (model, original))
        row["drift"] = ((now - then).norm() / then.norm()).item()
        return _Outcome(model, {x: f"{y:.6g}" if isinstance(y, float) else str(y) for x, y in row.items()})


def noise_law(model: InDeed, image: Image) -> NoiseLaw | str:
    """Law of the noise in an image, or why there is none to adapt to."""
    try:
        return law_to_replay(model, image)
    except ValueError as error:
        return str(error)


def _extended(image: Image, side: int) -> AnySizeImage:
    """Image, extended by reflection where it is smaller than a square."""
    rows, columns = (reflected_indices(length, max(length, side)) for length in image.shape[1:])
    return image[:, rows][:, :, columns]


@torch.no_grad()
def _free_energy(model: InDeed, image: Image, hyperpriors: Hyperpriors) -> dict[str, float]:
    """Free energy and the terms that an adaptation may lower, in nats a pixel and colour, on some tiles."""
    tiles = split(image[None], model.config.patch_size, 0)[:, 0]
    y = tiles[evenly(range(len(tiles)), min(REPORTED_TILES, len(tiles)))].to(next(model.parameters()).device)
    middle, _ = model(y)
    terms = elbo_terms(y, middle, solve_leaf_level(y, middle, hyperpriors), hyperpriors)
    values = {"free_energy": negative_elbo(terms)} | {x: getattr(terms, x) for x in ("fidelity", "rank", "sparsity")}
    return {name: value.mean().item() / y[0].numel() for name, value in values.items()}


def report_line(path: Path, row: Row) -> str:
    """Line on the adaptation to an image, from its row of the report."""
    if row["stopped"].startswith("not adapted"):
        return f"{path.name:<24} {row['stopped']}"
    noise = "noise unknown"
    if row["noise_sd"]:
        noise = f"noise {float(row['noise_sd']):.1f}, of neighbours {float(row['neighbour_correlation']):+.2f}"
    return f"{path.name:<24} {noise}; {row['steps']} steps, {float(row['seconds']):.0f} s"
