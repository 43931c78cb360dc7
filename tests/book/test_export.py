"""Chapters as notebooks for plain JupyterLab: no MyST is left in them, and nothing of the page is lost."""

import re

import chapters
import export
import myst
import nbformat
import pytest
from nbformat import v4

LEFT = re.compile(r"\{[\w:.+-]+\}`|^\s*:{3,}|`{3,}\{|^\([\w-]+\)=|\\(?:N|E|KL|Gam|tr)(?![A-Za-z])", re.MULTILINE)


def converted(text: str, numbers: dict[str, str] | None = None) -> str:
    """The Markdown of one cell."""
    notebook = v4.new_notebook(cells=[v4.new_markdown_cell(text)])
    return export.readable(notebook, "conjugate_updates", numbers or {}).cells[0].source


@pytest.mark.parametrize("chapter", chapters.chapters(), ids=lambda chapter: chapter.stem)
def test_no_directive_role_or_macro_is_left_in_a_notebook(chapter):
    numbers = dict.fromkeys(chapters.glued(chapter), "1")
    notebook = export.readable(chapters.notebook(chapter), chapter.stem, numbers)
    nbformat.validate(notebook)
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    assert len(prose) > 5
    assert not [match[0] for text in prose for match in LEFT.finditer(text)]


@pytest.mark.parametrize("text", ["{eq}`x`", "::::{note}", "```{exercise}", "(a-label)=", "$\\E_q$"])
def test_the_search_for_what_is_left_finds_it(text):
    assert LEFT.search(text)


def test_a_self_test_becomes_a_box_with_folded_answers():
    text = converted(
        "::::{admonition} Check yourself\n:class: self-test\n1. Which?\n\n:::{dropdown} Answers\n1. $\\E$.\n:::\n::::"
    )
    assert text.startswith('<div class="alert')
    assert "**Check yourself**\n\n1. Which?" in text
    assert "<summary>Answers</summary>\n\n1. $\\mathbb{E}$.\n\n</details>" in text
    assert text.endswith("</div>")


def test_references_say_what_the_page_says():
    label, target = next((label, t) for label, t in myst.targets().items() if t.page == "free_energy" and "(" in t.text)
    assert converted(f"By {{eq}}`{label}`.") == f"By [{target.text}](free_energy.ipynb)."
    assert re.fullmatch(r"\(Cand.s et al\., 2011\)", converted("{cite:p}`candes2011robust`"))
    assert converted("{term}`nats <nat>` and {doc}`glossary`") == "nats and *Glossary*"


def test_a_number_at_the_start_of_a_line_begins_no_list():
    assert converted("It is\n{glue:text}`x`. So", {"x": "1"}) == "It is 1. So"


def test_a_label_that_is_not_there_and_an_unknown_directive_are_errors():
    with pytest.raises(ValueError, match="eq: got nowhere, expected a label"):
        converted("{eq}`nowhere`")
    with pytest.raises(ValueError, match="directive: got strange"):
        converted(":::{strange}\n:::")


def test_a_solution_with_cells_is_folded():
    label = next(label for label, t in myst.targets().items() if t.text.startswith("Exercise") and t.page != "errata")
    start = v4.new_markdown_cell(f"````{{solution-start}} {label}\n````")
    end = v4.new_markdown_cell("So it is.\n\n````{solution-end}\n````\n\n## Next")
    notebook = v4.new_notebook(cells=[start, v4.new_code_cell("1"), end, v4.new_code_cell("2")])
    title, inside, after, outside = export.readable(notebook, "x", {}).cells
    assert "folded cells" in title.source
    assert inside.metadata["jupyter"] == {"source_hidden": True, "outputs_hidden": True}
    assert after.source.startswith("<details>")
    assert after.source.endswith("</details>\n\n## Next")
    assert "jupyter" not in outside.metadata


def test_colab_is_offered_only_where_the_book_names_a_repository(monkeypatch):
    """What Colab does with it is not tested: nothing here reaches it."""
    notebook = v4.new_notebook(cells=[v4.new_code_cell("1")])
    monkeypatch.setattr(export, "config", lambda: {"repository": {"url": ""}})
    assert not export.colab("training")
    assert len(export.readable(notebook, "training", {}).cells) == 1
    monkeypatch.setattr(export, "config", lambda: {"repository": {"url": "https://github.com/a/b", "branch": "c"}})
    address = "https://colab.research.google.com/github/a/b/blob/c/results/notebooks/training.ipynb"
    assert export.colab("training") == address
    first, second = export.readable(notebook, "training", {}).cells
    assert "git clone --quiet --depth 1 --branch c https://github.com/a/b" in first.source
    assert second.source == "1"
