"""The equation index: for each equation of the paper its home in the library, the tests that check it, the chapters.

Docstrings, markers and prose are parsed, nothing is imported. A *home* is the public function or class whose docstring
ends its first paragraph's claim with ``(Eq. 26)``; a *check* is a test marked ``@pytest.mark.equation("26")`` that uses
the home, itself or through its helpers and fixtures. ``book/generated.py`` puts the result into the pages.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import chapters
from myst_parser.mdit_to_docutils.base import default_slugify

ROOT = chapters.ROOT
LINES = {11: "abc", 24: "abcdefg"}  # equations that the paper prints as several numbered lines
NUMBERS = range(1, 46)
LABELS = {f"{n}{line}" for n in NUMBERS for line in ("", *LINES.get(n, ""))}

LABEL = r"\d{1,2}[a-z]?(?!\.?\d)"
BETWEEN = r"(?:\s*,\s*(?:and\s+)?|\s+(?:and|or|to)\s+|\s*[-–]\s*)"
LIST = rf"{LABEL}(?:{BETWEEN}{LABEL})*"  # in docstrings: (Eq. 26, 28 and 30)
NUMBERED = rf"\({LABEL}\)(?:{BETWEEN}\({LABEL}\))*"  # in the chapters: paper (26), (28) and (30)


class Home(NamedTuple):
    """Where an equation lives: the dotted name, and the first paragraph of the docstring without its tag."""

    name: str
    says: str
    labels: list[str]


class Check(NamedTuple):
    """A marked test: where it is, its source, that of its helpers as (path, name, source), and what all that uses."""

    path: str
    name: str
    labels: list[str]
    source: str
    helpers: list[tuple[str, str, str]]
    uses: set[str]

    @property
    def theorem(self) -> str:
        """What the name of the test states."""
        words = self.name.removeprefix("test_").replace("_", " ").replace("elbo", "ELBO")
        return re.sub(r"\beq (\d+[a-z]?)", r"Eq. \1", words[0].upper() + words[1:], flags=re.IGNORECASE)

    @property
    def anchor(self) -> str:
        """Target of a link to its source."""
        return re.sub(r"[^a-z0-9]+", "-", f"check {self.path} {self.name}".lower())


class Chapter(NamedTuple):
    """A chapter: the equations it names, each with the heading under which it does so first, and what its code uses."""

    path: Path
    title: str
    names: dict[str, str]
    uses: set[str]


def labels(text: str) -> list[str]:
    """Equation labels of a list as it stands in prose.

    >>> labels("1, 3 and 24e-24g")
    ['1', '3', '24e', '24f', '24g']
    >>> labels("16 to 18")
    ['16', '17', '18']
    """
    found: list[str] = []
    for separator, number, line in re.findall(r"(to|-|–)?\s*(\d+)([a-z]?)", text):
        if separator and line:
            found += [f"{number}{chr(c)}" for c in range(ord(found[-1][-1]) + 1, ord(line) + 1)]
        elif separator:
            found += [str(n) for n in range(int(found[-1]) + 1, int(number) + 1)]
        else:
            found.append(number + line)
    return found


def order(label: str) -> tuple[int, str]:
    """Sort key of a label: 24, 24a, 24b, 25."""
    number = label.rstrip("abcdefghijklmnopqrstuvwxyz")
    return int(number), label.removeprefix(number)


# -- the library -----------------------------------------------------------------------------------------------------


def homes(root: Path = ROOT) -> list[Home]:
    """Find every public function, class and method that claims equations in the first paragraph of its docstring."""
    found = []
    for path in sorted((root / "indeed").rglob("*.py")):
        module = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        for name, node in _public(ast.parse(path.read_text(encoding="utf-8")), module):
            paragraph = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
            tags = re.findall(r"\(Eq\. ([^)]*)\)", paragraph)
            if tags:
                for tag in tags:
                    if not re.fullmatch(LIST, tag):
                        raise ValueError(f"{name}: (Eq. {tag}) is no list of equations such as (Eq. 3, 24e-24g)")
                says = re.sub(r"\s*\(Eq\. [^)]*\)", "", paragraph).removesuffix(".")
                found.append(Home(name, _as_markdown(says, module), [label for tag in tags for label in labels(tag)]))
    return found


def _public(node: ast.AST, name: str) -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.ClassDef) and not child.name.startswith("_"):
            yield f"{name}.{child.name}", child
            if isinstance(child, ast.ClassDef):
                yield from _public(child, f"{name}.{child.name}")


def _as_markdown(text: str, module: str) -> str:
    """Turn the inline reStructuredText of a docstring into MyST."""
    text = re.sub(r":math:`([^`]*)`", r"$\1$", text)
    text = re.sub(r":(func|class|meth|mod):`(?!~?indeed\b)([^`]*)`", rf"{{py:\1}}`~{module}.\2`", text)
    text = re.sub(r":(func|class|meth|mod):`", r"{py:\1}`", text)
    return text.replace("``", "`")


# -- the tests -------------------------------------------------------------------------------------------------------


def checks(root: Path = ROOT) -> list[Check]:
    """Find every test that is marked with equations."""
    found = []
    for path in sorted((root / "tests").rglob("test_*.py")):
        if "mark.equation" not in path.read_text(encoding="utf-8"):
            continue
        files = [_Source(path)]  # the test's own file, then the conftest.py of its folder and of those above
        for folder in path.relative_to(root).parents:
            if (root / folder / "conftest.py").is_file():
                files.append(_Source(root / folder / "conftest.py"))
        for name, node in files[0].definitions.items():
            if isinstance(node, ast.FunctionDef) and name.startswith("test_") and (claimed := _claimed(node)):
                own, *helpers = _closure(name, files)
                uses = {name for file, part in (own, *helpers) for name in file.uses(part)}
                found.append(
                    Check(
                        path.relative_to(root).as_posix(),
                        name,
                        claimed,
                        files[0].text(node),
                        [(file.path.relative_to(root).as_posix(), *file.named(part)) for file, part in helpers],
                        uses,
                    )
                )
    return found


class _Source:
    """A Python file: its top-level definitions, and the dotted names that its local names stand for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = path.read_text(encoding="utf-8").splitlines()
        tree = ast.parse("\n".join(self.lines))
        self.stands_for = imported(tree)
        self.definitions: dict[str, ast.stmt] = {}
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                self.definitions[node.name] = node
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                self.definitions[node.targets[0].id] = node

    def named(self, node: ast.stmt) -> tuple[str, str]:
        name = next(name for name, definition in self.definitions.items() if definition is node)
        return name, self.text(node)

    def text(self, node: ast.stmt) -> str:
        first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])
        return "\n".join(self.lines[first - 1 : node.end_lineno])

    def uses(self, node: ast.AST) -> set[str]:
        return used(node, self.stands_for)


