"""Table 3 beside the paper's: what is printed, the differences, and what section 4.2 concludes from it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from indeed.record import results_folder
from indeed.tables import Row, read_table

FIGURES = ("psnr_low_rank", "ssim_low_rank", "psnr", "ssim")
"""What is measured: PSNR in dB and SSIM, of L and of L + S."""
_PAPER_FIGURES = ("psnr_L", "ssim_L", "psnr_L_plus_S", "ssim_L_plus_S")


def printed() -> dict[int, Row]:
    """Read the rows of the paper's table by model number."""
    return {int(row["model"]): row for row in read_table(results_folder() / "paper" / "table3_ablation.csv")}


def beside_paper(rows: Sequence[Mapping[str, str]], heads: str | None = None) -> list[dict[str, Any]]:
    """Measured beside printed, one row a model: mean over the seeds, range over the seeds, paper, and difference.

    For each of `FIGURES` there are ``<figure>``, ``<figure>_range``, ``<figure>_paper`` and ``<figure>_difference``
    (here minus paper). Only models that were measured with these heads (None: those of the first row) are there.
    """
    compared = []
    for model, row in printed().items():
        chosen = heads or rows[0]["heads"]
        seeds = [measured for measured in rows if (measured["model"], measured["heads"]) == (str(model), chosen)]
        if not seeds:
            continue
        entry: dict[str, Any] = {"model": model, "label": _label(row), "seeds": len(seeds)}
        for figure, column in zip(FIGURES, _PAPER_FIGURES, strict=True):
            values = [float(measured[figure]) for measured in seeds]
            here, paper = fmean(values), float(row[column])
            entry |= {figure: here, f"{figure}_range": max(values) - min(values)}
            entry |= {f"{figure}_paper": paper, f"{figure}_difference": here - paper}
        entry |= {"parameters_million": float(seeds[0]["parameters_million"])}
        entry |= {"parameters_million_paper": float(row["params_million"])}
        compared.append(entry)
    return compared


def _label(row: Mapping[str, str]) -> str:
    """Say in short what distinguishes a model."""
    if row["backbone"] == "Transformer":
        return "transformer"
    parts = [f"({row['depth']}, {row['kernel_size']})", f"r0 = {row['max_rank']}"]
    parts += ["BatchNorm"] if row["norm"] == "BatchNorm" else []
    parts += ["supervision only"] if row["loss"] != "L_DEN" else []
    return ", ".join(parts)


Value = Callable[[int, str], float]
"""Value of a figure of merit: of a model's number and the figure's name."""


@dataclass(frozen=True)
class Claim:
    """A conclusion of section 4.2, as a margin in dB that is positive where it holds."""

    name: str
    meaning: str
    models: tuple[int, ...]
    figures: tuple[str, ...]
    margin: Callable[[Value], float]


def _better(name: str, meaning: str, figure: str, *others: int) -> Claim:
    """Claim that model 3 is better than all the others."""
    return Claim(
        name,
        meaning,
        (3, *others),
        (figure,),
        lambda value: value(3, figure) - max(value(model, figure) for model in others),
    )


def _more_sensitive(value: Value) -> float:
    """How much more the PSNR of L varies with the maximal rank than that of L + S."""
    ranges = []
    for figure in ("psnr_low_rank", "psnr"):
        values = [value(model, figure) for model in _RANKS]
        ranges.append(max(values) - min(values))
    return ranges[0] - ranges[1]


_RANKS = (4, 5, 6, 7, 3, 8)
"""Models of maximal rank 4, 8, 16, 32, 64 and 96, otherwise alike."""
CLAIMS = (
    _better("kernel_low_rank", "L: (35, 3) better than (21, 5), (15, 7)", "psnr_low_rank", 1, 2),
    _better("kernel", "L + S: (35, 3) better than (21, 5), (15, 7)", "psnr", 1, 2),
    _better("rank_rises", "L: r0 = 64 better than 4", "psnr_low_rank", 4),
    _better("rank_peaks", "L: r0 = 64 better than 96", "psnr_low_rank", 8),
    Claim("rank_matters", "r0 matters more for L than for L + S", _RANKS, ("psnr_low_rank", "psnr"), _more_sensitive),
    _better("loss", "L: whole loss better than supervision only", "psnr_low_rank", 9),
    _better("group_norm", "L: GroupNorm better than BatchNorm", "psnr_low_rank", 10),
    _better("transformer_low_rank", "L: ResNet better than transformer", "psnr_low_rank", 11),
    _better("transformer", "L + S: ResNet better than transformer", "psnr", 11),
)
"""What section 4.2 concludes from the table."""


def verdicts(compared: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each of `CLAIMS`: its margin in dB in the paper and here, and whether it holds here.

    ``verdict`` is ``undecided`` where the margin here is not greater than the largest range over the seeds of the
    models it compares, else ``holds`` or ``reversed``. A claim about a model that was not measured is left out.
    """
    by_model = {row["model"]: row for row in compared}
    results: list[dict[str, Any]] = []
    for claim in CLAIMS:
        if not by_model.keys() >= set(claim.models):
            continue
        here = claim.margin(lambda model, figure: by_model[model][figure])
        paper = claim.margin(lambda model, figure: by_model[model][f"{figure}_paper"])
        noise = max(by_model[model][f"{figure}_range"] for model in claim.models for figure in claim.figures)
        verdict = "undecided" if abs(here) <= noise else "holds" if here > 0 else "reversed"
        results.append(
            {"claim": claim.name, "meaning": claim.meaning, "paper": paper, "here": here, "noise": noise}
            | {"verdict": verdict}
        )
    return results
