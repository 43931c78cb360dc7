"""The descriptions of `data_scripts/` agree with each other, with the loader and, where they are, with the data."""

import hashlib
import importlib.util
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fetching.public_sets import PublicSet, command, verify
from PIL import Image

from indeed.data.anomaly_readers import READERS, anomaly_set
from indeed.data.anomaly_sets import load
from indeed.data.benchmarks import SCRIPTS, SETS, data_root

SCRIPT_FOLDER = Path(__file__).resolve().parents[2] / "data_scripts"


def described(path: Path) -> list[PublicSet]:
    spec = importlib.util.spec_from_file_location(f"data_script_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [value for value in vars(module).values() if isinstance(value, PublicSet)]


BY_SCRIPT = {path.name: described(path) for path in sorted(SCRIPT_FOLDER.glob("*.py"))}
BY_NAME = {public.name: public for sets in BY_SCRIPT.values() for public in sets}
each = pytest.mark.parametrize("public", BY_NAME.values(), ids=list(BY_NAME))

AT_HAND = {"magnetic_tile", "mvtec_screw_256"}  # sets of `anomaly_set` that no script brings
UNCHECKED = {"mood", "severstal"}  # sets of which no checksum is published: README.md says so

# One path of each archive as its source has it, and the file name that it gets.
PATHS = {
    "bsd400_gray": ("DnCNN-PyTorch-6b08/data/train/test_001.png", "test_001.png"),
    "bsd68": ("FFDNet-e787/testsets/BSD68/test001.png", "test001.png"),
    "cbsd432": ("BSR/BSDS500/data/images/test/100007.jpg", "100007.jpg"),
    "cbsd68": ("FFDNet-e787/testsets/CBSD68/101085.png", "101085.png"),
    "div2k": ("DIV2K_train_HR/0001.png", "0001.png"),
    "div2k_valid": ("DIV2K_valid_HR/0801.png", "0801.png"),
    "mcmaster": ("McM/18.tif", "18.tif"),
    "mood": ("toy_label/pixel/toy_0.nii.gz", "toy_label/pixel/toy_0.nii.gz"),
    "mvtec_ad": ("screw/ground_truth/thread_top/000_mask.png", "screw/ground_truth/thread_top/000_mask.png"),
    "polyu": ("PolyU-3af0/CroppedImages/Sony_4_200_3200_door_10_real.JPG", "Sony_4_200_3200_door_10_real.JPG"),
    "severstal": ("train_images/0002cc93b.jpg", "train_images/0002cc93b.jpg"),
    "set12": ("FFDNet-e787/testsets/Set12/12.png", "12.png"),
    "sidd_small": (
        "SIDD_Small_sRGB_Only/Data/0001_001_S6_00100_00060_3200_L/GT_SRGB_010.PNG",
        "0001_001_S6_00100_00060_3200_L_GT_SRGB_010.PNG",
    ),
    "visa": ("candle/Data/Images/Normal/0836.JPG", "candle/Data/Images/Normal/0836.JPG"),
}


def test_each_set_of_the_loader_has_one_script_that_its_error_names():
    brought = {public.name: script for script, sets in BY_SCRIPT.items() for public in sets}
    brought |= {
        f"{public.name}_{public.crop}": f"{brought[public.name]} --crop" for public in BY_NAME.values() if public.crop
    }
    anomaly = {name: f"{name}.py" for name in READERS.keys() - AT_HAND}
    assert {name: SCRIPTS.get(name, f"{name}.py") for name in SETS} | anomaly == brought
    assert all(BY_NAME[name].place == f"uad/{name}" for name in anomaly)
    assert sum(map(len, BY_SCRIPT.values())) == len(BY_NAME)


@each
def test_a_description_is_complete(public):
    assert public.home.startswith("https://")
    assert len(public.terms) > 50
    assert public.expected > 0
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in public.files.values() if value is not None)
    # A file is checked by a published checksum of its archive, or by its own, unless nobody published one.
    assert (all(source.checksum for source in public.sources) or public.checked) != (public.name in UNCHECKED)
    assert len({source.name for source in public.sources}) == len(public.sources)


@pytest.mark.parametrize(("name", "path", "file"), [(name, *paths) for name, paths in PATHS.items()])
def test_a_path_of_the_archive_lands_under_its_name(name, path, file):
    assert BY_NAME[name].landing(path) == file
    assert BY_NAME[name].landing(f"unwanted/{path}") is None


