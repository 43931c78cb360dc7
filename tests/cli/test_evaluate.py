"""Evaluate reports each image and their means."""

import csv

import numpy as np
import pytest
import torch

from indeed.data.image_files import read_image, write_image
from indeed.images.metrics import psnr


def test_evaluate_reports_each_image_and_the_mean_of_the_images(run, tmp_path, random_picture):
    (tmp_path / "clean").mkdir()
    for name, channels in (("a.png", 1), ("b.png", 3)):
        write_image(tmp_path / "clean" / name, random_picture(30, 30, channels))
    (tmp_path / "clean" / "notes.txt").write_text("not an image")
    arguments = ["evaluate", tmp_path / "clean", "--sigma", 15, "--seed", 3]
    code, output, errors = run(*arguments, "--csv", tmp_path / "table.csv")
    assert (code, errors) == (0, [])
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["a.png", "b.png"]
    assert [line.split()[0] for line in output] == ["image", "a.png", "b.png", "mean"]
    assert float(output[-1].split()[-2]) == pytest.approx(np.mean([float(row["psnr"]) for row in rows]), abs=0.006)
    clean = read_image(tmp_path / "clean" / "a.png").tensor()[None]
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(3)) * 15 / 255
    assert float(rows[0]["psnr_noisy"]) == pytest.approx(psnr(clean + noise, clean).item(), abs=1e-3)
    assert run(*arguments)[1] == output


def test_evaluate_goes_on_after_a_bad_image(run, tmp_path, random_picture):
    write_image(tmp_path / "b.png", random_picture(30, 30, 1))
    write_image(tmp_path / "small.png", random_picture(5, 5, 1))
    (tmp_path / "a.png").write_text("no picture")
    code, output, errors = run("evaluate", tmp_path)
    assert code == 2
    assert [line.split()[0] for line in output] == ["image", "b.png", "mean"]
    assert [line.split(": ")[1] for line in errors] == [str(tmp_path / "a.png"), str(tmp_path / "small.png")]


def test_evaluate_needs_a_folder_with_images(run, tmp_path, photo):
    assert run("evaluate", photo) == (2, [], [f"indeed: {photo}: got no folder, expected one of images"])
    (tmp_path / "none").mkdir()
    code, _, errors = run("evaluate", tmp_path / "none")
    assert code == 2
    assert "holds no image" in errors[0]
