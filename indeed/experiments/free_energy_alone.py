"""The shipped denoiser, trained further for the free energy alone (Eq. 12): what that gains, what the picture loses.

``python -m indeed.experiments.free_energy_alone --help``. The only cell is the run of an exercise in the chapter on
amortisation: tiles of the grey photographs, one noise precision, no supervision.
"""

import torch

from indeed.bayes.conjugate_updates import solve_leaf_level
from indeed.bayes.coordinate_ascent import free_energy
from indeed.bayes.elbo import elbo_terms
from indeed.bayes.generative_model import Hyperpriors
from indeed.bayes.objectives import expected_negative_elbo
from indeed.data.samples import sample_image, sample_names
from indeed.experiments.program import Cell, Job, Table, ships
from indeed.images.metrics import psnr
from indeed.images.noise import GREY_LEVEL, gaussian
from indeed.networks.checkpoint import load_checkpoint
from indeed.networks.inference_network import InDeed
from indeed.record import Profile
from indeed.types import Images

SIGMA, SEED = 25, 0
CORNERS = {"camera": (128, 192), "brick": (128, 128)}


def clean_tiles(tile: int, profile: Profile) -> Images:
    """Return the tiles that the chapter measures on, in float64; at smoke size only the first."""
    names = list(CORNERS)[: 1 if profile == "smoke" else None]
    corners = [(sample_image(name), *CORNERS[name]) for name in names]
    return torch.stack([image[:, i : i + tile, j : j + tile] for image, i, j in corners]).double()


def measure(job: Job, noise: str) -> Cell:
    """Make ready ``free_energy`` (nats a pixel) and ``psnr`` of L + S (dB) after ``steps``, means over tiles."""

    def compute() -> list[dict[str, float]]:
        student, _ = load_checkpoint(job.networks[0])
        steps, batch = (4, 1) if job.profile == "smoke" else (100, 2)
        student = _trained(student.train(), steps, batch).double().eval()
        clean = clean_tiles(student.config.patch_size, job.profile)
        y = gaussian(clean, SIGMA * GREY_LEVEL, torch.Generator().manual_seed(SEED))
        with torch.no_grad():
            middle, _ = student(y)
        energy = free_energy(y, middle, Hyperpriors(), "scalar").mean().item() / clean[0].numel()
        return [
            {
                "steps": steps,
                "free_energy": energy,
                "psnr": psnr(middle.means.low_rank + middle.S.mean, clean).mean().item(),
            }
        ]

    return Cell(compute, "photographs of scikit-image, in grey", job.networks, SEED)


def _trained(student: InDeed, steps: int, batch: int) -> InDeed:
    tile, generator = student.config.patch_size, torch.Generator().manual_seed(SEED)
    optimiser = torch.optim.Adam(student.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, steps, pct_start=0.2)
    photographs = [sample_image(name) for name in sample_names(1)]
    for _ in range(steps):
        tiles = []
        for choice, row, column in torch.rand(batch, 3, generator=generator).tolist():
            photograph = photographs[int(choice * len(photographs))]
            i, j = (int(at * (side - tile + 1)) for at, side in zip((row, column), photograph.shape[1:], strict=True))
            tiles.append(photograph[:, i : i + tile, j : j + tile])
        y = gaussian(torch.stack(tiles), SIGMA * GREY_LEVEL, generator)
        middle, _ = student(y)
        with torch.no_grad():
            leaf = solve_leaf_level(y, middle, Hyperpriors(), noise="scalar")
        loss = expected_negative_elbo(elbo_terms(y, middle, leaf, Hyperpriors())) / y[0].numel()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return student


TABLE = Table(
    name="free_energy_alone",
    key={"noise": ("scalar",)},
    example="scalar",
    cells=lambda profile: [("scalar",)],
    measure=measure,
    networks=ships("denoise_grey"),
    profiles=("smoke", "cpu"),
    only_cpu=True,
)

if __name__ == "__main__":
    TABLE.main()
