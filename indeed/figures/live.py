"""The still form of a live figure of the book, for pages and notebooks where no script runs."""

import numpy as np
import torch
from jaxtyping import Float

from indeed.bayes.generative_model import Hyperpriors, sparse_marginal_log_density
from indeed.figures.canvas import Drawn, name_axes, page, palette
from indeed.images.noise import GREY_LEVEL

Curve = Float[np.ndarray, " point"]


def pixel_posteriors(observed: float, settings: dict[str, Hyperpriors]) -> Drawn[dict[str, dict[str, Curve | float]]]:
    r"""One pixel, :math:`y = s + n`: what S and N pay for their shares of it, and the posterior of s.

    Both precisions are integrated out, so s and n have a Student-t each (:func:`sparse_marginal_log_density
    <indeed.bayes.generative_model.sparse_marginal_log_density>`), and the posterior is the product of the two, scaled
    to one on a grid that is fine around 0 and around y.

    Parameters
    ----------
    observed
        The pixel, in 8-bit grey levels.
    settings
        Hyperpriors by the title of the column.

    Returns
    -------
    figure, data
        ``s`` in grey levels, the penalties of ``S`` and ``N`` in nats (0 at 0), the ``density`` of s per grey level,
        and its ``mean``, by title.
    """
    blue, orange = palette(2)
    figure, axes = page(7.0, 4.2, 2, len(settings), squeeze=False, sharex=True)
    data: dict[str, dict[str, Curve | float]] = {}
    y = torch.tensor(observed * GREY_LEVEL, dtype=torch.float64)
    steps = torch.linspace(-11, 11, 1601, dtype=torch.float64).sinh()
    for (title, prior), (above, below) in zip(settings.items(), axes.T, strict=True):
        # the density of N is that of S, with the hyperparameters of Lambda
        of_noise = Hyperpriors(omega_shape=prior.lambda_shape, omega_rate=prior.lambda_rate)
        widths = [(p.omega_rate / p.omega_shape) ** 0.5 for p in (prior, of_noise)]
        even = torch.linspace(-160, 160, 641, dtype=torch.float64) * GREY_LEVEL
        s = torch.cat([widths[0] * steps, y - widths[1] * steps, even]).sort().values
        penalties = [
            sparse_marginal_log_density(torch.zeros_like(x), p) - sparse_marginal_log_density(x, p)
            for x, p in ((s, prior), (y - s, of_noise))
        ]
        both = sum(penalties, torch.zeros_like(s))
        density = (both.min() - both).exp()
        density = density / torch.trapezoid(density, s)
        mean = float(torch.trapezoid(density * s, s)) / GREY_LEVEL
        grey = (s / GREY_LEVEL).numpy()
        peak = (density / density.max()).numpy()
        data[title] = {"s": grey, "density": GREY_LEVEL * density.numpy(), "mean": mean}
        for name, penalty, colour, style in zip("SN", penalties, (blue, orange), ("-", "--"), strict=True):
            data[title][name] = penalty.numpy()
            above.plot(grey, penalty.numpy(), style, color=colour, linewidth=1.8, label=f"{name} pays")
        above.plot(grey, both.numpy(), "-.", color="black", linewidth=1.8, label="sum")
        below.fill_between(grey, peak, color=(*blue, 0.3))
        below.plot(grey, peak, color=blue, linewidth=1.8)
        below.plot(mean, 0, "^", color=orange, markersize=9, clip_on=False, label="mean")
        for ax in (above, below):
            ax.axvline(observed, color="0.4", linestyle=":")
            name_axes(ax, "s (grey levels)" if ax is below else "", "")
        above.set_title(title, fontsize=10)
        above.set(xlim=(-150, 150), ylim=(0, 1.05 * float(both[np.abs(grey) <= 150].max())))
        below.set(ylim=(0, 1.1))
    axes[0, 0].set_ylabel("penalty (nats)")
    axes[1, 0].set_ylabel("posterior density of s,\nover its peak")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    more, names = axes[1, 0].get_legend_handles_labels()
    figure.legend(handles + more, labels + names, loc="outside upper center", ncols=4, fontsize=9)
    return figure, data
