"""Curves: the points that they draw."""

from indeed import figures


def test_denoising_curve_draws_the_points_that_it_returns(drawn):
    figure, data = figures.denoising_curve([5, 25], {"noisy": [34.0, 20.0], "denoised": [38.0, 31.0]})
    assert data["denoised"] == [(5, 38.0), (25, 31.0)]
    (ax,) = drawn(figure).axes
    assert [list(map(tuple, line.get_xydata())) for line in ax.lines] == list(data.values())
    assert "grey levels" in ax.get_xlabel()
    assert "dB" in ax.get_ylabel()


def test_training_curves_leave_out_steps_that_were_not_validated(drawn):
    rows = [{"step": "100", "psnr": ""}, {"step": "200", "psnr": "25.5"}, {"step": "300", "psnr": "26"}]
    figure, data = figures.training_curves({"run": rows})
    assert data == {"run": [(200.0, 25.5), (300.0, 26.0)]}
    assert len(drawn(figure).axes[0].lines) == 1
