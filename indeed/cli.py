"""The command ``indeed``: denoise, adapt, decompose, detect, train, evaluate, info.

A fault is one line on the standard error stream and exit code 2; the other images of a batch are still done, and no
half-written file is left. An interrupt (Ctrl-C) ends with 130, SIGTERM during a training with 143.
"""

import csv
import hashlib
import json
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
import tyro  # noqa: TID253  (the command's own module: nothing else imports it)
from jaxtyping import Float
from torch import Tensor

from indeed.bayes.conjugate_updates import solve_leaf_level
from indeed.bayes.elbo import elbo_terms, negative_elbo
from indeed.bayes.generative_model import Hyperpriors
from indeed.data.benchmarks import evenly, image_files
from indeed.data.files import (
    FORMATS,
    Picture,
    Pixels,
    check_writable,
    read_image,
    to_pixels,
    write_image,
)
from indeed.data.patches import PatchSampler
from indeed.data.samples import sample_names, sample_path
from indeed.files import atomic_write
from indeed.images.detection_metrics import allowed_false_positives, score_threshold
from indeed.images.noise import GREY_LEVEL, seeded_gaussian
from indeed.images.noise_estimation import NoiseLaw
from indeed.images.tiling import reflected_indices, split
from indeed.learning.adaptation import AdaptationConfig, Adapted, adapt, adaptation_preset
from indeed.learning.distributed import Preempted
from indeed.learning.loading import SampleSource
from indeed.learning.noise_adaptation import law_to_replay, level_range, noise_level
from indeed.learning.training import matched_replay
from indeed.networks.anomaly_detection import load_detector
from indeed.networks.checkpoint import Shipped, load_checkpoint, read_record, shipped_checkpoint
from indeed.networks.inference_network import InDeed, NetworkConfig
from indeed.networks.whole_image import Decomposition, decompose, denoise

Out = Annotated[Path, tyro.conf.arg(aliases=["-o"])]
DETECTORS: dict[str, Shipped] = {"textures": "detect_textures", "parts": "detect_parts"}
"""Detectors that ship, by the names that the command knows them by."""
DENOISERS: dict[int, Shipped] = {1: "denoise_grey", 3: "denoise_color"}
"""Denoisers that ship, by the channels of the images that they are for."""
REPORTED_TILES = 8
"""Tiles of an image on which its free energy is reported, spread evenly over it."""


@dataclass(frozen=True, kw_only=True)
class _WithModel:
    """Options of the commands that put images through a network."""

    checkpoint: Path | None = None
    """Trained network; default: the shipped one for grey or for colour, as the image is."""
    device: str = "auto"
    """Where the network runs: cpu, cuda, cuda:1, ...; auto: a GPU if there is one."""
    overlap: int | None = None
    """Pixels that neighbouring tiles share; default: a quarter of a tile."""
    seed: int = 0
    """Seed of the noise that is added and of an adaptation, the same for each image; a network itself draws nothing."""


@dataclass(frozen=True, kw_only=True)
class Denoise(_WithModel):
    """Denoise images: write L + S in the depth of the input, its alpha channel put back."""

    images: tyro.conf.Positional[tuple[Path, ...]]
    """PNG, JPEG or TIFF files, 8 or 16 bit (TIFF also float)."""
    out: Out
    """File for one image, folder for several."""
    adapt: bool = False
    """Adapt the network to the noise of each image first, as the command adapt does by default."""
    add_noise: float = 0.0
    """Standard deviation (0..255) of Gaussian noise to add first, to try the command on a clean picture."""


@dataclass(frozen=True, kw_only=True)
class Adapt(_WithModel):
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

    images: tyro.conf.Positional[tuple[Path, ...]]
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
    add_noise: float = 0.0
    """Standard deviation (0..255) of Gaussian noise to add first, to try the command on a clean picture."""


