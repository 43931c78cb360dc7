"""What the build of the book takes care of, and what `make lab` does to a reader's notebooks."""

import importlib.util
import json
import subprocess

import chapters
import export
import nbformat
import pytest

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
"""


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Return book/build.py, looking at a small repository."""
    spec = importlib.util.spec_from_file_location("book_build", chapters.BOOK / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    read = ["indeed/bayes/elbo.py", "results/measured/cpu/x.csv", "constraints.txt"]
    for name in (*read, "_config.yml", "book/a.md", "tests/test_a.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    return module


@pytest.mark.parametrize("name", ["indeed/bayes/elbo.py", "results/measured/cpu/x.csv", "constraints.txt"])
def test_the_fingerprint_changes_with_what_a_chapter_reads(build, name):
    before = build.fingerprint(build.inputs())
    (build.ROOT / name).write_text("2")
    assert build.fingerprint(build.inputs()) != before


def test_the_fingerprint_changes_with_a_new_file_and_with_the_data_folder(build, monkeypatch):
    monkeypatch.delenv("INDEED_DATA", raising=False)
    seen = {build.fingerprint(build.inputs())}
    (build.ROOT / "indeed" / "types.py").write_text("1")
    seen.add(build.fingerprint(build.inputs()))
    monkeypatch.setenv("INDEED_DATA", "elsewhere")
    seen.add(build.fingerprint(build.inputs()))
    assert len(seen) == 3


def test_the_fingerprint_does_not_change_with_an_executed_notebook(build):
    before = build.fingerprint(build.inputs())
    (build.ROOT / "results" / "notebooks").mkdir()
    (build.ROOT / "results" / "notebooks" / "x.ipynb").write_text("1")
    assert build.fingerprint(build.inputs()) == before


@pytest.fixture
def built(build, monkeypatch):
    """Return book/build.py after one build: chapters fill the cache, and the builder writes one page."""
    root = build.ROOT / "_build"
    build.calls, build.code, build.well = [], 0, True

    def run_chapters(profile):
        build.calls.append((root / ".jupyter_cache").is_dir())
        (root / ".jupyter_cache").mkdir(exist_ok=True)
        return build.well

    def builder(command, **_):
        (root / "html").mkdir()
        (root / "html" / "index.html").write_text("page")
        return subprocess.CompletedProcess(command, build.code)

    monkeypatch.setattr(build, "run_chapters", run_chapters)
    monkeypatch.setattr(build, "differences", lambda profile: {})
    monkeypatch.setattr(build.subprocess, "run", builder)
    assert build.main() == 0
    return build


def test_nothing_is_built_where_nothing_has_changed(built):
    assert built.main() == 0
    assert len(built.calls) == 1


@pytest.mark.parametrize("name", ["book/a.md", "_config.yml", "tests/test_a.py"])
def test_an_edit_of_a_page_is_built_with_the_cache(built, name):
    (built.ROOT / name).write_text("2")
    assert built.main() == 0
    assert built.calls == [False, True]


@pytest.mark.parametrize("name", ["indeed/bayes/elbo.py", "results/measured/cpu/x.csv", "constraints.txt"])
def test_an_edit_of_what_chapters_read_is_built_without_the_cache(built, name):
    (built.ROOT / name).write_text("2")
    assert built.main() == 0
    assert built.calls == [False, False]


def test_a_build_that_failed_fails_again(built):
    (built.ROOT / "book" / "a.md").write_text("2")
    built.code = 1
    assert [built.main(), built.main()] == [1, 1]
    assert len(built.calls) == 3


def test_no_page_is_made_where_a_chapter_failed(built):
    (built.ROOT / "book" / "a.md").write_text("2")
    built.well = False
    assert built.main() == 1
    assert not (built.ROOT / "_build" / "html").exists()


def test_the_smallest_size_has_a_folder_of_its_own(built):
    assert built.folder("cpu") == built.ROOT / "_build"
    assert built.folder("smoke").is_relative_to(built.ROOT / "_build" / "smoke")


@pytest.fixture
def chapter(tmp_path, monkeypatch):
    path = tmp_path / "book" / "question.md"
    path.parent.mkdir()
    path.write_text(CHAPTER)
    monkeypatch.setattr(chapters, "chapters", lambda: [path])
    return path


def test_a_chapter_becomes_a_notebook_with_its_parameters(chapter, tmp_path):
    export.write_notebooks(tmp_path / "lab")
    notebook = json.loads((tmp_path / "lab" / "question.ipynb").read_text())
    assert notebook["cells"][1]["metadata"]["tags"] == ["parameters"]


def test_a_notebook_has_the_published_numbers_in_its_prose(chapter, tmp_path, monkeypatch):
    monkeypatch.setattr(chapters, "NOTEBOOKS", tmp_path)
    chapter.write_text(CHAPTER + "\nIt has {glue:text}`question_psnr` dB and {glue:text}`question_unknown`.\n")
    data = {"application/papermill.record/text/plain": "'28.80'"}
    glued = nbformat.v4.new_output("display_data", data, metadata={"scrapbook": {"name": "question_psnr"}})
    published = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("record", outputs=[glued])])
    nbformat.write(published, tmp_path / "question.ipynb")
    export.write_notebooks(tmp_path / "lab")
    last = json.loads((tmp_path / "lab" / "question.ipynb").read_text())["cells"][-1]
    assert "".join(last["source"]).endswith("It has 28.80 dB and {glue:text}`question_unknown`.")


def test_an_untouched_notebook_follows_its_chapter(chapter, tmp_path):
    export.write_notebooks(tmp_path / "lab")
    chapter.write_text(CHAPTER.replace("cpu", "paper"))
    export.write_notebooks(tmp_path / "lab")
    assert "paper" in (tmp_path / "lab" / "question.ipynb").read_text()


def test_an_edited_notebook_is_kept_and_its_reader_told_when_the_chapter_changes(chapter, tmp_path, capsys):
    target = tmp_path / "lab" / "question.ipynb"
    export.write_notebooks(target.parent)
    mine = target.read_text().replace("A question", "My notes")
    target.write_text(mine)
    export.write_notebooks(target.parent)
    assert capsys.readouterr().out == ""
    chapter.write_text(CHAPTER.replace("cpu", "paper"))
    export.write_notebooks(target.parent)
    assert target.read_text() == mine
    assert "Kept" in capsys.readouterr().out
