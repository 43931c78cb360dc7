"""The workflow: what its jobs call exists, and what they need is made by another job or is there."""

import ast
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
SNAKEFILE = (ROOT / "workflow" / "Snakefile").read_text(encoding="utf-8")
SNAKEMAKE = ROOT / ".venv-workflow" / "bin" / "snakemake"
TABLES = ("3", "4", "5", "6")


def commands():
    """Module, command and options of each job."""
    for line in re.findall(r'f"\{RUN\}\.([^"]*)\{HAND_OVER\}"', SNAKEFILE):
        module, command, *rest = line.split()
        options = {word for word in rest if word.startswith("--")}
        for table in TABLES if "{{wildcards.table}}" in module else [""]:
            yield module.replace("{{wildcards.table}}", table), command, options


def listed(table, capsys):
    """Cells of a table at smoke size, and the networks that each needs."""
    importlib.import_module(f"indeed.experiments.table{table}").main(["list", "--profile", "smoke"])
    return {name: networks for name, *networks in map(str.split, capsys.readouterr().out.splitlines())}


def test_the_jobs_are_found():
    assert {(module, command) for module, command, _ in commands()} == {
        ("equal_budget", "measure"),
        ("equal_budget", "train"),
        ("table6", "train"),
        *((f"table{table}", command) for table in TABLES for command in ("cell", "table", "figure")),
    }


@pytest.mark.parametrize(
    ("module", "command", "options"),
    [(module, command, sorted(options)) for module, command, options in commands()],
    ids=str,
)
def test_every_job_calls_a_command_that_exists_with_options_that_it_has(module, command, options, capsys):
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(f"indeed.experiments.{module}").main([command, "--help"])
    assert stop.value.code == 0
    offered = capsys.readouterr().out
    assert all(option in offered or option.replace("--no-", "--") in offered for option in options)


@pytest.mark.parametrize("table", TABLES)
def test_every_cell_has_a_name_that_the_graph_takes_and_networks_that_it_can_get(table, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    cells = listed(table, capsys)
    assert len(cells) > 5
    assert all(re.fullmatch(r"[\w-]+", name) for name in cells)
    trained = re.compile(
        r"runs/equal_budget/smoke/(dncnn|indeed)_grey\.safetensors"
        r"|runs/table6/smoke/networks/(autoencoder|draem|indeed)_\w+\.safetensors"
    )
    assert all(trained.fullmatch(path) or Path(path).is_file() for paths in cells.values() for path in paths)


def test_the_drawings_of_the_graph_are_those_that_the_commands_write():
    drawings = ast.literal_eval(re.search(r"^DRAWINGS = (\{.*?^\})$", SNAKEFILE, re.MULTILINE | re.DOTALL)[1])
    assert tuple(drawings) == TABLES
    for table, names in drawings.items():
        source = (ROOT / "indeed" / "experiments" / f"table{table}.py").read_text(encoding="utf-8")
        written = re.findall(r'folder / f?"(table\w*(?:\{value\})?\.svg)"', source)
        assert sorted(names) == sorted(
            name.format(value=value) for name in written for value in (("psnr", "ssim") if "{" in name else ("",))
        )


def test_the_environment_of_the_workflow_is_exact():
    lines = (ROOT / "workflow" / "requirements.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in pins)
    assert "snakemake" in {line.partition("==")[0] for line in pins}


@pytest.mark.parametrize("executor", ["local", "slurm", "kubernetes"])
def test_every_profile_lets_a_killed_run_continue_and_keeps_finished_cells(executor):
    options = yaml.safe_load((ROOT / "workflow" / "profiles" / executor / "config.yaml").read_text())
    assert options["rerun-incomplete"]
    assert options["nolock"]  # a killed run leaves its lock
    assert options["rerun-triggers"] == ["mtime"]  # an edited command does not make finished cells stale
    assert options.get("executor", "local") == executor


def test_the_pods_see_the_volume_under_one_path_and_run_a_target_with_variables_that_it_has():
    profile = yaml.safe_load((ROOT / "workflow" / "profiles" / "kubernetes" / "config.yaml").read_text())
    *_, job = yaml.safe_load_all((ROOT / "workflow" / "kubernetes.yaml").read_text())
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    claim = pod["volumes"][0]["persistentVolumeClaim"]["claimName"]
    assert profile["kubernetes-persistent-volumes"] == [f"{claim}:{container['volumeMounts'][0]['mountPath']}"]
    assert container["workingDir"] == profile["directory"] == profile["default-storage-prefix"]
    assert f"{profile['directory']}/.venv-workflow/bin/activate" in profile["precommand"]
    assert container["image"] == profile["container-image"]  # one interpreter for the environments on the volume
    assert {entry["name"] for entry in container["env"]} == set(profile["envvars"])

    makefile = (ROOT / "Makefile").read_text()
    program, target, *variables = container["args"][0].splitlines()[-1].split()
    assert program == "make"
    assert f"\n{target}:" in makefile
    assert "EXECUTOR=kubernetes" in variables
    assert all(re.search(rf"^{variable.partition('=')[0]} +\?=", makefile, re.MULTILINE) for variable in variables)


def test_every_job_hands_its_file_over():
    assert SNAKEFILE.count("shell:\n") == len(re.findall(r'f"\{RUN\}\..*\{HAND_OVER\}"', SNAKEFILE))


@pytest.mark.slow
@pytest.mark.skipif(not SNAKEMAKE.exists(), reason="the environment of the workflow is made by `make reproduce`")
@pytest.mark.parametrize("executor", ["local", "kubernetes"])
def test_the_graph_of_all_tables_is_complete(executor, tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("INDEED_")}
    workflow = ROOT / "workflow"
    command = f"--dry-run --snakefile {workflow}/Snakefile --workflow-profile {workflow}/profiles/{executor}".split()
    command += ["--directory", str(tmp_path)]
    if executor == "kubernetes":
        for plugin in ("snakemake_executor_plugin_kubernetes", "snakemake_storage_plugin_fs"):
            if not list(SNAKEMAKE.parents[1].glob(f"lib/python*/site-packages/{plugin}")):
                pytest.skip(f"{plugin} is not in the environment of the workflow")
        environment["INDEED_DATA"] = str(tmp_path)
        command += ["--default-storage-prefix", str(tmp_path)]
    command += ["--config", f"table={' '.join(TABLES)}", "profile=smoke", f"python={sys.executable}"]
    run = subprocess.run(
        [SNAKEMAKE, *command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    counts = {"budget": 1, "network": 2, "detector": 3, "table": len(TABLES)}
    counts |= {f"figure{table}": 1 for table in TABLES}
    for rule, count in counts.items():
        assert re.search(rf"^{rule} +{count}$", run.stdout + run.stderr, re.MULTILINE), rule
