"""Faults of a run: one line each, and the other images are still done."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Faults:
    """Faults so far: each is reported by one line, and the work goes on."""

    def __init__(self) -> None:
        self.count = 0

    @contextmanager
    def reported(self, path: Path | None = None) -> Iterator[None]:
        """Report what goes wrong inside; `path` is named if the message does not do so itself."""
        try:
            yield
        except BrokenPipeError:
            raise
        except (ValueError, OSError, RuntimeError, MemoryError, ModuleNotFoundError) as error:
            self.count += 1
            message = " ".join(str(error).split()) or type(error).__name__
            if isinstance(error, OSError) and error.strerror:
                message = ": ".join(str(part) for part in (error.filename, error.strerror.lower()) if part)
            if path is not None and str(path) not in message:
                message = f"{path}: {message}"
            print(f"indeed: {message[:400]}", file=sys.stderr)
