"""``indeed adapt``: images denoised by a network that goes on learning for them first."""

import hashlib
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from indeed.checks import expect
from indeed.cli.faults import Faults
from indeed.cli.models import Models, WithNoise, denoisers
from indeed.cli.paths import InputFiles, Out, check_apart, images_in, named_images, prepare, targets
from indeed.data.folders import gathered, shown
from indeed.data.image_files import read_image, write_image
from indeed.data.patches import PatchSampler
from indeed.data.samples import sample_names, sample_path
from indeed.images.noise import GREY_LEVEL
from indeed.images.noise_estimation import NoiseLaw
from indeed.images.pixels import eight_bit
from indeed.learning.adaptation.config import AdaptationConfig, adaptation_preset
from indeed.learning.adaptation.loss import free_energy_of_tiles
from indeed.learning.adaptation.noise_replay import NoLawToReplayError, law_to_replay, replay_of_laws, rms_noise_sd
from indeed.learning.adaptation.online import Online, Outcome
from indeed.learning.adaptation.parameters import relative_change
from indeed.learning.loading import SampleSource
from indeed.networks.inference_network import InDeed
from indeed.tables import ResumableTable, Row, data_hash
from indeed.types import AnySizeImage


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
    """PNG, JPEG, TIFF, BMP or WebP files, 8 or 16 bit (TIFF also float), or folders of them."""
    out: Out
    """Folder, made if it is not there; it gets the folders of the images too."""
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
        expect(not batch or self.reset != "never", "reset", "'never'", "'image': in batch mode there is one adaptation")
        if self.preset == "paper" and self.photographs:
            raise ValueError(f"photographs: got {self.photographs}, expected none: the preset paper replays nothing")
        given = {"modules": self.modules, "steps": self.steps, "learning_rate": self.learning_rate}
        changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        config = replace(adaptation_preset(self.preset), **changes)
        photographs = images_in(self.photographs) if self.photographs else []
        adaptation = Adaptation(config, self.seed, photographs, self.reset)
        models = Models(self)
        made_by = data_hash(denoisers(self.checkpoint))
        names = named_images(self.images, self.out)
        images = list(names)
        written = targets(names, self.out, folder=True)
        table = self.out / "adaptation.csv"
        check_apart([*images, *photographs, *denoisers(self.checkpoint)], [*written.values(), table])
        reader = self.reader(images)
        together = "" if apart else " ".join(data_hash([path]) for path in images if path.is_file())
        self.out.mkdir(parents=True, exist_ok=True)
        report = ResumableTable(table, made_by, {"steps", "image", "checkpoint"}, by="name")
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
        } | reader.settings

        def found(path: Path) -> Row | None:
            return report.find(path, str(names[path]), **settings) if written[path].is_file() else None

        go_on = apart or all(found(path) for path in images)
        for group in [images] if batch else [[path] for path in images]:
            pictures = {}
            for path in group:
                with faults.reported(path):
                    if go_on and (row := found(path)):
                        print(report_line(str(names[path]), row))
                    else:
                        picture = reader(path)
                        prepare(written[path], picture, self.out)
                        pictures[path] = picture
            for channels in sorted({picture.channels for picture in pictures.values()}):
                some = {path: picture for path, picture in pictures.items() if picture.channels == channels}
                with faults.reported(None if batch else group[0]):
                    observed = [self.observed(picture) for picture in some.values()]
                    label = f"{len(some)} images" if batch else str(names[group[0]])
                    outcomes = adaptation(models(channels), observed, label)
                    for (path, picture), outcome in zip(some.items(), outcomes, strict=True):
                        with faults.reported(path):
                            name = str(names[path])
                            write_image(written[path], self.denoised(outcome.model, picture, name))
                            row = report.put(path, name, **outcome.row, white=picture.white, **settings)
                            print(report_line(name, row), flush=True)
        reader.tell()


class _Outcome(NamedTuple):
    """Network for an image, and what the report says of its adaptation."""

    model: InDeed
    row: Row


