"""What Theorem 1 speaks of, measured: over the number of training images, and the loss against the error."""

from collections.abc import Mapping, Sequence

from indeed.figures.canvas import Drawn, name_axes, page, palette

BoundCurve = list[tuple[int, float, float, float]]

_PARTS = {"train": "training images", "held_out": "held out"}


def generalisation_curves(rows: Sequence[Mapping[str, str]]) -> Drawn[dict[str, BoundCurve]]:
    """Free energy, its risk and the PSNR on training and held-out images, and the discrepancy of the two.

    A line is the mean over the seeds, a band their range.

    Parameters
    ----------
    rows
        Cells of :mod:`indeed.experiments.generalisation`.

    Returns
    -------
    figure, data
        For each column that is drawn the points (images, mean, lowest, highest).
    """
    panels = {
        "loss": "free energy\n(nats per pixel)",
        "risk": "risk\n(nats per pixel)",
        "psnr": "PSNR of L + S\n(dB)",
        "wasserstein": "sliced Wasserstein\ndistance (proxy)",
    }
    colours = palette()
    figure, axes = page(6.4, 4.6, 2, 2, sharex=True)
    data: dict[str, BoundCurve] = {}
    for ax, (name, label) in zip(axes.flat, panels.items(), strict=True):
        paired = f"{name}_train" in rows[0]
        lines = {f"{name}_{part}": meaning for part, meaning in _PARTS.items()} if paired else {name: ""}
        for (column, meaning), colour, marker in zip(lines.items(), colours, "os", strict=False):
            data[column] = _over_seeds(rows, column)
            images, mean, lowest, highest = zip(*data[column], strict=True)
            ax.plot(images, mean, color=colour, marker=marker, markersize=4, label=meaning)
            ax.fill_between(images, lowest, highest, color=colour, alpha=0.2, linewidth=0)
        ax.set_xscale("log")
        counts = [images for images, *_ in data[column]]
        ax.set_xticks(counts, [str(count) for count in counts])
        ax.minorticks_off()
        ax.set_ylabel(label, fontsize=9)
        ax.tick_params(labelsize=8)
        ax.grid(alpha=0.3)
    for ax in axes[1]:
        ax.set_xlabel("number of training images", fontsize=9)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=2, fontsize=9)
    return figure, data


def loss_against_error(rows: Sequence[Mapping[str, str]]) -> Drawn[dict[int, list[tuple[float, ...]]]]:
    """Free energy on the training images against what counts on held-out images: the risk there, and the PSNR.

    Parameters
    ----------
    rows
        Cells of :mod:`indeed.experiments.generalisation`.

    Returns
    -------
    figure, data
        For each number of training images the points (free energy in training, risk held out, PSNR held out).
    """
    import seaborn

    columns = ("loss_train", "risk_held_out", "psnr_held_out")
    data: dict[int, list[tuple[float, ...]]] = {}
    for row in sorted(rows, key=lambda row: int(row["images"])):
        data.setdefault(int(row["images"]), []).append(tuple(float(row[name]) for name in columns))
    figure, axes = page(6.4, 2.9, 1, 2)
    labels = ("risk, held out (nats per pixel)", "PSNR, held out (dB)")
    colours = seaborn.color_palette("flare", len(data))
    for column, (ax, label) in enumerate(zip(axes, labels, strict=True), start=1):
        for (images, points), colour, marker in zip(data.items(), colours, "osD^vP*X", strict=False):
            x, y = ([point[index] for point in points] for index in (0, column))
            ax.plot(x, y, marker, color=colour, label=str(images), alpha=0.9)
        name_axes(ax, "free energy in training (nats per pixel)", label, fontsize=8)
        ax.tick_params(labelsize=8)
        ax.margins(0.1)
    figure.legend(*axes[0].get_legend_handles_labels(), title="images", loc="outside right upper", fontsize=9)
    return figure, data


def _over_seeds(rows: Sequence[Mapping[str, str]], column: str) -> BoundCurve:
    found: dict[int, list[float]] = {}
    for row in rows:
        found.setdefault(int(row["images"]), []).append(float(row[column]))
    return [(n, sum(values) / len(values), min(values), max(values)) for n, values in sorted(found.items())]
