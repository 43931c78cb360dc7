"""What an import costs: the library loads torch and numpy, and nothing heavier until it is needed."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"matplotlib", "seaborn", "pandas", "skimage", "pywt", "sklearn", "scipy", "IPython"}


def library() -> list[str]:
    paths = sorted((ROOT / "indeed").rglob("*.py"))
    return [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths]


@pytest.fixture(scope="module")
def modules() -> list[set[str]]:
    """Names in sys.modules of one fresh interpreter: of torch and numpy, then of the library too, then of a sample."""
    code = f"""
import sys
import torch, numpy
print(*sys.modules)
import {", ".join(library())}
print(*sys.modules)
from indeed.data.samples import sample_image
sample_image("china"), sample_image("camera")
print(*sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return [set(line.split()) for line in run.stdout.splitlines()]


@pytest.mark.slow
def test_importing_every_module_of_the_library_costs_at_most_a_third_more_modules_than_torch_and_numpy(modules):
    bare, whole, _ = modules
    assert len(whole) <= 1.3 * len(bare)


@pytest.mark.slow
def test_no_module_of_the_library_loads_a_heavy_package_when_imported(modules):
    bare, whole, _ = modules
    assert not {name.split(".")[0] for name in whole - bare} & HEAVY


def test_reading_a_sample_imports_neither_of_the_packages_that_bring_it(modules):
    assert not modules[2] & {"skimage", "sklearn", "pooch", "scipy"}
