"""Figures of the free energy: the bound on the evidence, and what each of its terms answers to."""

import numpy as np
from jaxtyping import Float
from torch import Tensor

from indeed.bayes.elbo import ElboTerms
from indeed.bayes.variational_family import GaussianFactor
from indeed.figures.canvas import Drawn, page, palette
from indeed.images.noise import GREY_LEVEL

TermTable = Float[np.ndarray, "row term"]

LABELS = ("fidelity", "supervision", "rank", "sparsity", "γ prior", "Ω prior", "Λ prior")
"""Names of the terms, in the order of `ElboTerms`."""


def evidence_bound(
    bounds: dict[str, Float[Tensor, " update"]],
    log_evidence: float,
    s: Float[Tensor, " grid"],
    posterior: Float[Tensor, " grid"],
    approximations: dict[str, GaussianFactor],
) -> Drawn[dict[str, dict[str, Float[np.ndarray, " point"]]]]:
    """ELBO while q is improved, under the exact log evidence; and the exact posterior of S beside q(S), for one pixel.

    Parameters
    ----------
    bounds
        ELBO in nats after each update, by the name of the start.
    log_evidence
        The number that they bound.
    s, posterior
        Values of S and their exact posterior density, per unit of intensity.
    approximations
        q(S) of one pixel, by the name of its line.

    Returns
    -------
    figure, data
        The ``gaps`` between evidence and bound, and the ``densities`` per grey level.
    """
    blue, orange, green, red = palette(4)
    gaps = {name: log_evidence - bound.numpy() for name, bound in bounds.items()}
    densities = {"exact": GREY_LEVEL * posterior.numpy()}
    for name, q in approximations.items():
        std = float(q.std)
        normal = np.exp(-((s.numpy() - float(q.mean)) ** 2) / (2 * std**2)) / (std * np.sqrt(2 * np.pi))
        densities[name] = GREY_LEVEL * normal
    figure, (left, right) = page(6.6, 3.3, 1, 2)
    for (name, gap), colour, marker in zip(gaps.items(), (blue, green, red), "os^", strict=False):
        left.plot(log_evidence - gap, color=colour, marker=marker, markersize=3, linewidth=1, label=name)
    left.axhline(log_evidence, color="black", linestyle="--", linewidth=1.2, label="ln p(Y), exact")
    last, worst = max((gap[-1], len(gap) - 1) for gap in gaps.values())[::-1]
    left.annotate("", (last, log_evidence), (last, log_evidence - worst), arrowprops={"arrowstyle": "<->"})
    left.text(last - 1, log_evidence - worst / 2, "KL(q || p)", ha="right", va="center", fontsize=8)
    left.set(xlabel="update", ylabel="ELBO (nats)")
    left.legend(fontsize=8, loc="lower right")
    right.fill_between(s.numpy() / GREY_LEVEL, densities["exact"], color="0.8", label="exact posterior")
    for name, style, width in zip(approximations, (":", "--", "-"), (1.5, 1.5, 2), strict=False):
        right.plot(s.numpy() / GREY_LEVEL, densities[name], style, color=orange, linewidth=width, label=name)
    right.set(ylim=(0, None), xlabel="s (8-bit grey levels)", ylabel="density")
    right.legend(fontsize=8, loc="upper left")
    return figure, {"gaps": gaps, "densities": densities}


def evidence_bar(bounds: dict[str, float], log_evidence: float) -> Drawn[dict[str, tuple[float, float]]]:
    """Log evidence as a bar of two pieces, the ELBO and the divergence that it misses, once for each q.

    Parameters
    ----------
    bounds
        ELBO in nats, by the name of the bar.
    log_evidence
        Where every bar ends.

    Returns
    -------
    figure, data
        ELBO and divergence of each bar.
    """
    data = {name: (bound, log_evidence - bound) for name, bound in bounds.items()}
    blue, orange = palette(2)
    figure, ax = page(6.4, 0.9 + 0.45 * len(data))
    left = min(bounds.values()) - 0.6 * max(gap for _, gap in data.values())
    for row, (bound, gap) in enumerate(data.values()):
        ax.barh(row, bound - left, left=left, color=(*blue, 0.5), edgecolor="black", height=0.6)
        ax.barh(row, gap, left=bound, color=(*orange, 0.35), edgecolor="black", hatch="//", height=0.6)
        text = {"va": "center", "fontsize": 8.5}
        ax.text(left, row, f" ELBO {bound:.2f}".replace("-", "−"), ha="left", **text)
        ax.text(log_evidence, row, f"  KL {gap:.2f}", ha="left", **text)
    ax.axvline(log_evidence, color="black", linestyle="--", linewidth=1.2)
    ax.set_yticks(range(len(data)), list(data))
    ax.set(xlim=(left, log_evidence + 0.3 * (log_evidence - left)), xlabel="nats; the dashed line is ln p(y)")
    ax.invert_yaxis()
    return figure, data


