"""Figures of the chapters and of the command: functions that return the figure and the data it shows.

The only module that uses matplotlib and seaborn; it loads them when a figure is drawn.
"""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from torch import Tensor

from indeed.bayes.generative_model import Hyperpriors, PriorSample, sparse_marginal_log_density

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ImageArray = Float[np.ndarray, "height width channel"]


def signed_display(part: Float[Tensor, "channel height width"]) -> tuple[Float[Tensor, "channel height width"], float]:
    """Display mapping of a signed image, ``1/2 + value / (2 limit)`` clipped to [0, 1], and its limit.

    Mid grey is zero, black and white are minus and plus the limit, the 99.5 % quantile of the absolute values (at least
    one 8-bit grey level, so that a part that vanishes looks empty).

    Examples
    --------
    >>> import torch
    >>> signed_display(torch.tensor([[[-0.25, 0.0, 0.25]]]))
    (tensor([[[0.0000, 0.5000, 1.0000]]]), 0.25)
    """
    # a million values determine the quantile well enough
    magnitudes = part.flatten()[:: max(1, part.numel() // 2**20)].abs().numpy()
    limit = max(float(np.quantile(magnitudes, 0.995)), 1 / 255)
    return (0.5 + part / (2 * limit)).clamp(0, 1), limit


def image_grid(
    panels: dict[str, Float[Tensor, "channel height width"]], columns: int | None = None
) -> tuple["Figure", dict[str, ImageArray]]:
    """Images in [0, 1] side by side, each under its title; values outside are shown as black or white.

    Images of more than 1024 pixels a side are thinned out for display.

    Parameters
    ----------
    panels
        Images by title; all of one size.
    columns
        Panels in a row; None: all.

    Returns
    -------
    figure
        A matplotlib figure.
    data
        What each panel shows, by its title, (height, width, channel) in [0, 1].
    """
    from matplotlib.figure import Figure

    data = {}
    for title, image in panels.items():
        stride = max(1, max(image.shape[1:]) // 1024)
        thinned = image.detach().cpu()[:, ::stride, ::stride].clamp(0, 1)
        data[title] = thinned.permute(1, 2, 0).numpy()
    columns = columns or len(data)
    rows = -(-len(data) // columns)
    height, width = next(iter(data.values())).shape[:2]
    inches = 2.6  # three panels fill a page of the book at 100 %
    size = (inches * columns, rows * (min(max(inches * height / width, 1), 12) + 0.35))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for ax, (title, shown) in zip(axes, data.items(), strict=False):
        ax.imshow(shown.squeeze(2) if shown.shape[2] == 1 else shown, cmap="gray", vmin=0, vmax=1)
        ax.set_title(title, fontsize=10)
    for ax in axes:
        ax.set_axis_off()
    return figure, data


def decomposition_panel(
    image: Float[Tensor, "channel height width"],
    L: Float[Tensor, "channel height width"],
    S: Float[Tensor, "channel height width"],
    N: Float[Tensor, "channel height width"],
    clean: Float[Tensor, "channel height width"] | None = None,
) -> tuple["Figure", dict[str, ImageArray]]:
    """Observation beside its low-rank, sparse and noise parts and the denoised L + S (Eq. 1), in rows of three.

    S and N are shown by `signed_display`, with their limits in the titles. The last panel is the clean image, where it
    is known. Figure and data are those of `image_grid`.
    """
    sparse, sparse_limit = signed_display(S)
    noise, noise_limit = signed_display(N)
    panels = {
        "observation Y": image,
        "low rank L": L,
        f"sparse S (grey 0, white {sparse_limit:.2g})": sparse,
        "denoised L + S": L + S,
        f"noise N (grey 0, white {noise_limit:.2g})": noise,
    }
    if clean is not None:
        panels["clean image U"] = clean
    return image_grid(panels, columns=3)


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


def png(figure: "Figure", dpi: int = 100) -> bytes:
    """Encode a figure as a PNG file, for a widget that shows pictures without a running kernel."""
    import io

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def model_graph() -> tuple["Figure", dict[str, list[str]]]:
    """Graph of the hierarchical model (the paper's Fig. 2a) with its hyperparameters.

    Squares are fixed numbers, circles unknowns, filled circles what is observed; dotted circles are determined by their
    neighbours and need no inference.

    Returns
    -------
    figure
        A matplotlib figure.
    data
        Names of the nodes by their kind, and the arrows.
    """
    import seaborn
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle, FancyArrowPatch, Patch, Rectangle

    blue, orange = seaborn.color_palette("colorblind", 2)
    # name: (label, x, y), from the hyperparameters at the top to the images at the bottom
    places = {
        "gamma prior": (r"$\alpha^0_\gamma, \beta^0_\gamma$", 1.0, 4.1),
        "Omega prior": (r"$\alpha^0_\omega, \beta^0_\omega$", 3.0, 4.1),
        "Lambda prior": (r"$\alpha^0_\lambda, \beta^0_\lambda$", 4.8, 4.1),
        "gamma": (r"$\gamma$", 1.0, 3.1),
        "Omega": (r"$\Omega$", 3.0, 3.1),
        "Lambda": (r"$\Lambda$", 4.8, 3.1),
        "A": ("$A$", 0.4, 2.1),
        "B": ("$B$", 1.6, 2.1),
        "S": ("$S$", 3.0, 2.1),
        "L": ("$L$", 1.0, 1.1),
        "N": ("$N$", 4.8, 1.1),
        "U": ("$U$", 1.8, 0.1),
        "Y": ("$Y$", 3.6, 0.1),
    }
    kinds = {
        "fixed": ["gamma prior", "Omega prior", "Lambda prior"],
        "leaf level": ["gamma", "Omega", "Lambda"],
        "middle level": ["A", "B", "S"],
        "determined": ["L", "N"],
        "observed": ["U", "Y"],
    }
    arrows = [(f"{name} prior", name) for name in ("gamma", "Omega", "Lambda")]
    arrows += [("gamma", "A"), ("gamma", "B"), ("A", "L"), ("B", "L"), ("Omega", "S"), ("Lambda", "N")]
    arrows += [("L", "Y"), ("S", "Y"), ("N", "Y"), ("L", "U"), ("S", "U")]

    figure = Figure(figsize=(6.6, 4.6), layout="constrained")
    ax = figure.subplots()
    styles: dict[str, dict[str, object]] = {
        "leaf level": {"facecolor": (*blue, 0.25), "edgecolor": "black"},
        "middle level": {"facecolor": (*orange, 0.35), "edgecolor": "black"},
        "determined": {"facecolor": "white", "edgecolor": "black", "linestyle": ":"},
        "observed": {"facecolor": "0.75", "edgecolor": "black"},
    }
    shapes: dict[str, Patch] = {}
    for kind, names in kinds.items():
        for name in names:
            label, x, y = places[name]
            if kind == "fixed":
                shapes[name] = Rectangle((x - 0.36, y - 0.2), 0.72, 0.4, facecolor="white", edgecolor="black")
            else:
                shapes[name] = Circle((x, y), 0.27, linewidth=1.4, **styles[kind])
            ax.add_patch(shapes[name])
            ax.text(x, y, label, ha="center", va="center", fontsize=13)
    for tail, head in arrows:
        ends = [places[name][1:] for name in (tail, head)]
        arrow = FancyArrowPatch(*ends, arrowstyle="-|>", mutation_scale=12, color="0.2", shrinkB=2)
        arrow.set_patchA(shapes[tail])
        arrow.set_patchB(shapes[head])
        ax.add_patch(arrow)
    for row, y in {"hyperparameters": 4.1, "leaf level": 3.1, "middle level": 2.1, "parts": 1.1, "images": 0.1}.items():
        ax.text(-0.35, y, row, ha="right", va="center", fontsize=11, color="0.25")
    ax.set_xlim(-1.9, 5.3)
    ax.set_ylim(-0.25, 4.4)
    ax.set_aspect("equal")
    ax.set_axis_off()
    return figure, kinds | {"arrows": [f"{tail} -> {head}" for tail, head in arrows]}


def prior_gallery(samples: dict[str, PriorSample]) -> tuple["Figure", dict[str, dict[str, float]]]:
    """Prior samples, one a row: their parts L, S and N and the image Y that they make.

    Every panel has its own contrast, because the amplitudes differ by orders of magnitude: mid grey is zero, black and
    white are minus and plus the limit in its title, the 99 % quantile of the absolute values.

    Returns
    -------
    figure
        A matplotlib figure.
    data
        The limit of each panel in 8-bit grey levels, by row and part.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 2.15 * len(samples)), layout="constrained")
    data: dict[str, dict[str, float]] = {}
    rows_of_figure = figure.subfigures(len(samples), 1, squeeze=False)[:, 0]
    for rows, (name, sample) in zip(rows_of_figure, samples.items(), strict=True):
        parts = {"L": sample.A @ sample.B.mT, "S": sample.S, "N": sample.N, "Y": sample.Y}
        rows.suptitle(name, fontsize=11)
        data[name] = {}
        for ax, (part, values) in zip(rows.subplots(1, 4), parts.items(), strict=True):
            grey = 255 * values[0, 0].numpy()
            limit = data[name][part] = float(np.quantile(np.abs(grey), 0.99))
            ax.imshow(grey, cmap="gray", vmin=-limit, vmax=limit, interpolation="nearest")
            ax.set_title(f"{part}, white {limit:.{0 if limit >= 10 else 1 if limit >= 1 else 3}f}", fontsize=10)
            ax.set_axis_off()
    return figure, data


def heavy_tails(
    samples: Float[Tensor, " samples"], hyperpriors: Hyperpriors
) -> tuple["Figure", dict[str, Float[np.ndarray, " bin"]]]:
    """Histogram of samples of S, the Student-t density they should follow, and a normal density of the same variance.

    Values outside of 25 scales of the Student-t are left out of the picture, not of the normalisation.

    Raises
    ------
    ValueError
        If the variance of S is infinite, that is, ``omega_shape`` at most 1.
    """
    import seaborn
    import torch
    from matplotlib.figure import Figure

    if hyperpriors.omega_shape <= 1:
        raise ValueError(f"hyperpriors.omega_shape must exceed 1, got {hyperpriors.omega_shape}")
    scale = (hyperpriors.omega_rate / hyperpriors.omega_shape) ** 0.5
    variance = hyperpriors.omega_rate / (hyperpriors.omega_shape - 1)
    edges = np.linspace(-25 * scale, 25 * scale, 102)
    centres = (edges[1:] + edges[:-1]) / 2
    counts, _ = np.histogram(samples.numpy(), edges)
    student = sparse_marginal_log_density(torch.from_numpy(centres), hyperpriors).exp().numpy()
    normal = np.exp(-(centres**2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
    data = {
        "value": 255 * centres,
        "samples": counts / (255 * len(samples) * (edges[1] - edges[0])),
        "Student-t": student / 255,
        "normal": normal / 255,
    }
    blue, orange, green = seaborn.color_palette("colorblind", 3)
    figure = Figure(figsize=(6.2, 3.6), layout="constrained")
    ax = figure.subplots()
    width = data["value"][1] - data["value"][0]
    ax.bar(data["value"], data["samples"], width=width, color=(*blue, 0.45), label="samples of S")
    ax.plot(data["value"], data["Student-t"], color=orange, linewidth=2, label="Student-t")
    ax.plot(data["value"], data["normal"], color=green, linewidth=2, linestyle="--", label="normal, same variance")
    ax.set_yscale("log")
    ax.set_ylim(0.3 * data["Student-t"].min(), 3 * data["Student-t"].max())
    ax.set_xlabel("s (8-bit grey levels)")
    ax.set_ylabel("density")
    ax.legend()
    return figure, data


def column_variances(
    variances: Float[Tensor, "iteration rank"], floor: float
) -> tuple["Figure", dict[str, Float[np.ndarray, "iteration column"]]]:
    r"""Variance 1/E[gamma_i] of every column against the iteration: those that end above ten floors, and the others.

    Parameters
    ----------
    variances
        :math:`1/\mu_{\gamma_i}` after each iteration.
    floor
        Where a column without any energy ends, drawn as a dashed line.

    Returns
    -------
    figure
        A matplotlib figure.
    data
        The curves of the columns that are ``kept`` and of those that are ``pruned``.
    """
    import seaborn
    from matplotlib.figure import Figure

    curves = variances.numpy()
    kept = curves[-1] > 10 * floor
    data = {"kept": curves[:, kept], "pruned": curves[:, ~kept]}
    orange = seaborn.color_palette("colorblind", 2)[1]
    figure = Figure(figsize=(6.2, 3.6), layout="constrained")
    ax = figure.subplots()
    for name, colour, style in (("pruned", "0.55", "-"), ("kept", orange, "-")):
        lines = ax.plot(np.arange(1, len(curves) + 1), data[name], color=colour, linestyle=style, linewidth=1.3)
        if lines:
            lines[0].set_label(f"{len(lines)} columns {name}")
    ax.axhline(floor, color="black", linestyle="--", linewidth=1, label=r"$\beta^0_\gamma / \alpha^0_\gamma$")
    ax.set_yscale("log")
    ax.set_xscale("log")
    ax.set_xlabel("iteration")
    ax.set_ylabel(r"variance of a column, $1/\mu_{\gamma_i}$")
    ax.legend()
    return figure, data


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
