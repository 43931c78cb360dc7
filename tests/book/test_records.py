"""What `make records` commits: numbers that a run confirms stand, and notebooks have nothing random in them."""

import random
import subprocess

import build
import chapters
import nbformat
import pytest
import records
from nbformat import v4

from indeed import record

STATE = "application/vnd.jupyter.widget-state+json"


def executed(seed: int) -> nbformat.NotebookNode:
    """An executed notebook with a styled table, an object without a text and two widgets, named at random."""
    draw = random.Random(seed)
    table, layout, image = f"T_{draw.randrange(16**5):05x}", *(f"{draw.randrange(16**32):032x}" for _ in range(2))
    html = f'<style>#{table}_row0 {{}}</style><table id="{table}"><td id="{table}_row0_col1"></td></table>'
    plain = f"<Styler at 0x{draw.randrange(2**40):x}>"
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": image}}
    cells = [
        v4.new_code_cell("style", outputs=[v4.new_output("display_data", {"text/html": html, "text/plain": plain})]),
        v4.new_code_cell("show", outputs=[v4.new_output("display_data", view)]),
        v4.new_code_cell("show"),
    ]
    cells[0].metadata["execution"] = {"iopub.execute_input": f"2026-01-01T00:00:{draw.randrange(60)}"}
    state = {layout: {"state": {}}, image: {"state": {"layout": f"IPY_MODEL_{layout}"}}}
    return v4.new_notebook(cells=cells, metadata={"widgets": {STATE: {"state": state}}})


def test_two_runs_with_the_same_results_are_the_same_bytes():
    first, second = (nbformat.writes(records.deterministic(executed(seed))) for seed in (1, 2))
    assert first == second
    assert " at 0x" not in first
    assert "iopub" not in first


def test_what_belongs_together_has_the_same_name_still():
    notebook = records.deterministic(executed(3))
    nbformat.validate(notebook)
    assert len({cell.id for cell in notebook.cells}) == 3
    html = notebook.cells[0].outputs[0].data["text/html"]
    assert html == '<style>#T_00000_row0 {}</style><table id="T_00000"><td id="T_00000_row0_col1"></td></table>'
    state = notebook.metadata.widgets[STATE].state
    shown = notebook.cells[1].outputs[0].data["application/vnd.jupyter.widget-view+json"].model_id
    (layout,) = set(state) - {shown}
    assert state[shown].state.layout == f"IPY_MODEL_{layout}"


def test_a_second_run_changes_nothing_unless_code_or_a_number_has_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "ROOT", tmp_path)
    monkeypatch.setattr(chapters, "MEASURED", tmp_path / "measured")
    monkeypatch.setattr(chapters, "chapters", lambda: [tmp_path / "question.md"])
    monkeypatch.setattr(chapters, "NOTEBOOKS", tmp_path)
    runs = iter(range(10))
    measured, last = 28.0, "1"

    def execute_all(jobs, ledger, done):
        for job in jobs:
            assert job.environment == {"INDEED_DATA": "none"}
            run = next(runs)
            recorder = record.Recorder("question", job.parameters["profile"], 0, folder=job.records)
            recorder.add("psnr", measured + run / 1000, tolerance=0.01)
            notebook = executed(run)
            notebook.cells[0].outputs[0].data["text/html"] += f"{run} seconds"
            notebook.cells[2].source = last
            done(job, notebook)
        return True

    monkeypatch.setattr(records, "execute_all", execute_all)

    def written():
        assert records.main() == 0
        files = [*(tmp_path / "measured").rglob("*.*"), tmp_path / "question.ipynb"]
        return {file.relative_to(tmp_path).as_posix(): file.read_bytes() for file in files}

    first = written()
    assert len(first) == 5
    assert written() == first
    last = "2"  # other code, the same numbers
    second = written()
    assert {name for name in first if first[name] != second[name]} == {"question.ipynb"}
    measured = 29.0
    third = written()
    assert {name for name in first if second[name] != third[name]} >= {"question.ipynb", "measured/cpu/question.csv"}


@pytest.mark.skipif(not (chapters.ROOT / ".git").exists(), reason="not a git repository")
def test_the_notebooks_are_marked_as_generated():
    command = ["git", "check-attr", "linguist-generated", "diff", "--", "results/notebooks/x.ipynb"]
    shown = subprocess.run(command, cwd=chapters.ROOT, capture_output=True, text=True, check=True).stdout
    assert "linguist-generated: set" in shown
    assert "diff: unset" in shown
