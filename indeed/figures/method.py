"""The drawing of the method that the chapters share: what is computed from what, and by which sub-problem."""

from typing import TYPE_CHECKING, Any

from indeed.checks import one_of
from indeed.figures.canvas import Drawn, page, palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Place = tuple[float, float, float, float]

_WIDTH, _FRAME = 7.2, (0.7, 5.5)
"""Width of the drawing, left edge and width of the two frames, in inches."""
_ROW = {
    "Y": (0.3, 0.46, "", "image"),
    "f_A, f_B": (1.22, 0.76, "", "see $Y$"),
    "A, B": (2.16, 0.66, "", "factors"),
    "L": (3.08, 0.78, r" = AB^{\mathsf{T}}", "low rank"),
    "f_S": (4.16, 0.76, "", "sees $Y - L$"),
    "S": (4.95, 0.52, "", "sparse"),
    "N": (5.72, 0.78, "", "what is left"),
}
"""Parts, by name: centre and width of the box in inches, and what the large drawing adds to the name and below it."""
_MEAN = r"$\mu_{%s} = \dfrac{\alpha^0 + %s}{\beta^0 + \frac{1}{2}\,\mathsf{E}\,%s}$"
_PRECISIONS = {
    r"\gamma": (
        "A, B",
        _MEAN % (r"\gamma_i", r"\frac{1}{2}(h + w)", r"(\|a_i\|^2 + \|b_i\|^2)"),
        26,
        1.87,
        2.1,
    ),
    r"\Omega": ("S", _MEAN % (r"\omega", r"\frac{1}{2}", "s^2"), 28, 3.79, 1.42),
    r"\Lambda": ("N", _MEAN % (r"\lambda", r"\frac{1}{2}", "n^2"), 30, 5.39, 1.42),
}
"""Precisions: the part that each rules, its closed form and the equation, centre and width in the large drawing."""
METHOD_BOXES = (*_ROW, "precisions", "sub-problem 1", "sub-problem 2", "free energy")
"""Names of the boxes of `method_drawing`."""