@dataclass(frozen=True, kw_only=True)
class Decompose(_WithModel):
    """Decompose an image: write L.png, S.png, N.png, parts.npz and panel.png.

    parts.npz holds float arrays L, S, N (height, width[, colour]) that add up to the image, and the posterior of each
    tile: mean and log-variance of A and B (tile, channel, side, rank) and of S (tile, channel, side, side), with the
    tiles' first rows and columns. In S.png and N.png mid grey is zero; the values of black and white are printed, and
    stored as S_limit, N_limit. An alpha channel goes into L.png.
    """

    image: tyro.conf.Positional[Path]
    """PNG, JPEG or TIFF file, 8 or 16 bit (TIFF also float)."""
    out: Out
    """Folder, made if it is not there."""
    refine: int = 0
    """Sweeps that move from S to L what L can explain of the denoised image, such as 10; slow, L + S stays as it is."""
    add_noise: float = 0.0
    """Standard deviation (0..255) of Gaussian noise to add first, to try the command on a clean picture."""


@dataclass(frozen=True, kw_only=True)
class Detect:
    """Find anomalies in images by a detector that was trained on good ones of their kind.

    Each image NAME.* gets NAME_map.npy (float32, at its size), NAME_heat.png, NAME_overlay.png and a row of scores.csv.
    The pictures of a run have one scale, from 0 to twice the largest score of a good image or, where the map is a
    share, to 1 if that is less; it is printed. A run that was stopped goes on: what is there already, from the same
    image and checkpoint, is not computed again. A detector of photographs, but not that of textures, sees each image
    squeezed into 256 x 256 pixels, as in its training: take details of one size for its training and here.
    """

    images: tyro.conf.Positional[tuple[Path, ...]]
    """PNG, JPEG or TIFF files, or folders of them; grey or colour, converted to what the detector was trained on."""
    out: Out
    """Folder, made if it is not there."""
    checkpoint: str = "textures"
    """A file that train --task uad wrote, or one that ships: textures (trained on scikit-image's photographs of brick,
    grass and gravel) or parts (on good screws of MVTec AD and good magnetic tiles). It knows nothing else."""
    false_positive_rate: float | None = None
    """Share of the good images that may be called anomalous: sets the threshold, the smallest of their scores that at
    most this share of them exceeds. n good images cannot resolve a rate below 1/n."""
    good: Path | None = None
    """Folder of good images, not among those trained on, to set scale and threshold by; their scores are kept in
    good_scores.csv. Default: the images that were held out of the training of the detector."""
    device: str = "auto"
    """Where the network runs: cpu, cuda, cuda:1, ...; auto: a GPU if there is one."""


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a network and write its checkpoint; state and log stay in a folder beside it.

    A blind Gaussian denoiser, or with --task uad a detector of anomalies from good images alone.

    Under torchrun the processes share each batch: torchrun --standalone --nproc-per-node 8 -m indeed.cli train ... On
    SIGTERM the run is saved and ends with code 143; --resume goes on, also with another number of processes.
    """

    out: Out
    """Checkpoint to write, ending in .safetensors."""
    task: Literal["denoise", "uad"] = "denoise"
    """denoise; or uad, unsupervised anomaly detection."""
    preset: Literal["tiny", "cpu", "paper"] = "cpu"
    """tiny: seconds, for tests; cpu: about an hour on one core; paper: section 4.1 of the paper."""
    channels: Literal[1, 3] = 1
    """1 for grey, 3 for colour."""
    data: str | None = None
    """To denoise: bsd (Berkeley images under INDEED_DATA), embedded (installed photographs), auto (default: what is
    there), or a folder. For uad: a folder of photographs of good parts, or with them in train/good or
    CATEGORY/train/good; a set under INDEED_DATA, or several joined by +; textures (default: installed photographs)."""
    steps: int | None = None
    """Length of the run; default: the preset's."""
    stop_at: int | None = None
    """Step to end at while the learning rate is still high, for a checkpoint that another run will --start from."""
    patch_size: int | None = None
    """Side in pixels of the tiles that are trained on; default: the preset's."""
    max_rank: int | None = None
    """With --task uad: largest rank of the low-rank part; the lower it is, the less of a defect can hide there.
    Default: the preset's, for textures 8."""
    halvings: int | None = None
    """With --task uad: f_S is a U-Net that halves its maps so often, for surfaces with fine detail everywhere, such as
    fabric or stone. Default: 0, a ResNet; for textures 3."""
    learning_rate: float | None = None
    """Largest learning rate; default: the preset's."""
    start: Path | None = None
    """Checkpoint whose weights the run starts from, such as one trained on smaller patches."""
    batch_size: int | None = None
    """Samples of a step, over all processes; default: the preset's."""
    accumulate: int = 1
    """Micro-batches into which each process divides its part of the batch, to need less memory."""
    precision: Literal["float32", "bfloat16", "float16"] | None = None
    """Type the network computes in; default: the preset's. On a GPU float32 means TF32 in convolutions."""
    compile: bool = False
    """Compile the network first; pays on GPUs and for large networks."""
    seed: int = 0
    """Seed of the initial weights, the patches and the noise."""
    resume: bool = False
    """Continue the run whose state is in the folder."""
    device: str = "auto"
    """Where the network is trained: cpu, cuda, cuda:1, ...; auto: a GPU if there is one."""


