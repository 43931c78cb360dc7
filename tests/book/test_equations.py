"""The equation index: every equation of the paper is at home once and tested; and what the checker would say if not."""

import doctest
import textwrap

import chapters
import equations
import pytest

HOME = '''
def update(x):
    r"""Posterior of x (Eq. 26)."""
'''
TEST = """
import pytest
from indeed.updates import update

@pytest.mark.equation("26")
def test_update():
    assert update(1)
"""


@pytest.fixture
def verdict(tmp_path, monkeypatch):
    """Return a function: the faults of a small repository, given as texts by path, in which only Eq. 26 is required."""
    monkeypatch.setattr(equations, "NUMBERS", [26])

    def verdict(files: dict[str, str]) -> list[str]:
        for name, text in {"indeed/updates.py": HOME, "tests/test_updates.py": TEST, **files}.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(textwrap.dedent(text))
        return equations.faults(equations.homes(tmp_path), equations.checks(tmp_path))

    return verdict


@pytest.mark.slow
def test_every_equation_of_the_paper_has_one_home_and_a_test_that_uses_it():
    faults = equations.faults(equations.homes(), equations.checks())
    assert not faults, "\n".join(faults)


def test_a_home_and_a_test_that_uses_it_are_all_it_takes(verdict):
    assert verdict({}) == []


@pytest.mark.parametrize(
    "docstring",
    ["Posterior of x.", "Posterior of x.\n\n    As in (Eq. 26).", "Posterior of x, the minimiser of Eq. 26."],
)
def test_an_equation_without_a_home_is_named(verdict, docstring):
    home, orphan = verdict({"indeed/updates.py": f'def update(x):\n    """{docstring}"""'})
    assert home == "Eq. 26 has no home: no docstring in indeed/ has (Eq. 26)"
    assert orphan == "tests/test_updates.py::test_update claims Eq. 26, which has no home"


@pytest.mark.parametrize("text", ['"""Updates (Eq. 26)."""', 'def _update(x):\n    """Posterior of x (Eq. 26)."""'])
def test_neither_a_module_nor_a_private_function_is_a_home(verdict, text):
    assert "Eq. 26 has no home" in verdict({"indeed/updates.py": text})[0]


def test_an_equation_with_two_homes_is_named_with_both(verdict):
    assert verdict({"indeed/twin.py": HOME}) == ["Eq. 26 has 2 homes: indeed.twin.update, indeed.updates.update"]


def test_an_equation_without_a_test_is_named(verdict):
    fault = 'Eq. 26 (indeed.updates.update) has no test marked @pytest.mark.equation("26")'
    assert verdict({"tests/test_updates.py": TEST.replace("@", "# @")}) == [fault]
    assert verdict({"tests/test_updates.py": TEST.replace("def test_update", "def helper")}) == [fault]


@pytest.mark.parametrize("body", ['"""Check update(1)."""', "update = abs\n    assert update(-1)", "assert 'update'"])
def test_a_mark_on_a_test_that_does_not_use_the_home_is_a_fault(verdict, body):
    text = TEST.replace("from indeed.updates import update\n", "").replace("assert update(1)", body)
    assert verdict({"tests/test_updates.py": text}) == [
        "tests/test_updates.py::test_update claims Eq. 26 and does not use indeed.updates.update"
    ]


def test_a_namesake_of_the_home_does_not_count(verdict):
    text = TEST.replace("indeed.updates", "elsewhere")
    assert "does not use indeed.updates.update" in verdict({"tests/test_updates.py": text})[0]


@pytest.mark.parametrize(
    "text",
    [
        "from indeed import updates\n{mark}def test_update():\n    assert updates.update(1)",
        "import indeed.updates as u\n{mark}def test_update():\n    assert u.update(1)",
        "import indeed.updates\n{mark}def test_update():\n    assert indeed.updates.update(1)",
        "from indeed.updates import update as f\n{mark}def test_update():\n    assert f(1)",
        "from indeed.updates import update\nCASES = [update]\ndef helper():\n    return CASES\n"
        "{mark}def test_update():\n    assert helper()",
        "from indeed.updates import update\n@pytest.fixture\ndef updated():\n    return update(1)\n"
        "{mark}def test_update(updated):\n    assert updated",
    ],
    ids=["module", "module as", "package", "name as", "helper", "fixture"],
)
def test_the_home_may_be_used_under_any_name_and_through_helpers(verdict, text):
    text = "import pytest\n" + text.format(mark='@pytest.mark.equation("26")\n')
    assert verdict({"tests/test_updates.py": text}) == []


def test_the_home_may_be_used_by_a_fixture_of_the_folder_above(verdict, tmp_path):
    fixture = "from indeed.updates import update\nclass Problem:\n    x = update\ndef problem():\n    return Problem"
    test = 'import pytest\n@pytest.mark.equation("26")\ndef test_update({}):\n    assert 1'
    files = {"tests/conftest.py": fixture, "tests/test_updates.py": test.format("problem")}
    assert verdict(files) == []
    (check,) = equations.checks(tmp_path)
    assert [name for _, name, _ in check.helpers] == ["problem", "Problem"]
    assert verdict(files | {"tests/test_updates.py": test.format("other")})


