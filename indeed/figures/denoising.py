"""Curves of denoising: quality against noise, rank or training step."""

from typing import TYPE_CHECKING

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
