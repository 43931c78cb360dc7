"""The drawing of the method: what it has, and how a box is lit."""

import pytest

from indeed import figures


def widths(figure):
    """Widths of the frames: of the two sub-problems, the seven parts, the three precisions, the free energy."""
    from matplotlib.patches import FancyBboxPatch

    names = ["sub-problem 2", "sub-problem 1", *figures.METHOD_BOXES[:7], "γ", "Ω", "Λ", "free energy"]
    boxes = [patch for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]
    return dict(zip(names, (box.get_linewidth() for box in boxes), strict=True))


def test_the_large_drawing_has_the_closed_forms_and_lights_nothing(drawn):
    figure, data = figures.method_drawing()
    texts = [text.get_text() for text in drawn(figure).axes[0].texts]
    assert {f"paper ({number})" for number in (26, 28, 30)} <= set(texts)
    assert {text for text in texts if text.startswith("sub-problem")} == {
        "sub-problem 1: the precisions, given the parts",
        "sub-problem 2: the parts, given the precisions",
    }
    assert data["lit"] == []
    assert len(set(widths(figure).values())) == 1
    assert not any(text.get_weight() == "bold" for text in figure.axes[0].texts)


def test_the_arrows_are_those_of_the_method():
    parents = {}
    for arrow in figures.method_drawing()[1]["arrows"]:
        tail, head = arrow.split(" -> ")
        parents.setdefault(head, set()).add(tail)
    assert parents == {
        "f_A, f_B": {"Y"},
        "A, B": {"f_A, f_B", r"\gamma"},
        "L": {"A, B"},
        "f_S": {"Y", "L"},
        "S": {"f_S", r"\Omega"},
        "N": {"S", r"\Lambda"},
        r"\gamma": {"A, B"},
        r"\Omega": {"S"},
        r"\Lambda": {"N"},
        "free energy": {"sub-problem 1", "sub-problem 2"},
    }


@pytest.mark.parametrize("name", figures.METHOD_BOXES)
def test_a_box_is_lit_by_its_frame_and_its_letters(drawn, name):
    figure, data = figures.method_drawing(name)
    assert figure.get_size_inches()[1] == pytest.approx(1.6)
    assert data["lit"] == [name]
    frames = widths(drawn(figure))
    lit = {"γ", "Ω", "Λ"} if name == "precisions" else {name}
    assert {box for box, width in frames.items() if width > 2} == lit
    texts = figure.axes[0].texts
    assert sum(text.get_weight() == "bold" for text in texts) == len(lit)
    assert all(r"\boldsymbol" in t.get_text() for t in texts if t.get_weight() == "bold" and "$" in t.get_text())


def test_several_boxes_can_be_lit_and_an_unknown_one_is_refused():
    frames = widths(figures.method_drawing("f_A, f_B", "f_S")[0])
    assert {box for box, width in frames.items() if width > 2} == {"f_A, f_B", "f_S"}
    with pytest.raises(ValueError, match=r"lit: got 'f', expected one of Y, f_A, f_B, A, B, L"):
        figures.method_drawing("f")
