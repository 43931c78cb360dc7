"""Chapters as notebooks that plain JupyterLab shows as the page does.

It knows no MyST: directives become Markdown and HTML, roles what the page shows in their place, the macros of formulas
what they stand for. ``python book/export.py`` writes the chapters to ``notebooks/`` for ``make lab``, and keeps what a
reader has edited there; the build does the same for the notebooks that the pages offer.
"""

import base64
import hashlib
import html
import json
import mimetypes
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from urllib.parse import quote

import chapters
import nbformat
from myst import Piece, Target, authors, config, directive, pieces, sources, targets, title

ADMONITIONS = """admonition attention caution danger error hint important note seealso tip warning topic margin sidebar
card grid-item-card""".split()
PROOFS = (
    "theorem lemma proposition corollary definition remark example proof algorithm property conjecture axiom".split()
)
CONTAINERS = "div container grid tab-set tab-item".split()
TEXT = r"\{([\w:.+-]+)\}(`+)(.+?)\2"  # a role


@cache
def notebooks() -> set[str]:
    """Return the names of the pages that are notebooks."""
    return {path.stem for path in chapters.chapters()}


class _Page:
    """A chapter on its way to a notebook: its numbers, what it has cited, and the solution that it stands in."""

    def __init__(self, name: str, numbers: Mapping[str, str]) -> None:
        self.name = name
        self.numbers = numbers
        self.cited: list[str] = []
        self.solution = ""
        self.begun = False  # whether something of the solution stands already

    def cell(self, text: str) -> str:
        """Convert the text of a cell; what of it belongs to a solution that began in a cell is folded."""
        parts: list[str] = []
        folded: list[str] = []
        for piece in pieces(text):
            name, argument, options, _ = directive(piece)
            into = folded if self.solution else parts
            if name == "solution-end":
                parts.append(self.fold(folded))
                self.solution, folded = "", []
            elif name == "solution-start":
                self.solution = self.solved(argument)
                self.begun = False
            elif name == "exercise-start":
                into.append(self.exercise(argument, options))
            elif name != "exercise-end":
                into.append(self.block(piece))
        parts.append(self.fold(folded))
        if self.solution and not self.begun:
            parts.append(f"**{self.solution}**, in folded cells:")
            self.begun = True
        return self.joined(parts)

    def fold(self, parts: list[str]) -> str:
        if not (body := self.joined(parts)):
            return ""
        summary = f"{self.solution}, continued" if self.begun else self.solution
        self.begun = True
        return self.details(summary, body)

    @staticmethod
    def joined(parts: list[str]) -> str:
        return re.sub(r"\n{3,}", "\n\n", "\n\n".join(part.strip("\n") for part in parts)).strip("\n")

    def text(self, text: str) -> str:
        """Convert a text of blocks and prose."""
        return "\n".join(self.block(piece) for piece in pieces(text))

    def block(self, piece: Piece) -> str:
        """Convert a block."""
        if piece.kind == "prose":
            return self.prose(piece.text)
        name, argument, options, body = directive(piece)
        if piece.kind in {"fence", "colon_fence"}:
            made = self.directive(name, argument, options, body) if name else f"```{piece.info}\n{body}\n```"
        elif piece.kind in {"math_block", "math_block_label"}:
            made = self.formula(piece.text, piece.info if piece.kind == "math_block_label" else "")
        elif piece.kind == "amsmath":
            made = self.formula(piece.text, "")
        else:  # targets and comments
            return ""
        inside = re.sub(r"[^\s>]", " ", piece.prefix)
        # Without empty lines around it Markdown would take the block for a part of the paragraph.
        lines = made.strip("\n").split("\n")
        first = piece.prefix + lines[0] if piece.prefix.strip() else f"\n{inside}{lines[0]}"
        return "\n".join([first, *(f"{inside}{line}".rstrip() for line in lines[1:]), ""])

    def directive(self, name: str, argument: str, options: dict[str, str], body: str) -> str:
        """Convert a directive.

        Raises ValueError for one that this module does not know.
        """
        kind = name.removeprefix("prf:")
        heading = self.prose(argument)
        if name == "dropdown" or (name in ADMONITIONS and "dropdown" in options.get("class", "")):
            return self.details(heading or name.capitalize(), self.text(body))
        if name in ADMONITIONS:
            return self.box(heading or (name.capitalize() if name in ADMONITIONS[1:10] else ""), self.text(body))
        if name.startswith("prf:") and kind in PROOFS:
            label = options.get("label", "")
            shown = targets()[label].text if label else kind.capitalize()
            return self.box(f"{shown} ({heading})" if heading else shown, self.text(body))
        if name == "exercise":
            return f"{self.exercise(argument, options)}\n\n{self.text(body)}"
        if name == "solution":
            return self.details(self.solved(argument), self.text(body))
        if name == "math":
            return self.formula(body, options.get("label", ""))
        if name in {"figure", "image"}:
            label = options.get("name", "")
            caption = self.text(body)
            shown = f"**{targets()[label].text}.** {caption}" if label else caption
            return f"{self.image(argument, options)}\n\n{shown}"
        if name in {"table", "list-table"}:
            label = options.get("name", "")
            shown = f"**{targets()[label].text}.** {heading}" if label else heading
            return f"{shown}\n\n{self.text(body) if name == 'table' else self.rows(body)}"
        if name in {"code", "code-block"}:
            return f"```{argument}\n{body}\n```"
        if name == "raw":
            return body if argument == "html" else ""
        if name in CONTAINERS:
            return self.text(body)
        raise ValueError(f"directive: got {name}, expected one that book/export.py can write as Markdown")

    def exercise(self, argument: str, options: Mapping[str, str]) -> str:
        return f"### {targets()[options['label']].text}{f' ({self.prose(argument)})' if argument else ''}"

    @staticmethod
    def solved(label: str) -> str:
        return f"Solution to {targets()[label].text}"

    @staticmethod
    def details(summary: str, body: str) -> str:
        return f"<details>\n<summary>{summary}</summary>\n\n{body.strip()}\n\n</details>"

    @staticmethod
    def box(heading: str, body: str) -> str:
        top = f"**{heading}**\n\n" if heading else ""
        return f'<div class="alert alert-block alert-info">\n\n{top}{body.strip()}\n\n</div>'

    def formula(self, tex: str, label: str) -> str:
        tag = f"\n\\tag{{{targets()[label].text.strip('()')}}}" if label else ""
        return f"$$\n{self.expanded(tex).strip()}{tag}\n$$"

    @staticmethod
    def image(path: str, options: Mapping[str, str]) -> str:
        file = chapters.BOOK / path
        data = f"data:{mimetypes.guess_type(file)[0]};base64,{base64.b64encode(file.read_bytes()).decode()}"
        return f'<img alt="{html.escape(options.get("alt", ""))}" src="{data}">'

    def rows(self, body: str) -> str:
        """Write the items of a list-table as a table; the first row is its head."""
        rows = [re.split(r"\n\s+- ", row) for row in re.split(r"^\* - ", body, flags=re.M)[1:]]
        lines = ["| " + " | ".join(" ".join(self.prose(cell).split()) for cell in row) + " |" for row in rows]
        return "\n".join([*lines[:1], "|---" * len(rows[0]) + "|", *lines[1:]])

    # -- within a line

    def prose(self, text: str) -> str:
        """Convert roles, links and formulas within paragraphs."""
        # A number at the start of a line, "1." say, would begin a list.
        text = re.sub(r"(?<=\S)\n[ \t]*(?=\{glue:)", " ", text)
        text = re.sub(TEXT, lambda match: self.role(match[1], match[3].replace("\n", " "), match[0]), text, flags=re.S)
        text = re.sub(r"\[([^][]*)\]\(([\w-]+)\.md(?:#[^)]*)?\)", lambda match: self.page(match[2], match[1]), text)
        return self.expanded(text)

    @staticmethod
    def expanded(tex: str) -> str:
        """Write out the macros of the book."""
        macros = config()["sphinx"]["config"]["mathjax3_config"]["tex"]["macros"]
        return re.sub(rf"\\({'|'.join(macros)})(?![A-Za-z])", lambda match: macros[match[1]], tex)

    def role(self, name: str, content: str, source: str) -> str:
        """Return what a role shows.

        Raises ValueError for one that this module does not know, or that leads nowhere.
        """
        explicit = re.fullmatch(r"(.*?)\s*<([^<>]*)>", content)
        shown, target = (explicit[1], explicit[2]) if explicit else ("", content)
        if name == "glue:text":
            return self.numbers.get(content, source)
        if name == "doc":
            return self.page(target, shown)
        if name in {"ref", "numref", "eq", "prf:ref"}:
            if target not in targets():
                raise ValueError(f"{name}: got {target}, expected a label of the book")
            return self.link(targets()[target], shown)
        if name.startswith("cite"):
            return self.citation(name, [key.strip() for key in content.split(",")])
        if name == "math":
            return f"${content}$"
        if name in {"term", "abbr"}:
            return shown or content
        if name in {"sub", "sup", "kbd"}:
            return f"<{name}>{content}</{name}>"
        if name.startswith("py:"):
            return f"`{target.rpartition('.')[2] if target.startswith('~') else target}`"
        raise ValueError(f"role: got {name}, expected one that book/export.py can write as Markdown")

    def page(self, page: str, shown: str) -> str:
        """Name another page, with a link where it is a notebook too."""
        name = page.removesuffix(".md")
        shown = shown or title(name)
        return f"[{shown}]({name}.ipynb)" if name in notebooks() else f"*{shown}*"

    def link(self, target: Target, shown: str) -> str:
        shown = shown or target.text
        if target.page != self.name:
            return self.page(target.page, shown)
        section = not re.match(r"\(\d|(Fig|Exercise|Table)\b", target.text)
        # JupyterLab's name of a heading
        return f"[{shown}](#{quote(target.text.replace(' ', '-'))})" if section else shown

    def citation(self, name: str, keys: list[str]) -> str:
        self.cited += [key for key in keys if key not in self.cited]
        if name == "cite:t":
            return " and ".join("{} ({})".format(*authors(key)) for key in keys)
        return f"({'; '.join(', '.join(authors(key)) for key in keys)})"