def test_a_number_that_the_paper_does_not_have_is_a_fault_on_either_side(verdict):
    files = {"indeed/updates.py": HOME.replace("26", "26, 46"), "tests/test_updates.py": TEST.replace("26", "26, 27a")}
    assert verdict(files) == [
        "indeed.updates.update claims Eq. 46, which the paper does not have",
        "tests/test_updates.py::test_update claims Eq. 27a, which the paper does not have",
    ]


def test_a_tag_that_is_no_list_of_numbers_is_refused_by_name(verdict):
    with pytest.raises(ValueError, match=r"indeed.updates.update: \(Eq. 26 and others\)"):
        verdict({"indeed/updates.py": HOME.replace("26", "26 and others")})


@pytest.mark.parametrize(
    ("tag", "faults"),
    [("24", []), ("24a-24g", []), ("24a-24f", ["Eq. 24g has no home: no docstring in indeed/ has (Eq. 24g)"])],
)
def test_an_equation_of_several_lines_is_at_home_as_a_whole_or_line_by_line(verdict, monkeypatch, tag, faults):
    monkeypatch.setattr(equations, "NUMBERS", [24])
    files = {"indeed/updates.py": HOME.replace("26", tag), "tests/test_updates.py": TEST.replace("26", tag)}
    assert verdict(files) == faults


def test_the_examples_hold():
    assert doctest.testmod(equations) == (0, 2)


# -- chapters and the table ------------------------------------------------------------------------------------------

CHAPTER = r"""---
kernelspec: {display_name: Python 3, language: python, name: python3}
---

# A question

Eq. 2, 3 of {cite:t}`other2020` is not ours; paper (5) to (7) and (paper
(9), (24a) or (24b)) are, and 3 dB in that paper (2026) are no equation.

```python
# paper (8)
```

## The model (so far)

| part | given $\|x\|$ | paper |
|---|---|---|
| $L$ | $\gamma \mid x$ | (16) to (18) |
| $S$ | paper | (20), (21) |

Paper (26) again. Paper (30), 2.5 times.

```{code-cell} ipython3
%matplotlib inline
from indeed import updates
updates.update(1)  # paper (28)
```
"""


@pytest.fixture
def chapter(tmp_path):
    (tmp_path / "question.md").write_text(CHAPTER)
    return equations.chapter(tmp_path / "question.md")


def test_a_chapter_names_equations_in_sentences_and_in_the_column_of_a_table(chapter):
    first, second = "5 6 7 9 24a 24b".split(), "16 17 18 20 21 26 30".split()
    model = "The model (so far)"
    assert chapter.names == dict.fromkeys(first, "A question") | dict.fromkeys(second, model)
    assert chapter.title == "A question"


def test_the_table_links_home_tests_and_chapters(chapter, verdict, tmp_path):
    verdict({"indeed/updates.py": HOME.replace("of x", r"of :math:`x\|y` by :func:`update`").replace("26", "24, 26")})
    other = equations.Chapter(tmp_path / "other.md", "Other", {"24b": "The terms"}, set())
    table = equations.table(equations.homes(tmp_path), equations.checks(tmp_path), [chapter, other])
    assert [line.strip() for line in table.split("* - 26\n")[1].splitlines()[:4]] == [
        r"- Posterior of $x\|y$ by {py:func}`~indeed.updates.update`",
        "- {py:obj}`~indeed.updates.update`",
        "- [Update](#check-tests-test-updates-py-test-update)",
        "- computed in [A question](question.md#the-model-so-far)",
    ]
    assert "* - 31 to 45\n  - not in the library yet" in table
    # The lines of an equation that have no row of their own count for the whole.
    assert "computed in [A question](question.md); named in [Other](other.md#the-terms)" in table.split("* - 24\n")[1]


def test_the_sources_hold_every_test_and_its_anchor(verdict, tmp_path):
    verdict({})
    text = equations.sources(equations.checks(tmp_path))
    assert "(check-tests-test-updates-py-test-update)=\n### Update" in text
    assert "    assert update(1)" in text


@pytest.mark.slow
def test_the_index_has_a_row_for_every_equation_and_a_link_for_every_claim():
    homes, checks = equations.homes(), equations.checks()
    contents = [equations.chapter(path) for path in chapters.chapters()]
    groups = list(equations.rows(homes, checks, contents))
    shown = [label for group, _ in groups for label in group]
    assert [label for label in shown if label.isdigit()] == [str(n) for n in equations.NUMBERS]
    assert len(shown) == len(set(shown))
    assert {label for home in homes for label in home.labels} <= set(shown)
    table, sources = equations.table(homes, checks, contents), equations.sources(checks)
    for check in checks:
        assert f"(#{check.anchor})" in table
        assert sources.count(f"({check.anchor})=") == 1
