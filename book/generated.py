"""Sphinx extension: fills pages that are computed, shows signatures as written, loads live figures, mends HTML.

A line ``% generated: table`` in a page is replaced by what the function of that name returns, when the page is read.
"""

import ast
import inspect
import re
import textwrap
from functools import cache
from pathlib import Path
from typing import Any

import chapters
import equations
import export
from docutils.nodes import Element
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

PACKAGE = chapters.ROOT / "indeed"
# The command explains itself: indeed --help.
PARTS = [
    "types",
    "bayes",
    "images",
    "networks",
    "learning",
    "data",
    "baselines",
    "recipes",
    "experiments",
    "record",
    "tables",
    "figures",
]


def table() -> str:
    """Return the equation index."""
    contents = [equations.chapter(path) for path in chapters.chapters()]
    return equations.table(equations.homes(), equations.checks(), contents)


def tests() -> str:
    """Return the sources of the tests that check equations."""
    return equations.sources(equations.checks())


def modules() -> str:
    """Return a section for each part of the library, with all that is public in its modules."""
    text = []
    for path in sorted(PACKAGE.rglob("*.py"), key=lambda path: (_part(path), path.name != "__init__.py", path)):
        module = ".".join(("indeed", *path.relative_to(PACKAGE).with_suffix("").parts))
        top = path.parent == PACKAGE or path.name == "__init__.py"
        if module == "indeed.__init__" or module.startswith("indeed.cli"):
            continue
        name = module.removesuffix(".__init__")
        heading = f"## {name}" if top else f"### {name.removeprefix('indeed.')}"
        members = "" if module.endswith("__init__") else "\n   :members:\n   :member-order: bysource"
        text += [heading, "", "```{eval-rst}", f".. automodule:: {name}{members}", "```", ""]
    return "\n".join(text)


def _part(path: Path) -> int:
    name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return PARTS.index(name) if name in PARTS else len(PARTS)


def fill(app: Sphinx, docname: str, source: list[str]) -> None:
    """Replace the marked lines of a page."""
    for make in (table, tests, modules):
        marker = f"% generated: {make.__name__}\n"
        if marker in source[0]:
            source[0] = source[0].replace(marker, make())


def as_written(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str, str] | None:
    """Show the signature of the source, where a type has its short name; autodoc would write out what it stands for."""
    if what not in {"function", "method", "class"}:
        return None
    node = ast.parse(textwrap.dedent(inspect.getsource(obj))).body[0]
    if not isinstance(node, ast.FunctionDef | ast.ClassDef):  # a function without a name, the default of a field
        return None
    if isinstance(node, ast.ClassDef):
        fields = [part for part in node.body if isinstance(part, ast.AnnAssign)]
        inits = [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"]
        if not inits:
            return f"({', '.join(_linked(part, obj.__module__) for part in fields)})", ""
        node = inits[0]
    if what != "function" and node.args.args:
        del node.args.args[0]
    return f"({_linked(node.args, obj.__module__)})", _linked(node.returns, obj.__module__) if node.returns else ""


def _linked(node: ast.AST, module: str) -> str:
    """Source of a piece of a signature, the library's own types with their full names, so that they become links."""
    full_names = _own_types(module)

    class FullNames(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.Name:
            return ast.Name(full_names.get(node.id, node.id))

    return ast.unparse(FullNames().visit(node))


@cache
def _own_types(module: str) -> dict[str, str]:
    """Classes and type aliases of the library, by the names that they have in a module."""
    *folders, name = module.split(".")[1:] or [""]
    path = PACKAGE.joinpath(*folders, f"{name}.py")
    if not path.is_file():
        return {}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    names += [ast.unparse(node.targets[0]) for node in tree.body if isinstance(node, ast.Assign)]
    own = {name: f"{module}.{name}" for name in names if re.match("[A-Z][a-z]", name)}
    for name, full in equations.imported(tree).items():
        home, _, original = full.rpartition(".")
        if original in _own_types(home):
            own[name] = full
    return own


def alias(app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: Element) -> Element | None:
    """Link a type alias, which autodoc calls data and so does not find as a type, where it is documented."""
    target = node.get("reftarget", "")
    if target not in _own_types(target.rpartition(".")[0]).values():
        return None
    entry = env.domaindata["py"]["objects"].get(target)
    if entry is None:
        return contnode
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, contnode, target)


def skip(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out the fields of named tuples, which the signature shows already."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def live_figures(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object) -> None:
    """Load the script of the live figures on the pages that have one."""
    if 'class="live-figure"' in context.get("body", ""):
        app.add_js_file("live-figures.js", loading_method="defer")


def mend(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Element | None) -> None:
    """Mend what a screen reader stumbles over in the HTML of Sphinx, MyST-NB and pandas."""
    body = context.get("body", "")
    # A corner of a table is no heading.
    body = re.sub(r"<th(?: [^>]*)?>(?:<p></p>|&nbsp;|\s)*</th>", "<td></td>", body)
    # A wide table scrolls within itself, and stays a table.
    body = re.sub(r'<table (?:border|id="T_)[^>]*>.*?</table>', r'<div class="wide">\g<0></div>', body, flags=re.DOTALL)
    # A role that the standard has given up.
    body = body.replace('role="doc-biblioentry"', 'role="listitem"')
    # The words of the summary say what it does.
    body = body.replace('<summary aria-label="Toggle hidden content">', "<summary>")
    # The parameters of a long signature, one a line, explain no terms.
    body = re.sub(
        r"<dl>\n((?:<dd>.*</dd>\n)+)</dl>",
        lambda match: '<div class="parameters">\n' + match[1].replace("dd>", "div>") + "</div>",
        body,
    )
    context["body"] = body


def launch(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Element | None) -> None:
    """Offer a chapter on Colab where the book names a repository; the theme's buttons lead to no notebook there."""
    buttons = [button for button in context["header_buttons"] if button.get("label") != "launch-buttons"]
    if pagename in export.notebooks() and (url := export.colab(pagename)):
        buttons.append(
            {"type": "link", "url": url, "tooltip": "Open in Colab", "icon": "fas fa-rocket", "label": "colab"}
        )
    context["header_buttons"] = buttons


def setup(app: Sphinx) -> dict[str, bool]:
    """Register all of it."""
    app.connect("source-read", fill)
    app.connect("autodoc-process-signature", as_written)
    app.connect("autodoc-skip-member", skip)
    app.connect("missing-reference", alias)
    app.connect("html-page-context", live_figures)
    app.connect("html-page-context", mend)
    app.connect("html-page-context", launch, priority=502)  # after the theme's
    return {"parallel_read_safe": True, "parallel_write_safe": True}
