"""What each efficient choice of the `cpu` network changes: one choice at a time taken back to the paper's form."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from indeed.data.patches import PatchSampler
from indeed.experiments.denoiser import Preset, training_images, validation_on
from indeed.learning.training import Trainer, denoising_samples, training_preset
from indeed.networks.backbones import parameter_count
from indeed.networks.inference_network import InDeed, NetworkConfig, network_preset
from indeed.record import Recorder


@dataclass(frozen=True)
class Form:
    """One variant of the preset network: its name in the record, what it is, and the fields that differ."""

    name: str
    meaning: str
    change: dict[str, Any]


FORMS = (
    Form("preset", "the preset itself", {}),
    Form("group_norm", "GroupNorm in every block, as in the paper", {"norm": "group"}),
    Form("sparse_output", "f_S outputs the mean of S, as in the paper, not the noise", {"sparse_output": "sparse"}),
    Form("residual_input", "f_S sees Y - L, as in the paper, not Y and L", {"sparse_input": "residual"}),
    Form("full_factors", "f_A and f_B keep the averaged axis, as in the paper", {"factor_halving": False}),
    Form("full_pixels", "f_S works on full pixels, as in the paper, not unshuffled ones", {"sparse_unshuffle": 1}),
    Form(
        "paper_form",
        "all five as in the paper, at the size of the preset",
        {
            "norm": "group",
            "sparse_output": "sparse",
            "sparse_input": "residual",
            "factor_halving": False,
            "sparse_unshuffle": 1,
        },
    ),
)


def compare_forms(
    folder: Path,
    *,
    preset: Preset = "cpu",
    channels: int = 1,
    steps: int = 800,
    seed: int = 0,
    data: str = "bsd",
    names: tuple[str, ...] | None = None,
    records: str | Path | None = None,
    progress: bool = True,
) -> Recorder:
    """Train every form for the same number of steps on the same batches, and record validation PSNR and cost.

    The cost of a form is the time of forward and backward pass of its networks over that of the preset, median of pairs
    timed in turn. A killed comparison continues where it was.

    Parameters
    ----------
    folder
        Where each run keeps its state, in a folder of its name.
    preset, channels, steps, seed, data
        As in :func:`indeed.experiments.denoiser.train_denoiser`; the schedule is that of a run of ``steps``.
    names
        Forms to train now; None: all, which is also what it takes to record them.
    records
        Records folder, where it is not the usual one.

    Raises
    ------
    DataMissingError
        If the data are not on disk.
    ValueError
        If a name is none of `FORMS`.
    """
    chosen = [form for form in FORMS if names is None or form.name in names]
    if unknown := set(names or ()) - {form.name for form in FORMS}:
        raise ValueError(
            f"names must be among {', '.join(form.name for form in FORMS)}, got {', '.join(sorted(unknown))}"
        )
    base = network_preset(preset, channels)
    training = replace(training_preset(preset), steps=steps, seed=seed, validate_every=steps)
    source, train, held_out = training_images(data, channels, base.patch_size)
    validate = validation_on(held_out, base.patch_size)
    profile = "smoke" if preset == "tiny" else preset
    record = Recorder("network_forms", profile=profile, seed=seed, data=source, folder=records)
    record.add("steps", steps, tolerance=0, digits=0)
    for form in chosen:
        network = replace(base, **form.change)
        samples = denoising_samples(PatchSampler(train, network.patch_size), training)
        trainer = Trainer(network, training, samples, folder / form.name, resume=True, description={"data": source})
        trainer.run(progress=progress)
        if names is not None:
            continue
        merits = validate(trainer.average)
        record.add(f"psnr_{form.name}", merits.psnr, tolerance=0.3, unit="dB")
        record.add(f"psnr_low_rank_{form.name}", merits.psnr_low_rank, tolerance=0.5, unit="dB")
        record.add(f"parameters_{form.name}", parameter_count(trainer.model), tolerance=0, digits=0)
        record.add(f"cost_{form.name}", relative_cost(network, base, training.batch_size), tolerance=0.5)
    return record


def relative_cost(network: NetworkConfig, reference: NetworkConfig, batch: int, pairs: int = 7) -> float:
    """Time of forward and backward pass over that of a reference network, median of pairs timed in turn in one run."""
    with torch.random.fork_rng(devices=[]):
        models = [InDeed(config) for config in (network, reference)]
        y = torch.rand(batch, network.channels, network.patch_size, network.patch_size)

    def seconds(model: InDeed) -> float:
        start = time.perf_counter()
        middle, _ = model(y)
        total = torch.stack([part.sum() for factor in middle for part in factor]).sum()
        total.backward()  # type: ignore[no-untyped-call]
        return time.perf_counter() - start

    for model in models:
        seconds(model)
    return median(seconds(models[0]) / seconds(models[1]) for _ in range(pairs))


if __name__ == "__main__":
    compare_forms(Path("runs/network_forms"))
