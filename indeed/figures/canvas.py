"""What figures are drawn with: an empty page, its colours, lines with markers, and a list down the side."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Points = Sequence[tuple[float, float]]
Data = TypeVar("Data")
Drawn = tuple["Figure", Data]
"""A matplotlib figure, and the data that it shows."""


def blank(width: float, height: float) -> "Figure":
    """Empty figure of this size in inches, which makes room for its labels when it is drawn."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def page(width: float, height: float, *shape: int, **grid: Any) -> tuple["Figure", Any]:
    """Figure of this size in inches, and its axes, as ``Figure.subplots`` makes them: one by default."""
    figure = blank(width, height)
    return figure, figure.subplots(*shape, **grid)


LINES = ("-", "--", "-.", ":")
"""Styles of lines, where colour alone would tell them apart."""

HATCHES = ("", "///", "...", "xxx")
"""Patterns of bars, where colour alone would tell them apart."""


def palette(number: int | None = None) -> Sequence[tuple[float, float, float]]:
    """First colours of ten that the colour-blind tell apart; more than ten repeat them."""
    import seaborn

    colours: Sequence[tuple[float, float, float]] = seaborn.color_palette("colorblind", number)
    return colours


def draw_lines(ax: "Axes", data: Mapping[str, Points], markers: Iterable[str] = "os^Dv", **style: Any) -> None:
    """Draw a line with markers for each name, in the order of the `palette`."""
    for (name, points), colour, marker in zip(data.items(), cycle(palette()), cycle(markers), strict=False):
        ax.plot(*zip(*points, strict=True), color=colour, marker=marker, label=name, **style)


def name_axes(ax: "Axes", x: str, y: str, **text: Any) -> None:
    """Write what both axes show, over a pale grid."""
    ax.set_xlabel(x, **text)
    ax.set_ylabel(y, **text)
    ax.grid(alpha=0.3)


def list_down(ax: "Axes", names: Sequence[str], title: str, margin: float = 0.5, size: float = 8.5) -> None:
    """Make the vertical axis a list of names from the top down, under a title."""
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 1 + margin, -margin)
    ax.set_title(title, fontsize=9.5, loc="left")
    ax.grid(axis="x", alpha=0.3)
    ax.tick_params(labelsize=size)
