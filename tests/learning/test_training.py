import csv
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from jaxtyping import TypeCheckError

from indeed.bayes.conjugate_updates import solve_leaf_level
from indeed.bayes.elbo import elbo_terms, negative_elbo
from indeed.bayes.objectives import amortised_terms, denoising_supervision, training_loss
from indeed.data.patches import PatchSampler
from indeed.images.metrics import psnr
from indeed.learning.training import (
    Batch,
    Trainer,
    TrainingConfig,
    Validation,
    denoising_batches,
    learning_rate,
    step_seed,
    train_step,
    training_preset,
)
from indeed.networks.inference_network import network_preset

NETWORK = network_preset("tiny", 1)
TINY = training_preset("tiny")


def smooth_images(count: int = 6, size: int = 40) -> list[torch.Tensor]:
    """Sums of a few cosines: easier than photographs, so that a tiny network learns something in seconds."""
    generator = torch.Generator().manual_seed(0)
    grid = torch.linspace(0, 1, size)
    images = []
    for _ in range(count):
        fy, fx, phase = torch.rand(3, generator=generator) * 6
        wave = torch.cos(fy * grid[:, None] + fx * grid[None] + phase)
        images.append((127.5 * (1 + 0.8 * wave)).round().to(torch.uint8)[None])
    return images


def batches(config: TrainingConfig):
    return denoising_batches(PatchSampler(smooth_images(), NETWORK.patch_size, config.batch_size), config)


def trainer(folder, config=TINY, **options) -> Trainer:
    return Trainer(NETWORK, config, batches(config), folder, **options)


def weights(run: Trainer) -> dict[str, torch.Tensor]:
    return {**run.model.state_dict(), **{f"average.{k}": v for k, v in run.average.state_dict().items()}}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def log_without_time(folder) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def test_training_denoises(tmp_path):
    config = replace(TINY, steps=400, warmup_steps=20, ema_decay=0.98, learning_rate=3e-3)
    run = trainer(tmp_path, config)
    run.run(progress=False)
    generator = torch.Generator().manual_seed(99)
    clean = PatchSampler(smooth_images(), 16, 32)(generator)
    noisy = clean + 25 / 255 * torch.randn(clean.shape, generator=generator)
    with torch.no_grad():
        _, draw = run.average(noisy)
    noisy_psnr, psnr_out = psnr(noisy, clean).mean(), psnr(draw.low_rank + draw.S, clean).mean()
    assert psnr_out > noisy_psnr + 3
    # the second term of Eq. 44 makes L an image on its own, not a constant
    assert psnr(draw.low_rank, clean).mean() > psnr(clean.mean((2, 3), keepdim=True).expand_as(clean), clean).mean() + 3


