"""The repository as a whole: the pins agree, what must stand stands, and nothing is in git that should not be."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import chapters
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())
IMPORT_NAMES = {
    "PIL": "pillow",
    "pywt": "PyWavelets",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "IPython": "ipykernel",
}


def pins(lines: list[str]) -> dict[str, str]:
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


CONSTRAINTS = [
    line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")
]


def requirements() -> list[Requirement]:
    extras = PROJECT["optional-dependencies"]
    every = [*PROJECT["dependencies"], *(line for lines in extras.values() for line in lines)]
    return [requirement for requirement in map(Requirement, every) if requirement.name != PROJECT["name"]]


def tracked() -> list[Path]:
    """Files of the repository: those in git, or not yet in git and not ignored."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if run.returncode:
        pytest.skip("not a git repository")
    return [path for path in (ROOT / name for name in run.stdout.split("\0") if name) if path.is_file()]


def test_every_constraint_is_one_exact_version():
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in CONSTRAINTS)
    assert len(pins(CONSTRAINTS)) == len(CONSTRAINTS)


def test_conda_has_the_same_pins():
    (pip,) = (entry["pip"] for entry in CONDA["dependencies"] if isinstance(entry, dict))
    assert [line for line in pip if line.startswith("-")] == ["-e .[test]"]
    assert pins([line for line in pip if not line.startswith("-")]) == pins(CONSTRAINTS)


def test_conda_has_a_python_that_the_project_accepts():
    (python,) = (str(entry) for entry in CONDA["dependencies"] if str(entry).startswith("python="))
    assert python == "python=3.11"
    assert SpecifierSet(PROJECT["requires-python"]).contains(python.removeprefix("python="))


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_the_pin_of_every_requirement_lies_in_its_range(requirement):
    assert requirement.specifier.contains(pins(CONSTRAINTS)[canonicalize_name(requirement.name)], prereleases=True)


@pytest.mark.slow
def test_every_package_that_the_library_imports_is_declared():
    declared = {canonicalize_name(requirement.name) for requirement in requirements()}
    imported = set()
    for path in (ROOT / "indeed").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add((node.module or "").split(".")[0])
    others = imported - set(sys.stdlib_module_names) - {"indeed"}
    assert {canonicalize_name(IMPORT_NAMES.get(name, name)) for name in others} <= declared


@pytest.mark.parametrize(
    "path", ".pre-commit-config.yaml .github/workflows/tests.yml .github/workflows/book.yml".split()
)
def test_what_runs_elsewhere_calls_make_targets_that_exist(path):
    def commands(of: object) -> list[str]:
        if isinstance(of, dict):
            here = [value for key, value in of.items() if key in ("run", "entry")]
            return here + [command for value in of.values() for command in commands(value)]
        return [command for value in of for command in commands(value)] if isinstance(of, list) else []

    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    called = commands(yaml.safe_load((ROOT / path).read_text()))
    assert called
    assert set(called) <= {f"make {target}" for target in targets}


@pytest.mark.parametrize(
    "name",
    """README.md ARCHITECTURE.md LICENSE CITATION.cff CHANGELOG.md CONTRIBUTING.md Makefile _config.yml environment.yml
    pyproject.toml constraints.txt .ci/run book/_toc.yml book/references.bib data_scripts/README.md results/README.md
    workflow/README.md benchmarks/README.md""".split(),
)
def test_what_a_stranger_looks_for_is_there(name):
    assert (ROOT / name).stat().st_size > 0


def test_every_line_of_the_readme_tree_names_something_that_exists():
    tree = (ROOT / "README.md").read_text().split("## What stands where")[1].split("```")[1]
    folder = ROOT
    for line in filter(None, tree.splitlines()):
        name = line.split()[0]
        folder = folder if line.startswith("  ") else ROOT
        assert (folder / name).exists(), name
        if name.endswith("/") and not line.startswith("  "):
            folder = ROOT / name


def test_chapters_are_kept_without_outputs():
    assert not [path for path in (ROOT / "book").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts]


def test_only_the_ci_script_names_the_folder_beside_the_repository():
    outside = "../" + "shared"
    suffixes = {".md", ".py", ".toml", ".yml", ".txt", ".cff", ".csv", ".bib", ".css", ""}
    found = [p for p in tracked() if p.suffix in suffixes and outside in p.read_text(encoding="utf-8", errors="ignore")]
    assert found == [ROOT / ".ci" / "run"]


def test_no_large_file_is_tracked():
    assert not [path for path in tracked() if path.stat().st_size > 8 * 2**20]


@pytest.mark.parametrize("page", chapters.pages(), ids=lambda page: page.stem)
class TestPage:
    def test_exists(self, page):
        assert page.is_file()

    def test_every_exercise_has_a_solution_that_is_folded(self, page):
        text = page.read_text(encoding="utf-8")
        exercises = re.findall(r"\{exercise(?:-start)?\}[^\n]*\n(?::(?!label)[^\n]*\n)*:label:\s*(\S+)", text)
        solutions = re.findall(r"\{solution(?:-start)?\}\s*(\S+)\n(?::(?!class)[^\n]*\n)*:class:\s*dropdown", text)
        assert len(exercises) == len(re.findall(r"\{exercise(?:-start)?\}", text)), "an exercise without a label"
        assert sorted(exercises) == sorted(solutions)

    def test_every_linked_picture_has_an_alternative_text(self, page):
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r"!\[\s*\]\(", text)
        for directive in re.findall(r"\{(?:figure|image)\}[^\n]*\n((?::[^\n]*\n)*)", text):
            assert re.search(r"^:alt:\s*\S", directive, re.MULTILINE)


@pytest.mark.parametrize("chapter", chapters.chapters(), ids=lambda page: page.stem)
def test_a_chapter_can_be_run_in_every_profile(chapter):
    cells = [cell for cell in chapters.notebook(chapter).cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(cells) == 1
    names = {node.targets[0].id for node in ast.parse(cells[0].source).body if isinstance(node, ast.Assign)}
    assert {"profile", "seed"} <= names
