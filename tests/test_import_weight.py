"""What an import costs: the library loads torch and numpy, and nothing heavier until it is needed."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"matplotlib", "seaborn", "pandas", "skimage", "pywt", "sklearn", "scipy", "IPython"}


def modules_after(*names: str) -> set[str]:
    """Names in sys.modules of a fresh interpreter that has imported ``names``."""
    code = f"import {', '.join(names)}, sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


@pytest.fixture(scope="module")
def bare() -> set[str]:
    return modules_after("torch", "numpy")


def library(*without: str) -> list[str]:
    paths = sorted((ROOT / "indeed").rglob("*.py"))
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths]
    return [name for name in names if name.split(".")[-1] not in without]


def test_importing_the_package_costs_at_most_a_third_more_modules_than_torch_and_numpy(bare):
    assert len(modules_after("indeed")) <= 1.3 * len(bare)


def test_importing_every_module_of_the_library_costs_at_most_a_third_more_modules(bare):
    assert len(modules_after(*library())) <= 1.3 * len(bare)


def test_no_module_of_the_library_loads_a_heavy_package_when_imported(bare):
    loaded = {name.split(".")[0] for name in modules_after(*library()) - bare}
    assert not loaded & HEAVY
