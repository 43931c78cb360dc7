"""Figures of the hierarchical model: its graph, samples, columns and penalties, and the switch of its columns."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from indeed.bayes.generative_model import Hyperpriors, PriorSample, sparse_marginal_log_density
from indeed.checks import expect
from indeed.figures.canvas import Drawn, Points, blank, name_axes, page, palette
from indeed.images.noise import GREY_LEVEL


def model_graph() -> Drawn[dict[str, list[str]]]:
    """Graph of the hierarchical model (the paper's Fig. 2a) with its hyperparameters.

    Squares are fixed numbers, circles unknowns, filled circles what is observed; dotted circles are determined by their
    neighbours and need no inference.

    Returns
    -------
    figure, data
        Names of the nodes by their kind, and the arrows.
    """
    from matplotlib.patches import Circle, FancyArrowPatch, Patch, Rectangle

    blue, orange = palette(2)
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

    figure, ax = page(6.6, 4.6)
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
    ax.set(xlim=(-1.9, 5.3), ylim=(-0.25, 4.4), aspect="equal")
    ax.set_axis_off()
    return figure, kinds | {"arrows": [f"{tail} -> {head}" for tail, head in arrows]}


def prior_gallery(samples: dict[str, PriorSample]) -> Drawn[dict[str, dict[str, float]]]:
    """Prior samples, one a row: their parts L, S and N and the image Y that they make.

    Every panel has its own contrast, because the amplitudes differ by orders of magnitude: mid grey is zero, black and
    white are minus and plus the limit in its title, the 99 % quantile of the absolute values.

    Returns
    -------
    figure, data
        The limit of each panel in 8-bit grey levels, by row and part.
    """
    figure = blank(7.6, 2.15 * len(samples))
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


def rank_one_sum(
    A: Float[Tensor, "height rank"], B: Float[Tensor, "width rank"]
) -> Drawn[dict[str, Float[np.ndarray, "height width"]]]:
    r"""Every column of A and of B as a curve beside the image :math:`a_i b_i^\top` that they make, and the sum L.

    All images have one contrast: mid grey is zero, white and black are plus and minus the largest absolute value.

    Returns
    -------
    figure, data
        The images in 8-bit grey levels, by title.
    """
    parts = torch.einsum("ji,ki->ijk", A, B) / GREY_LEVEL
    data = {f"$a_{i} b_{i}^\\top$": part.numpy() for i, part in enumerate(parts, 1)}
    data["$L$, their sum"] = parts.sum(0).numpy()
    limit = max(float(np.abs(image).max()) for image in data.values())
    blue, orange = palette(2)
    figure = blank(7.6, 7.6 / len(data) + 0.1)
    sizes = {"width_ratios": [1, 4] * len(data), "height_ratios": [1, 4]}
    grid = figure.add_gridspec(2, 2 * len(data), **sizes)
    for place, (title, image) in enumerate(data.items()):
        ax = figure.add_subplot(grid[1, 2 * place + 1])
        ax.imshow(image, cmap="gray", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
        ax.set_xlabel(title, fontsize=10)
        ax.set(xticks=[], yticks=[])
        if place == A.shape[1]:
            break
        above = figure.add_subplot(grid[0, 2 * place + 1], sharex=ax)
        above.plot(B[:, place], color=orange, linewidth=1.2)
        above.set_title(f"$b_{place + 1}$", fontsize=10)
        left = figure.add_subplot(grid[1, 2 * place], sharey=ax)
        left.plot(A[:, place], np.arange(len(A)), color=blue, linewidth=1.2)
        left.set_ylabel(f"$a_{place + 1}$", fontsize=10, rotation=0, labelpad=8)
        for curve, zero in ((above, above.axhline), (left, left.axvline)):
            zero(0, color="0.6", linewidth=0.7)
            curve.tick_params(bottom=False, left=False, labelbottom=False, labelleft=False)
            curve.spines[:].set_visible(False)
    return figure, data


def heavy_tails(
    samples: Float[Tensor, " samples"], hyperpriors: Hyperpriors
) -> Drawn[dict[str, Float[np.ndarray, " bin"]]]:
    """Histogram of samples of S, the Student-t density they should follow, and a normal density of the same variance.

    Values outside of 25 scales of the Student-t are left out of the picture, not of the normalisation.

    Raises
    ------
    ValueError
        If the variance of S is infinite, that is, ``omega_shape`` at most 1.
    """
    expect(hyperpriors.omega_shape > 1, "hyperpriors.omega_shape", hyperpriors.omega_shape, "more than 1")
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
    blue, orange, green = palette(3)
    figure, ax = page(6.2, 3.6)
    width = data["value"][1] - data["value"][0]
    ax.bar(data["value"], data["samples"], width=width, color=(*blue, 0.45), label="samples of S")
    ax.plot(data["value"], data["Student-t"], color=orange, linewidth=2, label="Student-t")
    ax.plot(data["value"], data["normal"], color=green, linewidth=2, linestyle="--", label="normal, same variance")
    ax.set(yscale="log", ylim=(0.3 * data["Student-t"].min(), 3 * data["Student-t"].max()))
    ax.set(xlabel="s (8-bit grey levels)", ylabel="density")
    ax.legend()
    return figure, data


def penalties_and_estimates(
    penalties: dict[str, Points], estimates: dict[str, Points]
) -> Drawn[dict[str, dict[str, Points]]]:
    """Cost of a value, and the estimate that a penalty of this kind gives, in standard deviations of the noise.

    Parameters
    ----------
    penalties
        Points (value, cost in nats), by name.
    estimates
        Points (observation, estimate), under the same names.

    Returns
    -------
    figure, data
        Both arguments.
    """
    figure, (left, right) = page(7.2, 3.4, 1, 2)
    top = max(value for points in estimates.values() for value, _ in points)
    right.plot([0, top], [0, top], color="0.6", linewidth=1, linestyle=":", label="observation itself")
    for ax, lines in ((left, penalties), (right, estimates)):
        for (name, points), colour, style in zip(lines.items(), palette(), ("-", "--", "-."), strict=False):
            ax.plot(*zip(*points, strict=True), style, color=colour, linewidth=1.8, label=name)
    name_axes(left, "value s (noise standard deviations)", "penalty (nats)")
    name_axes(right, "observation (noise standard deviations)", "estimate of s")
    right.legend(fontsize=8)
    return figure, {"penalties": penalties, "estimates": estimates}


def shrinkage_rules(rules: dict[str, Points], measured: Points, edge: float) -> Drawn[dict[str, Points]]:
    r"""Singular value in, strength out: a line for each rule, and measured points of the last one.

    Parameters
    ----------
    rules
        Points (singular value, strength) in 8-bit grey levels, by the name of the rule.
    measured
        The same of columns that were inferred.
    edge
        Where the singular values of noise alone end.

    Returns
    -------
    figure, data
        The points of each rule, and those that were ``measured``.
    """
    figure, ax = page(6.2, 4.0)
    styles = ("-", "--", "-.", ":")
    near = ax.inset_axes((0.08, 0.56, 0.3, 0.36), xlim=(0.85 * edge, 2 * edge), ylim=(-0.1 * edge, 2 * edge))
    for where in (ax, near):
        for (name, points), colour, style in zip(rules.items(), palette(), styles, strict=False):
            where.plot(*zip(*points, strict=True), style, color=colour, linewidth=2, label=name)
        where.plot(*zip(*measured, strict=True), "D", color="black", markersize=5, label="columns of the experiment")
        where.axvline(edge, color="0.5", linewidth=1)
    near.set_title("at the edge of the noise", fontsize=8.5)
    near.tick_params(labelsize=7.5)
    ax.indicate_inset_zoom(near)
    name_axes(ax, "singular value of Y (8-bit grey levels)", "strength in L (8-bit grey levels)")
    ax.legend(fontsize=8.5, loc="lower right")
    return figure, rules | {"measured": measured}


def column_variances(
    variances: Float[Tensor, "iteration rank"], floor: float
) -> Drawn[dict[str, Float[np.ndarray, "iteration column"]]]:
    r"""Variance 1/E[gamma_i] of every column against the iteration: those that end above ten floors, and the others.

    Parameters
    ----------
    variances
        :math:`1/\mu_{\gamma_i}` after each iteration.
    floor
        Where a column without any energy ends, drawn as a dashed line.

    Returns
    -------
    figure, data
        The curves of the columns that are ``kept`` and of those that are ``pruned``.
    """
    curves = variances.numpy()
    kept = curves[-1] > 10 * floor
    data = {"kept": curves[:, kept], "pruned": curves[:, ~kept]}
    orange = palette(2)[1]
    figure, ax = page(6.2, 3.6)
    for name, colour, style in (("pruned", "0.55", ":"), ("kept", orange, "-")):
        lines = ax.plot(np.arange(1, len(curves) + 1), data[name], color=colour, linestyle=style, linewidth=1.3)
        if lines:
            lines[0].set_label(f"{len(lines)} columns {name}")
    ax.axhline(floor, color="black", linestyle="--", linewidth=1, label=r"$\beta^0_\gamma / \alpha^0_\gamma$")
    ax.set(yscale="log", xscale="log", xlabel="iteration", ylabel=r"variance of a column, $1/\mu_{\gamma_i}$")
    ax.legend()
    return figure, data
