"""One photograph, adapted to in several ways and watched after every step: what helps, when to stop, what goes wrong.

``python -m indeed.experiments.one_photograph --help``. A cell is one adaptation. Four spend the same budget on the
same demosaicked noise: three replay clean photographs with white noise, with noise of the estimated law and with noise
of the very shift, one minimises the paper's terms. The others are what the chapter on adaptation asks beside.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from indeed.data.samples import sample_image
from indeed.experiments import table5_methods
from indeed.experiments.program import Cell, Job, Key, Table
from indeed.images.metrics import psnr
from indeed.images.noise_estimation import estimate_noise
from indeed.images.shifts import SHIFTS
from indeed.learning.adaptation.config import AdaptationConfig
from indeed.learning.adaptation.engine import Estimate, adapt
from indeed.learning.adaptation.noise_replay import level_range
from indeed.learning.adaptation.stopping import DriftCap, LowestFreeEnergy, LowestVariance, Monitor, StoppingRule
from indeed.learning.loading import Sample, SampleSource
from indeed.learning.training.config import training_preset
from indeed.learning.training.sources import denoising_samples, matched_replay
from indeed.networks.checkpoint import load_checkpoint, shipped_checkpoint
from indeed.record import Profile
from indeed.tables import Row
from indeed.types import Image

RULES: dict[str, StoppingRule] = {"energy": LowestFreeEnergy(), "variance": LowestVariance(), "drift": DriftCap()}
SEED = 0


class PhotographRun(NamedTuple):
    """One adaptation: to a photograph (coffee in colour, grass in grey) with the noise of a shift, and how."""

    meaning: str
    replay: str | None = None
    """Noise of the replayed photographs: white of any level, that of the very shift, of the law estimated from the
    image, or of that estimated from the same image with white noise; None: the paper's terms."""
    photograph: str = "coffee"
    shift: str = "demosaicked"
    threads: int | None = None
    """How many it is computed with; None: as set."""
    leak: bool = True
    watched: bool = False


RUNS = {
    "white": PhotographRun("replay, white, any level", "white", watched=True),
    "estimated": PhotographRun("replay, estimated from the image", "estimated", watched=True),
    "shift": PhotographRun("replay, that of the shift", "shift", watched=True),
    "terms": PhotographRun("the paper's terms", watched=True),
    "terms_two_threads": PhotographRun("the paper's terms, sums in the order of two threads", threads=2),
    "wrong": PhotographRun("replay, estimated from another noise", "wrong"),
    "camera_dead": PhotographRun("replay to a camera's noise, without a leak", "estimated", shift="camera", leak=False),
    "camera": PhotographRun("replay to a camera's noise", "estimated", shift="camera"),
    "grass": PhotographRun("replay to white noise on grass", "estimated", photograph="grass", shift="white"),
}


def photograph(name: str, profile: Profile) -> Image:
    """Return a piece of a photograph as the chapter shows it: 256 pixels a side, at smoke size 128."""
    side, top, left = 128 if profile == "smoke" else 256, *((100, 200) if name == "coffee" else (0, 0))
    return sample_image(name)[:, top : top + side, left : left + side].contiguous()


def with_noise(image: Image, shift: str) -> Image:
    """Add the noise of a shift to an image, always the same."""
    return SHIFTS[shift].apply(image[None], torch.Generator().manual_seed(SEED))[0]


def configuration(profile: Profile) -> AdaptationConfig:
    """Return matched replay, the default; at smoke size it takes four steps on small patches."""
    default = table5_methods.ADAPTATIONS[table5_methods.DEFAULT]
    return replace(default, steps=4, patch_size=32) if profile == "smoke" else default


def replayed(noise: str, noisy: Image, clean: Image, shift: str, patch_size: int) -> SampleSource:
    """Return the source of replayed samples: clean photographs of other things, with noise as `PhotographRun` says.

    ``clean`` is needed for ``wrong`` alone.
    """
    patches = table5_methods.replayed(clean.shape[0], patch_size)
    if noise == "white":
        return denoising_samples(patches, training_preset("cpu"))
    if noise == "shift":

        def of_the_shift(generator: torch.Generator) -> Sample:
            patch = patches(generator)
            return Sample(SHIFTS[shift].apply(patch[None], generator)[0], patch)

        return of_the_shift
    law = estimate_noise(with_noise(clean, "white") if noise == "wrong" else noisy)
    return matched_replay(patches, law, level_range(law))