def term_bars(terms: dict[str, ElboTerms], pixels: int) -> Drawn[dict[str, Float[np.ndarray, " bar"]]]:
    """Bars of the seven terms of one image and of their sum; one panel, with a scale of its own, for each state.

    Parameters
    ----------
    terms
        Terms of a batch of one image, by the title of the panel.
    pixels
        What the terms are divided by.

    Returns
    -------
    figure, data
        Seven terms and their sum, in nats per pixel, by title.
    """
    blue, orange = palette(2)
    data = {}
    for title, state in terms.items():
        each = np.array([float(term) / pixels for term in state])
        data[title] = np.append(each, each.sum())
    labels = [*LABELS, "sum"]
    figure, (axes,) = page(6.6, 3.0, 1, len(data), sharey=True, squeeze=False)
    for ax, (title, values) in zip(axes, data.items(), strict=True):
        bars = ax.barh(labels, values, color=[blue] * len(LABELS) + [orange])
        ax.bar_label(bars, [f"{value:.2f}".replace("-", "−") for value in values], padding=3, fontsize=8)
        ax.axvline(0, color="black", linewidth=0.8)
        ax.margins(x=0.22)
        ax.set_title(title, fontsize=10)
        ax.set_xlabel("nats per pixel")
    axes[0].invert_yaxis()
    return figure, data


def term_response(base: ElboTerms, changed: dict[str, ElboTerms], pixels: int) -> Drawn[TermTable]:
    """Table of what each change of a posterior does to each term, as numbers on colours.

    The last column is the free energy without a target: the sum of all terms but the supervision.

    Parameters
    ----------
    base
        Terms of the posterior that is changed, for a batch of one image.
    changed
        Terms after one change each, by its name.
    pixels
        What the terms are divided by.

    Returns
    -------
    figure, data
        Differences in nats per pixel, one row a change.
    """
    from matplotlib.colors import SymLogNorm

    rows = []
    for terms in changed.values():
        each = np.array([float(after - before) / pixels for after, before in zip(terms, base, strict=True)])
        rows.append(np.append(each, each.sum() - each[LABELS.index("supervision")]))
    data = np.array(rows)
    figure, ax = page(6.6, 0.9 + 0.34 * len(rows))
    limit = max(1.0, float(np.abs(data).max()))
    norm = SymLogNorm(0.01, vmin=-limit, vmax=limit)
    ax.imshow(data, cmap="RdBu_r", norm=norm, aspect="auto", alpha=0.75)
    for (row, column), value in np.ndenumerate(data):
        if abs(value) >= 5e-4:
            text = f"{value:+.{1 if abs(value) >= 10 else 2 if abs(value) >= 0.1 else 3}f}".replace("-", "−")
            bold = "bold" if column == len(LABELS) else "normal"
            light = "white" if abs(norm(value) - 0.5) > 0.42 else "black"
            ax.text(column, row, text, ha="center", va="center", fontsize=8, fontweight=bold, color=light)
    ax.axvline(len(LABELS) - 0.5, color="black", linewidth=1.5)
    names = ["fidelity", "super-\nvision", "rank", "sparsity", "γ\nprior", "Ω\nprior", "Λ\nprior", "sum but\nsuperv."]
    ax.set_xticks(range(len(names)), names, fontsize=8)
    ax.xaxis.tick_top()
    ax.set_yticks(range(len(rows)), list(changed), fontsize=8)
    ax.tick_params(length=0)
    return figure, data