def test_same_seed_gives_the_same_run_and_another_seed_another(tmp_path):
    runs = [trainer(tmp_path / name, replace(TINY, seed=seed)) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    for run in runs:
        run.run(progress=False)
    assert same(weights(runs[0]), weights(runs[1]))
    assert not same(weights(runs[0]), weights(runs[2]))


def test_a_run_stopped_and_resumed_equals_an_uninterrupted_one_to_the_bit(tmp_path):
    whole = trainer(tmp_path / "whole")
    whole.run(progress=False)
    for stop in (5, 10):
        trainer(tmp_path / "parts", resume=True).run(stop_at=stop, progress=False)
    parts = trainer(tmp_path / "parts", resume=True)
    assert parts.step == 10
    parts.run(progress=False)
    assert same(weights(whole), weights(parts))
    assert log_without_time(tmp_path / "whole") == log_without_time(tmp_path / "parts")


@pytest.mark.slow
def test_a_run_killed_at_any_moment_and_resumed_equals_an_uninterrupted_one_to_the_bit(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        "import sys, torch\n"
        "from dataclasses import replace\n"
        "from pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_training import TINY, trainer\n"
        "torch.set_num_threads(1)\n"
        "config = replace(TINY, steps=120, save_every_seconds=0.0)\n"
        "trainer(Path(sys.argv[1]), config, resume=True).run(progress=False)\n"
    )

    def start(folder):
        return subprocess.Popen([sys.executable, "-W", "ignore", str(script), str(folder)])

    def saved_at(folder) -> float:
        state = folder / "state.pt"
        return state.stat().st_mtime_ns if state.exists() else 0

    assert start(tmp_path / "whole").wait(120) == 0
    killed = tmp_path / "killed"
    for _ in range(2):
        before = saved_at(killed)
        process = start(killed)
        deadline = time.monotonic() + 60
        while saved_at(killed) == before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        assert process.wait(10) == -signal.SIGKILL, "the run ended before it could be killed"
    assert start(killed).wait(120) == 0

    one, other = (torch.load(folder / "state.pt", weights_only=True) for folder in (tmp_path / "whole", killed))
    assert one["step"] == other["step"] == 120
    for part in ("model", "average"):
        assert same(one[part], other[part])
    moments = [[entry["exp_avg_sq"] for entry in state["optimizer"]["state"].values()] for state in (one, other)]
    assert all(torch.equal(a, b) for a, b in zip(*moments, strict=True))
    assert log_without_time(tmp_path / "whole") == log_without_time(killed)


def test_a_log_cut_in_the_middle_of_a_line_is_mended_on_resume(tmp_path):
    trainer(tmp_path).run(stop_at=10, progress=False)
    with (tmp_path / "log.csv").open("a") as file:
        file.write("15,0.0001,2.4")
    trainer(tmp_path, resume=True).run(progress=False)
    assert [row["step"] for row in log_without_time(tmp_path)] == ["5", "10", "15", "20"]


def test_a_batch_that_is_not_finite_is_skipped_counted_and_changes_no_weight(tmp_path):
    def poisoned(generator):
        observed = torch.full((2, 1, 16, 16), float("nan"))
        return Batch(observed, lambda draw: denoising_supervision(draw, observed, TINY.target_precision))

    run = Trainer(NETWORK, TINY, poisoned, tmp_path)
    before = {key: value.clone() for key, value in weights(run).items()}
    run.run(progress=False)
    assert run.skipped == TINY.steps
    assert same(before, weights(run))
    assert log_without_time(tmp_path)[-1]["skipped"] == str(TINY.steps)


@pytest.mark.equation("11")
def test_training_one_network_lowers_the_free_energy_of_every_new_patch(tmp_path):
    run = trainer(tmp_path, replace(TINY, steps=100, learning_rate=3e-3))
    generator = torch.Generator().manual_seed(98)
    clean = PatchSampler(smooth_images(), 16, 32)(generator)
    noisy = clean + 25 / 255 * torch.randn(clean.shape, generator=generator)

    def free_energy() -> torch.Tensor:
        with torch.no_grad():
            middle, draw = run.model(noisy, torch.Generator().manual_seed(97))
            leaf = solve_leaf_level(noisy, middle, TINY.hyperpriors)
            supervision = denoising_supervision(draw, clean, TINY.target_precision)
            return negative_elbo(elbo_terms(noisy, middle, leaf, TINY.hyperpriors, supervision=supervision))

    before = free_energy()
    run.run(progress=False)
    assert (free_energy() < before).all()


@pytest.mark.equation("13")
def test_one_step_descends_the_loss_of_its_own_batch(tmp_path):
    run = trainer(tmp_path, replace(TINY, warmup_steps=0))
    generator = torch.Generator().manual_seed(5)
    batch = run.batches(generator)
    for group in run.optimizer.param_groups:
        group["lr"] = 1e-4

    def loss() -> float:
        with torch.no_grad():
            middle, draw = run.model(batch.observed, torch.Generator().manual_seed(6))
            terms = amortised_terms(batch.observed, middle, draw, batch.supervision(draw), TINY.hyperpriors)
            pixels = batch.observed[0].numel()
            return training_loss(terms, orthogonality_weight=TINY.orthogonality_weight, elements=pixels).item()

    before = loss()
    _, applied = train_step(run.model, run.optimizer, batch, TINY, torch.Generator().manual_seed(6))
    assert applied
    assert loss() < before


def test_validation_is_logged_at_its_steps_and_at_the_end(tmp_path):
    config = replace(TINY, steps=25, validate_every=10)
    run = trainer(tmp_path, config, validate=lambda model: Validation(1.0, 2.0))
    run.run(progress=False)
    assert [row["psnr"] for row in log_without_time(tmp_path)] == ["", "2.0", "", "2.0", "2.0"]


def test_halving_schedule_is_that_of_section_4_1():
    config = replace(training_preset("paper"), steps=1000)
    rates = [learning_rate(config, step) for step in range(0, 1000, 100)]
    assert rates == pytest.approx([1e-4 * 0.5**tenth for tenth in range(10)])


def test_cosine_schedule_warms_up_and_ends_near_zero():
    config = TrainingConfig(steps=1000, warmup_steps=100)
    rates = [learning_rate(config, step) for step in range(1000)]
    assert max(rates) == pytest.approx(1e-3, rel=0.03)
    assert rates[0] == pytest.approx(1e-5, rel=0.01)
    assert rates[-1] < 1e-7


def test_a_folder_with_a_run_is_not_overwritten(tmp_path):
    trainer(tmp_path).run(stop_at=5, progress=False)
    with pytest.raises(FileExistsError, match="resume"):
        trainer(tmp_path)


def test_a_run_is_not_continued_under_another_configuration(tmp_path):
    trainer(tmp_path).run(stop_at=5, progress=False)
    with pytest.raises(ValueError, match="training"):
        trainer(tmp_path, replace(TINY, learning_rate=1.0), resume=True)


def test_a_damaged_state_is_named(tmp_path):
    trainer(tmp_path).run(stop_at=5, progress=False)
    state = tmp_path / "state.pt"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"state\.pt"):
        trainer(tmp_path, resume=True)


