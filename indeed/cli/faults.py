"""Faults of a run: one line each, and the other images are still done."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from indeed.data.folders import shown


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
        except ExceptionGroup as group:
            for error in group.exceptions:
                with self.reported(path):
                    raise error from None
        except (ValueError, OSError, RuntimeError, MemoryError, ModuleNotFoundError) as error:
            self.count += 1
            message = str(error) or type(error).__name__
            if isinstance(error, OSError) and error.strerror:
                # decoders and torch give the name as bytes or not at all
                name = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else error.filename
                message = ": ".join(str(part) for part in (name, error.strerror.lower()) if part)
            if path is not None and str(path) not in message:
                message = f"{path}: {message}"
            # One line, whatever is in the name of a file.
            print(f"indeed: {' '.join(shown(message).split())[:1000]}", file=sys.stderr)
