"""Figures of the classical decompositions: singular values, what noise does to them, and where PCP recovers."""

import math

import numpy as np
from jaxtyping import Float
from torch import Tensor
from torch.linalg import svdvals

from indeed.figures.canvas import Drawn, draw_lines, name_axes, page, palette
from indeed.images.noise import GREY_LEVEL


def rank_curves(singular_values: dict[str, Float[Tensor, "_ _"]]) -> Drawn[dict[str, list[tuple[float, float]]]]:
    """PSNR of the best approximation of rank k against k over the side, for images cut into square tiles.

    The error is what the singular values left out amount to (Eckart and Young), over all the tiles of an image.

    Parameters
    ----------
    singular_values
        By the name of the line, those of each tile in a row, of tiles with as many pixels a side and values in [0, 1].

    Returns
    -------
    figure, data
        The points (k over the side, PSNR in dB) of each line.
    """
    data = {}
    for name, values in singular_values.items():
        tiles, side = values.shape
        energy = values.double().square().sum(0)
        left_out = (energy.sum() - energy.cumsum(0))[:-1] / (tiles * side**2)
        psnr = [-10 * math.log10(error) for error in left_out.clamp(min=1e-12).tolist()]
        data[name] = [((k + 1) / side, value) for k, value in enumerate(psnr)]
    figure, ax = page(5.6, 3.4)
    draw_lines(ax, data, markersize=3)
    ax.set(ylim=(10, 60), xlim=(0, 0.75))
    name_axes(ax, "rank k, as a share of the side of a tile", "PSNR (dB)")
    ax.legend()
    return figure, data


def recovery_map(
    recovered: Float[np.ndarray, "rank share"], ranks: list[int], shares: list[float], side: int
) -> Drawn[Float[np.ndarray, "rank share"]]:
    """Share of random problems that are solved exactly, against the rank and the share of gross errors.

    Parameters
    ----------
    recovered
        Solved share of the trials of each cell, from 0 to 1.
    ranks, shares
        Of the rows and columns.
    side
        Of the square matrices.

    Returns
    -------
    figure, data
        ``recovered``.
    """
    figure, ax = page(5.6, 3.8)
    picture = ax.imshow(recovered, cmap="cividis", vmin=0, vmax=1, origin="lower", aspect="auto")
    ax.set_xticks(range(len(shares)), [f"{100 * share:g}" for share in shares])
    ax.set_yticks(range(len(ranks)), [str(rank) for rank in ranks])
    ax.set(xlabel="share of gross errors (%)", ylabel=f"rank (of {side})")
    figure.colorbar(picture, ax=ax, label="share of trials recovered")
    return figure, recovered


def noise_edge(
    clean: Float[Tensor, "side side"], noisy: Float[Tensor, "side side"], sigma: float
) -> Drawn[dict[str, Float[np.ndarray, " rank"]]]:
    r"""Singular values of a square image before and after noise, and the two lines that decide what is left of them.

    The largest singular value of noise alone is about :math:`2\sigma\sqrt n` for a large side n, the edge. A clean
    singular value of :math:`\sigma\sqrt n` is lifted to it.

    Parameters
    ----------
    clean, noisy
        The image in [0, 1], and with noise.
    sigma
        Standard deviation of the noise, in the same units.

    Returns
    -------
    figure, data
        In 8-bit grey levels: the singular values ``clean`` and ``noisy``, the ``edge``, and what is ``lifted`` to it.
    """
    reach = sigma * math.sqrt(len(clean)) / GREY_LEVEL
    data = {name: svdvals(image).numpy() / GREY_LEVEL for name, image in {"clean": clean, "noisy": noisy}.items()}
    data |= {"edge": np.array([2 * reach]), "lifted": np.array([reach])}
    blue, orange = palette(2)
    figure, ax = page(6.2, 3.8)
    index = np.arange(1, len(clean) + 1)
    ax.plot(index, data["noisy"], "s", color=orange, markersize=4, label="with noise")
    ax.plot(index, data["clean"], "o", color=blue, markersize=4, label="clean")
    for name, style, label in (("edge", "--", "edge of the noise, 2σ√n"), ("lifted", ":", "lifted to the edge, σ√n")):
        ax.axhline(float(data[name][0]), color="black", linestyle=style, linewidth=1.2, label=label)
    ax.set(yscale="log", ylim=(0.1 * reach, 2 * float(data["noisy"][0])))
    name_axes(ax, "number of the singular value", "singular value (8-bit grey levels)")
    ax.legend(fontsize=9)
    return figure, data