@dataclass(frozen=True, kw_only=True)
class Evaluate(_WithModel):
    """Add noise to each clean image of a folder, denoise it, and report PSNR and SSIM for each and their means."""

    folder: tyro.conf.Positional[Path]
    """Folder of clean PNG, JPEG or TIFF images."""
    sigma: float = 25.0
    """Standard deviation of the noise, 0..255."""
    csv: Path | None = None
    """Table to write, one row for each image."""


@dataclass(frozen=True, kw_only=True)
class Info:
    """Say how a checkpoint was made: network, preset, seed, data, commit, training record."""

    checkpoint: tyro.conf.Positional[Path]
    """Checkpoint file."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with the given arguments (default: those of the process) and return its exit code."""
    command = tyro.cli(Denoise | Adapt | Decompose | Detect | Train | Evaluate | Info, prog="indeed", args=argv)
    faults = _Faults()
    if not 0 <= getattr(command, "seed", 0) < 2**32:
        print("indeed: seed: expected a number from 0 to 4294967295", file=sys.stderr)
        return 2
    try:
        with faults.reported():
            match command:
                case Denoise():
                    _denoise(command, faults)
                case Adapt():
                    _adapt(command, faults)
                case Decompose():
                    _decompose(command)
                case Detect():
                    _detect(command, faults)
                case Train():
                    _train(command)
                case Evaluate():
                    _evaluate(command, faults)
                case Info():
                    print(json.dumps(read_record(command.checkpoint), indent=2))
        sys.stdout.flush()
    except Preempted:
        print("indeed: terminated; the run is saved, continue it with --resume", file=sys.stderr)
        return 128 + signal.SIGTERM
    except KeyboardInterrupt:
        print("indeed: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # the reader of the output has gone, as in `indeed info FILE | head`: no fault of the command
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 2 if faults.count else 0


class _Faults:
    """Faults so far: each is reported by one line, and the work goes on."""

    def __init__(self) -> None:
        self.count = 0

    @contextmanager
    def reported(self, path: Path | None = None) -> Iterator[None]:
        """Report what goes wrong inside; `path` is named if the message does not do so itself."""
        try:
            yield
        except BrokenPipeError:
            raise
        except (ValueError, OSError, RuntimeError, MemoryError, ModuleNotFoundError) as error:
            self.count += 1
            message = " ".join(str(error).split()) or type(error).__name__
            if isinstance(error, OSError) and error.strerror:
                message = ": ".join(str(part) for part in (error.filename, error.strerror.lower()) if part)
            if path is not None and str(path) not in message:
                message = f"{path}: {message}"
            print(f"indeed: {message[:400]}", file=sys.stderr)


class _Models:
    """Networks of a run: the one that was asked for, or the shipped ones, each loaded when it is first needed."""

    def __init__(self, options: _WithModel) -> None:
        self.checkpoint = options.checkpoint
        self.device = _device(options.device)
        self.loaded: dict[Path, InDeed] = {}

    def __call__(self, channels: int) -> InDeed:
        """Network for images of so many channels."""
        path = self.checkpoint or shipped_checkpoint(DENOISERS[channels])
        if path not in self.loaded:
            self.loaded[path] = load_checkpoint(path, self.device)[0]
        model = self.loaded[path]
        if model.config.channels != channels:
            kinds = {1: "grey", 3: "colour"}
            raise ValueError(f"{path} is for {kinds[model.config.channels]} images, got a {kinds[channels]} one")
        return model


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise ValueError(f"device: {name!r} is not available") from error
    return device


def _label(path: Path) -> str | None:
    """Label of a progress bar, or None where nobody watches."""
    return path.name if sys.stderr.isatty() else None


def _denoise(options: Denoise, faults: _Faults) -> None:
    models = _Models(options)
    adaptation = _Adaptation(adaptation_preset("replay"), options.seed) if options.adapt else None
    for path, target in _targets(options.images, options.out).items():
        with faults.reported(path):
            picture = _readable(path, target)
            model = models(picture.channels)
            if adaptation:
                ((model, row),) = adaptation(model, [_observed(options, picture)], path.name)
                print(_report_line(path, row), flush=True)
            write_image(target, replace(picture, pixels=_denoised(options, model, picture, path)))


def _readable(path: Path, target: Path) -> Picture:
    """Picture in a file, once it is known that what becomes of it can be written."""
    picture = read_image(path)
    if target.exists() and target.samefile(path):
        raise ValueError(f"{target}: would overwrite its input, expected another name or folder")
    check_writable(target, picture)
    return picture


def _observed(options: Denoise | Adapt | Decompose, picture: Picture) -> Float[Tensor, "channel height width"]:
    image = picture.tensor()
    return seeded_gaussian(image, options.add_noise, options.seed) if options.add_noise else image


def _denoised(options: Denoise | Adapt, model: InDeed, picture: Picture, path: Path) -> Pixels:
    if options.add_noise:
        noisy = _observed(options, picture)
        return to_pixels(denoise(model, noisy, overlap=options.overlap, progress=_label(path)), picture.pixels.dtype)
    pixels = torch.from_numpy(picture.pixels).permute(2, 0, 1)
    return denoise(model, pixels, overlap=options.overlap, progress=_label(path)).permute(1, 2, 0).numpy()


def _targets(images: Sequence[Path], out: Path, *, folder: bool = False) -> dict[Path, Path]:
    """File to write for each image; in a folder also that of a single one, if ``folder`` says so."""
    if not images:
        raise ValueError("images: got none, expected at least one")
    if len({path.name for path in images}) < len(set(images)):
        raise ValueError(f"{out}: several images have the same name, expected different ones")
    if not out.is_dir():
        if len(images) == 1 and out.suffix and not folder:
            return {images[0]: out}
        if out.suffix.lower() in FORMATS:
            raise ValueError(f"{out}: is the name of one image, expected a folder")
        out.mkdir(parents=True, exist_ok=True)
    return {path: out / path.name for path in images}


def _adapt(options: Adapt, faults: _Faults) -> None:
    from indeed.tables import data_hash

    batch = options.mode == "batch"
    apart = not batch and options.reset == "image"
    if batch and options.reset == "never":
        raise ValueError("reset: got 'never', expected 'image': in batch mode there is one adaptation")
    if options.preset == "paper" and options.photographs:
        raise ValueError(f"photographs: got {options.photographs}, expected none: the preset paper replays nothing")
    given = {"modules": options.modules, "steps": options.steps, "learning_rate": options.learning_rate}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    config = replace(adaptation_preset(options.preset), **changes)
    photographs = _images_in(options.photographs) if options.photographs else []
    adaptation = _Adaptation(config, options.seed, photographs)
    models = _Models(options)
    checkpoints = [options.checkpoint] if options.checkpoint else map(shipped_checkpoint, DENOISERS.values())
    made_by = data_hash(checkpoints)
    targets = _targets(_files(options.images), options.out, folder=True)
    images = list(targets)
    together = "" if apart else " ".join(data_hash([path]) for path in images if path.is_file())
    report = _Report(options.out / "adaptation.csv", made_by, {"file", "steps", "image", "checkpoint"}, by="name")
    settings = {
        "mode": options.mode,
        "preset": options.preset,
        "modules": config.modules,
        "budget": config.steps,
        "learning_rate": config.learning_rate,
        "reset": options.reset,
        "photographs": data_hash(photographs),
        "seed": options.seed,
        "overlap": options.overlap,
        "add_noise": options.add_noise,
        "all_images": hashlib.sha256(together.encode()).hexdigest()[:12] if together else None,
    }

    def found(path: Path) -> dict[str, str] | None:
        there = path.is_file() and targets[path].is_file()
        return report.find(path, **settings) if there else None

    go_on = apart or all(found(path) for path in images)
    carried: dict[int, InDeed] = {}
    for group in [images] if batch else [[path] for path in images]:
        pictures = {}
        for path in group:
            with faults.reported(path):
                if go_on and (row := found(path)):
                    print(_report_line(path, row))
                else:
                    pictures[path] = _readable(path, targets[path])
        for channels in sorted({picture.channels for picture in pictures.values()}):
            some = {path: picture for path, picture in pictures.items() if picture.channels == channels}
            with faults.reported(None if batch else group[0]):
                model = models(channels)
                observed = [_observed(options, picture) for picture in some.values()]
                label = f"{len(some)} images" if batch else group[0].name
                outcomes = adaptation(carried.get(channels, model), observed, label, original=model)
                if options.reset == "never":
                    carried[channels] = outcomes[-1].model
                for (path, picture), outcome in zip(some.items(), outcomes, strict=True):
                    with faults.reported(path):
                        pixels = _denoised(options, outcome.model, picture, path)
                        write_image(targets[path], replace(picture, pixels=pixels))
                        print(_report_line(path, report.put(path, **outcome.row, **settings)), flush=True)


class _Outcome(NamedTuple):
    """Network for an image, and what the report says of its adaptation."""

    model: InDeed
    row: dict[str, str]


class _Adaptation:
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
        images: Sequence[Float[Tensor, "channel _ _"]],
        label: str,
        *,
        original: InDeed | None = None,
    ) -> list[_Outcome]:
        """Outcome for each image of one adaptation to all; ``original`` is where the network had its weights from.

        An image whose noise must be known, and is not, is left out: its network is the one that is there.
        """
        laws = [_noise_law(original or model, image) for image in images]
        known = [law for law in laws if isinstance(law, NoiseLaw)]
        chosen = [k for k, law in enumerate(laws) if not self.photographs or isinstance(law, NoiseLaw)]
        adapted = self._adapted(model, [images[k] for k in chosen], known, label) if chosen else None
        return [
            self._outcome(image, law, model, original or model, adapted if k in chosen else None)
            for k, (image, law) in enumerate(zip(images, laws, strict=True))
        ]

    def _adapted(
        self, model: InDeed, images: Sequence[Float[Tensor, "channel _ _"]], laws: Sequence[NoiseLaw], label: str
    ) -> Adapted:
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
        from indeed.images.pixels import eight_bit

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
        image: Float[Tensor, "channel height width"],
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