def test_every_set_with_an_archive_has_its_paths_tested():
    assert {public.name for public in BY_NAME.values() if public.members} == set(PATHS)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("bsd400_gray", 400),
        ("bsd68", 68),
        ("cbsd432", 432),
        ("cbsd68", 68),
        ("div2k", 800),
        ("div2k_valid", 100),
        ("kodak24", 24),
        ("mcmaster", 18),
        ("mood", 800),
        ("mvtec_ad", 3629 + 1725 + 1258),
        ("polyu", 202),
        ("set12", 12),
        ("severstal", 12_568 + 1),
        ("sidd_small", 320),
        ("visa", 10_821 + 1200),
    ],
)
def test_sets_have_their_stated_sizes(name, count):
    assert BY_NAME[name].expected == count


def test_the_training_photographs_are_those_of_bsds500_that_are_not_tested_on():
    train = {Path(name).stem for name in BY_NAME["cbsd432"].files}
    test = {Path(name).stem for name in BY_NAME["cbsd68"].files}
    assert not train & test
    assert len(train | test) == 500
    assert BY_NAME["cbsd432"].landing("BSR/BSDS500/data/images/val/101085.jpg") is None


def test_every_noisy_photograph_has_its_reference():
    names = [name for name in BY_NAME["polyu"].files if name.endswith(".JPG")]
    assert {name.replace("_real", "_mean") for name in names if "_real" in name} == {n for n in names if "_mean" in n}


