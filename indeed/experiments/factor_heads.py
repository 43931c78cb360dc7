"""What the heads of f_A and f_B must see for L to be good on photographs: means, moments, positions, or both.

``python -m indeed.experiments.factor_heads --help``. A cell is one form of the heads, trained for a moment on clean
patches, or one of the yardsticks beside them: a constant, the cosine series of the rows, and the best approximation of
the same rank.
"""

from dataclasses import replace

import torch
from torch import Tensor

from indeed.bayes.generative_model import low_rank
from indeed.data.patches import PatchSampler
from indeed.experiments.program import Cell, Job, Table
from indeed.networks.inference_network import InDeed, NetworkConfig, cosines
from indeed.recipes.denoiser import training_images
from indeed.types import Images

RANK, SIDE, SEED = 16, 64, 0
_MEAN_ONLY = NetworkConfig(
    channels=1, max_rank=RANK, patch_size=SIDE, factor_width=16, factor_blocks=1, sparse_width=8, sparse_blocks=1
)
FORMS = {
    "mean_only": _MEAN_ONLY,
    "moments": replace(_MEAN_ONLY, factor_moments=RANK),
    "positions": replace(_MEAN_ONLY, factor_positions=RANK),
    "both": replace(_MEAN_ONLY, factor_moments=RANK, factor_positions=RANK),
}
MEANINGS = {
    "constant": "one grey value a patch",
    "mean_only": "learned, heads see the mean only",
    "moments": "moments",
    "positions": "positions",
    "both": "both",
    "cosine_series": "cosine series, no learning",
    "svd": "singular value decomposition",
}


def measure(job: Job, form: str) -> Cell:
    """Make ready ``psnr`` (dB), of the mean squared error of L over 64 patches that were held out, and ``steps``."""

    def compute() -> list[dict[str, float]]:
        _, train, held_out = training_images("embedded", 1, SIDE)
        unseen, sampler = torch.Generator().manual_seed(SEED + 1), PatchSampler(held_out, SIDE)
        clean = torch.stack([sampler(unseen) for _ in range(64)])
        steps = 60 if job.profile == "smoke" else 200
        L = _learned(FORMS[form], train, clean, steps) if form in FORMS else _yardstick(form, clean)
        psnr = -10 * (L - clean).square().mean().log10().item()
        return [{"psnr": psnr, "rank": RANK, "steps": steps if form in FORMS else 0}]

    return Cell(compute, "photographs of scikit-image and scikit-learn, in grey", seed=SEED)


def _learned(config: NetworkConfig, train: list[Tensor], clean: Images, steps: int) -> Images:
    """L of f_A and f_B after some steps on random patches."""
    torch.manual_seed(SEED)
    network = InDeed(config)
    sampler, source = PatchSampler(train, SIDE), torch.Generator().manual_seed(SEED)
    weights = [*network.f_A.parameters(), *network.f_B.parameters()]
    optimizer = torch.optim.Adam(weights, lr=0.01)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, steps)
    for _ in range(steps):
        images = torch.stack([sampler(source) for _ in range(4)])
        L = low_rank(network.f_A(images).mean, network.f_B(images).mean)
        optimizer.zero_grad()
        (L - images).square().mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        decay.step()
    with torch.no_grad():
        return low_rank(network.f_A(clean).mean, network.f_B(clean).mean)


def _yardstick(form: str, clean: Images) -> Images:
    if form == "constant":
        return clean.mean((2, 3), keepdim=True).expand_as(clean)
    if form == "cosine_series":
        waves = cosines(SIDE, RANK, clean)
        series: Images = clean @ waves.mT / SIDE * (2 - (torch.arange(RANK) == 0).float()) @ waves
        return series
    U, d, Vh = torch.linalg.svd(clean)
    best: Images = (U[..., :RANK] * d[..., None, :RANK]) @ Vh[..., :RANK, :]
    return best


TABLE = Table(
    name="factor_heads",
    key={"form": MEANINGS},
    example="both",
    cells=lambda profile: [(form,) for form in MEANINGS],
    measure=measure,
    profiles=("smoke", "cpu"),
    only_cpu=True,
)

if __name__ == "__main__":
    TABLE.main()
