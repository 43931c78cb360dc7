"""The MyST of the chapters, read: blocks, and what every label and every citation stands for."""

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import chapters
import yaml
from markdown_it.renderer import RendererHTML
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser
from pybtex.database import BibliographyData, parse_file
from pybtex.plugin import find_plugin

CONFIG = chapters.ROOT / "_config.yml"


class Target(NamedTuple):
    """What a reference leads to: the page, and what the reference says."""

    page: str
    text: str


class Piece(NamedTuple):
    """A block of MyST, or the prose between two: its kind, the text before it on its line, its first line, its text."""

    kind: str
    prefix: str
    info: str
    text: str


@cache
def config() -> Any:
    """Return the configuration of the book."""
    return yaml.safe_load(CONFIG.read_text(encoding="utf-8"))


@cache
def _parser() -> Any:
    return create_md_parser(
        MdParserConfig(enable_extensions=set(config()["parse"]["myst_enable_extensions"])), RendererHTML
    )


def pieces(text: str) -> Iterator[Piece]:
    """Cut a text into blocks that Markdown does not know, blocks of code, and the prose between them."""
    lines, at = text.split("\n"), 0
    kinds = {"fence", "colon_fence", "math_block", "math_block_label", "amsmath", "myst_target", "myst_line_comment"}
    for token in _parser().parse(text):
        if token.type in kinds and token.map[0] >= at:
            begin, end = token.map
            if begin > at:
                yield Piece("prose", "", "", "\n".join(lines[at:begin]))
            # In an item of a list, the block is as far in as the text of the item.
            prefix = re.match(r"(?:\s*(?:[-*+>]|\d+[.)])(?=\s))*\s*", lines[begin])
            yield Piece(token.type, prefix[0] if prefix else "", token.info.strip(), token.content)
            at = end
    if at < len(lines):
        yield Piece("prose", "", "", "\n".join(lines[at:]))


def directive(piece: Piece) -> tuple[str, str, dict[str, str], str]:
    """Return name, argument, options and body of a directive; the name of plain code is empty."""
    match = re.fullmatch(r"\{([\w:.+-]+)\}\s*(.*)", piece.info)
    if piece.kind not in {"fence", "colon_fence"} or not match:
        return "", "", {}, piece.text
    lines, options = piece.text.split("\n"), {}
    while lines and (option := re.fullmatch(r"\s*:([\w-]+):\s*(.*)", lines[0])):
        options[option[1]] = option[2]
        del lines[0]
    return match[1], match[2], options, "\n".join(lines).strip("\n")


# -- what references lead to ------------------------------------------------------------------------------------------


@cache
def numbers_of_pages() -> dict[str, int]:
    """Return the numbers of the chapters: those of the parts that are numbered, through all of them."""
    contents = yaml.safe_load((chapters.BOOK / "_toc.yml").read_text(encoding="utf-8"))
    parts = [part for part in contents["parts"] if part.get("numbered")]
    files = [entry["file"] for part in parts for entry in part["chapters"]]
    return {file: number for number, file in enumerate(files, 1)}


@cache
def title(page: str) -> str:
    """Return the title of a page."""
    found = re.search(r"^# +(.*)", (chapters.BOOK / f"{page}.md").read_text(encoding="utf-8"), flags=re.M)
    return found[1].strip() if found else page


@cache
def targets() -> dict[str, Target]:
    """Return what every label of the book stands for, numbered as Sphinx does.

    Equations, figures and exercises are counted within a numbered chapter, and through all pages without a number.
    """
    found: dict[str, Target] = {}
    counts: Counter[tuple[str, int | None]] = Counter()

    def number(page: str, kind: str, label: str, form: str) -> None:
        chapter = numbers_of_pages().get(page)
        counts[kind, chapter] += 1
        own = str(counts[kind, chapter])
        found[label] = Target(page, form.format(own if chapter is None else f"{chapter}.{own}"))

    def walk(page: str, text: str) -> None:
        waiting: list[str] = []  # labels of the heading that comes
        for piece in pieces(text):
            name, _, options, body = directive(piece)
            label = options.get("label", options.get("name", ""))
            if piece.kind == "myst_target":
                waiting.append(piece.text)
            elif piece.kind == "prose":
                heading = re.match(r"\s*#+ +(.*)", piece.text)
                found.update({label: Target(page, heading[1].strip()) for label in waiting if heading})
                waiting = []
            elif piece.kind == "math_block_label":
                number(page, "equation", piece.info, "({})")
            elif name == "math" and label:
                number(page, "equation", label, "({})")
            elif name in {"exercise", "exercise-start"}:
                number(page, "exercise", label, "Exercise {}")
            elif name in {"figure", "table", "list-table"} and label:
                number(page, name[-6:], label, "Fig. {}" if name == "figure" else "Table {}")
            elif name.startswith("prf:") and label:
                number(page, name, label, f"{name.removeprefix('prf:').capitalize()} {{}}")
            if name not in {"", "code-block", "math", "raw"}:
                walk(page, body)

    for path in chapters.pages():
        for cell in chapters.notebook(path).cells:
            figure = cell.metadata.get("mystnb", {}).get("figure", {})
            if cell.cell_type == "markdown":
                walk(path.stem, cell.source)
            elif "name" in figure:
                number(path.stem, "figure", figure["name"], "Fig. {}")
    return found


@cache
def bibliography() -> BibliographyData:
    """Return the entries of the book's bibliography."""
    return parse_file(chapters.BOOK / "references.bib")


def authors(key: str) -> tuple[str, str]:
    """Return whom to name for an entry, "Wang et al.", and its year."""
    entry = bibliography().entries[key]
    names = [" ".join(part.render_as("text") for part in person.rich_last_names) for person in entry.persons["author"]]
    shown = f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
    return shown, entry.fields.get("year", "no year")


def sources(keys: list[str]) -> str:
    """Return the entries as a list in Markdown."""
    style = find_plugin("pybtex.style.formatting", "plain")(sorting="author_year_title")
    entries = style.format_bibliography(bibliography(), keys)
    return "\n".join("- " + re.sub(r"([*_$<])", r"\\\1", entry.text.render_as("text")) for entry in entries)
