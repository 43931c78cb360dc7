"""What the detector of textures finds of other draws of the defects, and of fainter ones.

``python -m indeed.experiments.texture_draws --help``. A cell is one draw of the defects of
:func:`indeed.recipes.good_images.texture_set_for_tests`, brought nearer to what they hide by a factor.
"""

from dataclasses import replace

from indeed.data.anomaly_sets import GOOD, AnomalyItem, AnomalySet, load
from indeed.experiments import table6
from indeed.experiments.program import Cell, Job, Table, Values, ships
from indeed.images.noise import GREY_LEVEL
from indeed.networks.anomaly_detection import anomaly_maps, load_detector
from indeed.recipes.good_images import SEED, texture_set_for_tests
from indeed.recipes.rivals import Choice
from indeed.record import Profile
from indeed.types import Image

PER_MILLE = 1000
"""Contrast of the defects as they are drawn."""


def cells(profile: Profile) -> list[Values]:
    """Cells, (draw, contrast): four draws that nothing was chosen on, and draw 0, of Table 6, fainter and fainter."""
    faint = [(0, contrast) for contrast in (1000, 500, 250, 125)]
    return [(1, PER_MILLE), *faint[:2]] if profile == "smoke" else [*((k, PER_MILLE) for k in range(1, 5)), *faint]


def faded(data: AnomalySet, factor: float) -> tuple[AnomalySet, float]:
    r"""Defects nearer to what they hide, :math:`Y = U_N + f\,U_A`, and their mean change of a pixel in grey levels."""
    normal: dict[tuple[str, int | None], Image] = {
        (item.category, item.part): load(item).image for item in data.test if item.defect == GOOD
    }

    def fainter(item: AnomalyItem) -> AnomalyItem:
        image, mask = load(item)
        clean = normal[item.category, item.part]
        changes.append(factor * (image - clean).abs()[:, mask].mean().item() / GREY_LEVEL)
        return replace(item, read=lambda: (clean + factor * (image - clean), mask))

    changes: list[float] = []
    good = [item for item in data.test if item.defect == GOOD]
    defects = [fainter(item) for item in data.test if item.defect != GOOD]
    return AnomalySet(data.name, data.train, (*good, *defects)), sum(changes) / len(changes)


def cell(job: Job, draw: int, contrast: int) -> Cell:
    """Make ready a cell: a row for each class of defects, as of Table 6, with the mean ``change`` in grey levels."""

    def compute() -> list[dict[str, float | str]]:
        detector = load_detector(job.networks[0], job.device)
        form, smoothing, turns = detector.settings
        data, change = faded(texture_set_for_tests(SEED + draw), contrast / PER_MILLE)
        rows = table6.scores(
            data,
            lambda images: anomaly_maps(detector.model, images, form=form, turns=turns),
            Choice(form, smoothing, float("nan")),
            side=None,
        )
        kept = ("category", "defect", "average_precision", "auroc", "base_rate")
        return [{name: row[name] for name in kept} | {"change": change} for row in rows]

    return Cell(compute, "skimage.data: brick, grass, gravel", job.networks, SEED, job.device)


TABLE = Table(
    name="texture_draws",
    key={"draw": int, "contrast": (1000, 500, 250, 125)},
    example="1-1000",
    cells=cells,
    measure=cell,
    networks=ships("detect_textures"),
    profiles=("smoke", "cpu"),
)

if __name__ == "__main__":
    TABLE.main()
