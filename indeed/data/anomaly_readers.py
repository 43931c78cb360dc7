"""Readers of anomaly sets on disk: by name (`anomaly_set`), of the common layout (`folder_set`), and of three others.

Names and pairs are checked here, pixels when an item is loaded.
"""

import csv
import gzip
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32
from torch import Tensor

from indeed.checks import one_of
from indeed.data.anomaly_sets import GOOD, AnomalyItem, AnomalySet
from indeed.data.benchmarks import DataError, DataMissingError, data_root, hold_out, image_files
from indeed.data.image_files import FORMATS, read_image
from indeed.types import Mask


def anomaly_set(name: str) -> AnomalySet:
    """Set on disk, from ``uad/<name>`` in the folder named by ``INDEED_DATA``.

    Raises
    ------
    ValueError
        If no set has that name.
    DataMissingError
        If it is not on disk.
    DataError
        If it is not whole.
    """
    one_of(READERS, name=name)
    folder = data_root() / "uad" / name
    if not folder.is_dir() or not any(folder.iterdir()):
        how = "" if READERS[name] is folder_set and name != "mvtec_ad" else f", or run: python data_scripts/{name}.py"
        raise DataMissingError(f"{name}: nothing in {folder}; set INDEED_DATA to the data{how}")
    return READERS[name](folder)


def folder_set(folder: Path) -> AnomalySet:
    """Folder with ``train/good``, ``test/good``, ``test/<class>`` and ``ground_truth/<class>/<image's name>_mask.png``.

    Or a folder of such folders, one per category, as MVTec AD is distributed (Bergmann et al., CVPR 2019). A pixel is
    defective where its mask is brighter than half of white.

    Raises
    ------
    DataError
        If a part of the layout is missing or empty, or images and masks do not go together.
    """
    roots = [folder] if _laid_out(folder) else [path for path in _folders(folder) if _laid_out(path)]
    if not roots:
        raise DataError(f"{folder}: neither it nor a folder in it has train, test or ground_truth, expected all three")
    for place in _folders(folder) if roots != [folder] else ():
        if place not in roots and any(path.suffix.lower() in FORMATS for path in place.rglob("*")):
            raise DataError(f"{place}: holds images, but no train, test or ground_truth, expected a category")
    train, test = [], []
    for root in roots:
        _check_places(root)
        train += [_picture(path, root.name) for path in _images(root / "train" / GOOD)]
        test += [_picture(path, root.name) for path in _images(root / "test" / GOOD)]
        expected: dict[Path, Path] = {}
        for defects in _folders(root / "test"):
            if defects.name != GOOD:
                for path in _images(defects):
                    mask = root / "ground_truth" / defects.name / f"{path.stem}_mask.png"
                    if (other := expected.setdefault(mask, path)) != path:
                        raise DataError(f"{path}: would have the mask of {other}, expected names of their own")
                    test.append(_picture(path, root.name, defects.name, mask))
        for mask in (mask for truth in _folders(root / "ground_truth") for mask in image_files(truth)):
            if mask not in expected:
                raise DataError(f"{mask}: mask without an image, expected one in {root / 'test' / mask.parent.name}")
    return AnomalySet(folder.name, tuple(train), tuple(test))


def _check_places(root: Path) -> None:
    """Refuse images that would silently be left out: outside of the classes, or defective ones to train on."""
    for part in (root / "train", root / "test", root / "ground_truth"):
        if part.is_dir() and (stray := image_files(part)):
            raise DataError(f"{stray[0]}: image outside of the classes, expected it in a folder of {part}")
    for other in _folders(root / "train"):
        if other.name != GOOD:
            raise DataError(f"{other}: expected nothing but {GOOD} to train on")


def _laid_out(folder: Path) -> bool:
    return any((folder / part).is_dir() for part in ("train", "test", "ground_truth"))


def _folders(folder: Path) -> list[Path]:
    inside = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in inside if path.is_dir() and not path.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    files = image_files(folder) if folder.is_dir() else []
    if not files:
        raise DataError(f"{folder}: holds no image, expected at least one")
    return files