def test_configuration_is_kept_beside_the_state(tmp_path):
    trainer(tmp_path).run(stop_at=5, progress=False)
    content = json.loads((tmp_path / "config.json").read_text())
    assert content["network"]["max_rank"] == 4
    assert content["training"]["hyperpriors"]["lambda_rate"] == 1e-8


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"steps": 0}, "steps"),
        ({"seed": 2**32}, "seed"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"schedule": "linear"}, "schedule"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"noise_high": 0.0}, "noise_high"),
    ],
)
def test_bad_configurations_are_named(change, named):
    # a misspelt name is caught by the type hook of the test suite, or by the class itself
    with pytest.raises((ValueError, TypeCheckError), match=named):
        replace(TINY, **change)


def test_seed_reaches_every_batch_and_not_only_the_initial_weights(tmp_path):
    seeds = (0, 1, 2, 123, 2**31)
    drawn = [batches(TINY)(torch.Generator().manual_seed(step_seed(seed, 3))).observed for seed in seeds]
    for index, one in enumerate(drawn):
        for other in drawn[index + 1 :]:
            assert not torch.equal(one, other)
    # the CPU generator looks at 32 bits only, so the seeds must differ in those
    assert len({step_seed(seed, step) for seed in range(20) for step in range(1000)}) == 20_000
    assert all(0 <= step_seed(seed, 10**6) < 2**32 for seed in seeds)


def test_a_run_stopped_between_two_rows_of_the_log_loses_nothing(tmp_path):
    trainer(tmp_path / "whole").run(progress=False)
    trainer(tmp_path / "parts").run(stop_at=7, progress=False)
    trainer(tmp_path / "parts", resume=True).run(progress=False)
    assert log_without_time(tmp_path / "whole") == log_without_time(tmp_path / "parts")


def test_a_log_without_a_whole_header_is_mended_on_resume(tmp_path):
    trainer(tmp_path).run(stop_at=10, progress=False)
    (tmp_path / "log.csv").write_text("step,learn")
    trainer(tmp_path, resume=True).run(progress=False)
    assert [row["step"] for row in log_without_time(tmp_path)] == ["15", "20"]


def test_a_skipped_batch_leaves_running_statistics_alone(tmp_path):
    def poisoned(generator):
        observed = torch.full((2, 1, 16, 16), float("nan"))
        return Batch(observed, lambda draw: denoising_supervision(draw, observed, TINY.target_precision))

    run = Trainer(replace(NETWORK, norm="batch"), TINY, poisoned, tmp_path)
    before = {key: value.clone() for key, value in weights(run).items()}
    run.run(stop_at=2, progress=False)
    assert same(before, weights(run))


@pytest.mark.parametrize("part", ["step", "model", "identity"])
def test_a_state_without_a_part_is_named(tmp_path, part):
    trainer(tmp_path).run(stop_at=5, progress=False)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    del state[part]
    torch.save(state, tmp_path / "state.pt")
    with pytest.raises(ValueError, match=r"state\.pt"):
        trainer(tmp_path, resume=True)