def _noise_law(model: InDeed, image: Float[Tensor, "channel height width"]) -> NoiseLaw | str:
    """Law of the noise in an image, or why there is none to adapt to."""
    try:
        return law_to_replay(model, image)
    except ValueError as error:
        return str(error)


def _extended(image: Float[Tensor, "channel height width"], side: int) -> Float[Tensor, "channel _ _"]:
    """Image, extended by reflection where it is smaller than a square."""
    rows, columns = (reflected_indices(length, max(length, side)) for length in image.shape[1:])
    return image[:, rows][:, :, columns]


@torch.no_grad()
def _free_energy(
    model: InDeed, image: Float[Tensor, "channel height width"], hyperpriors: Hyperpriors
) -> dict[str, float]:
    """Free energy and the terms that an adaptation may lower, in nats a pixel and colour, on some tiles."""
    tiles = split(image[None], model.config.patch_size, 0)[:, 0]
    y = tiles[evenly(range(len(tiles)), min(REPORTED_TILES, len(tiles)))].to(next(model.parameters()).device)
    middle, _ = model(y)
    terms = elbo_terms(y, middle, solve_leaf_level(y, middle, hyperpriors), hyperpriors)
    values = {"free_energy": negative_elbo(terms)} | {x: getattr(terms, x) for x in ("fidelity", "rank", "sparsity")}
    return {name: value.mean().item() / y[0].numel() for name, value in values.items()}