def _picture(
    path: Path, category: str, defect: str = GOOD, mask: Path | None = None, threshold: float = 0.5
) -> AnomalyItem:
    if mask is not None and not mask.is_file():
        raise DataError(f"{path}: image with a defect without a mask, expected {mask}")
    return AnomalyItem(path, category, defect, partial(_read_files, path, mask, threshold), mask)


def _read_files(
    path: Path, mask: Path | None, threshold: float
) -> tuple[Float32[Tensor, "channel _ _"], Bool[Tensor, "_ _"] | None]:
    return read_image(path).tensor(), None if mask is None else read_image(mask).tensor().amax(0) > threshold


def visa_set(folder: Path) -> AnomalySet:
    """VisA (Zou et al., ECCV 2022) as its archive unpacks, split by ``split_csv/1cls.csv``; all defects in one class.

    Its masks number the kinds of defects: a pixel is defective where the mask is not 0.

    Raises
    ------
    DataError
        If the table, the images and the masks do not go together.
    """
    table = folder / "split_csv" / "1cls.csv"
    parts: dict[str, list[AnomalyItem]] = {"train": [], "test": []}
    seen = set()
    for line, row in _rows(table, ("object", "split", "label", "image", "mask")):
        where, path, mask = f"{table}: line {line}", folder / row["image"], folder / row["mask"]
        if row["split"] not in parts or row["label"] not in ("normal", "anomaly"):
            raise DataError(f"{where}: {row['split']}, {row['label']}, expected train or test, normal or anomaly")
        if (row["label"] == "anomaly") != bool(row["mask"]):
            raise DataError(f"{where}: label {row['label']} and mask {row['mask']!r}, expected a mask for an anomaly")
        if not path.is_file() or path in seen:
            raise DataError(f"{where}: {path} {'twice' if path in seen else 'is missing'}, expected once")
        if row["mask"] and mask in seen:
            raise DataError(f"{where}: {mask} twice, expected a mask for each image")
        seen.add(path)
        anomaly = ("anomaly", mask, 0.0) if row["mask"] else ()
        parts[row["split"]].append(_picture(path, row["object"], *anomaly))
        seen |= {mask} if row["mask"] else set()
    for place in sorted(folder.glob("*/Data/*/*")):
        for path in image_files(place) if place.is_dir() else ():
            if path not in seen:
                raise DataError(f"{path}: not in {table}, expected each image and mask there")
    return AnomalySet(folder.name, tuple(parts["train"]), tuple(parts["test"]))


