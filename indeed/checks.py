"""Checks of arguments, in one dialect of messages: ``name: got X, expected Y``."""

from collections.abc import Iterable

from torch import Tensor


def expect(holds: object, name: str, got: object, expected: str) -> None:
    """Raise the `ValueError` of an argument, unless what is expected of it holds.

    >>> expect(2 % 2 == 1, "kernel_size", 2, "an odd number")
    Traceback (most recent call last):
    ValueError: kernel_size: got 2, expected an odd number
    """
    if not holds:
        raise ValueError(f"{name}: got {got}, expected {expected}")


def at_least(least: float, **values: float) -> None:
    """Raise a `ValueError` that names the first value below the least one, or that is not a number."""
    for name, value in values.items():
        expect(value >= least, name, value, f"at least {least}")


def one_of(options: Iterable[object], **values: object) -> None:
    """Raise a `ValueError` that names the first value that is none of the options."""
    options = tuple(options)
    for name, value in values.items():
        expect(value in options, name, repr(value), f"one of {', '.join(map(str, options))}")


def finite(**values: Tensor) -> None:
    """Raise a `ValueError` that names the first tensor with a value that is not finite."""
    for name, value in values.items():
        expect(bool(value.isfinite().all()), name, "NaN or infinite values", "finite ones")
