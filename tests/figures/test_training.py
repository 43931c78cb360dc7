"""Figures of training: the data that they show, and that they show it."""

import pytest
import torch

from indeed import figures
from indeed.learning.diagnostics.gradients import GradientNoise


def texts(figure):
    return [text.get_text() for ax in figure.axes for text in ax.get_yticklabels()]


def test_loss_terms_shows_each_column_where_the_log_has_a_value(drawn):
    terms = ("fidelity", "supervision", "rank", "sparsity", "orthogonality")
    log = [
        {"step": str(step), "psnr": str(20 + step) if step % 2 else "", "psnr_low_rank": "15.0" if step % 2 else ""}
        | {name: str(10.0 * number + step) for number, name in enumerate(terms, start=1)}
        for step in (1, 2, 3)
    ]
    figure, data = figures.loss_terms(log)
    assert data["supervision"] == [(1, 21), (2, 22), (3, 23)]
    assert data["psnr"] == [(1, 21), (3, 23)]
    axes = drawn(figure).axes
    assert [ax.get_title() for ax in axes] == [*terms, "PSNR in validation"]
    for ax, name in zip(axes, terms, strict=False):
        assert [tuple(point) for point in ax.lines[0].get_xydata()] == data[name]
    assert [line.get_label() for line in axes[-1].lines] == ["L + S", "L"]
    assert {ax.get_title() for ax in axes if ax.get_yscale() == "log"} == {"supervision", "orthogonality"}


def test_values_and_gradients_stand_in_the_row_of_their_term(drawn):
    anatomy = {
        "start": {"rank": (3.0, 10.0), "sparsity": (5.0, 1.0)},
        "end": {"rank": (4.0, 0.1), "sparsity": (6.0, 2.0)},
    }
    figure, data = figures.values_and_gradients(anatomy)
    assert data == anatomy
    left, right = drawn(figure).axes
    assert [list(line.get_xdata()) for line in left.lines] == [[3.0, 5.0], [4.0, 6.0]]
    assert [list(line.get_xdata()) for line in right.lines] == [[10.0, 1.0], [0.1, 2.0]]
    assert texts(figure)[:2] == ["rank", "sparsity"]


def test_leaf_noise_is_shown_as_a_share_of_all_three_sources(drawn):
    noise = {"net": {1e3: GradientNoise(2.0, 1.0, 1.0), 1e5: GradientNoise(98.0, 1.0, 1.0)}}
    figure, data = figures.leaf_noise_shares(noise, preset=1e5)
    assert data == {"net": [(1e3, 0.25), (1e5, 0.01)]}
    ax = drawn(figure).axes[0]
    assert [tuple(point) for point in ax.lines[0].get_xydata()] == data["net"]


@pytest.mark.parametrize("ratio", [0.5, 30.0, 2000.0])
def test_the_compromise_with_the_orthogonality_is_what_minimising_over_the_factors_finds(ratio, drawn):
    generator = torch.Generator().manual_seed(0)
    tile = torch.rand(6, 6, generator=generator, dtype=torch.float64)
    U, singular_values, Vh = torch.linalg.svd(tile)
    rank = 4
    # start near balanced singular vectors, the configuration that the formula is about
    A, B = (
        (x[:, :rank] * singular_values[:rank].sqrt() + 0.01 * torch.rand(6, rank, generator=generator)).contiguous()
        for x in (U, Vh.mT)
    )
    A.requires_grad_()
    B.requires_grad_()
    identity = torch.eye(rank, dtype=torch.float64)
    optimiser = torch.optim.LBFGS(
        [A, B], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-15, line_search_fn="strong_wolfe"
    )

    def objective():
        optimiser.zero_grad()
        orthogonality = sum((x.mT @ x - identity).square().sum() for x in (A, B))
        value = 0.5 * ratio * (A @ B.mT - tile).square().sum() + orthogonality
        value.backward()
        return value

    optimiser.step(objective)
    psnr = -10 * (A @ B.mT - tile).square().mean().log10()
    figure, data = figures.orthogonality_limit(singular_values[None], [ratio], constant_psnr=10.0, rank=rank)
    assert data["median"][0] == pytest.approx(psnr.item(), abs=1e-3)
    assert data["lower"] == data["median"] == data["upper"]
    drawn(figure)


