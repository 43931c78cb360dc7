"""What an adaptation to noisy textures changes in the anomaly maps, in the defects and elsewhere.

``python -m indeed.experiments.adapted_maps --help``. A cell is one of the adaptations of the detector that
:mod:`indeed.experiments.adapted_detection` measures, on the same noisy images.
"""

from statistics import fmean

from indeed.data.anomaly_sets import load
from indeed.experiments.adapted_detection import adapt_detector, adaptation_of, noisy_images, set_of_profile
from indeed.experiments.program import Cell, Job, Table, Values, ships
from indeed.networks.anomaly_detection import anomaly_maps, map_settings
from indeed.networks.checkpoint import load_checkpoint
from indeed.recipes.good_images import SEED
from indeed.record import Profile

METHODS = ("indeed", "ag_s", "ag_s_fast", "replay")
"""The detector as it is, and adaptations of it to all images together."""


def cells(profile: Profile) -> list[Values]:
    """Cells, (method,)."""
    return [(method,) for method in METHODS]


def cell(job: Job, method: str) -> Cell:
    """Make ready a cell: the mean of the map ``inside`` the defects and ``outside``, over the images with a defect."""

    def compute() -> list[dict[str, float]]:
        model, record = load_checkpoint(job.networks[0], job.device)
        data = set_of_profile("textures", job.profile)
        observed = noisy_images(data, None)
        if (config := adaptation_of(method, job.profile)) is not None:
            model = adapt_detector(model, record, observed, config, seed=0).model
        settings, means = map_settings(record["map"])._asdict(), list[tuple[float, float]]()
        for item, image in zip(data.test, observed, strict=True):
            mask = load(item).mask
            if mask.any():
                found = anomaly_maps(model, image[None], **settings)[0]
                means.append((found[mask].mean().item(), found[~mask].mean().item()))
        inside, outside = zip(*means, strict=True)
        return [{"inside": fmean(inside), "outside": fmean(outside)}]

    return Cell(compute, "skimage.data: brick, grass, gravel", job.networks, SEED, job.device)


TABLE = Table(
    name="adapted_maps",
    key={"method": METHODS},
    example="ag_s",
    cells=cells,
    measure=cell,
    networks=ships("detect_textures"),
    profiles=("smoke", "cpu"),
)

if __name__ == "__main__":
    TABLE.main()
