"""Stacks on the command line: worked off plane by plane, or one plane of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from indeed.checks import expect
from indeed.data.picture import Picture
from indeed.data.stacks import TiffStack, opened_stack
from indeed.data.white import Reader


@contextmanager
def opened(path: Path, reader: Reader, page: int | None) -> Iterator[TiffStack | Picture]:
    """Open a stack; or give the picture that a file holds, or that ``page``, from 1 on, takes from a stack.

    Raises
    ------
    ImageFileError
        As :func:`indeed.data.image_files.read_image`.
    ValueError
        If there is no such page.
    """
    if reader.channels is not None:  # they are those of a picture, and a stack is refused
        yield reader(path)
        return
    with opened_stack(path, white=reader.number) as stack:
        count = 1 if stack is None else len(stack)
        expect(page is None or 1 <= page <= count, "page", page, f"1 to {count}, the pictures of {path}")
        if stack is None:
            yield reader(path)
        elif page is not None:
            yield reader.noted(stack[page - 1])
        else:
            yield stack