def _claimed(test: ast.FunctionDef) -> list[str]:
    claims = []
    for mark in test.decorator_list:
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.equation":
            claims += [label for argument in mark.args for label in labels(ast.literal_eval(argument))]
    return claims


def _closure(test: str, files: list[_Source]) -> list[tuple[_Source, ast.stmt]]:
    """List the test and every definition of its file and its conftest files that it uses, itself or through others."""
    found: list[tuple[_Source, ast.stmt]] = []
    waiting = [(test, files)]
    while waiting:
        name, visible = waiting.pop()
        file = next((file for file in visible if name in file.definitions), None)
        if file is None or (file, file.definitions[name]) in found:
            continue
        node = file.definitions[name]
        found.append((file, node))
        local = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
        waiting += [(other, [file]) for other in sorted(local)]
        if isinstance(node, ast.FunctionDef):  # its arguments may be fixtures
            waiting += [(argument.arg, files[files.index(file) :]) for argument in node.args.args]
    return found


def imported(tree: ast.AST) -> dict[str, str]:
    """Return what the imported names of a file stand for: ``from a import b as c`` gives c: a.b."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:  # "import a.b" binds a, "import a.b as c" binds c to a.b
                names |= {alias.asname: alias.name} if alias.asname else {top: top for top in alias.name.split(".")[:1]}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def used(tree: ast.AST, stands_for: dict[str, str]) -> set[str]:
    """Dotted names that some code uses, and ``.x`` for every attribute x that it asks of anything."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            found.add(f".{node.attr}")
        if isinstance(node, ast.Name | ast.Attribute):
            head, _, rest = ast.unparse(node).partition(".")
            if head in stands_for:
                found.add(".".join(filter(None, (stands_for[head], rest))))
    return found