def _rows(table: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Rows of a table with their line numbers."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != tuple(columns):
                raise DataError(f"{table}: columns {reader.fieldnames}, expected {', '.join(columns)}")
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: cannot be read ({error}), expected a table of {', '.join(columns)}") from error
    for line, row in rows:
        if None in row or None in row.values():
            raise DataError(f"{table}: line {line} has not {len(columns)} fields, expected so many")
    return rows


SEVERSTAL_SIZE = (256, 1600)
"""Height and width of the images."""


def severstal_set(folder: Path) -> AnomalySet:
    """Severstal's steel sheets: ``train_images`` with run lengths in ``train.csv`` (the test labels are not public).

    Images without a row are good: a fifth of them, spread evenly over the sorted names, is for testing and the rest for
    training. Images with rows are all for testing, in the classes ``"1"`` to ``"4"``, or ``"several"`` where an image
    has defects of more than one of them; its mask is their union.

    Raises
    ------
    DataError
        If the table and the images do not go together, or run lengths do not describe a mask.
    """
    table, images = folder / "train.csv", _images(folder / "train_images")
    names, runs = {path.name for path in images}, dict[str, dict[str, str]]()
    for line, row in _rows(table, ("ImageId", "ClassId", "EncodedPixels")):
        name, defect, where = row["ImageId"], row["ClassId"], f"{table}: line {line} ({row['ImageId']})"
        if name not in names:
            raise DataError(f"{where}: mask without an image, expected {folder / 'train_images' / name}")
        if defect not in ("1", "2", "3", "4") or defect in runs.get(name, ()):
            raise DataError(f"{where}: class {defect}, expected 1 to 4, each once for an image")
        try:
            _runs(row["EncodedPixels"], SEVERSTAL_SIZE[0] * SEVERSTAL_SIZE[1])
        except ValueError as error:
            raise DataError(f"{where}: {error}") from error
        runs.setdefault(name, {})[defect] = row["EncodedPixels"]
    good = [path for path in images if path.name not in runs]
    if len(good) < 2:
        raise DataError(f"{images[0].parent}: {len(good)} images without a row in {table}, expected at least 2")
    train, held_out = hold_out(good, max(1, len(good) // 5))
    test = [_picture(path, "steel") for path in held_out]
    for path in images:
        if found := runs.get(path.name):
            defect = next(iter(found)) if len(found) == 1 else "several"
            read = partial(_read_runs, path, tuple(found.values()))
            test.append(AnomalyItem(path, "steel", defect, read, table))
    return AnomalySet(folder.name, tuple(_picture(path, "steel") for path in train), tuple(test))


def _read_runs(path: Path, texts: tuple[str, ...]) -> tuple[Float32[Tensor, "channel _ _"], Bool[Tensor, "_ _"]]:
    masks = [decode_run_lengths(text, *SEVERSTAL_SIZE) for text in texts]
    return read_image(path).tensor(), torch.stack(masks).any(0)


def decode_run_lengths(text: str, height: int, width: int) -> Mask:
    """Mask from run lengths ``"first length first length ..."``, pixels counted from 1, down the columns.

    Raises
    ------
    ValueError
        If they are not pairs of positive integers, do not increase, overlap, or leave the image.

    Examples
    --------
    >>> decode_run_lengths("2 2 6 1", height=3, width=2).int()
    tensor([[0, 0],
            [1, 0],
            [1, 1]], dtype=torch.int32)
    """
    mask = torch.zeros(width * height, dtype=torch.bool)
    for first, length in _runs(text, width * height):
        mask[first - 1 : first - 1 + length] = True
    return mask.view(width, height).T.contiguous()


def _runs(text: str, pixels: int) -> list[tuple[int, int]]:
    words = text.split()
    if not words or len(words) % 2:
        raise ValueError(f"run lengths: {len(words)} numbers, expected pairs")
    for word in words:
        if not (word.isascii() and word.isdigit()):
            raise ValueError(f"run lengths: {word!r}, expected positive integers")
    runs = list(zip(map(int, words[::2]), map(int, words[1::2]), strict=True))
    for first, length in runs:
        if first < 1 or length < 1:
            raise ValueError(f"run lengths: {length} pixels from pixel {first}, expected positive integers")
    for (first, length), (following, _) in pairwise(runs):
        if following <= first:
            raise ValueError(f"run lengths: pixel {following} after pixel {first}, expected increasing ones")
        if following < first + length:
            raise ValueError(
                f"run lengths: pixel {following} overlaps the {length} pixels from pixel {first}, expected none"
            )
    if (last := sum(runs[-1]) - 1) > pixels:
        raise ValueError(f"run lengths: reach pixel {last}, expected at most {pixels}")
    return runs


def mood_set(folder: Path) -> AnomalySet:
    """Brain part of MOOD (Zimmerer et al., IEEE TMI 2022): slices across the last axis of NIfTI-1 volumes, grey.

    The volumes of ``brain_train`` are normal and for training. The cases of ``toy``, with masks in
    ``toy_label/pixel`` and one digit in ``toy_label/sample``, are for testing: a slice with a marked pixel has the
    class ``"anomaly"``, any other is good, and slices of one grey without a mark are left out, as they would only
    dilute the score. Each volume is scaled to [0, 1] by its smallest and largest value. Slices of a volume are read
    fast in turn, and slowly in any other order.

    Raises
    ------
    DataError
        If volumes, masks and digits do not go together, or one cannot be read.
    ModuleNotFoundError
        If nibabel is not installed.
    """
    train = []
    for path in _volumes(folder / "brain_train"):
        train += [_slice(path, part) for part in range(_shape(path)[2])]
    test = []
    toys, labels = _volumes(folder / "toy"), _volumes(folder / "toy_label" / "pixel")
    for label in labels:
        if label.name not in {path.name for path in toys}:
            raise DataError(f"{label}: mask without an image, expected {folder / 'toy' / label.name}")
    for path in toys:
        label, digit = folder / "toy_label" / "pixel" / path.name, folder / "toy_label" / "sample" / f"{path.name}.txt"
        for there in (label, digit):
            if not there.is_file():
                raise DataError(f"{path}: image without a mask, expected {there}")
        volume, marked = _volume(path), _array(label) > 0.5
        if volume.shape != marked.shape:
            raise DataError(f"{label}: {marked.shape} voxels, expected {volume.shape} as {path}")
        if (said := digit.read_text(encoding="utf-8", errors="replace").strip()) != str(int(marked.any())):
            raise DataError(f"{digit}: {said!r}, expected {int(marked.any())}, as {label} marks {marked.sum()} voxels")
        for part in range(volume.shape[2]):
            if marked[..., part].any():
                test.append(_slice(path, part, label))
            elif np.ptp(volume[..., part]) > 0:
                test.append(_slice(path, part))
    return AnomalySet(folder.name, tuple(train), tuple(test))


def _volumes(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.nii.gz"))
    if not files:
        raise DataError(f"{folder}: holds no volume (.nii.gz), expected at least one")
    return files


def _slice(path: Path, part: int, label: Path | None = None) -> AnomalyItem:
    read = partial(_read_slice, path, part, label)
    return AnomalyItem(path, "brain", GOOD if label is None else "anomaly", read, label, part)


def _read_slice(
    path: Path, part: int, label: Path | None
) -> tuple[Float32[Tensor, "1 _ _"], Bool[Tensor, "_ _"] | None]:
    mask = None if label is None else torch.from_numpy(_array(label)[..., part] > 0.5)
    return torch.from_numpy(_volume(path)[..., part].copy())[None], mask


def _nifti(path: Path, read: Callable[[Any], Any]) -> Any:
    """Read something of a volume by nibabel's class for it; any failure names the file."""
    try:
        from nibabel import Nifti1Image
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("NIfTI volumes need the package nibabel: pip install nibabel") from error
    try:
        return read(Nifti1Image)
    except MemoryError:
        raise
    except Exception as error:  # no decoder documents what it raises on a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: damaged or not a NIfTI-1 volume ({reason[:160]})") from error


def _shape(path: Path) -> tuple[int, ...]:
    shape = tuple(_nifti(path, lambda nifti: nifti.from_filename(path).shape))  # reads the header only
    if len(shape) != 3:
        raise DataError(f"{path}: {len(shape)} axes, expected a volume with 3")
    return shape


@lru_cache(maxsize=4)
def _array(path: Path) -> Float32[np.ndarray, "_ _ _"]:
    """Voxels of a volume, its gzip checksum verified."""
    _shape(path)

    def voxels(nifti: Any) -> Any:
        with gzip.open(path) as file:  # read to the end: nibabel would stop before the checksum
            return np.asarray(nifti.from_bytes(file.read()).dataobj, dtype=np.float32)

    array: Float32[np.ndarray, "_ _ _"] = _nifti(path, voxels)
    if not np.isfinite(array).all():
        raise DataError(f"{path}: holds NaN or infinite values, expected finite ones")
    return array


@lru_cache(maxsize=4)
def _volume(path: Path) -> Float32[np.ndarray, "_ _ _"]:
    """Voxels of an image, scaled to [0, 1]."""
    array = _array(path)
    low, high = array.min(), array.max()
    if low == high:
        raise DataError(f"{path}: holds the value {low} only, expected an image")
    scaled: Float32[np.ndarray, "_ _ _"] = (array - low) / (high - low)
    return scaled


READERS: dict[str, Callable[[Path], AnomalySet]] = {
    "magnetic_tile": folder_set,
    "mvtec_screw_256": folder_set,
    "mvtec_ad": folder_set,
    "severstal": severstal_set,
    "mood": mood_set,
    "visa": visa_set,
}
"""Readers of the sets that ``uad`` may hold, by name."""
