"""Where coordinate ascent ends from three starts, with a noise precision for each pixel and with one.

``python -m indeed.experiments.ascent_ends --help``. The tiles are those of the chapter on amortisation. The starts are
the posterior of the shipped denoiser, the singular value decomposition, and where the ascent from that one ends with a
precision for each pixel, but with an S that copies all that L leaves.
"""

import math

import torch

from indeed.bayes.conjugate_updates import NoiseForm
from indeed.bayes.coordinate_ascent import Fit, fit, free_energy, svd_start
from indeed.bayes.generative_model import Hyperpriors
from indeed.bayes.posterior_summaries import low_rank_moments
from indeed.bayes.variational_family import GaussianFactor, MiddleLevel
from indeed.experiments.free_energy_alone import SEED, SIGMA, clean_tiles
from indeed.experiments.program import Cell, Job, Measured, Table, ships
from indeed.images.metrics import psnr
from indeed.images.noise import GREY_LEVEL, gaussian
from indeed.networks.checkpoint import load_checkpoint
from indeed.types import Images


def measure(job: Job, noise: NoiseForm) -> Cell:
    """Make ready a cell: a row for each start, means over the tiles.

    A row has the free energy at its ``start``, ``begin``, and at its end, ``free_energy`` (nats a pixel); and of the
    end the PSNR of L, ``low_rank``, and of L + S, ``psnr`` (dB), the ``rank``, and the share of pixels that L alone
    copies to within a grey level, ``interpolated`` (%). Of ascents with a precision for each pixel it has also
    ``price``: what those pixels that N has would save as sparse values, by the rule of the chapter (nats a pixel).
    """

    def compute() -> list[Measured]:
        network, _ = load_checkpoint(job.networks[0])
        network = network.double()
        clean = clean_tiles(network.config.patch_size, job.profile)
        y = gaussian(clean, SIGMA * GREY_LEVEL, torch.Generator().manual_seed(SEED))
        with torch.no_grad():
            posterior, _ = network(y)
        by_svd = svd_start(y, network.config.max_rank)

        def ascend(start: MiddleLevel, noise: NoiseForm) -> Fit:
            return fit(y, start, noise=noise, tolerance=1e-4, max_sweeps=20 if job.profile == "smoke" else 100)

        def energy(middle: MiddleLevel) -> float:
            return free_energy(y, middle, Hyperpriors(), noise).mean().item() / y[0].numel()

        pixel_end = ascend(by_svd, "pixel")
        starts = {"network": posterior, "svd": by_svd, "s_copies": _copying(y, pixel_end.middle)}
        rows = list[Measured]()
        for name, start in starts.items():
            end = pixel_end if (noise, name) == ("pixel", "svd") else ascend(start, noise)
            L, S = end.middle.means.low_rank, end.middle.S.mean
            rows.append(
                {
                    "start": name,
                    "begin": energy(start),
                    "free_energy": energy(end.middle),
                    "low_rank": psnr(L, clean).mean().item(),
                    "psnr": psnr(L + S, clean).mean().item(),
                    "rank": end.rank.double().mean().item(),
                    "interpolated": 100 * ((y - L).abs() < GREY_LEVEL).double().mean().item(),
                    "price": _price(y, end.middle) if noise == "pixel" else math.nan,
                }
            )
        return rows

    return Cell(compute, "skimage.data.camera, brick", job.networks, SEED)


def _empty_rate(middle: MiddleLevel) -> Images:
    """Rate of a noise precision, without that of a residual: its prior's, and what the variance of L adds."""
    return Hyperpriors().lambda_rate + low_rank_moments(middle.A, middle.B)[1] / 2


def _copying(y: Images, middle: MiddleLevel) -> MiddleLevel:
    """Put all that L leaves into S, with the variance that is best for it."""
    return middle._replace(S=GaussianFactor(y - middle.means.low_rank, (_empty_rate(middle) / 2).log()))


def _price(y: Images, middle: MiddleLevel) -> float:
    """Mean over all pixels of what those that N has cost more than as sparse values: 2 ln(omega_rate / rate) nats."""
    of_noise = middle.S.mean.abs() < 0.5 * (y - middle.means.low_rank).abs()
    return (of_noise * 2 * (Hyperpriors().omega_rate / _empty_rate(middle)).log()).mean().item()


TABLE = Table(
    name="ascent_ends",
    key={"noise": ("pixel", "scalar")},
    example="scalar",
    cells=lambda profile: [("pixel",), ("scalar",)],
    measure=measure,
    networks=ships("denoise_grey"),
    profiles=("smoke", "cpu"),
    only_cpu=True,
)

if __name__ == "__main__":
    TABLE.main()
