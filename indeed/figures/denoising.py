"""Curves of denoising: quality against noise, rank, time, sweep or training step; what the posterior claims of it."""

from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def denoising_curve(
    sigma: list[float], psnr: dict[str, list[float]]
) -> tuple["Figure", dict[str, list[tuple[float, float]]]]:
    """PSNR against the standard deviation of the noise, one line for each named image.

    Parameters
    ----------
    sigma
        Noise levels in 8-bit grey levels.
    psnr
        PSNR in dB at each level, by the name of the line.

    Returns
    -------
    figure
        A matplotlib figure.
    data
        The points (sigma, PSNR) of each line.
    """
    import seaborn
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    ax = figure.subplots()
    colours = seaborn.color_palette("colorblind", len(psnr))
    for (name, values), colour, marker in zip(psnr.items(), colours, "os^Dv", strict=False):
        ax.plot(sigma, values, color=colour, marker=marker, label=name)
    ax.set_xlabel("noise standard deviation σ (8-bit grey levels)")
    ax.set_ylabel("PSNR (dB)")
    ax.grid(alpha=0.3)
    ax.legend()
    return figure, {name: list(zip(sigma, values, strict=True)) for name, values in psnr.items()}


def rank_reference(best_psnr: list[float], psnr: float, label: str) -> tuple["Figure", dict[str, list[float]]]:
    """PSNR of the best rank-k approximation of the clean image against k, and one method as a horizontal line.

    Parameters
    ----------
    best_psnr
        PSNR in dB of the truncated singular value decomposition of rank 1, 2, ...
    psnr, label
        PSNR in dB of the method, and its name.

    Returns
    -------
    figure
        A matplotlib figure.
    data
        The ranks, the curve and the height of the line.
    """
    import seaborn
    from matplotlib.figure import Figure

    curve, line = seaborn.color_palette("colorblind", 2)
    ranks = list(range(1, len(best_psnr) + 1))
    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    ax = figure.subplots()
    ax.plot(
        ranks, best_psnr, color=curve, marker="o", markersize=3, label="best rank-k approximation of the clean tile"
    )
    ax.axhline(psnr, color=line, linestyle="--", label=label)
    ax.set_xscale("log", base=2)
    ax.set_xticks([rank for rank in (1, 2, 4, 8, 16, 32, 64) if rank <= len(ranks)])
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.set_xlabel("rank k")
    ax.set_ylabel("PSNR (dB)")
    ax.grid(alpha=0.3)
    ax.legend()
    return figure, {"rank": [float(rank) for rank in ranks], "best": best_psnr, label: [psnr]}


def training_curves(
    logs: dict[str, list[dict[str, str]]], column: str = "psnr", label: str = "validation PSNR of L + S (dB)"
) -> tuple["Figure", dict[str, list[tuple[float, float]]]]:
    """One column of the logs of training runs against the step, where the log has a value.

    Parameters
    ----------
    logs
        Rows of ``log.csv`` by the name of the run.
    column, label
        Column of the log, and the name of its axis.

    Returns
    -------
    figure
        A matplotlib figure.
    data
        The points (step, value) of each run.
    """
    import seaborn
    from matplotlib.figure import Figure

    data = {
        name: [(float(row["step"]), float(row[column])) for row in rows if row[column]] for name, rows in logs.items()
    }
    figure = Figure(figsize=(5.6, 3.2), layout="constrained")
    ax = figure.subplots()
    for (name, points), colour, marker in zip(data.items(), seaborn.color_palette("colorblind"), "os^Dv", strict=False):
        steps, values = zip(*points, strict=True)
        ax.plot(steps, values, color=colour, marker=marker, markersize=4, label=name)
    ax.set_xlabel("training step")
    ax.set_ylabel(label)
    ax.grid(alpha=0.3)
    ax.legend()
    return figure, data


def cost_chart(
    psnr: dict[str, float], seconds: dict[str, float], observed: float
) -> tuple["Figure", dict[str, tuple[float, float]]]:
    """PSNR of denoisers against their time, one labelled point for each; the observation is a dashed line.

    Parameters
    ----------
    psnr, seconds
        PSNR in dB and seconds for an image, by the name of the method.
    observed
        PSNR in dB of what they are given.

    Returns
    -------
    figure
        A matplotlib figure.
    data
        The point (seconds, PSNR) of each method.
    """
    import seaborn
    from matplotlib.figure import Figure

    data = {name: (seconds[name], value) for name, value in psnr.items()}
    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    ax = figure.subplots()
    styles = zip(seaborn.color_palette("colorblind"), "os^DvP*X", strict=False)
    for (name, point), (colour, marker) in zip(data.items(), styles, strict=False):
        ax.plot(*point, marker, color=colour, label=name)
    ax.axhline(observed, color="0.4", linestyle="--", label="the observation")
    ax.set_xscale("log")
    ax.margins(x=0.15)
    ax.set_xlabel("seconds for an image")
    ax.set_ylabel("PSNR (dB)")
    ax.grid(alpha=0.3)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9)
    return figure, data


