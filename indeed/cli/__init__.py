"""The command ``indeed``: denoise, adapt, decompose, detect, train, evaluate, info.

A fault is one line on the standard error stream and exit code 2; the other images of a batch are still done, and no
half-written file is left. An interrupt (Ctrl-C) ends with 130, SIGTERM with 143, after a training has saved its state.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO


class _Terminated(BaseException):
    """The process was asked to end (SIGTERM): scratch files go as the exception passes them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with the given arguments (default: those of the process) and return its exit code."""
    # OpenMP reads this when torch is loaded, so it stands before the imports. Threads that spin while they wait
    # slow down every other busy program on the machine, and are slowed down by it.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    _open_streams()
    with _terminable():
        try:
            code = _run(argv)
            sys.stdout.flush()
            return code
        except _Terminated:
            print("indeed: terminated", file=sys.stderr)
            return 128 + signal.SIGTERM
        except KeyboardInterrupt:
            print("indeed: interrupted", file=sys.stderr)
            return 130
        except BrokenPipeError:
            # the reader of the output has gone, as in `indeed info FILE | head`: no fault of the command
            _silence(sys.stdout)
            return 141
        except OSError as error:  # all others are told of where they happen: this is standard output on a full disk
            _silence(sys.stdout)
            print(f"indeed: standard output: {(error.strerror or str(error)).lower()}", file=sys.stderr)
            return 2


def _run(argv: Sequence[str] | None) -> int:
    import tyro

    from indeed.cli.adapt import Adapt
    from indeed.cli.decompose import Decompose
    from indeed.cli.denoise import Denoise
    from indeed.cli.detect import Detect
    from indeed.cli.evaluate import Evaluate
    from indeed.cli.faults import Faults
    from indeed.cli.info import Info
    from indeed.cli.train import Train
    from indeed.learning.distributed import Preempted

    command = tyro.cli(Denoise | Adapt | Decompose | Detect | Train | Evaluate | Info, prog="indeed", args=argv)
    faults = Faults()
    if not 0 <= getattr(command, "seed", 0) < 2**32:
        print("indeed: seed: expected a number from 0 to 4294967295", file=sys.stderr)
        return 2
    try:
        with faults.reported():
            command.run(faults)
    except Preempted:
        print("indeed: terminated; the run is saved, continue it with --resume", file=sys.stderr)
        return 128 + signal.SIGTERM
    return 2 if faults.count else 0


def _open_streams() -> None:
    """Have all standard streams, also where the shell has closed one; names of any bytes can be written to them."""
    for handle in range(3):
        try:
            os.fstat(handle)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free one, which is this
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or Path(os.devnull).open("w", encoding="utf-8")
        setattr(sys, name, stream)
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _silence(stream: TextIO) -> None:
    """Let what is still to be written to a stream go nowhere."""
    with suppress(OSError, ValueError):  # a stream without a file, as in tests
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM raises `_Terminated`; only a main thread can ask for that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(*_: object) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
