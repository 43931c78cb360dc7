"""Figures of the noise model and the target: what a precision per pixel does to the fidelity, and what outweighs it."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from indeed.bayes.generative_model import Hyperpriors
from indeed.figures.canvas import LINES, Drawn, page, palette
from indeed.images.noise import GREY_LEVEL

Series = Float[np.ndarray, " number"]

GridValues = Float[np.ndarray, "..."]


def fidelity_of_a_pixel(
    hyperpriors: Hyperpriors, residual_sd: float, uncertainty: float
) -> Drawn[dict[str, dict[str, Series] | Series]]:
    r"""Fidelity of one pixel against its residual, and its pull, with the noise precision solved in three ways.

    The precision is that of Eq. 30 for the pixel's own squared residual; the same with a posterior variance added (the
    expected square); or one for all pixels. The fidelity is :math:`\tfrac12\mu_\lambda r^2`, the pull
    :math:`\mu_\lambda r`: the gradient that a training step sees, the precision being held fixed.

    Parameters
    ----------
    hyperpriors
        Shape and rate of the noise precision.
    residual_sd
        Standard deviation of all residuals, which the shared precision follows; in grey levels.
    uncertainty
        Posterior standard deviation of a pixel's residual, in grey levels.

    Returns
    -------
    figure, data
        The ``residual`` in grey levels; for ``own sample``, ``own expectation`` and ``shared``, the ``fidelity`` in
        nats and the ``pull`` in nats per grey level.
    """
    grey = np.geomspace(0.003, 100, 300)
    square = (GREY_LEVEL * grey) ** 2
    shape, rate = hyperpriors.lambda_shape + 0.5, hyperpriors.lambda_rate
    precisions = {
        "own sample": shape / (rate + square / 2),
        "own expectation": shape / (rate + (square + (GREY_LEVEL * uncertainty) ** 2) / 2),
        "shared": np.full_like(grey, (GREY_LEVEL * residual_sd) ** -2),
    }
    data: dict[str, dict[str, Series] | Series] = {"residual": grey}
    labels = {
        "own sample": "per pixel, sampled residual",
        "own expectation": f"per pixel, expected residual (sd {uncertainty:g})",
        "shared": f"one for all pixels (sd {residual_sd:g})",
    }
    figure, axes = page(6.4, 3.5, 1, 2)
    colours = palette(3)
    for (name, precision), colour, style in zip(precisions.items(), colours, ("-", "--", "-."), strict=True):
        fidelity, pull = 0.5 * precision * square, precision * grey * GREY_LEVEL**2
        data[name] = {"fidelity": fidelity, "pull": pull}
        for ax, values in zip(axes, (fidelity, pull), strict=True):
            ax.plot(grey, values, color=colour, linestyle=style, linewidth=1.8, label=labels[name])
    axes[0].set_ylim(0, 6)
    axes[0].set_ylabel(r"fidelity $\frac{1}{2}\mu_\lambda r^2$ (nats)")
    axes[1].set_yscale("log")
    axes[1].set_ylabel(r"pull $\mu_\lambda r$ (nats per grey level)")
    for ax in axes:
        ax.set(xscale="log", xlabel="residual r (grey levels)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=1, fontsize=9)
    return figure, data


def target_precision_curve(
    noise_level: float, target_precisions: Sequence[float], hyperpriors: Hyperpriors
) -> Drawn[dict[str, Series]]:
    r"""How well a perfect denoiser does under the supervision and the log penalty of the fidelity, and why.

    Per pixel, with noise n and an error e of the estimate, it minimises

    .. math:: \tfrac12\sigma_0 e^2 + (\alpha^0_\lambda + \tfrac12) \ln\big((n - e)^2 + 2\beta^0_\lambda\big) ,

    the supervision and what the fidelity amounts to once its precision is solved with the residual :math:`n - e`. The
    first minimum is where a descent from e = 0 stops; the lowest one may be elsewhere.

    Parameters
    ----------
    noise_level
        Standard deviation of the noise, in grey levels.
    target_precisions
        Values of :math:`\sigma_0` (1 / intensity²), ascending; the left panel shows the objective of four of them.
    hyperpriors
        Shape and rate of the noise precision.

    Returns
    -------
    figure, data
        ``target precision``, and the PSNR of the ``first`` and the ``lowest`` minimum in dB. Also the share of pixels
        that are ``copied``: those without a minimum short of the noise.
    """
    from scipy.stats import norm

    weight, floor = hyperpriors.lambda_shape + 0.5, 2 * hyperpriors.lambda_rate
    count = 4000
    noise = GREY_LEVEL * noise_level * norm.ppf(0.5 + (np.arange(count) + 0.5) / (2 * count))

    def objective(error: GridValues, n: GridValues | float, precision: float) -> GridValues:
        return np.asarray(0.5 * precision * error**2 + weight * np.log((n - error) ** 2 + floor))

    squares, copied = np.zeros((2, len(target_precisions))), np.zeros(len(target_precisions))
    for k, precision in enumerate(target_precisions):
        # Zeros of the derivative, precision e ((n - e)^2 + floor) = 2 weight (n - e), by companion matrices.
        companion = np.zeros((count, 3, 3))
        companion[:, 1, 0] = companion[:, 2, 1] = 1
        companion[:, 0, 0] = 2 * noise
        companion[:, 0, 1] = -(noise**2 + floor + 2 * weight / precision)
        companion[:, 0, 2] = 2 * weight * noise / precision
        roots = np.linalg.eigvals(companion)
        real = np.abs(roots.imag) < 1e-6 * noise[:, None]
        errors = np.where(real, roots.real, noise[:, None])
        least = errors[np.arange(count), objective(errors, noise[:, None], precision).argmin(1)]
        nearest = np.where(real, roots.real, np.inf).min(1)
        squares[:, k] = np.mean(nearest**2), np.mean(least**2)
        copied[k] = np.mean(nearest > 0.5 * noise)
    first, lowest_psnr = -10 * np.log10(squares)
    data = {
        "target precision": np.asarray(target_precisions, dtype=float),
        "first": first,
        "lowest": lowest_psnr,
        "copied": copied,
    }
    figure, (left, right) = page(6.4, 3.3, 1, 2)
    colours = palette(4)
    grey = np.linspace(-5, noise_level + 15, 801)
    chosen = [target_precisions[round(k * (len(target_precisions) - 1) / 3)] for k in range(4)]
    for precision, colour, line in zip(chosen, colours, LINES, strict=True):
        values = objective(GREY_LEVEL * grey, GREY_LEVEL * noise_level, precision)
        start = objective(np.zeros(1), GREY_LEVEL * noise_level, precision)
        label = rf"$\sigma_0 = 10^{{{np.log10(precision):.0f}}}$"
        left.plot(grey, values - start, line, color=colour, linewidth=1.5, label=label)
    left.set(ylim=(-35, 45), xlabel="error e of the estimate (grey levels)", ylabel="objective of a pixel (nats)")
    left.legend(fontsize=8)
    right.plot(target_precisions, first, color=colours[0], linewidth=1.8, label="first minimum")
    right.plot(target_precisions, lowest_psnr, color=colours[1], linewidth=1.8, linestyle="--", label="lowest minimum")
    right.axhline(-20 * np.log10(GREY_LEVEL * noise_level), color="0.4", linestyle=":", label="the noisy image")
    right.set(xscale="log", xlabel=r"target precision $\sigma_0$", ylabel="PSNR of the estimate (dB)")
    right.legend(fontsize=8)
    return figure, data