def test_orthogonality_alone_makes_every_singular_value_one():
    singular_values = torch.tensor([[5.0, 3.0, 0.5]])
    _, data = figures.orthogonality_limit(singular_values, [0.0, 1e9], constant_psnr=10.0, rank=2)
    error = torch.tensor([4.0, 2.0, 0.5]).square().sum() / 9
    assert data["median"][0] == pytest.approx(-10 * error.log10().item(), abs=1e-5)
    assert data["median"][1] == pytest.approx(data["limit"][0], abs=1e-3)


def form_rows(*rows):
    return [{"form": form, "psnr": psnr, "psnr_low_rank": low_rank} for form, psnr, low_rank in rows]


def test_design_differences_are_to_the_preset_and_stand_in_their_groups(drawn):
    rows = form_rows(("b", "24.0", "20.5"), ("preset", "25.0", "20.0"), ("a", "25.5", "19.0"), ("left out", "1", "1"))
    chance = {"psnr": 0.25, "psnr_low_rank": 0.125}
    figure, data = figures.design_differences(rows, {"b": "a worse form"}, {"one": ["a"], "two": ["b"]}, chance)
    assert data == {"a": (0.5, -1.0), "b": (-1.0, 0.5)}
    left, right = drawn(figure).axes
    assert texts(figure)[:2] == ["a", "a worse form"]
    assert [text.get_text() for text in right.texts] == ["one", "two"]
    for ax, name, column in ((left, "psnr", 0), (right, "psnr_low_rank", 1)):
        (band,) = ax.patches
        assert (band.get_x(), band.get_width()) == (-chance[name], 2 * chance[name])
        dots = [line for line in ax.lines if line.get_marker() == "o"]
        assert [line.get_xdata()[0] for line in dots] == [pair[column] for pair in data.values()]
        # better and worse are told by the filling, too
        assert [line.get_markerfacecolor() == "white" for line in dots] == [pair[column] < 0 for pair in data.values()]
    # the first group at the top
    assert left.get_ylim()[0] > left.get_ylim()[1]


@pytest.mark.parametrize("forms", [["other", "another"], ["preset"], []])
def test_design_differences_need_the_preset_and_every_form_to_show(forms):
    rows = form_rows(*((form, "1", "1") for form in forms))
    with pytest.raises(ValueError, match=r"^rows: got .*, expected preset, other"):
        figures.design_differences(rows, {}, {"all": ["other"]}, {"psnr": 0, "psnr_low_rank": 0})


def test_leaf_sampling_compares_the_same_seeds_and_its_gap_is_training_minus_validation(drawn):
    def row(leaf, seed, psnr, few):
        values = {"psnr": psnr, "psnr_few": few, "psnr_low_rank": psnr - 5, "psnr_low_rank_few": few - 4}
        return {"condition": "few", "leaf": leaf, "seed": seed} | {name: str(value) for name, value in values.items()}

    rows = [row("mean", "0", 25.0, 27.0), row("mean", "1", 26.0, 27.0)]
    rows += [row("sampled", "1", 26.5, 27.0), row("sampled", "0", 25.25, 28.0)]
    figure, data = figures.leaf_sampling_effect(rows, {"few": "a few images"})
    assert data["few"]["validation_psnr"] == [0.25, 0.5]
    assert data["few"]["gap_psnr"] == [0.75, -0.5]
    assert data["few"]["range_psnr"] == [1.0]
    assert data["few"]["gap_psnr_low_rank"] == [0.75, -0.5]
    left, _ = drawn(figure).axes
    assert left.patches[0].get_width() == 1.0
    assert list(left.lines[0].get_xdata()) == [0.25, 0.5]
    assert texts(figure)[0] == "a few images"
