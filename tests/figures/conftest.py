"""A figure that is drawn."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg


@pytest.fixture
def drawn():
    """Render a figure: warnings of the layout or of missing glyphs are errors under pytest."""

    def draw(figure):
        FigureCanvasAgg(figure).draw()  # the canvas of a bare Figure draws nothing
        return figure

    return draw
