"""Errors speak one dialect: ``name: got X, expected Y``, where the name is that of an argument or a file."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "indeed"


def words(text: ast.expr) -> str:
    """Text with a mark in the place of each value."""
    if isinstance(text, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "@" for part in text.values)
    return str(text.value) if isinstance(text, ast.Constant) else ""


def messages(source: str) -> list[tuple[str, str]]:
    """Name of the exception and message of each raise."""
    return [
        (ast.unparse(node.exc.func), words(node.exc.args[0]))
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args
    ]


def strange(source: str) -> list[str]:
    """Messages in another dialect."""
    return [
        message
        for error, message in messages(source)
        if " must " in message or (error == "ValueError" and not (": " in message and "expected " in message))
    ]


@pytest.mark.parametrize(
    "message", ['"rank must be positive"', 'f"rank must be positive, got {rank}"', '"rank: is odd"']
)
def test_another_dialect_is_found(message):
    assert strange(f"raise ValueError({message})")


def test_the_dialect_is_not_found_strange():
    assert not strange('raise ValueError(f"rank: got {rank}, expected at least 1")')


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_errors_speak_one_dialect(path):
    assert strange(path.read_text(encoding="utf-8")) == []
