"""A figure that is drawn."""

import pytest


@pytest.fixture
def drawn():
    """Render a figure: warnings of the layout or of missing glyphs are errors under pytest."""

    def draw(figure):
        figure.canvas.draw()
        return figure

    return draw
