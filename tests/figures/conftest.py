"""A figure that is drawn."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import BarContainer
from matplotlib.lines import Line2D


def told_by_colour_alone(figure):
    """Return the pairs of names in the legends of a figure whose lines, or bars, differ in nothing but their colour."""
    entries = [list(zip(*ax.get_legend_handles_labels(), strict=True)) for ax in figure.axes]
    for legend in figure.legends:
        entries.append([(handle, handle.get_label()) for handle in legend.legend_handles])
    found = set()
    for names in entries:
        styles = {}
        for handle, name in names:
            if isinstance(handle, Line2D):
                hollow = handle.get_markerfacecolor() == "none" or handle.get_fillstyle() == "none"
                dashes = handle._unscaled_dash_pattern  # get_linestyle tells no two patterns of dashes apart
                style = (handle.get_linestyle(), str(dashes), handle.get_marker(), hollow)
            elif isinstance(handle, BarContainer):
                style = handle.patches[0].get_hatch()
            else:
                continue
            other = styles.setdefault((type(handle), style), name)
            if other != name:
                found.add((other, name))
    return found


@pytest.fixture
def drawn():
    """Render a figure: warnings of the layout or of missing glyphs are errors under pytest."""

    def draw(figure):
        FigureCanvasAgg(figure).draw()  # the canvas of a bare Figure draws nothing
        assert not told_by_colour_alone(figure)
        return figure

    return draw
