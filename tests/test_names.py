"""Modules are short, and a public name means one thing."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "indeed"
LONGEST = 400
#: Files that several packages have, with the reason.
SHARED_FILES = {
    "__init__.py": "every package has one",
    "anomaly_detection.py": "the network's maps, and the figures of the chapter on them",
    "config.py": "the configuration of its package",
    "conjugate_updates.py": "the equations, and the figures of the chapter on them",
    "equal_budget.py": "how the rivals are trained, and the table that compares them",
    "pac_bayes.py": "the equations, and the figures of the chapter on them",
}


def public_names() -> dict[str, list[str]]:
    """Modules that define each public function, class or type alias."""
    found = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(path.relative_to(PACKAGE).as_posix())
            elif isinstance(node, ast.Assign) and isinstance(alias := node.targets[0], ast.Name):
                if alias.id[0].isupper() and not alias.id.isupper() and "TypeVar" not in ast.unparse(node.value):
                    found[alias.id].append(path.relative_to(PACKAGE).as_posix())
    return found


def test_no_module_is_longer_than_400_lines():
    lengths = {
        path.relative_to(PACKAGE).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in PACKAGE.rglob("*.py")
    }
    longer = {name for name, length in lengths.items() if length > LONGEST}
    assert longer == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["magnitude", "psnr", "Trainer", "Images"])
def test_definitions_are_found(name):
    assert len(public_names()[name]) == 1


def test_no_public_name_is_defined_in_two_packages():
    twice = {
        name: modules
        for name, modules in public_names().items()
        if len({module.split("/")[0] for module in modules}) > 1
    }
    assert twice == {}


def test_no_file_name_stands_in_two_packages():
    places = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        places[path.name].add(path.parent)
    assert {name for name, folders in places.items() if len(folders) > 1} <= SHARED_FILES.keys()