def _report_line(path: Path, row: dict[str, str]) -> str:
    if row["stopped"].startswith("not adapted"):
        return f"{path.name:<24} {row['stopped']}"
    noise = "noise unknown"
    if row["noise_sd"]:
        noise = f"noise {float(row['noise_sd']):.1f}, of neighbours {float(row['neighbour_correlation']):+.2f}"
    return f"{path.name:<24} {noise}; {row['steps']} steps, {float(row['seconds']):.0f} s"


def _decompose(options: Decompose) -> None:
    import shutil
    import tempfile

    model_of = _Models(options)
    picture = read_image(options.image)
    image = _observed(options, picture)
    model = model_of(picture.channels)
    made = not options.out.exists()
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        with (
            tempfile.TemporaryDirectory(prefix=".indeed-", dir=options.out) as unfinished,
            tempfile.TemporaryDirectory(prefix=".indeed-", dir=options.out) as scratch,
        ):
            label = _label(options.image)
            parts = decompose(
                model, image, overlap=options.overlap, progress=label, scratch=Path(scratch), refine=options.refine
            )
            _write_parts(Path(unfinished), picture, image, parts)
            finished = sorted(Path(unfinished).iterdir())
            for path in finished:
                if (options.out / path.name).is_dir():
                    raise ValueError(f"{options.out / path.name}: is a folder, expected a file or nothing")
            for path in finished:
                path.replace(options.out / path.name)
    except BaseException:
        if made:
            shutil.rmtree(options.out, ignore_errors=True)
        raise


