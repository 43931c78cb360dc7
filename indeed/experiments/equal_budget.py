"""What an equal budget bought a DnCNN and an InDeed: ``python -m indeed.experiments.equal_budget --help``."""

from collections.abc import Iterator, Sequence

from indeed.experiments.program import Cell, Job, Table
from indeed.networks.checkpoint import read_record
from indeed.recipes.equal_budget import MODELS, Model, measure_budget, train_within_budget
from indeed.record import Profile
from indeed.tables import Row

DATA: dict[Profile, str] = {"smoke": "embedded", "cpu": "bsd", "paper": "bsd"}
"""Training images of a profile."""


def cell(job: Job, model: Model) -> Cell:
    """Make ready a cell: one of the two networks, trained within the budget unless it is already; grey.

    Returns
    -------
    The budget in ``minutes``, the ``steps`` that it bought, ``milliseconds_per_step``, ``parameters``, and the PSNR of
    L + S on the validation tiles in dB.

    Raises
    ------
    DataMissingError
        If the training images are not on disk.
    """
    data = DATA[job.profile]

    def compute() -> list[dict[str, float]]:
        folder = job.state.parent
        made = train_within_budget(model, profile=job.profile, data=data, folder=folder, progress=False)
        history = read_record(made)["record"]
        return [
            {
                "minutes": history["budget_seconds"] / 60,
                "steps": history["steps"],
                "milliseconds_per_step": 1e3 * history["seconds_per_step"],
                "parameters": history["parameters"],
                "psnr": history["validation"]["psnr"],
            }
        ]

    return Cell(compute, data)


def _lines(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        steps, parameters = (int(float(row[name])) for name in ("steps", "parameters"))
        yield f"{row['model']}: {steps} steps, {parameters} parameters, {float(row['psnr']):.2f} dB"


TABLE = Table(
    name="equal_budget",
    key={"model": MODELS},
    example="dncnn",
    cells=lambda profile: [(model,) for model in MODELS],
    measure=cell,
    report=_lines,
    only_cpu=True,
    commands={"measure": measure_budget, "train": train_within_budget},
)

if __name__ == "__main__":
    TABLE.main()
