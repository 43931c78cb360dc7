"""The command ``indeed``: denoise, adapt, decompose, detect, train, evaluate, info.

A fault is one line on the standard error stream and exit code 2; the other images of a batch are still done, and no
half-written file is left. An interrupt (Ctrl-C) ends with 130, SIGTERM during a training with 143.
"""

import os
import signal
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with the given arguments (default: those of the process) and return its exit code."""
    # OpenMP reads this when torch is loaded, so it stands before the imports. Threads that spin while they wait
    # slow down every other busy program on the machine, and are slowed down by it.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

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
        sys.stdout.flush()
    except Preempted:
        print("indeed: terminated; the run is saved, continue it with --resume", file=sys.stderr)
        return 128 + signal.SIGTERM
    except KeyboardInterrupt:
        print("indeed: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # the reader of the output has closed it, as in `indeed info FILE | head`: no fault of the command
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 2 if faults.count else 0