def _write_parts(
    folder: Path, picture: Picture, image: Float[Tensor, "channel height width"], parts: Decomposition
) -> None:
    from indeed.figures import decomposition_panel, signed_display

    depth = picture.pixels.dtype if picture.pixels.dtype.kind == "u" else np.dtype(np.uint16)
    alpha = picture.alpha if depth == picture.pixels.dtype else None
    write_image(folder / "L.png", Picture(to_pixels(parts.L, depth), alpha, picture.icc_profile))
    arrays: dict[str, Any] = {name: _as_array(getattr(parts, name)) for name in "LSN"}
    for name in "SN":
        display, limit = signed_display(getattr(parts, name))
        arrays[f"{name}_limit"] = np.float32(limit)
        write_image(folder / f"{name}.png", Picture(to_pixels(display, np.dtype(np.uint8))))
        print(f"{name}.png: mid grey is 0, black {-limit:.4g}, white {limit:+.4g}")
    for name, factor in parts.posterior._asdict().items():
        arrays[f"{name}_mean"], arrays[f"{name}_log_variance"] = factor.mean.numpy(), factor.log_variance.numpy()
    arrays["tile_tops"], arrays["tile_lefts"] = np.array(parts.tops), np.array(parts.lefts)
    np.savez(folder / "parts.npz", **arrays)
    decomposition_panel(image, parts.L, parts.S, parts.N)[0].savefig(folder / "panel.png", dpi=150)


def _as_array(part: Float[Tensor, "channel height width"]) -> Float[np.ndarray, "height width *channel"]:
    """Part as other image libraries have it: (height, width) for grey, (height, width, 3) for colour."""
    array = part.permute(1, 2, 0).numpy()
    return array[..., 0] if array.shape[2] == 1 else array