def install() -> list[nbformat.NotebookNode]:
    """Return the cells that a notebook begins with on Colab; none where the book names no repository.

    A notebook that is opened there has neither the library nor its published results.
    """
    repository = config().get("repository", {})
    if not (url := repository.get("url")):
        return []
    code = f"""# Where the library is not installed, as on Colab, this fetches the project.
import importlib.util
import sys

if importlib.util.find_spec("indeed") is None:
    !git clone --quiet --depth 1 --branch {repository.get("branch", "main")} {url} project
    %pip install --quiet ./project
    sys.path.insert(0, "project")"""
    return [nbformat.v4.new_code_cell(code, metadata={"jupyter": {"source_hidden": True}})]


def colab(page: str) -> str:
    """Return the address at which Colab opens a chapter, or nothing where the book names no repository.

    Colab opens what is on GitHub: the executed notebook of ``results/notebooks``.
    """
    repository = config().get("repository", {})
    place = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?", repository.get("url") or "")
    if not place:
        return ""
    branch = repository.get("branch", "main")
    return f"https://colab.research.google.com/github/{place[1]}/blob/{branch}/results/notebooks/{page}.ipynb"


def readable(notebook: nbformat.NotebookNode, name: str, numbers: Mapping[str, str]) -> nbformat.NotebookNode:
    """Return a chapter's notebook, executed or not, in plain Markdown, with the numbers in its prose."""
    page, cells = _Page(name, numbers), install()
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            if text := page.cell(cell.source):
                cells.append(nbformat.v4.new_markdown_cell(text, metadata=cell.metadata))
            continue
        copy = nbformat.from_dict(cell)
        cells.append(copy)
        hidden = {tag for tag in cell.metadata.get("tags", []) if tag in {"hide-input", "remove-input", "hide-cell"}}
        if hidden or page.solution:
            folded = {"source_hidden": True} | ({"outputs_hidden": True} if page.solution else {})
            copy.metadata["jupyter"] = folded
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        if "caption" in figure:
            start = f"**{targets()[figure['name']].text}.** " if "name" in figure else ""
            cells.append(nbformat.v4.new_markdown_cell(start + page.text(figure["caption"]).strip()))
    if page.cited:
        cells.append(nbformat.v4.new_markdown_cell(f"## Cited here\n\n{sources(page.cited)}"))
    return nbformat.v4.new_notebook(cells=cells, metadata=notebook.metadata)