def method_drawing(*lit: str) -> Drawn[dict[str, list[str]]]:
    r"""Draw the method: from the image to its parts, the precisions that rule them, the two sub-problems.

    The networks f_A and f_B see Y and give the factors of :math:`L = A B^\top`; f_S sees Y - L and gives S; what is
    left is N. Each part has a precision, whose posterior has a closed form (Eq. 26, 28, 30; drawn is its mean, the
    same in both forms of :func:`~indeed.bayes.conjugate_updates.solve_leaf_level`).

    Parameters
    ----------
    lit
        Names from `METHOD_BOXES`. These boxes have a thick frame, bold letters and a ground of colour, and the drawing
        is a strip for the head of a chapter. Without any it is large and has the closed forms.

    Returns
    -------
    figure, data
        Names of the ``boxes``, of those that are ``lit``, and of the ``arrows`` between them.

    Raises
    ------
    ValueError
        For a name that is not in `METHOD_BOXES`.
    """
    for name in lit:
        one_of(METHOD_BOXES, lit=name)
    large = not lit
    height, upper, half, lower, low_half = (3.5, 2.62, 0.3, 0.84, 0.45) if large else (1.6, 1.0, 0.16, 0.29, 0.16)
    figure, ax = page(_WIDTH, height)
    ax.set(xlim=(0, _WIDTH), ylim=(0, height))
    ax.set_axis_off()

    left, width = _FRAME
    frames = {  # bottom, top, title and where it starts
        "sub-problem 2": (upper - half - 0.1, height - 0.04, "sub-problem 2: the parts, given the precisions"),
        "sub-problem 1": (0.04, lower + low_half + 0.1, "sub-problem 1:\nthe precisions"),
    }
    titles = {"sub-problem 2": height - 0.17, "sub-problem 1": lower}
    if large:
        frames["sub-problem 1"] = (*frames["sub-problem 1"][:2], "sub-problem 1: the precisions, given the parts")
        titles["sub-problem 1"] = 0.2
    for name, (bottom, top, title) in frames.items():
        _box(ax, (left, bottom, width, top - bottom), name in lit, linestyle="--")
        _write(ax, left + 0.08, titles[name], title, name in lit, 9.5 if large else 8, "left")

    size = 12 if large else 11
    arrows = list(zip(_ROW, list(_ROW)[1:], strict=False))
    for name, (x, wide, equals, note) in _ROW.items():
        _box(ax, (x - wide / 2, upper - half, wide, 2 * half), name in lit)
        _write(ax, x, upper + 0.1 * large, f"${name}{equals if large else ''}$", name in lit, size)
        if large:
            _write(ax, x, upper - 0.14, note, False, 8.5)
    for tail, head in arrows:
        start, end = (_ROW[name][0] + side * _ROW[name][1] / 2 for name, side in ((tail, 1), (head, -1)))
        _arrow(ax, (start, upper), (end, upper))
    above, y, f_S = upper + half + 0.12, _ROW["Y"][0], _ROW["f_S"][0]
    ax.plot([y, y, f_S], [upper + half, above, above], color="0.2", linewidth=1.2)
    _arrow(ax, (f_S, above), (f_S, upper + half))
    arrows.append(("Y", "f_S"))

    for name, (part, form, equation, centre, wide) in _PRECISIONS.items():
        x, wide = (centre, wide) if large else (_ROW[part][0], 0.4)
        _box(ax, (x - wide / 2, lower - low_half, wide, 2 * low_half), "precisions" in lit)
        _write(ax, x, lower + 0.12 * large, form if large else f"${name}$", "precisions" in lit, 10 if large else size)
        if large:
            _write(ax, x, lower - 0.3, f"paper ({equation})", False, 9)
        _arrow(ax, (_ROW[part][0], upper - half), (x, lower + low_half), style="<|-|>")
        arrows += [(part, name), (name, part)]

    x, middle, side = 6.8, height / 2, 0.33 if large else 0.25
    _box(ax, (x - 0.36, middle - side, 0.72, 2 * side), "free energy" in lit)
    _write(ax, x, middle, "free\nenergy", "free energy" in lit, 10 if large else 9)
    for name, (bottom, top, _) in frames.items():
        y, end = (bottom + top) / 2, middle + (side if name == "sub-problem 2" else -side)
        ax.plot([left + width, x], [y, y], color="0.2", linewidth=1.2)
        _arrow(ax, (x, y), (x, end))
        arrows.append((name, "free energy"))
    return figure, {"boxes": list(METHOD_BOXES), "lit": list(lit), "arrows": [f"{a} -> {b}" for a, b in arrows]}


def _box(ax: "Axes", place: Place, lit: bool, linestyle: str = "-") -> None:
    from matplotlib.patches import FancyBboxPatch

    x, y, width, height = place
    style: dict[str, Any] = {"facecolor": "white", "edgecolor": "0.35", "linewidth": 1.0, "linestyle": linestyle}
    if lit:
        style = {"facecolor": (*palette(2)[1], 0.3), "edgecolor": "black", "linewidth": 2.6}
    elif linestyle != "-":
        style["facecolor"] = "none"
    ax.add_patch(FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=0.06", **style))


def _write(ax: "Axes", x: float, y: float, text: str, lit: bool, size: float, side: str = "center") -> None:
    if lit and text.startswith("$"):
        text = rf"$\boldsymbol{{{text.strip('$')}}}$"
    weight = "bold" if lit else "normal"
    ax.text(x, y, text, fontsize=size, weight=weight, ha=side, va="center", linespacing=1.1)


def _arrow(ax: "Axes", tail: tuple[float, float], head: tuple[float, float], style: str = "-|>") -> None:
    from matplotlib.patches import FancyArrowPatch

    shape: dict[str, Any] = {"mutation_scale": 9, "color": "0.2", "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
    ax.add_patch(FancyArrowPatch(tail, head, arrowstyle=style, **shape))