def _detect(options: Detect, faults: _Faults) -> None:
    from tqdm import tqdm

    from indeed.tables import data_hash

    rate, shipped = options.false_positive_rate, DETECTORS.get(options.checkpoint)
    checkpoint = shipped_checkpoint(shipped) if shipped else Path(options.checkpoint)
    detector = load_detector(checkpoint, _device(options.device))
    if options.good and not options.good.is_dir():
        raise ValueError(f"{options.good}: is not a folder")
    good = _images((options.good,)) if options.good else {}
    if rate is not None:
        allowed_false_positives(rate, len(good or detector.good_scores))  # before the work
    images = _images(options.images)
    for path in images.values():
        if path.parent.resolve() == options.out.resolve():
            raise ValueError(f"{options.out}: holds images of the run, expected another folder")
    options.out.mkdir(parents=True, exist_ok=True)
    made_by = data_hash([checkpoint])

    def watched(paths: dict[str, Path], label: str) -> Iterable[Path]:
        bar: Iterable[Path] = tqdm(
            paths.values(), desc=label, disable=not sys.stderr.isatty(), unit="image", leave=False
        )
        return bar

    good_scores = [] if options.good else list(detector.good_scores)
    columns = {"file", "score", "image", "checkpoint"}
    table = _Report(options.out / "good_scores.csv", made_by, columns, by="stem")
    for path in watched(good, "good images"):
        with faults.reported(path):
            row = table.find(path) or table.put(path, score=detector(read_image(path).tensor()).score)
            good_scores.append(float(row["score"]))
    if not good_scores:
        raise ValueError(f"{options.good}: no good image was scored, expected at least one")
    limit = 2 * max(good_scores)
    scale = f"twice the largest score of {len(good_scores)} good images"
    if detector.settings.form == "share" and limit > 1:
        limit, scale = 1.0, f"the largest share that there can be: good images score up to {max(good_scores):.4g}"
    print(f"heat: black 0, light yellow {limit:.4g}, {scale}")
    threshold = None
    if rate is not None:
        threshold = score_threshold(good_scores, rate)
        most = allowed_false_positives(rate, len(good_scores))
        print(f"threshold: {threshold:.4g}, exceeded by at most {most} of {len(good_scores)} good images")

    table = _Report(options.out / "scores.csv", made_by, columns, by="stem")
    for path in watched(images, "images"):
        with faults.reported(path):
            found, files = table.find(path, limit=limit), _detection_files(options.out, path)
            if found and all(file.is_file() for file in files):
                score = float(found["score"])
            else:
                for file in files:  # of what the image was before: should it be unreadable now, none may stay
                    file.unlink(missing_ok=True)
                image = read_image(path).tensor()
                detection = detector(image)
                _write_detection(files, image, detection.map, limit)
                score = detection.score
            anomalous = None if threshold is None else score > threshold
            table.put(path, score=score, threshold=threshold, anomalous=anomalous, limit=limit)
            tqdm.write(f"{path.name:<24} {score:.4g}{' anomalous' if anomalous else ''}")


def _images(places: Sequence[Path]) -> dict[str, Path]:
    """Images among files and in folders, by the names without ending that their outputs have."""
    images: dict[str, Path] = {}
    for path in _files(places):
        other = images.setdefault(path.stem, path)
        if other.resolve() != path.resolve():
            raise ValueError(f"{path}: would have the outputs of {other}, expected another name")
    if not images:
        raise ValueError("images: got none, expected at least one")
    return images


def _files(places: Sequence[Path]) -> list[Path]:
    """Images among files and in folders."""
    return [path for place in places for path in (_images_in(place) if place.is_dir() else [place])]


def _images_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ValueError(f"{folder}: is not a folder")
    images = image_files(folder)
    if not images:
        raise ValueError(f"{folder}: holds no image, expected files ending in {', '.join(FORMATS)}")
    return images


class _Report:
    """Table of what a checkpoint makes of images, found by their names or, ``stem``, those without ending.

    The file is whole after each row. Rows of another checkpoint are dropped, as they do not compare, and so is that of
    an image that has changed.
    """

    def __init__(self, path: Path, checkpoint: str, columns: set[str], *, by: Literal["name", "stem"]) -> None:
        from indeed.tables import read_table

        self.path = path
        self.checkpoint = checkpoint
        self.by = by
        rows = read_table(path) if path.exists() else []
        if rows and not columns <= rows[0].keys():
            raise ValueError(f"{path}: is no table of this command, expected another folder")
        self.rows = {self._key(Path(row["file"])): row for row in rows if row["checkpoint"] == checkpoint}
        if len(self.rows) < len(rows):
            self._write()

    def find(self, path: Path, **values: object) -> dict[str, str] | None:
        """Row of an image, if it is there, with these values and from the very same image."""
        row = self.rows.get(self._key(path))
        if row and not row.items() >= self._row(path, values).items():
            del self.rows[self._key(path)]
            self._write()
        return self.rows.get(self._key(path))

    def put(self, path: Path, **values: object) -> dict[str, str]:
        """Write the row of an image, unless it is there."""
        row = self._row(path, values)
        if self.rows.get(self._key(path)) != row:
            self.rows[self._key(path)] = row
            self._write()
        return row

    def _key(self, path: Path) -> str:
        return path.name if self.by == "name" else path.stem

    def _write(self) -> None:
        from indeed.tables import write_table

        if self.rows:
            write_table(self.path, list(self.rows.values()))
        else:
            self.path.unlink()

    def _row(self, path: Path, values: dict[str, object]) -> dict[str, str]:
        from indeed.tables import data_hash

        texts = {name: "" if value is None else str(value) for name, value in values.items()}
        return {"file": path.name} | texts | {"image": data_hash([path]), "checkpoint": self.checkpoint}


