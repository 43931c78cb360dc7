"""How much draws of the precisions add to the noise of a training gradient (section 3.1.4), before any training.

``python -m indeed.experiments.leaf_noise --help``. A cell is one network, the shipped grey one or one of its form at a
random start, and one target precision: the weaker the supervision, the more the draws weigh beside it.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from indeed.data.patches import PatchSampler
from indeed.experiments.program import Cell, Job, Table, Values, ships
from indeed.learning.diagnostics.gradients import GradientNoise, gradient_noise
from indeed.learning.loading import draw_batch
from indeed.learning.training.config import training_preset
from indeed.learning.training.sources import denoising_samples
from indeed.networks.checkpoint import load_checkpoint
from indeed.networks.inference_network import InDeed
from indeed.recipes.denoiser import training_images
from indeed.record import Profile
from indeed.tables import Row

NETWORKS = {"start": "random start", "shipped": "shipped"}
PRECISIONS = (1_000, 10_000, 100_000, 1_000_000)
SEED = 0


def cells(profile: Profile) -> list[Values]:
    """Cells of a profile: (network, target_precision)."""
    precisions = (PRECISIONS[0], PRECISIONS[2]) if profile == "smoke" else PRECISIONS
    return [(network, precision) for network in NETWORKS for precision in precisions]


def measure(job: Job, network: str, target_precision: int) -> Cell:
    """Make ready the `GradientNoise` of a network: its columns are ``batch``, ``draw`` and ``leaf``.

    Measured on four batches of patches of the embedded photographs; at smoke size on two of one patch each.
    """

    def compute() -> list[dict[str, float]]:
        model, _ = load_checkpoint(job.networks[0])
        patch = model.config.patch_size
        if network == "start":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(SEED)
                model = InDeed(model.config)
        config = replace(training_preset("cpu"), target_precision=float(target_precision))
        _, photographs, _ = training_images("embedded", 1, patch)
        samples = denoising_samples(PatchSampler(photographs, patch), config)
        size, count = (1, 2) if job.profile == "smoke" else (config.batch_size, 4)
        batches = [draw_batch(samples, range(size * k, size * (k + 1)), SEED) for k in range(count)]
        return [gradient_noise(model.train(), batches, config, leaf_draws=1)._asdict()]

    return Cell(compute, "photographs of scikit-image and scikit-learn, in grey", job.networks, SEED)


def noises(rows: Sequence[Row]) -> dict[str, dict[float, GradientNoise]]:
    """Return the measured noise by network, as `NETWORKS` calls it, and target precision."""
    found: dict[str, dict[float, GradientNoise]] = {name: {} for name in NETWORKS.values()}
    for row in rows:
        noise = GradientNoise(*(float(row[source]) for source in GradientNoise._fields))
        found[NETWORKS[row["network"]]][float(row["target_precision"])] = noise
    return found


TABLE = Table(
    name="leaf_noise",
    key={"network": NETWORKS, "target_precision": PRECISIONS},
    example="shipped-100000",
    cells=cells,
    measure=measure,
    networks=ships("denoise_grey"),
    profiles=("smoke", "cpu"),
    only_cpu=True,
)

if __name__ == "__main__":
    TABLE.main()