def is_used(home: Home, uses: set[str]) -> bool:
    """Whether the function or class is among the names used, or the method is asked of something."""
    *_, owner, name = home.name.split(".")
    return home.name in uses or (owner[0].isupper() and f".{name}" in uses)


# -- the verdict -----------------------------------------------------------------------------------------------------


def faults(homes: list[Home], checks: list[Check]) -> list[str]:
    """List what is wrong: an equation without a home, with two, or without a test; a claim that does not hold."""
    found = []
    owners: dict[str, list[Home]] = {}
    for home in homes:
        for label in home.labels:
            owners.setdefault(label, []).append(home)
    for label in sorted(owners, key=order):
        names = [home.name for home in owners[label]]
        if label not in LABELS:
            found.append(f"{names[0]} claims Eq. {label}, which the paper does not have")
        elif len(names) > 1:
            found.append(f"Eq. {label} has {len(names)} homes: {', '.join(names)}")
        elif not any(label in check.labels for check in checks):
            found.append(f'Eq. {label} ({names[0]}) has no test marked @pytest.mark.equation("{label}")')
    for n in NUMBERS:
        missing = [label for label in (_lines(str(n)) or [str(n)]) if label not in owners]
        if missing and str(n) not in owners:
            found.append(f"Eq. {', '.join(missing)} has no home: no docstring in indeed/ has (Eq. {missing[0]})")
    for check in checks:
        for label in check.labels:
            if label not in LABELS:
                found.append(f"{check.path}::{check.name} claims Eq. {label}, which the paper does not have")
            elif label not in owners:
                found.append(f"{check.path}::{check.name} claims Eq. {label}, which has no home")
            elif not any(is_used(home, check.uses) for home in owners[label]):
                name = owners[label][0].name
                found.append(f"{check.path}::{check.name} claims Eq. {label} and does not use {name}")
    return found


# -- the chapters ----------------------------------------------------------------------------------------------------


def chapter(path: Path) -> Chapter:
    """Read which equations a chapter names ("paper (26), (28)", a table's column "paper"), and what its code uses."""
    notebook = chapters.notebook(path)
    names: dict[str, str] = {}
    title = heading = ""
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            continue
        prose = re.sub(r"^(`{3,})\w+\n.*?^\1", "", cell.source, flags=re.MULTILINE | re.DOTALL)
        for part in re.split(r"^(?=#+ )", prose, flags=re.MULTILINE):
            if match := re.match(r"#+ +(.*)", part):
                heading = match[1].strip()
                title = title or heading
            for label in sorted(set(_named(part)), key=order):
                names.setdefault(label, heading)
    code = "\n".join(re.sub(r"^\s*[%!].*", "", c.source, flags=re.M) for c in notebook.cells if c.cell_type == "code")
    tree = ast.parse(code)
    return Chapter(path, title, names, used(tree, imported(tree)))


def _named(text: str) -> Iterator[str]:
    for match in re.finditer(rf"\b[Pp]aper\s+({NUMBERED})", text):
        yield from labels(re.sub("[()]", "", match[1]))
    column = None
    for line in text.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)]
        if len(cells) < 3:
            column = None
        elif column is None:
            column = cells.index("paper") if "paper" in cells else len(cells)
        elif column < len(cells) and re.fullmatch(NUMBERED, cells[column]):
            yield from labels(re.sub("[()]", "", cells[column]))


