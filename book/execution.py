"""Executing chapters with papermill: one, or several side by side."""

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
from chapters import notebook

CELL_SECONDS = 2400  # what a busy laptop may need for one cell

# As many chapters run at once as there are cores, so each has one thread; its numbers then do not depend on how many
# cores there are. Threads that wait sleep: OpenMP programs that wait actively take the cores from each other. Beside
# other jobs a training step ran 1.0 times a second by default, 5.4 times with this setting; alone it costs 1 to 5 %.
THREADS = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}


class Job(NamedTuple):
    """A chapter to execute: where its notebook and its numbers go, and which parameters differ from the chapter's."""

    chapter: Path
    output: Path
    records: Path
    parameters: Mapping[str, Any]
    environment: Mapping[str, str] = {}


def execute(job: Job) -> nbformat.NotebookNode:
    """Run a chapter with papermill and return the executed notebook.

    Raises ValueError for a parameter that the chapter's ``parameters`` cell does not have, and papermill's error, with
    the traceback in it, where a cell fails.
    """
    import papermill

    chapter, output = job.chapter, job.output
    output.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook(chapter), output)
    known = papermill.inspect_notebook(output)
    unknown = sorted(set(job.parameters) - set(known))
    if unknown:
        output.unlink()
        raise ValueError(f"{chapter.name} has no parameter {', '.join(unknown)}; it has {', '.join(known) or 'none'}")
    before = dict(os.environ)
    os.environ.update({**THREADS, **before, **job.environment})  # a setting of the user's wins
    os.environ["INDEED_RECORDS"] = str(job.records.resolve())
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # the kernel's debugger would warn in the middle of the log
    try:
        executed = papermill.execute_notebook(
            output,
            output,
            dict(job.parameters),
            kernel_name="python3",
            cwd=chapter.parent,
            progress_bar=False,
            log_output=False,
            execution_timeout=CELL_SECONDS,
        )
    finally:
        os.environ.clear()
        os.environ.update(before)
    # Its own metadata hold paths and times of this machine, which belong in no record.
    for part in (executed, *executed.cells):
        part.metadata.pop("papermill", None)
    nbformat.write(executed, output)
    return executed


def execute_all(
    jobs: Sequence[Job], ledger: Path, done: Callable[[Job, nbformat.NotebookNode], None] = lambda job, executed: None
) -> bool:
    """Run chapters side by side, as many as there are cores, the longest first; return whether all went well.

    ``ledger`` keeps how long each took the last time. ``done`` is called here, one chapter at a time. Where a chapter
    fails its traceback is printed, and the others go on.
    """
    took = json.loads(ledger.read_text()) if ledger.is_file() else {}
    # One that has never run here: as if it were longer than all others, the one with the longer text first.
    order = sorted(jobs, key=lambda job: (took.get(_name(job), 1e9), job.chapter.stat().st_size), reverse=True)
    failed = False
    workers = max(1, min(len(jobs), os.cpu_count() or 1))
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for future in as_completed([pool.submit(_attempt, job) for job in order]):
            job, seconds, executed, error = future.result()
            if executed is None:
                failed = True
                print(f"{_name(job)} failed after {seconds:.0f} s\n{error}", flush=True)
            else:
                print(f"{_name(job)} took {seconds:.0f} s", flush=True)
                done(job, executed)
                took[_name(job)] = round(seconds, 1)
    ledger.parent.mkdir(parents=True, exist_ok=True)
    ledger.write_text(json.dumps(took, indent=1))
    return not failed


def is_injected(cell: nbformat.NotebookNode) -> bool:
    """Tell whether papermill has added a cell, to set parameters."""
    return "injected-parameters" in cell.metadata.get("tags", [])


def _name(job: Job) -> str:
    return " ".join([job.chapter.stem, *map(str, job.parameters.values())])


def _attempt(job: Job) -> tuple[Job, float, nbformat.NotebookNode | None, str]:
    began = time.monotonic()
    try:
        executed, error = execute(job), ""
    except Exception as problem:  # as text: not every error of papermill survives the way to another process
        executed, error = None, f"{type(problem).__name__}: {problem}"
    return job, time.monotonic() - began, executed, error
