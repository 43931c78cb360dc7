"""What an equal budget bought a DnCNN and an InDeed: ``python -m indeed.experiments.equal_budget --help``."""

from collections.abc import Callable
from pathlib import Path

from indeed.experiments.program import run_command
from indeed.networks.checkpoint import read_record
from indeed.recipes.equal_budget import MODELS, checkpoint_path, measure_budget, runs_folder, train_within_budget
from indeed.record import Profile, Recorder


def record(
    *, profile: Profile = "cpu", channels: int = 1, folder: Path | None = None, records: Path | None = None
) -> Recorder:
    """Record what the budget bought each of the two trained networks: steps, parameters, validation PSNR.

    Raises
    ------
    CheckpointError
        If one of them is not trained yet.
    """
    folder = folder or runs_folder(profile)
    made = {model: read_record(checkpoint_path(model, channels, folder))["record"] for model in MODELS}
    first = made["indeed"]["provenance"]
    numbers = Recorder("equal_budget", profile, first["seed"], first["data"], folder=records)
    numbers.add("minutes", made["indeed"]["budget_seconds"] / 60, tolerance=0, unit="min", digits=0)
    for model, history in made.items():
        # Times, and with them the number of steps, belong to the machine.
        steps, seconds = history["steps"], history["seconds_per_step"]
        numbers.add(f"steps_{model}", steps, tolerance=steps, digits=0)
        numbers.add(f"milliseconds_per_step_{model}", 1e3 * seconds, tolerance=1e3 * seconds, unit="ms", digits=0)
        numbers.add(f"parameters_{model}", history["parameters"], tolerance=0, digits=0)
        numbers.add(f"psnr_{model}", history["validation"]["psnr"], tolerance=0.5, unit="dB")
    return numbers


COMMANDS: dict[str, Callable[..., object]] = {"measure": measure_budget, "train": train_within_budget, "record": record}

if __name__ == "__main__":
    run_command("equal_budget", COMMANDS)
