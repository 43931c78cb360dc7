"""What the tests of the command share: tiny checkpoints in the place of those that ship, pictures, and a runner."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from bad_batch import tiny_checkpoints

from indeed import cli
from indeed.cli import models
from indeed.data.image_files import write_image
from indeed.data.picture import Picture
from indeed.images.noise import correlated_gaussian


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    return tiny_checkpoints(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(autouse=True)
def shipped(monkeypatch, checkpoints) -> None:
    monkeypatch.setattr(models, "shipped_checkpoint", checkpoints.__getitem__)


@pytest.fixture
def run(capsys):
    """Run the command in this process: exit code, lines on standard output, lines on standard error."""

    def run(*arguments: object) -> tuple[int, list[str], list[str]]:
        code = cli.main([str(argument) for argument in arguments])
        output = capsys.readouterr()
        return code, output.out.splitlines(), output.err.splitlines()

    return run


@pytest.fixture(scope="session")
def random_picture() -> Callable[..., Picture]:
    """Picture of random samples, of a height and a width."""

    def picture(height: int, width: int, channels: int = 3, dtype: str = "uint8", alpha: bool = False) -> Picture:
        rng = np.random.default_rng(0)
        samples = (rng.random((height, width, channels + 1)) * np.iinfo(dtype).max).astype(dtype)
        return Picture(samples[..., :channels].copy(), samples[..., channels].copy() if alpha else None)

    return picture


@pytest.fixture(scope="session")
def noisy_picture() -> Callable[..., Picture]:
    """Flat colour picture with noise of 20 grey levels; neighbours have the correlation exp(-1 / (4 length^2))."""

    def picture(height: int, width: int, correlation_length: float = 0.7) -> Picture:
        flat = torch.full((1, 3, height, width), 0.5)
        noisy = correlated_gaussian(flat, 20 / 255, correlation_length, torch.Generator().manual_seed(0))
        return Picture(noisy[0].permute(1, 2, 0).numpy())

    return picture


@pytest.fixture
def photo(tmp_path, random_picture) -> Path:
    write_image(tmp_path / "photo.png", random_picture(40, 50))
    return tmp_path / "photo.png"


@pytest.fixture
def parts(tmp_path, random_picture) -> Path:
    """Folder of two photographs of parts: one in grey, one in colour."""
    (tmp_path / "parts").mkdir()
    for name, channels in (("a.png", 1), ("b.jpg", 3)):
        write_image(tmp_path / "parts" / name, random_picture(40, 50, channels))
    return tmp_path / "parts"


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], set[str]]:
    """Names of all that is in a folder, relative to it."""
    return lambda folder: {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture(scope="session")
def results() -> Callable[..., set[str]]:
    """Names of the files of a detection in images of these names."""
    parts = ("map.npy", "heat.png", "overlay.png")
    return lambda *names: {"scores.csv", *(f"{name}_{part}" for name in names for part in parts)}
