"""The layers of the library: a module imports from its own layer or a lower one."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "indeed"
LAYERS = {
    "types": 0,
    "checks": 0,
    "files": 0,
    "tables": 0,
    "bayes": 0,
    "images": 0,
    "networks": 1,
    "learning": 2,
    "data": 2,
    "baselines": 3,
    "record": 4,
    "recipes": 4,
    "experiments": 5,
    "figures": 5,
    "cli": 6,
}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Dotted names that a module imports, at the top or inside a function, relative ones made absolute."""
    package = ("indeed", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            yield from (f"{module}.{alias.name}" for alias in node.names)


def test_every_part_of_the_library_has_a_layer():
    assert {part(path) for path in MODULES} <= set(LAYERS)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_from_its_own_layer_or_a_lower_one(path):
    for name in imports(path):
        if name.startswith("indeed."):
            imported = name.split(".")[1]
            if imported not in LAYERS:  # a name of indeed/__init__.py, such as __version__
                assert imported.startswith("__"), f"{name} is in no layer"
                continue
            assert LAYERS[imported] <= LAYERS[part(path)], f"{path.name} (layer {LAYERS[part(path)]}) imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_figures_imports_the_plotting_packages(path):
    plotting = {name for name in imports(path) if name.split(".")[0] in {"matplotlib", "seaborn"}}
    assert not plotting or part(path) == "figures"


def test_learning_receives_batches_and_never_imports_data():
    for path in MODULES:
        if part(path) == "learning":
            assert not [name for name in imports(path) if name.startswith("indeed.data")]


def test_the_command_imports_recipes_and_never_experiments():
    for path in MODULES:
        if part(path) == "cli":
            assert not [name for name in imports(path) if name.startswith("indeed.experiments")]


def test_what_a_table_trains_is_made_by_a_recipe():
    for path in MODULES:
        if part(path) == "experiments":
            calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
            assert not [call for call in calls if isinstance(call, ast.Name) and call.id == "Trainer"], path.name


def test_the_package_itself_imports_none_of_its_parts():
    assert not [name for name in imports(PACKAGE / "__init__.py") if name.startswith(("indeed", "torch"))]


def test_relative_imports_are_followed(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    module = tmp_path / "bayes" / "elbo.py"
    module.parent.mkdir()
    module.write_text("from ..learning import training\nfrom .x import y\ndef f():\n    import matplotlib.pyplot\n")
    assert list(imports(module)) == ["indeed.learning.training", "indeed.bayes.x.y", "matplotlib.pyplot"]
