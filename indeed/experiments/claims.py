"""What the detectors claim of defects: why InDeed misses some, a cell for each data set.

``python -m indeed.experiments.claims --help``. The detectors are those of the method ``indeed`` of
:mod:`indeed.experiments.table6`, and there is no noise.
"""

import math
from pathlib import Path

import torch

from indeed.data.anomaly_readers import READERS
from indeed.data.anomaly_sets import GOOD, load
from indeed.experiments import table6
from indeed.experiments.program import Cell, Job, Key, Table, Values
from indeed.images.noise import GREY_LEVEL
from indeed.images.pixels import eight_bit
from indeed.networks.anomaly_detection import anomaly_maps
from indeed.networks.checkpoint import load_checkpoint
from indeed.networks.whole_image import decompose
from indeed.recipes.good_images import SIDE
from indeed.recipes.rivals import PARTS
from indeed.record import Profile

DETAIL = 8
"""Least number of grey levels that L leaves of a pixel that is detail, not smooth surface."""


def cells(profile: Profile) -> list[Values]:
    """Cells, (dataset,): the sets of the unified model."""
    return [(name,) for name in PARTS.split("+")]


def networks(key: Key, profile: Profile) -> dict[Path, str]:
    """Checkpoint of the method ``indeed`` of Table 6."""
    return table6.networks({**key, "method": "indeed"}, profile)


def cell(job: Job, dataset: str) -> Cell:
    r"""Make ready a cell: what L leaves of the defects of each class, and how much of that S claims.

    Returns
    -------
    A row for each class of defects, over their pixels, and one, of the class ``good``, over all pixels of good test
    images: ``pixels``, their number; ``residual``, the mean of :math:`|Y - \mu_L|` in grey levels; ``detail``, the
    share of the pixels of which L leaves at least `DETAIL`; ``claimed``, the mean of
    :func:`indeed.bayes.anomaly_maps.share` over those, in which defects and what is normal can be compared.

    Raises
    ------
    DataError, DataMissingError
        If the images are not good or missing.
    """
    data = table6.images_of(dataset)

    def compute() -> list[dict[str, float | str]]:
        model, _ = load_checkpoint(job.networks[0], job.device)
        sums: dict[tuple[str, str], list[float]] = {}
        for item in data.test:
            loaded = load(item, None if dataset == "textures" else SIDE, channels=1)
            observed = eight_bit(loaded.image, 1).float() / 255
            residual = (observed - decompose(model, observed).L)[0].abs() / GREY_LEVEL
            claimed = anomaly_maps(model, observed[None], form="share")[0]
            where = loaded.mask if item.defect != GOOD else torch.ones_like(loaded.mask)
            detail = where & (residual >= DETAIL)
            some = [where.sum().item(), residual[where].sum().item(), detail.sum().item(), claimed[detail].sum().item()]
            before = sums.get((item.category, item.defect), [0.0] * len(some))
            sums[item.category, item.defect] = [a + b for a, b in zip(before, some, strict=True)]
        return [
            {
                "category": category,
                "defect": defect,
                "pixels": count,
                "residual": left / count,
                "detail": detailed / count,
                "claimed": claim / detailed if detailed else math.nan,
            }
            for (category, defect), (count, left, detailed, claim) in sums.items()
        ]

    files = {*table6.files_of(data.test), *job.networks}
    return Cell(compute, f"{dataset} ({len(data.test)} images)", files, table6.SEED, job.device)


TABLE = Table(
    name="claims",
    key={"dataset": ("textures", *READERS)},
    example="magnetic_tile",
    cells=cells,
    measure=cell,
    networks=networks,
    profiles=("smoke", "cpu"),
)

if __name__ == "__main__":
    TABLE.main()