def picture(path: Path, size: tuple[int, int], *, mark: int | None = None) -> None:
    """Write a grey picture, or a mask with one pixel of the value that marks a defect."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("L", size, 128 if mark is None else 0)
    if mark is not None:
        image.putpixel((1, 1), mark)
    image.save(path)


def lay_out(name: str, folder: Path) -> dict[str, int]:
    """Write a small copy of a set for anomaly detection, in the paths of its archive; return its counts."""
    if name == "mvtec_ad":
        for path in ("train/good/000", "test/good/000", "test/cut/000"):
            picture(folder / f"wood/{path}.png", (9, 9))
        picture(folder / "wood/ground_truth/cut/000_mask.png", (9, 9), mark=255)
        return dict(zip(BY_NAME[name].counts, (1, 1, 1, 1), strict=True))
    if name == "visa":
        rows = ["object,split,label,image,mask"]
        for split, kind, number in (("train", "Normal", 0), ("test", "Normal", 1), ("test", "Anomaly", 0)):
            path, mask = f"pcb1/Data/Images/{kind}/{number:03}.JPG", ""
            picture(folder / path, (9, 9))
            if kind == "Anomaly":
                mask = f"pcb1/Data/Masks/Anomaly/{number:03}.png"
                picture(folder / mask, (9, 9), mark=1)
            rows.append(f"pcb1,{split},{kind.lower()},{path},{mask}")
        (folder / "split_csv").mkdir()
        (folder / "split_csv/1cls.csv").write_text("\n".join(rows))
        return dict(zip(BY_NAME[name].counts, (2, 1, 1), strict=True))
    if name == "severstal":
        for number in range(3):
            picture(folder / f"train_images/00000000{number}.jpg", (1600, 256))
        picture(folder / "test_images/00000000f.jpg", (1600, 256))
        (folder / "train.csv").write_text("ImageId,ClassId,EncodedPixels\n000000001.jpg,1,5 7\n")
        return dict(zip(BY_NAME[name].counts, (3, 1), strict=True))
    nibabel = pytest.importorskip("nibabel")
    volume, label = np.arange(8.0).reshape(2, 2, 2), np.zeros((2, 2, 2))
    label[0, 0, 0] = 1
    for path, array in (("brain_train/00000", volume), ("toy/toy_0", volume), ("toy_label/pixel/toy_0", label)):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), folder / f"{path}.nii.gz")
    (folder / "toy_label/sample").mkdir()
    (folder / "toy_label/sample/toy_0.nii.gz.txt").write_text("1")
    return dict(zip(BY_NAME[name].counts, (1,), strict=True))


@pytest.mark.parametrize("name", sorted(READERS.keys() - AT_HAND))
def test_a_small_copy_of_a_set_for_anomaly_detection_lands_where_its_reader_finds_it(
    name, tmp_path, monkeypatch, capsys
):
    counts = lay_out(name, tmp_path / "mine")
    public, arguments = BY_NAME[name], ["--root", str(tmp_path / "data"), "--from", str(tmp_path / "mine"), "--yes"]
    assert command(public, argv=arguments) == 2  # it is not the whole set
    assert re.search(r"\d+ files .*, expected \d+\n$", capsys.readouterr().err)
    assert command(replace(public, counts=counts), argv=arguments) == 0
    monkeypatch.setenv("INDEED_DATA", str(tmp_path / "data"))
    found = anomaly_set(name)
    (defective,) = (item for item in found.test if item.defect != "good")
    assert load(defective).mask.any()
    assert not list((tmp_path / "data").rglob("test_images"))


@pytest.mark.parametrize("name", sorted(READERS.keys() - AT_HAND))
def test_a_set_without_its_masks_does_not_land(name, tmp_path, capsys):
    counts = lay_out(name, tmp_path / "mine")
    masks = {"mvtec_ad": "wood/ground_truth", "visa": "pcb1/Data/Masks", "mood": "toy_label"}
    if name in masks:
        shutil.rmtree(tmp_path / "mine" / masks[name])
    else:
        (tmp_path / "mine/train.csv").write_text("ImageId,ClassId,EncodedPixels\n00000000f.jpg,1,5 7\n")
    public = replace(
        BY_NAME[name], counts={pattern: count for pattern, count in counts.items() if "ask" not in pattern}
    )
    assert command(public, argv=["--root", str(tmp_path / "data"), "--from", str(tmp_path / "mine"), "--yes"]) == 2
    assert re.search("mask|pixel", capsys.readouterr().err)
    assert not (tmp_path / "data" / public.place).exists()


def test_a_reader_without_its_package_says_what_to_install(tmp_path, monkeypatch, capsys):
    counts = lay_out("mood", tmp_path / "mine")
    monkeypatch.setitem(sys.modules, "nibabel", None)
    arguments = ["--root", str(tmp_path / "data"), "--from", str(tmp_path / "mine"), "--yes"]
    assert command(replace(BY_NAME["mood"], counts=counts), argv=arguments) == 2
    assert capsys.readouterr().err == "NIfTI volumes need the package nibabel: pip install nibabel\n"


@pytest.mark.parametrize("name", ["mood", "mvtec_ad", "severstal"])
def test_a_set_behind_a_login_says_where_and_what_to_download(name, tmp_path, capsys):
    assert command(BY_NAME[name], argv=["--root", str(tmp_path), "--yes"]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert all(text in message for text in ("--from", BY_NAME[name].home, BY_NAME[name].sources[0].name))


@pytest.mark.parametrize("script", list(BY_SCRIPT))
def test_the_readme_has_a_row_for_each_script(script):
    assert f"`{script}" in (SCRIPT_FOLDER / "README.md").read_text()


@pytest.mark.slow
def test_a_script_runs_on_its_own(tmp_path):
    process = subprocess.run(
        [sys.executable, str(SCRIPT_FOLDER / "set12.py"), "--root", str(tmp_path), "--from", str(tmp_path / "none")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (process.returncode, process.stdout) == (2, "")
    assert re.fullmatch(r".*none: not a folder, expected one with the files of set12\n", process.stderr)


def there(name: str) -> Path:
    folder = data_root() / BY_NAME[name].place
    if not folder.is_dir():
        pytest.skip(f"{name}: not in {folder}; set INDEED_DATA")
    return folder


@pytest.mark.data
@each
def test_the_data_are_those_of_the_tables(public):
    verify(public, there(public.name))


@pytest.mark.data
def test_kodak_has_the_checksum_that_others_published():
    """SHA-1 over the 24 files in turn, from facebookresearch/NeuralCompression, neuralcompression/data/_kodak.py."""
    sha1 = hashlib.sha1()
    for path in sorted(there("kodak24").glob("*.png")):
        sha1.update(path.read_bytes())
    assert sha1.hexdigest() == "076e2a5fd4515b5fda677f15fe63dd112d266bc5"


@pytest.mark.data
@pytest.mark.parametrize("name", ["set12", "kodak24"])
def test_the_data_at_hand_make_the_set(name, tmp_path, capsys):
    arguments = ["--root", str(tmp_path), "--from", str(there(name)), "--yes"]
    assert command(BY_NAME[name], argv=arguments + ["--crop"] * (name == "kodak24")) == 0
    assert command(BY_NAME[name], argv=arguments) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert (tmp_path / "denoise/test/kodak24_500").exists() == (name == "kodak24")


@pytest.mark.data
def test_an_archive_of_the_form_that_github_makes_is_unpacked(tmp_path):
    folder, public = there("set12"), BY_NAME["set12"]
    with zipfile.ZipFile(tmp_path / public.sources[0].name, "w") as archive:
        for path in folder.glob("*.png"):
            archive.write(path, f"FFDNet-e787f46/testsets/Set12/{path.name}")
    assert command(public, argv=["--root", str(tmp_path / "data"), "--from", str(tmp_path), "--yes"]) == 0
    shutil.rmtree(tmp_path / "data")
