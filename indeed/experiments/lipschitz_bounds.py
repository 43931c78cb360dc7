"""How far a small change of the image can move what the shipped grey denoiser puts out: from above and from below.

``python -m indeed.experiments.lipschitz_bounds --help``. A cell is a size of the tiles, which are corners of those that
the chapter about Theorem 1 measures the rest of its right-hand side on.
"""

import torch

from indeed.data.samples import sample_image, sample_names
from indeed.experiments.program import Cell, Job, Table, Values, ships
from indeed.images.noise import GREY_LEVEL, gaussian
from indeed.images.pixels import eight_bit
from indeed.networks.checkpoint import load_checkpoint
from indeed.networks.lipschitz import Lipschitz, lipschitz_bound, lipschitz_estimate, region
from indeed.record import Profile
from indeed.types import Images

SIDES = (32, 64)
FEW = ("camera", "brick", "coffee", "moon")
"""Photographs of the smallest profile."""
SIGMA = 25
SEED = 0


def centres(profile: Profile) -> dict[str, Images]:
    """Centres of the embedded photographs in grey, by name: 128 pixels a side, and 64 of a few at smoke size."""
    side, names = (64, FEW) if profile == "smoke" else (128, sample_names())
    found = {}
    for name in names:
        image = eight_bit(sample_image(name), 1).double() / 255
        top, left = ((size - side) // 2 for size in image.shape[1:])
        found[name] = image[None, :, top : top + side, left : left + side]
    return found


def observed(clean: Images) -> Images:
    """Add white noise of `SIGMA` grey levels, always the same."""
    return gaussian(clean, SIGMA * GREY_LEVEL, torch.Generator().manual_seed(SEED))


def cells(profile: Profile) -> list[Values]:
    """Cells of a profile, (side,): the smallest has the smaller tiles."""
    return [(SIDES[0],)] if profile == "smoke" else [(SIDES[1],)]


def measure(job: Job, side: int) -> Cell:
    """Make ready the Lipschitz constant of each ``part`` that the network puts out: ``at_least`` and ``at_most``.

    The first is the largest stretching that was found at four tiles, the second the product of the norms of the layers.
    """

    def compute() -> list[dict[str, float | str]]:
        model = load_checkpoint(job.networks[0])[0].double()
        clean = torch.cat(list(centres(job.profile).values()))
        tiles = observed(clean)[:4, :, :side, :side]
        most, _ = lipschitz_bound(model, side, side, region(model, tiles))
        steps = 2 if job.profile == "smoke" else 6
        least = lipschitz_estimate(model, tiles, steps=steps, generator=torch.Generator().manual_seed(SEED))
        return [
            {"part": part, "at_least": low, "at_most": high}
            for part, low, high in zip(Lipschitz._fields, least, most, strict=True)
        ]

    return Cell(compute, "photographs of scikit-image and scikit-learn, in grey", job.networks, SEED)


TABLE = Table(
    name="lipschitz_bounds",
    key={"side": SIDES},
    example="64",
    cells=cells,
    measure=measure,
    networks=ships("denoise_grey"),
    profiles=("smoke", "cpu"),
    only_cpu=True,
)

if __name__ == "__main__":
    TABLE.main()
