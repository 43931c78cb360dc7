"""Figures of training: the terms of the loss, their gradients, and what was found by trying forms of the network."""

import textwrap
from collections.abc import Mapping, Sequence
from statistics import fmean

import torch
from jaxtyping import Float

from indeed.checks import expect
from indeed.figures.canvas import Drawn, blank, draw_lines, name_axes, page, palette
from indeed.learning.diagnostics.gradients import GradientNoise

Points = list[tuple[float, float]]

_PSNR = {"psnr": "L + S", "psnr_low_rank": "L"}


def loss_terms(log: Sequence[Mapping[str, str]]) -> Drawn[dict[str, Points]]:
    """Each term of the training loss against the step, and the PSNR of L and L + S in validation.

    Supervision and orthogonality, which fall by orders of magnitude, are on a logarithmic axis.

    Parameters
    ----------
    log
        Rows of ``log.csv``; the terms are means in nats per pixel.

    Returns
    -------
    figure, data
        The points (step, value) of each column, where the log has a value.
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    terms = ("fidelity", "supervision", "rank", "sparsity", "orthogonality")
    data = {name: [(float(row["step"]), float(row[name])) for row in log if row[name]] for name in (*terms, *_PSNR)}
    colours = palette()
    figure = blank(6.4, 4.2)
    axes = figure.subplots(2, 3, sharex=True).flat
    for ax, name, colour in zip(axes, terms, colours, strict=False):
        ax.plot(*zip(*data[name], strict=True), color=colour, linewidth=1.2)
        ax.set_title(name, fontsize=10)
        if name in ("supervision", "orthogonality"):
            ax.set_yscale("log")
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter("{x:g}")
            ax.yaxis.set_minor_formatter(NullFormatter())
        if name == "fidelity":  # it hardly changes, and should look so
            ax.set_ylim(0, 1.25 * max(value for _, value in data[name]))
    ax = axes[len(terms)]
    for name, colour, style in zip(_PSNR, (colours[0], colours[3]), ("-", "--"), strict=True):
        ax.plot(*zip(*data[name], strict=True), style, color=colour, label=_PSNR[name], linewidth=1.4)
    ax.set_title("PSNR in validation", fontsize=10)
    ax.legend(fontsize=8)
    for index, ax in enumerate(axes):
        ax.set_xscale("log")
        ax.grid(alpha=0.3)
        ax.tick_params(labelsize=8)
        if index % 3 == 0:
            ax.set_ylabel("nats per pixel", fontsize=9)
        if index == len(terms):
            ax.set_ylabel("PSNR (dB)", fontsize=9)
        if index >= 3:
            ax.set_xlabel("training step", fontsize=9)
    return figure, data


def values_and_gradients(
    anatomy: Mapping[str, Mapping[str, tuple[float, float]]],
) -> Drawn[dict[str, dict[str, tuple[float, float]]]]:
    """Value of each term of the loss beside the norm of its gradient, at some stages of a training.

    Parameters
    ----------
    anatomy
        For each stage, by its name: value in nats per pixel and norm of the gradient of each term, both positive.

    Returns
    -------
    figure, data
        What is shown, as it was given.
    """
    figure, axes = page(6.4, 2.8, 1, 2, sharey=True)
    terms = list(next(iter(anatomy.values())))
    for column, (ax, title) in enumerate(zip(axes, ("value (nats per pixel)", "norm of the gradient"), strict=True)):
        for (stage, by_term), colour, marker in zip(anatomy.items(), palette(), "os^D", strict=False):
            ax.plot([by_term[term][column] for term in terms], terms, marker, color=colour, label=stage, alpha=0.9)
        ax.set(xscale="log", xlabel=title)
        ax.grid(alpha=0.3)
        ax.margins(x=0.1, y=0.12)
    axes[0].invert_yaxis()
    axes[1].legend(fontsize=9)
    return figure, {stage: dict(by_term) for stage, by_term in anatomy.items()}


def leaf_noise_shares(noise: Mapping[str, Mapping[float, GradientNoise]], preset: float) -> Drawn[dict[str, Points]]:
    """Share of the gradient's variance that draws of the leaf level add, against the target precision.

    Parameters
    ----------
    noise
        For each network, by its name: the noise of its gradient at each target precision.
    preset
        Target precision to mark.

    Returns
    -------
    figure, data
        The points (target precision, share) of each network.
    """
    data = {
        name: [(precision, part.leaf / sum(part)) for precision, part in by_precision.items()]
        for name, by_precision in noise.items()
    }
    figure, ax = page(5.6, 3.2)
    draw_lines(ax, data)
    ax.axvline(preset, color="0.4", linestyle=":", label="the preset")
    ax.set(xscale="log", yscale="log")
    name_axes(ax, "target precision σ₀", "share of the variance")
    ax.legend(fontsize=9)
    return figure, data


def orthogonality_limit(
    singular_values: Float[torch.Tensor, "tile number"], ratios: Sequence[float], constant_psnr: float, rank: int
) -> Drawn[dict[str, list[float]]]:
    r"""PSNR of the best L under the literal orthogonality against the ratio of target precision to its weight.

    A singular value :math:`d` of the target becomes :math:`(\sigma_0 d + 4\tau) / (\sigma_0 + 4\tau)` where that is at
    least a half, with columns of A and B of equal length, and else :math:`\sigma_0 d / (\sigma_0 - 4\tau)`, with
    unequal ones; those beyond ``rank`` become zero.

    Parameters
    ----------
    singular_values
        Singular values of square clean tiles, all of them.
    ratios
        Values of :math:`\sigma_0 / \tau`.
    constant_psnr
        PSNR of the best constant tile, drawn as a line.
    rank
        Columns of the factors.

    Returns
    -------
    figure, data
        ``ratio``; ``median`` and quartiles (``lower``, ``upper``) of the PSNR over the tiles at each; ``limit``, the
        median without orthogonality. (A mean would be that of the tiles of low rank, whose PSNR has no bound.)
    """
    pixels = singular_values.shape[-1] ** 2

    def psnr(found: torch.Tensor) -> torch.Tensor:
        return -10 * torch.log10((found - singular_values).square().sum(-1) / pixels)

    def compromise(ratio: float) -> torch.Tensor:
        equal = (ratio * singular_values + 4) / (ratio + 4)
        return torch.where(equal >= 0.5, equal, ratio * singular_values / max(ratio - 4, 1e-9))

    kept = torch.arange(singular_values.shape[-1]) < rank
    curves = torch.stack([psnr(kept * compromise(ratio)) for ratio in ratios])
    limit = psnr(kept * singular_values).quantile(0.5).item()
    lower, median, upper = (curves.quantile(share, dim=1).tolist() for share in (0.25, 0.5, 0.75))
    data = {"ratio": list(ratios), "lower": lower, "median": median, "upper": upper, "limit": [limit]}
    figure, ax = page(5.6, 3.4)
    curve, flat = palette(2)
    ax.fill_between(
        data["ratio"], data["lower"], data["upper"], color=curve, alpha=0.2, label="the middle half of the tiles"
    )
    ax.plot(data["ratio"], data["median"], color=curve, label="best L, median of the tiles")
    ax.axhline(limit, color="0.4", linestyle=":", label=f"without orthogonality, rank {rank}")
    ax.axhline(constant_psnr, color=flat, linestyle="--", label="a constant tile")
    ax.set_xscale("log")
    name_axes(ax, "target precision over weight of orthogonality, σ₀ / τ", "PSNR of L (dB)")
    ax.legend(fontsize=8)
    return figure, data


def design_differences(
    rows: Sequence[Mapping[str, str]],
    meanings: Mapping[str, str],
    groups: Mapping[str, Sequence[str]],
    chance: Mapping[str, float],
) -> Drawn[dict[str, tuple[float, float]]]:
    """Difference of chosen forms to the preset in validation PSNR, of L + S and of L, in groups.

    Parameters
    ----------
    rows
        ``form``, ``psnr`` and ``psnr_low_rank`` of each form, the ``preset`` among them.
    meanings
        What is written for each form, by its name.
    groups
        Names of the forms to show, by the title of their group, from top to bottom.
    chance
        By ``psnr`` and ``psnr_low_rank``: differences up to this (dB) are within the grey band.

    Returns
    -------
    figure, data
        Differences in dB of L + S and of L by the name of the form, in the order of the figure.

    Raises
    ------
    ValueError
        If the preset or a form to show is missing.
    """
    by_form = {row["form"]: tuple(float(row[name]) for name in _PSNR) for row in rows}
    shown = [form for forms in groups.values() for form in forms]
    missing = {"preset", *shown} - set(by_form)
    expect(shown and not missing, "rows", ", ".join(by_form) or "none", f"{', '.join(['preset', *shown])}")
    total, low_rank = by_form["preset"]
    data = {form: (by_form[form][0] - total, by_form[form][1] - low_rank) for form in shown}
    # a free row between two groups
    places = [shown.index(form) + number for number, forms in enumerate(groups.values()) for form in forms]
    figure, axes = page(7.2, 0.9 + 0.3 * (max(places) + 1), 1, 2, sharey=True)
    worse, better = (palette()[index] for index in (1, 0))
    for column, (ax, (name, part)) in enumerate(zip(axes, _PSNR.items(), strict=True)):
        ax.axvspan(-chance[name], chance[name], color="0.85", linewidth=0)
        for place, pair in zip(places, data.values(), strict=True):
            good = pair[column] > 0
            colour = better if good else worse
            ax.plot([0, pair[column]], [place, place], color=colour, linewidth=1)
            ax.plot(pair[column], place, "o", color=colour, markerfacecolor=colour if good else "white")
        ax.axvline(0, color="0.3", linewidth=1)
        ax.set_xlabel(f"{part}: difference (dB)", fontsize=9)
        ax.tick_params(labelsize=8)
        ax.grid(alpha=0.3, axis="x")
    axes[0].set_yticks(places, [textwrap.fill(meanings.get(form, form), 42) for form in shown], linespacing=1.0)
    axes[0].set_ylim(max(places) + 0.6, -0.6)
    beside = axes[1].get_yaxis_transform()
    for title, forms in groups.items():
        centre = fmean(places[shown.index(form)] for form in forms)
        axes[1].text(1.03, centre, title, transform=beside, rotation=270, va="center", fontsize=9)
    return figure, data


def leaf_sampling_effect(
    rows: Sequence[Mapping[str, str]], meanings: Mapping[str, str]
) -> Drawn[dict[str, dict[str, list[float]]]]:
    """Change that training with draws of the precisions makes to L and to L + S, seed by seed.

    Parameters
    ----------
    rows
        ``condition``, ``leaf`` (``mean`` or ``sampled``), ``seed``, PSNR in validation (``psnr``, ``psnr_low_rank``)
        and on a few training images (with ``_few``), as :mod:`indeed.experiments.leaf_sampling` measures them.
    meanings
        What is written for each condition, in the order from top to bottom.

    Returns
    -------
    figure, data
        By condition: for ``psnr`` and ``psnr_low_rank`` the differences (draws minus means, dB, one for each seed) in
        ``validation_...`` and of the gap between training and validation in ``gap_...``, and the range over the seeds
        of the validation with means in ``range_...``.
    """
    cells = {(row["condition"], row["leaf"], row["seed"]): row for row in rows}
    seeds = sorted({row["seed"] for row in rows})
    data: dict[str, dict[str, list[float]]] = {}
    for condition in meanings:
        entry = data[condition] = {}
        mean, sampled = ([cells[condition, leaf, seed] for seed in seeds] for leaf in ("mean", "sampled"))
        for name in _PSNR:
            by_leaf = [[float(row[name]) for row in group] for group in (mean, sampled)]
            gaps = [[float(row[f"{name}_few"]) - float(row[name]) for row in group] for group in (mean, sampled)]
            entry[f"validation_{name}"] = [after - before for before, after in zip(*by_leaf, strict=True)]
            entry[f"gap_{name}"] = [after - before for before, after in zip(*gaps, strict=True)]
            entry[f"range_{name}"] = [max(by_leaf[0]) - min(by_leaf[0])]
    figure = blank(6.4, 0.9 + 0.75 * len(meanings))
    colours = palette()
    kinds = (("validation", -0.15, colours[0], "o"), ("gap", 0.15, colours[1], "^"))
    axes = figure.subplots(1, 2, sharey=True)
    for ax, (name, part) in zip(axes, _PSNR.items(), strict=True):
        for place, entry in enumerate(data.values()):
            half = entry[f"range_{name}"][0] / 2
            ax.barh(place, 2 * half, left=-half, height=0.7, color="0.88", label="range over seeds" * (place == 0))
            for kind, offset, colour, marker in kinds:
                values = entry[f"{kind}_{name}"]
                label = {"validation": "validation", "gap": "training minus validation"}[kind] * (place == 0)
                ax.plot(values, [place + offset] * len(values), marker, color=colour, alpha=0.8, label=label)
                ax.plot([fmean(values)] * 2, [place + offset - 0.1, place + offset + 0.1], color=colour)
        ax.axvline(0, color="0.3", linewidth=1)
        ax.set_xlabel(f"{part}: draws minus means (dB)", fontsize=9)
        ax.tick_params(labelsize=8)
        ax.grid(alpha=0.3, axis="x")
    axes[0].set_yticks(range(len(data)), [textwrap.fill(meaning, 24) for meaning in meanings.values()])
    axes[0].invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=8)
    return figure, data
