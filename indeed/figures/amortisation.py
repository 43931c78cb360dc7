"""Figures of amortisation: one network against one optimisation per image."""

import numpy as np
from jaxtyping import Float

from indeed.bayes.elbo import ElboTerms
from indeed.figures.canvas import Drawn, blank, page, palette
from indeed.figures.images import signed_display
from indeed.types import Image, Images

Trajectory = dict[int, dict[str, float]]
"""What was measured (``free energy``, ``L``, ``L + S``) after so many steps; 0 is the start."""


def per_image_progress(paths: dict[str, dict[str, Trajectory]]) -> Drawn[dict[str, dict[str, dict[str, list[float]]]]]:
    """Free energy and PSNR against the number of steps spent on an image, a column of panels for each model.

    Parameters
    ----------
    paths
        By model, then by method: nats per pixel and PSNR in dB by the number of steps.

    Returns
    -------
    figure, data
        The curves by model and method, with their ``steps``.
    """
    data = {
        model: {
            method: {"steps": [float(step) for step in path]}
            | {name: [values[name] for values in path.values()] for name in ("free energy", "L", "L + S")}
            for method, path in methods.items()
        }
        for model, methods in paths.items()
    }
    figure, axes = page(3.5 * len(data), 5.4, 2, len(data), sharex=True, squeeze=False)
    colours = palette(4)
    for column, (model, methods) in enumerate(data.items()):
        above, below = axes[:, column]
        for i, (method, curves) in enumerate(methods.items()):
            style = ("-", "--", ":")[i % 3]
            lines = (
                (above, "free energy", "0.2", "o"),
                (below, "L + S", colours[0], "o"),
                (below, "L", colours[1], "^"),
            )
            for ax, name, colour, marker in lines:
                label = method if ax is above else f"{name}, {method}"
                ax.plot(curves["steps"], curves[name], style, color=colour, marker=marker, markersize=4, label=label)
        above.set_title(model, fontsize=10)
        below.set_xscale("symlog", linthresh=1, linscale=0.4)
        below.set_xlim(left=-0.1)
        ticks = [step for step in (0, 1, 10, 100, 1000) if step <= max(max(c["steps"]) for c in methods.values())]
        below.set_xticks(ticks, [str(tick) for tick in ticks])
        below.set_xticks([], minor=True)
        below.set_xlabel("steps on the image (0: network)")
        for ax in (above, below):
            ax.grid(alpha=0.3)
            ax.legend(fontsize=8)
    axes[0, 0].set_ylabel("free energy (nats per pixel)")
    axes[1, 0].set_ylabel("PSNR (dB)")
    return figure, data


def terms_before_after(
    terms: dict[str, dict[str, ElboTerms]], pixels: int
) -> Drawn[dict[str, dict[str, dict[str, float]]]]:
    """Terms of the free energy in several states, in nats per pixel; the two terms of one part of the image together.

    Parameters
    ----------
    terms
        By model (a panel each), then by state (a colour each).
    pixels
        Number of pixels of an image.

    Returns
    -------
    figure, data
        Mean over the images of each term by model and state.
    """
    labels = {
        "fidelity": r"N: $\ell_{fid}$",
        "lambda_prior": r"N: $\ell_\Lambda$",
        "sparsity": r"S: $\ell_{sparse}$",
        "omega_prior": r"S: $\ell_\Omega$",
        "rank": r"L: $\ell_{rank}$",
        "gamma_prior": r"L: $\ell_\gamma$",
    }
    data = {
        model: {
            state: {name: float(getattr(values, name).mean()) / pixels for name in labels}
            for state, values in states.items()
        }
        for model, states in terms.items()
    }
    figure = blank(3.5 * len(data), 3.2)
    for ax, (model, states) in zip(figure.subplots(1, len(data), squeeze=False)[0], data.items(), strict=True):
        height = 0.8 / len(states)
        for i, (state, values) in enumerate(states.items()):
            places = np.arange(len(labels)) + (i - (len(states) - 1) / 2) * height
            total = f"{sum(values.values()):.1f}".replace("-", "−")
            look = {"color": palette(len(states))[i], "edgecolor": "white", "hatch": ("", "///")[i % 2]}
            ax.barh(places, list(values.values()), height, label=f"{state}, sum {total}", **look)
        ax.axvline(0, color="black", linewidth=0.8)
        ax.set_yticks(range(len(labels)), list(labels.values()))
        ax.invert_yaxis()
        ax.set_xlabel("nats per pixel")
        ax.set_title(model, fontsize=10)
        ax.grid(alpha=0.3, axis="x")
        ax.legend(fontsize=8)
    return figure, data


def all_or_nothing(
    panels: dict[str, tuple[Images, Images]],
) -> Drawn[dict[str, tuple[Float[np.ndarray, " pixel"], Float[np.ndarray, " pixel"]]]]:
    """Sparse part of each pixel against what is left of it after the low-rank part; the rest is noise.

    Parameters
    ----------
    panels
        Y - L and S by title, in [0, 1].

    Returns
    -------
    figure, data
        Both in 8-bit grey levels, by title.
    """
    data = {
        title: (255 * target.flatten().numpy(), 255 * sparse.flatten().numpy())
        for title, (target, sparse) in panels.items()
    }
    blue, orange, green = palette(3)
    figure, (axes,) = page(3.3 * len(data), 3.3, 1, len(data), sharey=True, squeeze=False)
    ends = np.array([-100, 100])
    for ax, (title, (target, sparse)) in zip(axes, data.items(), strict=True):
        ax.plot(ends, ends, color=orange, label="S takes all")
        ax.plot(ends, 0 * ends, "--", color=green, label="N takes all")
        ax.plot(target, sparse, ".", color=blue, markersize=1.5, alpha=0.5)
        ax.set(xlim=ends, ylim=ends, xlabel="Y − L (8-bit grey levels)")
        ax.set_title(title, fontsize=10)
        ax.legend(fontsize=8, loc="upper left")
    axes[0].set_ylabel("S (8-bit grey levels)")
    return figure, data


def parts_by_stage(
    stages: dict[str, tuple[Image, Image]],
) -> Drawn[dict[str, dict[str, Float[np.ndarray, "height width"]]]]:
    """Low-rank part, sparse part and their sum at several stages, one a column; S with mid grey as zero.

    All pictures of S have the contrast of the first.

    Parameters
    ----------
    stages
        L and S of a grey image by the title of the column.

    Returns
    -------
    figure, data
        What each panel shows, by stage and part.
    """
    _, limit = signed_display(next(iter(stages.values()))[1])
    data = {
        title: {
            "L": L[0].clamp(0, 1).numpy(),
            "S": (0.5 + S[0] / (2 * limit)).clamp(0, 1).numpy(),
            "L + S": (L + S)[0].clamp(0, 1).numpy(),
        }
        for title, (L, S) in stages.items()
    }
    figure, axes = page(1.4 * len(data) + 0.3, 4.7, 3, len(data), squeeze=False)
    for column, (title, parts) in zip(axes.T, data.items(), strict=True):
        for ax, picture in zip(column, parts.values(), strict=True):
            ax.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            ax.set_xticks([])
            ax.set_yticks([])
        column[0].set_title(title, fontsize=9)
    for ax, part in zip(axes[:, 0], ("L", "S", "L + S"), strict=True):
        ax.set_ylabel(part, fontsize=10)
    return figure, data
