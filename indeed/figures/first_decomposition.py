"""The figure of a first decomposition: L beside the best approximations of each rank."""

from indeed.figures.canvas import Drawn, name_axes, page, palette


def rank_reference(best_psnr: list[float], lines: dict[str, float]) -> Drawn[dict[str, list[float]]]:
    """PSNR of the best rank-k approximation of the clean image against k, and estimates as horizontal lines.

    Parameters
    ----------
    best_psnr
        PSNR in dB of the truncated singular value decomposition of rank 1, 2, ...
    lines
        PSNR in dB of each estimate, by its name.

    Returns
    -------
    figure, data
        The ranks, the curve and the height of each line.
    """
    curve, *colours = palette(1 + len(lines))
    ranks = list(range(1, len(best_psnr) + 1))
    figure, ax = page(5.6, 3.4)
    ax.plot(
        ranks, best_psnr, color=curve, marker="o", markersize=3, label="best rank-k approximation of the clean tile"
    )
    for (label, psnr), colour, style in zip(lines.items(), colours, ("--", ":", "-.")[: len(lines)], strict=True):
        ax.axhline(psnr, color=colour, linestyle=style, label=label)
    ax.set_xscale("log", base=2)
    ax.set_xticks([rank for rank in (1, 2, 4, 8, 16, 32, 64) if rank <= len(ranks)])
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    name_axes(ax, "rank k", "PSNR (dB)")
    ax.legend()
    heights = {label: [psnr] for label, psnr in lines.items()}
    return figure, {"rank": [float(rank) for rank in ranks], "best": best_psnr, **heights}