def with_outputs(notebook: nbformat.NotebookNode, executed: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Give the cells of a chapter the outputs of an executed one, where their code is the same."""
    ran: dict[str, list[nbformat.NotebookNode]] = {}
    for cell in reversed(executed.cells):
        ran.setdefault(cell.source, []).append(cell)
    for cell in notebook.cells:
        if cell.cell_type == "code" and ran.get(cell.source):
            same = ran[cell.source].pop()
            cell.outputs, cell.execution_count = same.outputs, same.execution_count
    notebook.metadata |= {name: executed.metadata[name] for name in ("widgets",) if name in executed.metadata}
    return notebook


# -- the folder of a reader -------------------------------------------------------------------------------------------


def write_notebooks(folder: Path = chapters.ROOT / "notebooks") -> None:
    """Write the chapters as notebooks; one that was edited or run by its reader is kept as it is."""
    folder.mkdir(exist_ok=True)
    ledger = folder / ".generated.json"
    written = json.loads(ledger.read_text()) if ledger.is_file() else {}
    for chapter in chapters.chapters():
        target = folder / f"{chapter.stem}.ipynb"
        fresh, published, numbers = chapters.notebook(chapter), chapters.NOTEBOOKS / target.name, {}
        if published.is_file():
            executed = nbformat.read(published, nbformat.NO_CONVERT)
            fresh, numbers = with_outputs(fresh, executed), chapters.shown(executed)
        text = nbformat.writes(readable(fresh, chapter.stem, numbers))
        if target.is_file() and _hash(target.read_text(encoding="utf-8")) != written.get(target.name):
            if written.get(f"{target.name} from") != _hash(text, ids=False):
                print(f"Kept {target}, which you changed; the chapter has changed too. Remove it for a fresh copy.")
            continue
        target.write_text(text, encoding="utf-8")
        written |= {target.name: _hash(text), f"{target.name} from": _hash(text, ids=False)}
    ledger.write_text(json.dumps(written, indent=1))


def _hash(text: str, ids: bool = True) -> str:
    # Cell ids are drawn anew at each conversion.
    if not ids:
        text = json.dumps([[cell["cell_type"], cell["source"]] for cell in json.loads(text)["cells"]])
    return hashlib.sha256(text.encode()).hexdigest()


if __name__ == "__main__":
    write_notebooks()