def _detection_files(out: Path, path: Path) -> tuple[Path, Path, Path]:
    """Files that the detection in an image is written to: map, heat map, overlay."""
    return out / f"{path.stem}_map.npy", out / f"{path.stem}_heat.png", out / f"{path.stem}_overlay.png"


def _write_detection(
    files: tuple[Path, Path, Path],
    image: Float[Tensor, "_ height width"],
    anomaly_map: Float[Tensor, "height width"],
    limit: float,
) -> None:
    from indeed.figures import heat, heat_overlay

    with atomic_write(files[0]) as temporary:
        np.save(temporary, anomaly_map.numpy())
    for file, shown in ((files[1], heat(anomaly_map, limit)), (files[2], heat_overlay(image, anomaly_map, limit))):
        write_image(file, Picture(to_pixels(shown, np.dtype(np.uint8))))


def _train(options: Train) -> None:
    from indeed.experiments.denoiser import train_denoiser
    from indeed.experiments.detector import train_detector

    forms: dict[str, Any] = {"max_rank": options.max_rank, "halvings": options.halvings}
    if options.task == "denoise":
        if given := [name for name, value in forms.items() if value is not None]:
            raise ValueError(f"{given[0]}: goes with task uad only")
        forms = {}
    train, data = (train_denoiser, "auto") if options.task == "denoise" else (train_detector, "textures")
    train(
        options.out,
        preset=options.preset,
        channels=options.channels,
        data=options.data or data,
        steps=options.steps,
        stop_at=options.stop_at,
        seed=options.seed,
        resume=options.resume,
        device=str(_device(options.device)),
        patch_size=options.patch_size,
        learning_rate=options.learning_rate,
        start=options.start,
        batch_size=options.batch_size,
        accumulate=options.accumulate,
        precision=options.precision,
        compile=options.compile,
        **forms,
    )


def _evaluate(options: Evaluate, faults: _Faults) -> None:
    from indeed.experiments.denoising import FiguresOfMerit, figures_of_merit, mean_figures

    def line(name: str, merits: FiguresOfMerit) -> str:
        return f"{name:<24} {merits.psnr_noisy:8.2f} {merits.psnr_low_rank:8.2f} {merits.psnr:8.2f} {merits.ssim:8.4f}"

    images = _images_in(options.folder)
    if options.csv and not options.csv.parent.is_dir():
        raise ValueError(f"{options.csv}: its folder does not exist")
    models = _Models(options)
    rows: dict[str, FiguresOfMerit] = {}
    print(f"{'image':<24} {'noisy':>8} {'L':>8} {'L + S':>8} {'SSIM':>8}")
    for path in images:
        with faults.reported(path):
            clean = read_image(path).tensor()
            rows[path.name] = figures_of_merit(
                models(clean.shape[0]),
                clean,
                options.sigma,
                options.seed,
                overlap=options.overlap,
                progress=_label(path),
            )
            print(line(path.name, rows[path.name]), flush=True)
    if rows:
        print(line("mean", mean_figures(list(rows.values()))))
        if options.csv:
            with atomic_write(options.csv) as temporary, temporary.open("w", newline="") as file:
                writer = csv.DictWriter(file, ["image", "sigma", "seed", *FiguresOfMerit._fields])
                writer.writeheader()
                for name, merits in rows.items():
                    given = {"image": name, "sigma": options.sigma, "seed": options.seed}
                    writer.writerow(given | merits._asdict())


if __name__ == "__main__":
    sys.exit(main())
