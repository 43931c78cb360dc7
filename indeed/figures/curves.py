"""Curves that several chapters draw: quality against the noise, and against the step of a training."""

from indeed.figures.canvas import Drawn, draw_lines, name_axes, page


def denoising_curve(sigma: list[float], psnr: dict[str, list[float]]) -> Drawn[dict[str, list[tuple[float, float]]]]:
    """PSNR against the standard deviation of the noise, one line for each named image.

    Parameters
    ----------
    sigma
        Noise levels in 8-bit grey levels.
    psnr
        PSNR in dB at each level, by the name of the line.

    Returns
    -------
    figure, data
        The points (sigma, PSNR) of each line.
    """
    data = {name: list(zip(sigma, values, strict=True)) for name, values in psnr.items()}
    figure, ax = page(5.6, 3.4)
    draw_lines(ax, data)
    name_axes(ax, "noise standard deviation σ (8-bit grey levels)", "PSNR (dB)")
    ax.legend()
    return figure, data


def training_curves(
    logs: dict[str, list[dict[str, str]]], column: str = "psnr", label: str = "validation PSNR of L + S (dB)"
) -> Drawn[dict[str, list[tuple[float, float]]]]:
    """One column of the logs of training runs against the step, where the log has a value.

    Parameters
    ----------
    logs
        Rows of ``log.csv`` by the name of the run.
    column, label
        Column of the log, and the name of its axis.

    Returns
    -------
    figure, data
        The points (step, value) of each run.
    """
    data = {
        name: [(float(row["step"]), float(row[column])) for row in rows if row[column]] for name, rows in logs.items()
    }
    figure, ax = page(5.6, 3.2)
    draw_lines(ax, data, markersize=4)
    name_axes(ax, "training step", label)
    ax.legend()
    return figure, data
