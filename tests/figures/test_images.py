"""Pictures: what they show."""

import numpy as np
import pytest
import torch

from indeed import figures


def test_image_grid_shows_each_image_clipped_and_leaves_no_axis_around_empty_places(drawn):
    images = {name: torch.full((3, 4, 6), value) for name, value in {"a": -1.0, "b": 0.25, "c": 0.5, "d": 7.0}.items()}
    figure, data = figures.image_grid(images, columns=3)
    assert {name: array.mean().item() for name, array in data.items()} == {"a": 0.0, "b": 0.25, "c": 0.5, "d": 1.0}
    panels = drawn(figure).axes
    assert [len(ax.images) for ax in panels] == [1, 1, 1, 1, 0, 0]
    assert not any(ax.axison for ax in panels)


def test_image_grid_thins_out_what_no_screen_shows():
    _, data = figures.image_grid({"large": torch.zeros(1, 10, 5000)})
    assert data["large"].shape == (3, 1250, 1)


def test_decomposition_panel_shows_the_parts_and_their_sum(drawn):
    generator = torch.Generator().manual_seed(0)
    L = torch.rand(1, 8, 8, generator=generator)
    S, N = (0.1 * torch.randn(1, 8, 8, generator=generator) for _ in range(2))
    figure, data = figures.decomposition_panel(L + S + N, L, S, N, clean=L)
    titles = [title.split(" (")[0] for title in data]
    assert titles == ["observation Y", "low rank L", "sparse S", "L + S", "noise N", "clean image U"]
    np.testing.assert_allclose(data["L + S"][..., 0], (L + S).clamp(0, 1)[0], atol=1e-6)
    assert len(drawn(figure).axes) == 6
    white = max(S.abs().quantile(0.995).item() * 255, 1)
    assert f"sparse S (white: {white:.0f} grey levels)" in data
    assert len(figures.decomposition_panel(L + S + N, L, S, N)[1]) == 5


def test_signed_display_puts_zero_at_mid_grey():
    display, limit = figures.signed_display(torch.tensor([[[-0.5, 0.0, 0.5]]]))
    assert limit == pytest.approx(0.5)
    assert display.flatten().tolist() == pytest.approx([0.0, 0.5, 1.0])


def test_png_is_a_picture_of_the_figure():
    figure, _ = figures.denoising_curve([5, 25], {"noisy": [34.0, 20.0]})
    assert figures.png(figure).startswith(b"\x89PNG\r\n")


def test_heat_is_black_at_zero_ever_brighter_and_the_same_from_the_limit_on():
    values = torch.tensor([[-1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 9.0]])
    colours = figures.heat(values, limit=2.0)[:, 0].T
    brightness = colours.sum(1)
    assert torch.equal(colours[0], colours[1])
    assert brightness[0] < 0.05
    assert (brightness[1:-1].diff() > 0.1).all()
    assert torch.equal(colours[-1], colours[-2])


@pytest.mark.parametrize("channels", [1, 3])
def test_heat_covers_an_image_in_proportion_to_the_map(channels):
    image = torch.rand(channels, 1, 3, generator=torch.Generator().manual_seed(0))
    values = torch.tensor([[0.0, 0.5, 3.0]])
    shown, colours = figures.heat_overlay(image, values, limit=1.0), figures.heat(values, limit=1.0)
    for column, opacity in enumerate((0.0, 0.3, 0.6)):
        mixed = (1 - opacity) * image[..., column] + opacity * colours[..., column]
        torch.testing.assert_close(shown[..., column], mixed.expand(3, 1))


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan")])
def test_heat_needs_a_scale(limit):
    with pytest.raises(ValueError, match=r"^limit: got"):
        figures.heat(torch.zeros(2, 2), limit)
