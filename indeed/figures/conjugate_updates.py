"""Figures of the leaf level: what the precisions are, given the parts of an image, and what they do to the parts."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from indeed.bayes.conjugate_updates import gamma_objective
from indeed.bayes.generative_model import Hyperpriors
from indeed.bayes.posterior_summaries import inverse_precision_tail
from indeed.bayes.variational_family import GammaFactor, GaussianFactor
from indeed.figures.canvas import Drawn, blank, page, palette
from indeed.figures.images import signed_display
from indeed.images.noise import GREY_LEVEL
from indeed.types import ColumnPrecision, Images

Curve = Float[np.ndarray, " point"]


class Landscape(NamedTuple):
    """Objective of one precision over shapes and rates, and the points that are claimed to minimise it.

    ``excess`` is what the objective has above its minimum, in nats, for each element of ``q``; ``path`` are the steps
    of a numerical minimisation.
    """

    q: GammaFactor
    excess: Float[Tensor, "rate shape"]
    exact: GammaFactor
    paper: GammaFactor
    path: GammaFactor


def precision_landscapes(landscapes: dict[str, Landscape]) -> Drawn[dict[str, dict[str, Curve]]]:
    """Objective of sub-problem 1 over shape and rate, with the ridge of equal means and both closed forms on it.

    Parameters
    ----------
    landscapes
        One panel each, by its title.

    Returns
    -------
    figure, data
        Shape and rate of the ``exact`` and the ``paper``'s point and of the last step of the ``path``, by title.
    """
    blue, orange, green = palette(3)
    figure, (axes,) = page(6.6, 3.6, 1, len(landscapes), squeeze=False)
    data = {}
    for ax, (title, landscape) in zip(axes, landscapes.items(), strict=True):
        shape, rate = (x.numpy() for x in landscape.q)
        levels = [0.01, 0.1, 0.3, 1, 3, 10, 30]
        lines = ax.contour(shape, rate, landscape.excess.numpy(), levels, colors="0.55", linewidths=0.9)
        ax.clabel(lines, fmt="%g", fontsize=8)
        points = {name: np.array([float(x) for x in getattr(landscape, name)]) for name in ("exact", "paper")}
        path = np.stack([x.numpy() for x in landscape.path], 1)
        ridge = shape[0] / points["exact"][0] * points["exact"][1]
        inside = (ridge > rate.min()) & (ridge < rate.max())
        ax.plot(shape[0][inside], ridge[inside], color="black", linestyle="--", linewidth=1, label="equal mean")
        ax.plot(*path.T, color=green, marker=".", markersize=4, linewidth=1, label="numerical minimisation")
        ax.plot(*points["exact"], color=blue, marker="o", markersize=8, linestyle="", label="exact")
        ax.plot(*points["paper"], color=orange, marker="s", markersize=8, linestyle="", label="paper")
        ax.set(xscale="log", yscale="log", xlim=(shape.min(), shape.max()), ylim=(rate.min(), rate.max()))
        for axis, middle in ((ax.xaxis, points["exact"][0]), (ax.yaxis, points["exact"][1])):
            ticks = [middle / 2, middle, 2 * middle]
            axis.set_ticks(ticks, labels=[f"{tick:.3g}" for tick in ticks])
            axis.set_ticks([], minor=True)
        ax.set(xlabel="shape α", ylabel="rate β")
        ax.set_title(title, fontsize=10)
        data[title] = points | {"path": path[-1]}
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    return figure, data


def variance_tails(
    posteriors: dict[str, tuple[GammaFactor, GammaFactor]], marks: dict[str, float]
) -> Drawn[dict[str, dict[str, Curve]]]:
    r"""Probability :math:`P(1/\nu > t)` under the exact and the paper's posterior of a precision :math:`\nu`.

    Lines mark the probability that the rank index asks for, 0.95, and one threshold of each panel.

    Parameters
    ----------
    posteriors
        Exact and paper's posterior of one precision, by the title of the panel.
    marks
        The threshold to mark, in units of the inverse of the mean precision, by the title of the panel.

    Returns
    -------
    figure, data
        The relative ``threshold`` and the two curves, by title.
    """
    blue, orange = palette(2)
    figure, (axes,) = page(6.6, 3.1, 1, len(posteriors), sharey=True, squeeze=False)
    data = {}
    for ax, (title, forms) in zip(axes, posteriors.items(), strict=True):
        width = 3.5 / float(forms[0].shape) ** 0.5
        relative = np.linspace(max(0.1, 1 - width), 1 + width, 201)
        curves = {"threshold": relative}
        for name, q, colour, style in zip(("exact", "paper"), forms, (blue, orange), ("-", "--"), strict=True):
            tail = [float(inverse_precision_tail(q, float(t / q.mean))) for t in relative]
            curves[name] = np.array(tail)
            ax.plot(relative, tail, style, color=colour, linewidth=2, label=name)
        ax.axhline(0.95, color="0.5", linewidth=0.8)
        ax.axvline(marks[title], color="0.5", linestyle=":", linewidth=1)
        ax.set_title(title, fontsize=10)
        ax.set_xlabel("threshold t × mean precision")
        data[title] = curves
    axes[0].set_ylabel("P(1/ν > t)")
    axes[0].legend()
    return figure, data


def column_given_gamma(
    mean_gamma: Float[Tensor, " point"], singular_value: float, noise_precision: float, size: int
) -> tuple[Float[Tensor, " point"], Float[Tensor, " point"]]:
    r"""Optimal q(a), q(b) of one column along a singular pair of a square image, for fixed :math:`\mu_\gamma`.

    With singular value :math:`d`, noise precision :math:`\lambda` and size :math:`n`, the updates of the middle level
    settle at :math:`\|\mu_a\|^2 = \|\mu_b\|^2 = m^2 = d - \mu_\gamma/\lambda - n/(\lambda d)` with variance :math:`v =
    1/(\lambda d)` in every entry, where that is positive; otherwise at :math:`m = 0` and :math:`v(\mu_\gamma +
    \lambda n v) = 1`.

    Returns
    -------
    squared_norm, variance
        :math:`m^2` and :math:`v`.
    """
    d, lam, n = singular_value, noise_precision, size
    squared_norm = (d - mean_gamma / lam - n / (lam * d)).clamp(min=0)
    off = 2 / (mean_gamma + (mean_gamma.square() + 4 * lam * n).sqrt())
    return squared_norm, torch.where(squared_norm > 0, torch.full_like(off, 1 / (lam * d)), off)


def column_switch(
    singular_values: dict[str, float], noise_precision: float, size: int, hyperpriors: Hyperpriors
) -> Drawn[dict[str, dict[str, Curve]]]:
    r"""Fate of a column as a function of its energy: growth in one round of updates, and free energy.

    A round is the update of gamma from the energy, and then that of A and B until they settle, as
    `column_given_gamma` has it. The free energy is that of the best q(A), q(B) for a q(gamma) that was updated from
    the given energy, relative to the column switched off. Its stationary points are those where the growth is one.

    Parameters
    ----------
    singular_values
        Singular values of the image, by the name of the column.
    noise_precision, size
        Precision of the noise, and height and width of the image.
    hyperpriors
        Shapes and rates of the priors.

    Returns
    -------
    figure, data
        ``energy`` of the column, its ``growth``, ``free energy`` in nats, and the energies that are ``stable`` and
        ``unstable`` under the updates, by name.
    """
    prior_shape, prior_rate = hyperpriors.gamma_shape, hyperpriors.gamma_rate
    shape = prior_shape + size
    lowest = size * prior_rate / prior_shape
    highest = 2 * max(singular_values.values())
    half_energy = torch.logspace(np.log10(lowest / 5), np.log10(highest), 2000, dtype=torch.float64)
    rate = prior_rate + half_energy
    gamma = GammaFactor(torch.full_like(rate, shape)[:, None, None], rate[:, None, None])
    figure, (above, below) = page(6.6, 4.8, 2, 1, sharex=True)
    data = {}
    colours = palette(len(singular_values))
    for (name, d), colour, style in zip(singular_values.items(), colours, ("-", "--", "-."), strict=False):
        squared_norm, variance = column_given_gamma(shape / rate, d, noise_precision, size)
        after = squared_norm + size * variance
        growth = (after / half_energy).numpy()
        entries = [x[:, None, None, None].expand(-1, 1, size, 1) for x in (squared_norm / size, variance)]
        factor = GaussianFactor(entries[0].sqrt(), entries[1].log())
        fidelity = 0.5 * noise_precision * (after.square() - 2 * d * squared_norm)
        free_energy = (fidelity + gamma_objective(gamma, factor, factor, hyperpriors)).numpy()
        energy = 2 * half_energy.numpy()
        crossing = np.flatnonzero(np.diff(np.sign(growth - 1)))
        stable = crossing[growth[crossing] > 1]
        unstable = crossing[growth[crossing] < 1]
        free_energy = free_energy - free_energy[stable[0]]
        for ax, curve in ((above, growth), (below, free_energy)):
            ax.plot(energy, curve, style, color=colour, linewidth=2, label=name)
            ax.plot(energy[stable], curve[stable], "o", color=colour, markersize=8)
            ax.plot(energy[unstable], curve[unstable], "o", color="white", markeredgecolor=colour, markersize=8)
        data[name] = {
            "energy": energy,
            "growth": growth,
            "free energy": free_energy,
            "stable": energy[stable],
            "unstable": energy[unstable],
        }
    above.axhline(1, color="black", linewidth=0.8)
    above.set(ylim=(0, None), ylabel="energy after one round\n/ energy before")
    above.legend(fontsize=9)
    # The well of a column that lives is what should be seen, not the walls.
    deepest = min(curves["free energy"].min() for curves in data.values())
    ridges = [curves["free energy"][np.isin(curves["energy"], curves["unstable"])] for curves in data.values()]
    hill = np.concatenate(ridges).max(initial=0)
    below.set_ylim(deepest - 0.15 * (hill - deepest) - 1, hill + 0.6 * (hill - deepest) + 1)
    below.axhline(0, color="black", linewidth=0.8)
    below.set_ylabel("free energy\n(nats, off = 0)")
    below.set_xlabel(r"energy of the column, $\|\mu_a\|^2 + \|\sigma_a\|^2 + \|\mu_b\|^2 + \|\sigma_b\|^2$")
    below.set_xscale("log")
    return figure, data


def column_precisions(
    A: GaussianFactor, B: GaussianFactor, mean_gamma: ColumnPrecision, y: Images, threshold: float, shown: list[int]
) -> Drawn[dict[str, Curve]]:
    """Columns of one image with their precisions: strength beside that of Y, precision, and some rank-one images.

    Parameters
    ----------
    A, B, mean_gamma
        The factors and the expected precisions, in the order of the singular values of ``y``.
    y
        The image that they explain.
    threshold
        The singular value below which a column is expected to go out.
    shown
        Columns, counted from zero, whose rank-one images are drawn, each with its own contrast, mid grey is zero.

    Returns
    -------
    figure, data
        ``singular value`` of Y, ``strength`` and ``precision`` of each column.
    """
    blue, orange = palette(2)
    strength = (A.mean.norm(dim=-2) * B.mean.norm(dim=-2))[0, 0].numpy()
    singular_values = torch.linalg.svdvals(y)[0, 0, : len(strength)].numpy()
    precision = mean_gamma[0, 0].numpy()
    index = np.arange(1, len(strength) + 1)
    figure = blank(6.6, 6.0)
    grid = figure.add_gridspec(3, len(shown), height_ratios=(1.5, 1, 1))
    above = figure.add_subplot(grid[0, :])
    above.plot(index, singular_values, "o", color="0.5", markerfacecolor="none", label="singular value of Y")
    alive = strength > 1e-3 * strength.max()
    above.plot(index[alive], strength[alive], "o", color=blue, label="strength of the column, on")
    low = 0.5 * min(strength[alive].min(), singular_values.min())
    above.plot(index[~alive], np.full((~alive).sum(), low), "v", color=orange, label="off")
    above.axhline(threshold, color="black", linestyle="--", linewidth=1, label="threshold")
    above.set(yscale="log", ylabel="strength")
    above.legend(fontsize=8, ncols=2)
    middle = figure.add_subplot(grid[1, :], sharex=above)
    middle.bar(index, precision, color=[blue if on else orange for on in alive])
    middle.set(yscale="log", ylabel=r"precision $\mu_{\gamma_i}$", xlabel="column i")
    for place, column in enumerate(shown):
        ax = figure.add_subplot(grid[2, place])
        image = A.mean[0, :, :, column, None] * B.mean[0, :, None, :, column]
        ax.imshow(signed_display(image)[0][0].numpy(), cmap="gray", vmin=0, vmax=1)
        ax.set_title(f"i = {column + 1}, {'on' if alive[column] else 'off'}", fontsize=9)
        ax.set_axis_off()
    return figure, {"singular value": singular_values, "strength": strength, "precision": precision}


def precision_maps(
    images: dict[str, Images], precisions: dict[str, Images]
) -> Drawn[dict[str, Float[np.ndarray, "height width"]]]:
    r"""Parts of an image above, and below the precisions that rule them, as standard deviations :math:`\mu^{-1/2}`.

    Parameters
    ----------
    images
        Grey images by title, shown with mid grey for zero.
    precisions
        Expected precisions, by title, shown on one logarithmic scale.

    Returns
    -------
    figure, data
        The standard deviations in grey levels, by title.
    """
    from matplotlib.colors import LogNorm

    data = {name: precision[0, 0].rsqrt().numpy() / GREY_LEVEL for name, precision in precisions.items()}
    columns = max(len(images), len(precisions))
    figure, axes = page(6.6, 4.4, 2, columns, squeeze=False)
    for ax, (name, image) in zip(axes[0], images.items(), strict=False):
        shown, limit = signed_display(image[0])
        ax.imshow(shown[0].numpy(), cmap="gray", vmin=0, vmax=1)
        ax.set_title(f"{name}, white {limit / GREY_LEVEL:.0f}", fontsize=9)
    low = min(float(np.quantile(values, 0.005)) for values in data.values())
    high = max(float(values.max()) for values in data.values())
    for ax, (name, values) in zip(axes[1], data.items(), strict=False):
        drawn = ax.imshow(values, cmap="viridis", norm=LogNorm(low, high))
        ax.set_title(name, fontsize=9)
    figure.colorbar(drawn, ax=list(axes[1]), label="standard deviation\n(grey levels)", fraction=0.03)
    for ax in figure.axes[: 2 * columns]:
        ax.set_axis_off()
    return figure, data
