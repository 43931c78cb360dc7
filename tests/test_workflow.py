"""The workflow: what its jobs call exists, and what they need is made by another job or is there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from indeed.experiments.registry import OTHERS, TABLES, commands, graph, load_table

ROOT = Path(__file__).resolve().parents[1]
SNAKEFILE = (ROOT / "workflow" / "Snakefile").read_text(encoding="utf-8")
SNAKEMAKE = ROOT / ".venv-workflow" / "bin" / "snakemake"
PAPER = ("table3", "table4", "table5", "table6")


def jobs():
    """Module, command and options of each job."""
    trained = {how.split(".")[-1] for of in graph(*PAPER, profile="smoke").values() for how in of["trained"].values()}
    for line in re.findall(r'f"\{RUN\}\.([^"]*)\{HAND_OVER\}"', SNAKEFILE):
        line = line.replace("{FOLDER}", "--profile --folder").replace("{DEVICE}", "--device")
        for command in sorted(trained) if "{{params.command}}" in line else [""]:
            module, command, *rest = line.replace("{{params.command}}", command).split()
            options = sorted({word for word in rest if word.startswith("--")})
            for name in PAPER if module == "{name}" else [module]:
                yield name, command, options


def test_the_jobs_are_found():
    assert {(module, command) for module, command, _ in jobs()} == {
        ("equal_budget", "measure"),
        ("equal_budget", "train"),
        ("table6", "train"),
        *((table, command) for table in PAPER for command in ("cell", "table", "figure")),
    }


def test_every_job_calls_a_command_that_exists_with_options_that_it_has(capsys):
    for module, command, options in jobs():
        with pytest.raises(SystemExit) as stop:
            load_table(module).main([command, "--help"])
        assert stop.value.code == 0
        offered = capsys.readouterr().out
        for option in options:
            assert option in offered or option.replace("--no-", "--") in offered, (module, command, option)


@pytest.mark.parametrize("table", PAPER)
def test_every_cell_has_a_name_that_the_graph_takes_and_networks_that_it_can_get(table, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    described = graph(table, profile="smoke")[table]
    assert len(described["cells"]) > 5
    assert all(re.fullmatch(r"[\w-]+", name) for name in described["cells"])
    needed = {path for paths in described["cells"].values() for path in paths}
    assert all(path in described["trained"] or Path(path).is_file() for path in needed)
    assert all(command.startswith("python -m indeed.experiments.") for command in described["trained"].values())


def test_a_table_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="name: got 'table9', expected one of table3"):
        load_table("table9")
    assert all(load_table(name).name == name for name in TABLES)


def test_every_file_of_measured_numbers_is_of_a_chapter_or_has_a_command_that_is_there():
    chapters = {path.stem for path in (ROOT / "book").glob("*.md")}
    measured = {path.stem for path in (ROOT / "results" / "measured").glob("*/*.csv")}
    found = commands()
    assert measured - chapters == found.keys()
    listed = (ROOT / "results" / "README.md").read_text(encoding="utf-8")
    for file, command in found.items():
        assert f"`{file}.csv`" in listed, file
        assert command in listed, command
    for command in OTHERS.values():
        *_, script = [word for word in command.split() if word not in ("python", "-m")]
        assert (ROOT / (script if "/" in script else f"{script.replace('.', '/')}.py")).is_file()


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
    command += ["--config", "table=3 4 5 6", "profile=smoke", f"python={sys.executable}"]
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
    counts = {"budget": 1, "network": 5} | dict.fromkeys(PAPER, 1) | {f"figure_{table}": 1 for table in PAPER}
    for rule, count in counts.items():
        assert re.search(rf"^{rule} +{count}$", run.stdout + run.stderr, re.MULTILINE), rule