def refinement_curves(
    psnr: dict[str, list[float]], best_psnr: dict[int, float]
) -> tuple["Figure", dict[str, list[float]]]:
    """PSNR after each sweep of a refinement, and that of the best approximations of some ranks as thin lines.

    Parameters
    ----------
    psnr
        PSNR in dB before the first sweep and after each, by the name of the line.
    best_psnr
        PSNR in dB of the truncated singular value decomposition of the clean image, by its rank.

    Returns
    -------
    figure
        A matplotlib figure.
    data
        The heights of the lines by name; those of the ranks are named ``rank k``.
    """
    import seaborn
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.8, 3.6), layout="constrained")
    ax = figure.subplots()
    for (name, values), colour, marker in zip(psnr.items(), seaborn.color_palette("colorblind"), "os^Dv", strict=False):
        ax.plot(range(len(values)), values, color=colour, marker=marker, markersize=4, label=name)
    for rank, value in best_psnr.items():
        ax.axhline(value, color="0.6", linewidth=0.8, zorder=0)
        ax.annotate(
            f"rank {rank}",
            (1, value),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color="0.3",
        )
    ax.set_xlabel("sweeps")
    ax.set_ylabel("PSNR (dB)")
    ax.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncol=2)
    return figure, psnr | {f"rank {rank}": [value] for rank, value in best_psnr.items()}


def noise_estimates(
    true: list[float], estimates: dict[str, list[float]], trained_to: float
) -> tuple["Figure", dict[str, list[tuple[float, float]]]]:
    """Estimated minus true standard deviation of the noise, in grey levels; levels beyond training are shaded.

    Parameters
    ----------
    true
        Standard deviations of the noise that was added.
    estimates
        Estimates at each level, by the name of the line.
    trained_to
        Largest level in training.

    Returns
    -------
    figure
        A matplotlib figure.
    data
        The points (true, estimated minus true) of each line.
    """
    import seaborn
    from matplotlib.figure import Figure

    data = {
        name: [(level, value - level) for level, value in zip(true, values, strict=True)]
        for name, values in estimates.items()
    }
    figure = Figure(figsize=(5.6, 3.2), layout="constrained")
    ax = figure.subplots()
    ax.axhline(0, color="0.4", linestyle="--", label="the truth")
    for (name, points), colour, marker in zip(data.items(), seaborn.color_palette("colorblind"), "os^Dv", strict=False):
        ax.plot(*zip(*points, strict=True), color=colour, marker=marker, label=name)
    right = 1.05 * max(true)
    if right > trained_to:
        ax.axvspan(trained_to, right, color="0.9", zorder=0, label="not in training")
    ax.set(xlim=(0, right), xlabel="σ of the noise (8-bit grey levels)", ylabel="error of the estimate (grey levels)")
    ax.grid(alpha=0.3)
    ax.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncol=3)
    return figure, data


def spread_against_error(
    spread: Float[Tensor, "*shape"], error: Float[Tensor, "*shape"], bins: int = 12
) -> tuple["Figure", dict[str, list[float]]]:
    """Error of pixels against the standard deviation that a posterior claims for them, both in grey levels.

    The pixels are sorted by their standard deviation into bins of equal size; a point is the root mean square of both.

    Parameters
    ----------
    spread, error
        Standard deviation and error of each pixel, in the unit of images in [0, 1].
    bins
        Number of points.

    Returns
    -------
    figure
        A matplotlib figure.
    data
        ``spread`` and ``error`` of each point.
    """
    import seaborn
    from matplotlib.figure import Figure

    order = spread.flatten().argsort()
    points = {
        name: [255 * part.square().mean().sqrt().item() for part in values.flatten()[order].double().tensor_split(bins)]
        for name, values in (("spread", spread), ("error", error))
    }
    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    ax = figure.subplots()
    colour = seaborn.color_palette("colorblind")[0]
    ax.loglog(points["spread"], points["error"], color=colour, marker="o", label="pixels of equal claim")
    ax.axline((1, 1), (10, 10), color="0.4", linestyle="--", label="an honest claim")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.xaxis.set_minor_formatter(lambda value, _: "")
    ax.yaxis.set_minor_formatter(lambda value, _: "")
    ax.set_xlabel("standard deviation claimed (8-bit grey levels)")
    ax.set_ylabel("error made (8-bit grey levels)")
    ax.grid(alpha=0.3, which="both")
    ax.legend()
    return figure, points