class Adaptation:
    """Networks for grey and for colour that adapt, and the photographs that are replayed for them."""

    def __init__(
        self,
        config: AdaptationConfig,
        seed: int,
        photographs: Sequence[Path] = (),
        reset: Literal["image", "never"] = "image",
    ) -> None:
        self.config = config
        self.seed = seed
        self.reset = reset
        # Hubble's photograph has noise of its own: the network would learn to keep it.
        files = photographs or [sample_path(name) for name in sample_names() if name != "hubble"]
        self.photographs = gathered(files, read_image) if config.replay_weight else []
        self.patches: dict[int, PatchSampler] = {}
        self.online: dict[int, Online] = {}

    def __call__(self, model: InDeed, images: Sequence[AnySizeImage], label: str) -> list[_Outcome]:
        """Adapt once to all the images; an outcome for each."""
        from tqdm import tqdm

        channels, side = model.config.channels, model.config.patch_size
        if channels not in self.online:
            matched = partial(self._replay, channels, side) if self.photographs else None
            self.online[channels] = Online(model, self.config, reset=self.reset, matched=matched)
        total = self.config.steps * len(images)
        with tqdm(total=total, desc=label, disable=not sys.stderr.isatty(), unit="step", leave=False) as bar:
            generator = torch.Generator().manual_seed(self.seed)
            outcomes = self.online[channels](images, generator, observe=lambda step, _: bar.update(step - bar.n))
        pairs = zip(images, outcomes, strict=True)
        return [_Outcome(outcome.model, self._row(model, image, outcome)) for image, outcome in pairs]

    def _replay(self, channels: int, side: int, laws: Sequence[NoiseLaw]) -> SampleSource:
        if channels not in self.patches:
            suitable = [
                eight_bit(photograph.tensor(), channels)
                for photograph in self.photographs
                if photograph.channels >= channels and min(photograph.pixels.shape[:2]) >= side
            ]
            if not suitable:
                kind = "colour ones of" if channels == 3 else "ones of"
                raise ValueError(f"photographs: got none to replay, expected {kind} at least {side}x{side} pixels")
            self.patches[channels] = PatchSampler(suitable, side)
        return replay_of_laws(self.patches[channels], laws)

    def _row(self, original: InDeed, image: AnySizeImage, outcome: Outcome) -> Row:
        adapted, law = outcome.adapted, outcome.law if outcome.adapted else None
        if not self.photographs:  # the adaptation does not need the law, only the report does
            with suppress(NoLawToReplayError):
                law = law_to_replay(original, image)
        row: dict[str, object] = {
            "steps": adapted.steps if adapted else 0,
            "stopped": adapted.stopped if adapted else f"not adapted: {outcome.refusal}",
            "seconds": adapted.seconds if adapted else 0.0,
            "forwards": adapted.patch_forwards if adapted else 0.0,
            "noise_sd": rms_noise_sd(law, image) / GREY_LEVEL if law else "",
            "neighbour_correlation": law.neighbour_correlation if law else "",
        }
        hyperpriors = self.config.training.hyperpriors
        before, after = (free_energy_of_tiles(network, image, hyperpriors) for network in (original, outcome.model))
        for name in before:
            row |= {f"{name}_before": before[name], f"{name}_after": after[name]}
        row["drift"] = relative_change(outcome.model, original)
        return {x: f"{y:.6g}" if isinstance(y, float) else str(y) for x, y in row.items()}


def report_line(name: str, row: Row) -> str:
    """Line on the adaptation to an image, from its row of the report."""
    if row["stopped"].startswith("not adapted"):
        return f"{shown(name):<24} {row['stopped']}"
    noise = "noise unknown"
    if row["noise_sd"]:
        noise = f"noise {float(row['noise_sd']):.1f}, of neighbours {float(row['neighbour_correlation']):+.2f}"
    return f"{shown(name):<24} {noise}; {row['steps']} steps, {float(row['seconds']):.0f} s"