# -- the pages -------------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """Line of the index; consecutive equations with the same home, checks and chapters share one."""

    home: Home | None
    checks: list[Check]
    computed: list[Chapter]
    named: list[Chapter]


def rows(homes: list[Home], checks: list[Check], contents: list[Chapter]) -> Iterator[tuple[list[str], Row]]:
    """Yield the lines of the index."""
    owner = {label: home for home in homes for label in home.labels}
    shown = [
        label for label in sorted(LABELS, key=order) if label in owner or (label.isdigit() and not _lines(label, owner))
    ]

    def row(label: str) -> Row:
        home = owner.get(label)
        # The lines of an equation that have no row of their own count for the whole.
        mine = {label} | {line for line in _lines(label) if line not in owner}
        named = [part for part in contents if mine & set(part.names)]
        computed = [part for part in contents if home and is_used(home, part.uses)]
        return Row(
            home,
            [check for check in checks if label in check.labels],
            computed,
            [part for part in named if part not in computed],
        )

    for content, group in groupby(shown, row):
        yield list(group), content


def _lines(label: str, among: Iterable[str] = LABELS) -> list[str]:
    return (
        [f"{label}{line}" for line in LINES.get(int(label), "") if f"{label}{line}" in among] if label.isdigit() else []
    )


def table(homes: list[Home], checks: list[Check], contents: list[Chapter]) -> str:
    """Return the index as a MyST table."""
    lines = ["```{list-table}", ":header-rows: 1", ":class: equation-index whole-page", ":widths: 5 39 19 22 15", ""]
    cells = [["Eq.", "What it says", "Home", "Checked by", "Chapters"]]
    for group, row in rows(homes, checks, contents):
        if row.home is None:
            cells.append([_span(group), "not in the library yet", "", "", ""])
            continue
        computed, named = (
            ", ".join(f"[{part.title}]({_link(part, group)})" for part in parts) for parts in (row.computed, row.named)
        )
        cells.append(
            [
                _span(group),
                row.home.says,
                f"{{py:obj}}`~{row.home.name}`",
                "; ".join(f"[{check.theorem}](#{check.anchor})" for check in row.checks),
                "; ".join(filter(None, (computed and f"computed in {computed}", named and f"named in {named}"))),
            ]
        )
    for first, *others in cells:
        lines += [f"* - {first}", *(f"  - {cell}" for cell in others)]
    return "\n".join([*lines, "```"])


def _span(group: list[str]) -> str:
    return group[0] if len(group) == 1 else f"{group[0]}{', ' if len(group) == 2 else ' to '}{group[-1]}"


def _link(part: Chapter, group: list[str]) -> str:
    """Page of the chapter, at the heading under which it first names one of the equations."""
    claims = [claim for label in group for claim in (label, *_lines(label))]
    heading = next((part.names[claim] for claim in claims if claim in part.names), part.title)
    plain = heading != part.title and re.fullmatch(r"[\w ,.:;?'()-]+", heading)
    return f"{part.path.name}#{default_slugify(heading)}" if plain else part.path.name


def sources(checks: list[Check]) -> str:
    """Return the source of every marked test as MyST, file by file, before them the helpers that they use."""
    helpers: dict[str, dict[str, str]] = {}
    for path, name, source in (helper for check in checks for helper in check.helpers):
        helpers.setdefault(path, {})[name] = source
    text = []
    files = {check.path for check in checks}
    for path in sorted({*files, *helpers}, key=lambda path: (path in files, path)):
        text += [f"## {path.removeprefix('tests/')}", ""]
        if path in helpers:
            text += ["````{dropdown} Helpers and fixtures", _code("\n\n\n".join(helpers[path].values())), "````", ""]
        for check in checks:
            if check.path == path:
                text += [f"({check.anchor})=", f"### {check.theorem}", "", _code(check.source), ""]
    return "\n".join(text)


def _code(source: str) -> str:
    return f"```python\n{source}\n```"