def networks(key: Key, profile: Profile) -> dict[Path, str]:
    """Return the shipped denoiser of the photograph's colours."""
    return {
        shipped_checkpoint(
            "denoise_grey" if RUNS[str(key["adaptation"])].photograph == "grass" else "denoise_color"
        ): ""
    }


def measure(job: Job, adaptation: str) -> Cell:
    """Make ready what a run does to the PSNR: ``psnr_before`` and ``psnr_after``, of the whole image in dB.

    Of a run that is watched also ``psnr_by_step``, of the centre of the image, such as ``0:28.9 1:29.0``, and the steps
    that the `RULES` would have kept (``kept_energy`` and so on). The clean image decides nothing.
    """
    chosen = RUNS[adaptation]

    def compute() -> list[dict[str, float | str]]:
        model, _ = load_checkpoint(job.networks[0])
        clean = photograph(chosen.photograph, job.profile)
        noisy = with_noise(clean, chosen.shift)
        config, source = configuration(job.profile), None
        if chosen.replay is None:
            config = replace(table5_methods.ADAPTATIONS["oag_fast"], steps=config.steps, patch_size=config.patch_size)
        else:
            size = config.patch_size or model.config.patch_size
            source = replayed(chosen.replay, noisy, clean, chosen.shift, size)
        if not chosen.leak:
            config = replace(config, leak=0.0)
        half, by_step = clean.shape[1] // 4, []
        centre = (slice(None), slice(half, 3 * half), slice(half, 3 * half))

        def look(step: int, estimate: Estimate) -> None:
            by_step.append(f"{step}:{_psnr(estimate(noisy[centre]), clean[centre])!r}")

        observe = None
        if chosen.watched:
            config, observe = replace(config, stop=DriftCap(largest=math.inf)), look  # a rule that never stops
        threads = torch.get_num_threads()
        torch.set_num_threads(chosen.threads or threads)
        try:
            found = adapt(model, [noisy], config, torch.Generator().manual_seed(SEED), replay=source, observe=observe)
        finally:
            torch.set_num_threads(threads)
        before, after = (_psnr(estimates[0], clean) for estimates in (found.before, found.after))
        kept = {f"kept_{name}": _kept(rule, found.monitors) for name, rule in RULES.items()}
        return [{"psnr_before": before, "psnr_after": after, "psnr_by_step": " ".join(by_step), **kept}]

    return Cell(compute, f"skimage.data.{chosen.photograph}", job.networks, SEED)


def gains(rows: Iterable[Row]) -> dict[str, float]:
    """Return the gain in PSNR of each run over the whole image, in dB."""
    return {row["adaptation"]: float(row["psnr_after"]) - float(row["psnr_before"]) for row in rows}


def curves(rows: Iterable[Row]) -> dict[str, list[tuple[int, float]]]:
    """Return the points (step, PSNR of the centre in dB) of each run that was watched."""
    points = {row["adaptation"]: [point.split(":") for point in row["psnr_by_step"].split()] for row in rows}
    return {run: [(int(step), float(level)) for step, level in line] for run, line in points.items() if line}


def _psnr(image: Image, clean: Image) -> float:
    return psnr(image[None], clean[None]).item()


def _kept(rule: StoppingRule, monitors: Sequence[Monitor]) -> float:
    """Step that a rule would have kept; rules are functions of what was seen, so one run serves them all."""
    for end in range(1, len(monitors) + 1):
        verdict = rule(monitors[:end])
        if verdict.stop or end == len(monitors):
            return verdict.keep
    return math.nan


TABLE = Table(
    name="one_photograph",
    key={"adaptation": RUNS},
    example="estimated",
    cells=lambda profile: [(run,) for run in RUNS],
    measure=measure,
    networks=networks,
    profiles=("smoke", "cpu"),
    only_cpu=True,
)

if __name__ == "__main__":
    TABLE.main()
