"""Chapters are executed side by side, and what they did is found again by the builder of the pages."""

import json
import os
from pathlib import Path

import build
import chapters
import execution
import papermill
import pytest
from execution import Job
from nbformat import v4

CHAPTER = """---
jupytext:
  text_representation: {extension: .md, format_name: myst}
kernelspec: {display_name: Python 3, language: python, name: python3}
---

# A question

```{code-cell} ipython3
:tags: [parameters]
profile = "cpu"
```

```{code-cell} ipython3
import os
from pathlib import Path

Path(os.environ["INDEED_RECORDS"], "NAME " + profile).write_text(os.environ["OMP_NUM_THREADS"])
print(os.environ["OMP_WAIT_POLICY"])
LAST
```
"""


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A book of three chapters, of which the second fails; its builder looks at it."""
    monkeypatch.setattr(build, "ROOT", tmp_path)
    (tmp_path / "_build" / "smoke" / "_build" / "records").mkdir(parents=True)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    paths = []
    for name, last in {"one": "1", "two": "1 / 0", "three": "3"}.items():
        paths.append(tmp_path / f"{name}.md")
        paths[-1].write_text(CHAPTER.replace("NAME", name).replace("LAST", last))
    monkeypatch.setattr(chapters, "chapters", lambda: paths)
    return tmp_path


def test_a_chapter_that_fails_shows_its_traceback_and_the_others_are_kept(book, capsys):
    assert not build.run_chapters("smoke")
    shown = capsys.readouterr().out
    assert "two smoke failed after" in shown
    assert "ZeroDivisionError" in shown
    for name in ("one", "three"):
        assert f"{name} smoke took" in shown
        assert (build.folder("smoke") / "records" / f"{name} smoke").read_text() == "1", "threads of a chapter"
    assert "passive" in (build.folder("smoke") / "executed" / "one.ipynb").read_text()
    # Only what failed is executed again, and when it goes well nothing is.
    (book / "two.md").write_text((book / "two.md").read_text().replace("1 / 0", "2"))
    assert build.run_chapters("smoke")
    assert "one" not in capsys.readouterr().out
    assert build.run_chapters("smoke")
    assert capsys.readouterr().out == ""


def test_the_longest_chapter_starts_first(tmp_path, monkeypatch):
    began = []

    class Pool:
        def __init__(self, *_, **__): ...
        def __enter__(self):
            return self

        def __exit__(self, *_): ...
        def submit(self, attempt, job):
            began.append(job.chapter.stem)

    monkeypatch.setattr(execution, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(execution, "as_completed", lambda futures: [])
    jobs = []
    for name, text in {"short": "x", "long": "x", "new": "x", "new_and_long": "xx"}.items():
        (tmp_path / f"{name}.md").write_text(text)
        jobs.append(Job(tmp_path / f"{name}.md", tmp_path / "x.ipynb", tmp_path, {}))
    ledger = tmp_path / "seconds.json"
    ledger.write_text(json.dumps({"short": 1.5, "long": 20.0}))
    assert execution.execute_all(jobs, ledger)
    assert began == ["new_and_long", "new", "long", "short"]


def test_a_parameter_that_the_chapter_does_not_have_is_refused(tmp_path):
    job = Job(chapters.chapters()[0], tmp_path / "x.ipynb", tmp_path, {"porfile": "smoke"})
    with pytest.raises(ValueError, match="has no parameter porfile; it has profile"):
        execution.execute(job)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_what_was_executed_is_what_sphinx_looks_for(tmp_path):
    from jupyter_cache import get_cache
    from myst_nb.core.read import read_myst_markdown_notebook
    from myst_parser.config.main import MdParserConfig

    cache = get_cache(tmp_path)
    for chapter in chapters.chapters():
        text = Path(chapter).read_text(encoding="utf-8")
        read = read_myst_markdown_notebook(text, config=MdParserConfig(), add_source_map=True, path=chapter)
        ours, theirs = (cache.create_hashed_notebook(notebook)[1] for notebook in (chapters.notebook(chapter), read))
        assert ours == theirs, chapter


def test_a_setting_of_the_environment_reaches_the_chapter_and_leaves_with_it(tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(papermill, "execute_notebook", lambda *_, **__: seen.update(os.environ) or v4.new_notebook())
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.delenv("INDEED_RECORDS", raising=False)
    job = Job(chapters.chapters()[0], tmp_path / "x.ipynb", tmp_path, {}, {"INDEED_DATA": "none"})
    execution.execute(job)
    assert (seen["OMP_NUM_THREADS"], seen["INDEED_DATA"], seen["INDEED_RECORDS"]) == ("2", "none", str(tmp_path))
    assert "INDEED_RECORDS" not in os.environ
