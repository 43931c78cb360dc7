"""Loss against error: lines are means over the seeds, bands their range, points the cells."""

from indeed import figures


def row(images, seed, shift):
    values = {"loss": 30 + shift, "risk": -3 + shift, "psnr": 25 - shift}
    parts = {
        f"{name}_{part}": value + k for name, value in values.items() for k, part in enumerate(("train", "held_out"))
    }
    return {name: str(value) for name, value in ({"images": images, "seed": seed, "wasserstein": 0.5} | parts).items()}


ROWS = [row(images, seed, shift=seed / 2) for seed in (0, 1) for images in (16, 1)]


def test_lines_are_means_and_bands_are_ranges_over_the_seeds(drawn):
    figure, data = figures.generalisation_curves(ROWS)
    assert data["loss_train"] == [(1, 30.25, 30.0, 30.5), (16, 30.25, 30.0, 30.5)]
    assert data["psnr_held_out"] == [(1, 25.75, 25.5, 26.0), (16, 25.75, 25.5, 26.0)]
    assert data["wasserstein"] == [(1, 0.5, 0.5, 0.5), (16, 0.5, 0.5, 0.5)]
    loss, _, _, proxy = drawn(figure).axes
    assert [list(line.get_ydata()) for line in loss.lines] == [[30.25, 30.25], [31.25, 31.25]]
    assert len(proxy.lines) == 1
    assert "proxy" in proxy.get_ylabel()
    assert [label.get_text() for label in proxy.get_xticklabels()] == ["1", "16"]


def test_there_is_a_point_for_every_cell_ordered_by_the_number_of_images(drawn):
    figure, data = figures.loss_against_error(ROWS)
    assert list(data) == [1, 16]
    assert data[1] == [(30.0, -2.0, 26.0), (30.5, -1.5, 25.5)]
    risk, quality = drawn(figure).axes
    for ax, column in ((risk, 1), (quality, 2)):
        assert [list(line.get_ydata()) for line in ax.lines] == [
            [p[column] for p in points] for points in data.values()
        ]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["1", "16"]
    assert list(risk.lines[0].get_xdata()) == [30.0, 30.5]
