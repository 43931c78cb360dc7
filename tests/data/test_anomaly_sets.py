"""A set for anomaly detection gives the pixels and masks of its files, or an error that names the file at fault."""

import gzip
import pickle
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from indeed.data.anomaly_readers import (
    READERS,
    anomaly_set,
    decode_run_lengths,
    folder_set,
    mood_set,
    severstal_set,
    visa_set,
)
from indeed.data.anomaly_sets import GOOD, TEXTURES, AnomalyItem, AnomalySet, load, texture_set
from indeed.data.benchmarks import DataError, DataMissingError
from indeed.data.image_files import ImageFileError
from indeed.data.samples import sample_image

HEIGHT, WIDTH = 12, 20


def write(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def picture(path: Path, *, seed: int = 0, shape: tuple[int, ...] = (HEIGHT, WIDTH)) -> Path:
    return write(path, np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def mask(path: Path, *, value: int = 255, shape: tuple[int, ...] = (HEIGHT, WIDTH)) -> Path:
    pixels = np.zeros(shape, dtype=np.uint8)
    pixels[3:7, 5:11] = value
    return write(path, pixels)


def refused(read, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        read()
    assert "\n" not in str(error.value)


@pytest.fixture
def part(tmp_path):
    """Two good images to train on, one to test on, a scratch and a dent with their masks."""
    root = tmp_path / "part"
    for number in (1, 2):
        picture(root / "train" / GOOD / f"{number}.png", seed=number)
    picture(root / "test" / GOOD / "1.png", seed=3)
    for defect in ("scratch", "dent"):
        picture(root / "test" / defect / "7.png", seed=4)
        mask(root / "ground_truth" / defect / "7_mask.png")
    return root


def defective(root: Path, defect: str = "scratch") -> AnomalyItem:
    (item,) = (item for item in folder_set(root).test if item.defect == defect)
    return item


class TestFolder:
    def test_every_image_is_there_once_with_its_class_and_mask(self, part):
        found = folder_set(part)
        assert [(item.file.name, item.defect) for item in found.train] == [("1.png", GOOD), ("2.png", GOOD)]
        assert [(item.defect, item.mask_file) for item in found.test] == [
            (GOOD, None),
            ("dent", part / "ground_truth" / "dent" / "7_mask.png"),
            ("scratch", part / "ground_truth" / "scratch" / "7_mask.png"),
        ]
        assert (found.name, found.categories) == ("part", ("part",))

    def test_a_folder_of_categories_is_their_union_and_a_class_is_scored_with_its_own_good_images(self, part):
        part.rename(part.parent / "screw")
        root = part.parent
        for folder in ("train/good", "test/good", "test/scratch"):
            picture(root / "tile" / folder / "1.png")
        mask(root / "tile/ground_truth/scratch/1_mask.png")
        (root / "licence").mkdir()
        found = folder_set(root)
        assert found.categories == ("screw", "tile")
        assert found.classes == (("screw", "dent"), ("screw", "scratch"), ("tile", "scratch"))
        files = [item.file.relative_to(root).as_posix() for item in found.scored("tile", "scratch")]
        assert files == ["tile/test/good/1.png", "tile/test/scratch/1.png"]
        with pytest.raises(ValueError, match=r"category, defect: got \('tile', 'dent'\)"):
            found.scored("tile", "dent")

    def test_pixels_are_those_of_the_files(self, part):
        item = defective(part)
        image, marked = load(item)
        pixels = np.asarray(Image.open(item.file))
        np.testing.assert_array_equal(image.numpy(), pixels[None].astype(np.float32) / 255)
        np.testing.assert_array_equal(marked.numpy(), np.asarray(Image.open(item.mask_file)) > 127)

    def test_good_images_have_an_empty_mask(self, part):
        image, marked = load(folder_set(part).train[0])
        assert marked.shape == image.shape[1:]
        assert not marked.any()

    def test_a_soft_mask_is_cut_at_half_of_white(self, part):
        values = np.tile(np.arange(256, dtype=np.uint8), (2, 1))
        write(part / "ground_truth/scratch/7_mask.png", values)
        write(part / "test/scratch/7.png", values)
        np.testing.assert_array_equal(load(defective(part)).mask.numpy(), values > 127)

    @pytest.mark.parametrize(
        "options",
        [
            {"photometric": "miniswhite", "compression": "lzw"},
            {"photometric": "minisblack", "extratags": [(274, "H", 1, 2, True)]},
            {"photometric": "palette", "colormap": np.tile(np.array([0] * 40 + [65535] * 216, np.uint16), (3, 1))},
        ],
    )
    def test_a_mask_is_read_as_any_image_is(self, part, options):
        values = np.tile(np.arange(256, dtype=np.uint8), (2, 1))
        write(part / "test/scratch/7.png", values)
        file = part / "ground_truth/scratch/7_mask.png"  # it is known by its content
        with file.open("wb") as target:
            tifffile.imwrite(target, values, metadata=None, **options)
        seen = {"miniswhite": values < 128, "minisblack": values[:, ::-1] > 127, "palette": values > 39}
        np.testing.assert_array_equal(load(defective(part)).mask.numpy(), seen[options["photometric"]])
        tifffile.imwrite(file.with_suffix(".tif"), np.stack([values] * 2), photometric="minisblack")
        file.with_suffix(".tif").rename(file)
        with pytest.raises(ImageFileError, match=r"7_mask\.png: holds several pictures"):
            load(defective(part))

    def test_an_item_survives_pickling(self, part):
        item = defective(part)
        for one, other in zip(load(item), load(pickle.loads(pickle.dumps(item))), strict=True):
            assert torch.equal(one, other)

    @pytest.mark.parametrize(
        ("fault", "message"),
        [
            (lambda root: (root / "test/scratch/7.png").unlink(), r"test/scratch: holds no image"),
            (
                lambda root: (root / "test/scratch/7.png").rename(root / "test/scratch/8.png"),
                r"test/scratch/8\.png: image with a defect without a mask, expected .*scratch/8_mask\.png",
            ),
            (
                lambda root: mask(root / "ground_truth/scratch/9_mask.png"),
                r"ground_truth/scratch/9_mask\.png: mask without an image, expected one in .*test/scratch",
            ),
            (
                lambda root: mask(root / "ground_truth/other/7_mask.png"),
                r"ground_truth/other/7_mask\.png: mask without an image",
            ),
            (
                lambda root: mask(root / "ground_truth/good/1_mask.png"),
                r"ground_truth/good/1_mask\.png: mask without an image",
            ),
            (
                lambda root: (root / "ground_truth/dent/7_mask.png").unlink(),
                r"test/dent/7\.png: image with a defect without a mask",
            ),
            (lambda root: (root / "test/good/1.png").unlink(), r"test/good: holds no image, expected at least one"),
            (lambda root: (root / "test/good").rename(root / "good"), r"test/good: holds no image"),
            (lambda root: (root / "train").rename(root / "other"), r"train/good: holds no image"),
            (
                lambda root: [path.unlink() for path in (root / "train/good").iterdir()],
                r"train/good: holds no image",
            ),
            (
                lambda root: picture(root / "test/scratch/7.jpg"),
                r"test/scratch/7\.png: would have the mask of .*7\.jpg, expected names of their own",
            ),
            (
                lambda root: picture(root / "test/9.png"),
                r"test/9\.png: image outside of the classes, expected it in a folder of .*test",
            ),
            (lambda root: picture(root / "train/bad/1.png"), r"train/bad: expected nothing but good to train on"),
        ],
    )
    def test_images_and_masks_that_do_not_go_together_are_named(self, part, fault, message):
        fault(part)
        refused(lambda: folder_set(part), message)

    def test_a_set_without_any_defect_is_refused(self, part):
        for defect in ("scratch", "dent"):
            for folder in ("test", "ground_truth"):
                (part / folder / defect).rename(part.parent / f"{folder}-{defect}")
        refused(lambda: folder_set(part), r"part: part has no image with a defect \(but .*1\.png\)")

    def test_a_folder_of_something_else_is_refused(self, tmp_path):
        picture(tmp_path / "images" / "1.png")
        refused(lambda: folder_set(tmp_path), r"neither it nor a folder in it has train, test or ground_truth")

    def test_one_bad_category_spoils_the_union(self, part):
        picture(part.parent / "tile/test/good/1.png")
        refused(lambda: folder_set(part.parent), r"tile/train/good: holds no image")

    def test_a_category_with_other_names_of_folders_is_not_left_out(self, part):
        picture(part.parent / "tile/Train/good/1.png")
        refused(lambda: folder_set(part.parent), r"tile: holds images, but no train, test or ground_truth")


class TestMask:
    @pytest.mark.parametrize(
        ("pixels", "message"),
        [
            (np.zeros((HEIGHT, WIDTH), np.uint8), r"7_mask\.png: marks no pixel of .*scratch/7\.png"),
            (np.full((HEIGHT, WIDTH), 127, np.uint8), r"7_mask\.png: marks no pixel"),
            (np.full((HEIGHT, WIDTH), 255, np.uint8), r"7_mask\.png: marks every pixel of .*scratch/7\.png"),
            (
                np.eye(WIDTH, HEIGHT, dtype=np.uint8) * 255,
                r"7_mask\.png: mask of 12x20 pixels, expected 20x12 as .*scratch/7\.png",
            ),
        ],
    )
    def test_a_mask_that_says_nothing_or_not_of_this_image_is_refused(self, part, pixels, message):
        write(part / "ground_truth/scratch/7_mask.png", pixels)
        refused(lambda: load(defective(part)), message)

    @pytest.mark.parametrize("file", ["test/scratch/7.png", "ground_truth/scratch/7_mask.png"])
    @pytest.mark.parametrize("content", [b"", b"GIF89a", "half"])
    def test_a_corrupt_image_is_named(self, part, file, content):
        path = part / file
        path.write_bytes(path.read_bytes()[:60] if content == "half" else content)
        item = defective(part)
        with pytest.raises(ImageFileError, match=re.escape(str(path))):
            load(item)


class TestSize:
    @pytest.mark.parametrize("size", [8, 31, (12, 20), (30, 7)])
    def test_image_and_mask_get_the_size_and_keep_their_ranges(self, part, size):
        image, marked = load(defective(part), size, channels=3)
        height, width = (size, size) if isinstance(size, int) else size
        assert (image.shape, marked.shape) == ((3, height, width), (height, width))
        assert image.min() >= 0
        assert image.max() <= 1
        assert marked.dtype == torch.bool
        assert image.is_contiguous()

    def test_its_own_size_changes_nothing(self, part):
        item = defective(part)
        for one, other in zip(load(item), load(item, (HEIGHT, WIDTH)), strict=True):
            assert torch.equal(one, other)

    def test_the_mask_takes_the_value_of_the_nearest_pixel(self, part):
        item = defective(part)
        whole, small = load(item).mask, load(item, (7, 33)).mask
        for row in range(7):
            for column in range(33):
                nearest = int((row + 0.5) * HEIGHT / 7), int((column + 0.5) * WIDTH / 33)
                assert small[row, column] == whole[nearest]

    def test_shrinking_keeps_the_mean(self, part):
        item = folder_set(part).train[0]
        whole, small = load(item).image, load(item, (HEIGHT // 2, WIDTH // 2)).image
        assert small.mean().item() == pytest.approx(whole.mean().item(), abs=0.02)

    def test_colour_becomes_the_grey_of_pillow_and_grey_three_equal_channels(self, part):
        path = picture(part / "train/good/1.png", shape=(HEIGHT, WIDTH, 3))
        colour, grey = folder_set(part).train
        expected = np.asarray(Image.open(path).convert("L")) / 255
        np.testing.assert_allclose(load(colour, channels=1).image[0].numpy(), expected, atol=0.6 / 255)
        assert load(colour).image.shape[0] == 3
        three = load(grey, channels=3).image
        assert torch.equal(three, load(grey).image.expand(3, -1, -1))

    def test_a_size_without_pixels_is_refused(self, part):
        with pytest.raises(ValueError, match="size: got 0"):
            load(defective(part), 0)


class TestRunLengths:
    @pytest.mark.parametrize("seed", range(5))
    def test_decoding_inverts_a_naive_encoder(self, seed):
        mask = np.random.default_rng(seed).random((7, 9)) < 0.4
        pixels, runs = [column for columns in mask.T for column in columns], []
        for number, value in enumerate(pixels, start=1):
            if value and (number == 1 or not pixels[number - 2]):
                runs.append([number, 0])
            if value:
                runs[-1][1] += 1
        text = " ".join(f"{first} {length}" for first, length in runs)
        np.testing.assert_array_equal(decode_run_lengths(text, 7, 9).numpy(), mask)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "0 numbers, expected pairs"),
            ("1 2 3", "3 numbers, expected pairs"),
            ("1 x", "'x', expected positive integers"),
            ("1 -2", "'-2', expected positive integers"),
            ("1 2.5", r"'2\.5', expected positive integers"),
            ("1 ²", "'²', expected positive integers"),
            ("0 3", "3 pixels from pixel 0"),
            ("3 0", "0 pixels from pixel 3"),
            ("5 2 1 2", "pixel 1 after pixel 5, expected increasing"),
            ("5 2 5 2", "pixel 5 after pixel 5, expected increasing"),
            ("1 4 4 2", "pixel 4 overlaps the 4 pixels from pixel 1"),
            ("60 4 63 2", "pixel 63 overlaps"),
            ("60 5", "reach pixel 64, expected at most 63"),
            ("64 1", "reach pixel 64, expected at most 63"),
        ],
    )
    def test_what_is_no_mask_is_refused(self, text, message):
        with pytest.raises(ValueError, match=message):
            decode_run_lengths(text, 7, 9)

    def test_the_last_pixel_belongs_to_the_image(self):
        assert decode_run_lengths("63 1", 7, 9).nonzero().tolist() == [[6, 8]]


class TestSeverstal:
    @pytest.fixture
    def steel(self, tmp_path):
        """Seven good sheets and three with defects: class 3, class 1, and classes 1 and 3."""
        for number in range(10):
            picture(tmp_path / "train_images" / f"{number:09x}.jpg", seed=number, shape=(256, 1600))
        rows = ["000000001.jpg,3,1 256", "000000005.jpg,1,257 3", "000000009.jpg,1,1 3", "000000009.jpg,3,3 4"]
        self.table(tmp_path, rows)
        return tmp_path

    @staticmethod
    def table(folder: Path, rows: list[str], head: str = "ImageId,ClassId,EncodedPixels") -> None:
        (folder / "train.csv").write_text("\n".join([head, *rows]) + "\n")

    def test_images_without_a_row_are_good_and_split_for_ever(self, steel):
        found = severstal_set(steel)
        good = {item.file.name for item in found.train} | {item.file.name for item in found.test if item.defect == GOOD}
        assert good == {f"{number:09x}.jpg" for number in (0, 2, 3, 4, 6, 7, 8)}
        assert [item.file.name for item in found.test if item.defect == GOOD] == ["000000000.jpg"]
        assert len(found.train) == 6

    def test_classes_and_masks_are_those_of_the_table(self, steel):
        masks = {item.defect: load(item).mask for item in severstal_set(steel).test}
        assert {name: int(mask.sum()) for name, mask in masks.items()} == {GOOD: 0, "1": 3, "3": 256, "several": 6}
        assert masks["3"][:, 0].all()  # down the columns
        assert masks["1"].nonzero().tolist() == [[0, 1], [1, 1], [2, 1]]

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            ("000000002.jpg,1,1 3 409600 2", r"line 6 \(000000002\.jpg\): run lengths: reach pixel 409601"),
            ("000000002.jpg,1,1 3 2 2", r"line 6 \(000000002\.jpg\): run lengths: pixel 2 overlaps"),
            ("000000002.jpg,1,9 3 2 2", r"line 6 .* expected increasing"),
            ("000000002.jpg,1,1 3 7", r"line 6 .* 3 numbers, expected pairs"),
            ("000000002.jpg,1,", r"line 6 .* 0 numbers, expected pairs"),
            ("00000000f.jpg,1,1 3", r"line 6 .*: mask without an image, expected .*train_images/00000000f\.jpg"),
            ("000000002.jpg,5,1 3", r"line 6 .*: class 5, expected 1 to 4"),
            ("000000009.jpg,3,1 3", r"line 6 .*: class 3, expected 1 to 4, each once"),
            ("000000002.jpg,1", r"line 6 has not 3 fields"),
        ],
    )
    def test_a_bad_row_is_named(self, steel, row, message):
        with (steel / "train.csv").open("a") as file:
            file.write(row + "\n")
        refused(lambda: severstal_set(steel), rf"train\.csv: {message}")

    def test_a_table_of_another_form_is_refused(self, steel):
        self.table(steel, ["000000001.jpg_1,1 3"], head="ImageId_ClassId,EncodedPixels")
        refused(lambda: severstal_set(steel), r"train\.csv: columns .*, expected ImageId, ClassId, EncodedPixels")
        (steel / "train.csv").unlink()
        refused(lambda: severstal_set(steel), r"train\.csv: cannot be read")

    def test_run_lengths_for_an_image_of_another_size_are_refused(self, steel):
        picture(steel / "train_images/000000001.jpg", shape=(1600, 256))
        item = next(item for item in severstal_set(steel).test if item.defect == "3")
        refused(lambda: load(item), r"train\.csv: mask of 1600x256 pixels, expected 256x1600 as .*000000001\.jpg")

    def test_a_set_without_good_images_is_refused(self, steel):
        self.table(steel, [f"{number:09x}.jpg,1,1 3" for number in range(9)])
        refused(lambda: severstal_set(steel), r"train_images: 1 images without a row in .*train\.csv")


class TestVisa:
    ROWS = (
        "candle,train,normal,candle/Data/Images/Normal/1.JPG,",
        "candle,test,normal,candle/Data/Images/Normal/2.JPG,",
        "candle,test,anomaly,candle/Data/Images/Anomaly/1.JPG,candle/Data/Masks/Anomaly/1.png",
    )

    @pytest.fixture
    def visa(self, tmp_path):
        for name in ("Normal/1", "Normal/2", "Anomaly/1"):
            picture(tmp_path / "candle/Data/Images" / f"{name}.JPG", shape=(HEIGHT, WIDTH, 3))
        mask(tmp_path / "candle/Data/Masks/Anomaly/1.png", value=2)
        self.table(tmp_path, *self.ROWS)
        return tmp_path

    @staticmethod
    def table(folder: Path, *rows: str) -> None:
        (folder / "split_csv").mkdir(exist_ok=True)
        (folder / "split_csv/1cls.csv").write_text("\n".join(["object,split,label,image,mask", *rows]) + "\n")

    def test_the_split_is_that_of_the_table_and_a_mask_of_small_numbers_counts(self, visa):
        found = visa_set(visa)
        assert [item.file.name for item in found.train] == ["1.JPG"]
        assert [item.defect for item in found.test] == [GOOD, "anomaly"]
        assert found.classes == (("candle", "anomaly"),)
        assert load(found.test[1]).mask.sum() == 24

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            (ROWS[:2], r"Anomaly/1\.JPG: not in .*1cls\.csv"),
            ((*ROWS, ROWS[0]), r"1cls\.csv: line 5: .*Normal/1\.JPG twice"),
            ((*ROWS, ROWS[0].replace("1.JPG", "9.JPG")), r"1cls\.csv: line 5: .*Normal/9\.JPG is missing"),
            ((*ROWS[:2], ROWS[2].rsplit(",", 1)[0] + ","), r"line 4: label anomaly and mask '', expected a mask"),
            ((*ROWS[:2], ROWS[2].replace("1.png", "2.png")), r"Anomaly/1\.JPG: image with a defect without a mask"),
            ((*ROWS[:2], ROWS[2].replace(",test,", ",train,")), r"Anomaly/1\.JPG: has the defect 'anomaly'"),
            ((*ROWS[:2], ROWS[2].replace(",test,", ",valid,")), r"line 4: valid, anomaly, expected train or test"),
            ((ROWS[0].replace("train", "test"), *ROWS[1:]), r"candle has no good image to train on"),
            ((ROWS[0], ROWS[1].replace("test", "train"), ROWS[2]), r"candle has no good image to test on"),
        ],
    )
    def test_a_table_that_does_not_fit_the_files_is_refused(self, visa, rows, message):
        self.table(visa, *rows)
        refused(lambda: visa_set(visa), message)

    def test_a_mask_that_two_rows_name_is_refused(self, visa):
        picture(visa / "candle/Data/Images/Anomaly/2.JPG", shape=(HEIGHT, WIDTH, 3))
        self.table(visa, *self.ROWS, self.ROWS[2].replace("1.JPG", "2.JPG"))
        refused(lambda: visa_set(visa), r"1cls\.csv: line 5: .*Masks/Anomaly/1\.png twice")

    def test_a_mask_that_no_row_names_is_refused(self, visa):
        mask(visa / "candle/Data/Masks/Anomaly/5.png")
        refused(lambda: visa_set(visa), r"Masks/Anomaly/5\.png: not in .*1cls\.csv")


class TestMood:
    SHAPE = (6, 5, 4)

    @pytest.fixture
    def mood(self, tmp_path):
        """Two normal volumes; a toy case with one marked slice, one empty slice and two good ones; one without mark."""
        for number in range(2):
            self.volume(tmp_path / f"brain_train/0000{number}.nii.gz", self.noise(number))
        case, label = self.noise(2), np.zeros(self.SHAPE)
        case[..., 0], label[1:3, 2, 1] = 0, 1
        self.toy(tmp_path, "toy_0", case, label, "1")
        self.toy(tmp_path, "toy_1", self.noise(3), np.zeros(self.SHAPE), "0")
        return tmp_path

    def noise(self, seed: int) -> np.ndarray:
        return np.random.default_rng(seed).random(self.SHAPE) * 300 - 50

    @staticmethod
    def volume(path: Path, array: np.ndarray) -> Path:
        nibabel = pytest.importorskip("nibabel")
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(array.astype(np.float32), np.eye(4)), path)
        return path

    def toy(self, root: Path, name: str, case: np.ndarray, label: np.ndarray, digit: str) -> None:
        self.volume(root / "toy" / f"{name}.nii.gz", case)
        self.volume(root / "toy_label/pixel" / f"{name}.nii.gz", label)
        (root / "toy_label/sample").mkdir(parents=True, exist_ok=True)
        (root / f"toy_label/sample/{name}.nii.gz.txt").write_text(digit + "\n")

    def test_only_normal_volumes_are_trained_on_and_slices_without_a_mark_are_good(self, mood):
        found = mood_set(mood)
        assert {item.file.parent.name for item in found.train} == {"brain_train"}
        assert len(found.train) == 2 * 4
        toys = [(item.file.name, item.part, item.defect) for item in found.test]
        assert toys == [("toy_0.nii.gz", 1, "anomaly"), ("toy_0.nii.gz", 2, GOOD), ("toy_0.nii.gz", 3, GOOD)] + [
            ("toy_1.nii.gz", part, GOOD) for part in range(4)
        ]

    def test_a_slice_is_the_volume_scaled_by_its_range(self, mood):
        nibabel = pytest.importorskip("nibabel")
        item = mood_set(mood).test[0]
        array = np.asarray(nibabel.load(item.file).get_fdata())
        image, marked = load(item)
        np.testing.assert_allclose(image[0], (array[..., 1] - array.min()) / np.ptp(array), atol=1e-6)
        assert marked.nonzero().tolist() == [[1, 2], [2, 2]]

    @pytest.mark.parametrize("file", ["brain_train/00001.nii.gz", "toy/toy_0.nii.gz", "toy_label/pixel/toy_0.nii.gz"])
    @pytest.mark.parametrize(
        "content",
        [b"", b"no gzip", gzip.compress(b"no volume" * 100), "half"],
        ids=["empty", "no gzip", "no volume", "half"],  # the compressed bytes hold the time, and workers would differ
    )
    def test_a_corrupt_volume_is_named(self, mood, file, content):
        path = mood / file
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2] if content == "half" else content)

        def read() -> None:
            for item in mood_set(mood).train[-4:]:
                load(item)

        refused(read, rf"{re.escape(str(path))}: damaged or not a NIfTI-1 volume")

    def test_a_flipped_bit_in_a_volume_is_noticed(self, mood):
        path = mood / "toy/toy_0.nii.gz"
        raw = bytearray(path.read_bytes())
        raw[-6] ^= 1  # of the checksum
        path.write_bytes(raw)
        refused(lambda: mood_set(mood), r"toy_0\.nii\.gz: damaged")

    @pytest.mark.parametrize(
        ("fault", "message"),
        [
            (lambda self, root: (root / "toy_label/pixel/toy_0.nii.gz").unlink(), r"toy/toy_0\.nii\.gz: image without"),
            (
                lambda self, root: (root / "toy_label/sample/toy_0.nii.gz.txt").unlink(),
                r"toy/toy_0\.nii\.gz: image without a mask, expected .*toy_0\.nii\.gz\.txt",
            ),
            (lambda self, root: (root / "toy/toy_1.nii.gz").unlink(), r"pixel/toy_1\.nii\.gz: mask without an image"),
            (
                lambda self, root: self.volume(root / "toy_label/pixel/toy_0.nii.gz", np.ones((6, 5, 3))),
                r"pixel/toy_0\.nii\.gz: \(6, 5, 3\) voxels, expected \(6, 5, 4\)",
            ),
            (
                lambda self, root: self.volume(root / "toy_label/pixel/toy_0.nii.gz", np.zeros(self.SHAPE)),
                r"sample/toy_0\.nii\.gz\.txt: '1', expected 0",
            ),
            (
                lambda self, root: (root / "toy_label/sample/toy_0.nii.gz.txt").write_text("0"),
                r"sample/toy_0\.nii\.gz\.txt: '0', expected 1",
            ),
            (
                lambda self, root: (root / "toy_label/sample/toy_0.nii.gz.txt").write_bytes(b"\xff"),
                r"sample/toy_0\.nii\.gz\.txt: '.', expected 1",
            ),
            (
                lambda self, root: self.volume(root / "toy/toy_1.nii.gz", np.full(self.SHAPE, 3.0)),
                r"toy/toy_1\.nii\.gz: holds the value 3\.0 only",
            ),
            (
                lambda self, root: self.volume(root / "toy/toy_1.nii.gz", np.full(self.SHAPE, np.nan)),
                r"toy/toy_1\.nii\.gz: holds NaN",
            ),
            (
                lambda self, root: self.volume(root / "brain_train/00000.nii.gz", np.ones((3, 3))),
                r"brain_train/00000\.nii\.gz: 2 axes, expected a volume with 3",
            ),
            (
                lambda self, root: (root / "brain_train").rename(root / "other"),
                r"brain_train: holds no volume",
            ),
        ],
    )
    def test_volumes_that_do_not_go_together_are_named(self, mood, fault, message):
        fault(self, mood)
        refused(lambda: mood_set(mood), message)

    def test_a_slice_that_is_marked_whole_is_refused(self, mood):
        label = np.zeros(self.SHAPE)
        label[..., 1] = 1
        self.volume(mood / "toy_label/pixel/toy_0.nii.gz", label)
        item = mood_set(mood).test[0]
        refused(lambda: load(item), r"pixel/toy_0\.nii\.gz: marks every pixel of .*toy/toy_0\.nii\.gz")

    def test_without_nibabel_the_error_says_what_to_install(self, mood, monkeypatch):
        monkeypatch.setitem(sys.modules, "nibabel", None)
        with pytest.raises(ModuleNotFoundError, match="pip install nibabel"):
            mood_set(mood)


def spot(image: torch.Tensor, name: str, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """A black square somewhere."""
    top, left = torch.randint(0, image.shape[1] - 8, (2,), generator=generator).tolist()
    mask = torch.zeros(image.shape[1:])
    mask[top : top + 8, left : left + 8] = 1
    return torch.where(mask > 0, 0.0, image), mask


class TestTextures:
    @pytest.fixture
    def textures(self):
        return texture_set({"spot": spot, "other": spot}, torch.Generator().manual_seed(0))

    def test_training_and_testing_share_no_pixel(self, textures):
        for item in textures.train:
            photograph = sample_image(item.category)
            assert torch.equal(load(item).image, photograph[..., :256])
        tiles = [item for item in textures.test if item.defect == GOOD and item.category == "brick"]
        right = torch.cat(
            [torch.cat([load(item).image for item in tiles[row : row + 2]], 2) for row in (0, 2, 4, 6)], 1
        )
        assert torch.equal(right, sample_image("brick")[..., 256:])

    def test_each_tile_is_there_as_it_is_and_once_with_each_defect(self, textures):
        counts = Counter((item.category, item.defect) for item in textures.test)
        assert counts == {(name, defect): 8 for name in TEXTURES for defect in (GOOD, "spot", "other")}
        assert textures.classes == tuple((name, defect) for name in TEXTURES for defect in ("other", "spot"))

    def test_a_defect_changes_its_mask_only(self, textures):
        clean = {(item.category, item.part): load(item).image for item in textures.test if item.defect == GOOD}
        for item in textures.test:
            if item.defect != GOOD:
                image, marked = load(item)
                assert marked.sum() == 64
                assert torch.equal(image[:, ~marked], clean[item.category, item.part][:, ~marked])

    def test_the_same_seed_gives_the_same_defects(self, textures):
        again = texture_set({"spot": spot, "other": spot}, torch.Generator().manual_seed(0))
        other = texture_set({"spot": spot, "other": spot}, torch.Generator().manual_seed(1))
        masks = [torch.stack([load(item).mask for item in found.test]) for found in (textures, again, other)]
        assert torch.equal(masks[0], masks[1])
        assert not torch.equal(masks[0], masks[2])

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda image, *_: (image, torch.zeros(image.shape[1:])), r"defects\['bad'\]: got 0 of 65536 pixels"),
            (lambda image, *_: (image, torch.ones(image.shape[1:])), r"defects\['bad'\]: got 65536 of 65536"),
            (lambda image, *_: (image + 1, torch.eye(256)), r"from .* to .*, expected some but not all, and \[0, 1\]"),
            (lambda image, *_: (image[..., 1:], torch.eye(256)), r"defects\['bad'\]: got shapes \(1, 256, 255\)"),
            (lambda image, *_: (image, torch.eye(255)), r"defects\['bad'\]: got shapes"),
        ],
    )
    def test_what_is_no_defect_is_refused(self, make, message):
        with pytest.raises(ValueError, match=message):
            texture_set({"bad": make}, torch.Generator(), tile=256)

    @pytest.mark.parametrize("tile", [0, 257])
    def test_a_tile_that_does_not_fit_is_refused(self, tile):
        with pytest.raises(ValueError, match=f"tile: got {tile}"):
            texture_set({"spot": spot}, torch.Generator(), tile=tile)

    def test_a_set_needs_a_defect(self):
        with pytest.raises(ValueError, match="defects: got none"):
            texture_set({}, torch.Generator())


def test_an_empty_set_is_refused():
    refused(lambda: AnomalySet("none", (), ()), "none: holds no image")


@pytest.mark.parametrize("name", READERS)
def test_a_missing_set_says_where_it_was_looked_for_and_how_to_get_it(monkeypatch, tmp_path, name):
    monkeypatch.setenv("INDEED_DATA", str(tmp_path))
    script = Path(__file__).parents[2] / "data_scripts" / f"{name}.py"
    how = rf", or run: python data_scripts/{name}\.py" if script.exists() else ""
    message = rf"^{name}: nothing in .*uad/{name}; set INDEED_DATA to the data{how}$"
    with pytest.raises(DataMissingError, match=message):
        anomaly_set(name)


def test_a_set_that_is_there_is_read_by_its_name(monkeypatch, part, tmp_path):
    monkeypatch.setenv("INDEED_DATA", str(tmp_path))
    (tmp_path / "uad").mkdir()
    part.rename(tmp_path / "uad/magnetic_tile")
    assert anomaly_set("magnetic_tile").classes == (("magnetic_tile", "dent"), ("magnetic_tile", "scratch"))


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"name: got 'imagenet', expected one of magnetic_tile"):
        anomaly_set("imagenet")


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "train", "counts"),
    [
        ("magnetic_tile", 240, {GOOD: 60, "blowhole": 115, "break": 85, "crack": 57}),
        (
            "mvtec_screw_256",
            320,
            {
                GOOD: 41,
                "manipulated_front": 24,
                "scratch_head": 24,
                "scratch_neck": 25,
                "thread_side": 23,
                "thread_top": 23,
            },
        ),
    ],
)
def test_the_sets_at_hand_have_their_stated_sizes_and_sound_masks(name, train, counts):
    try:
        found = anomaly_set(name)
    except DataMissingError as missing:
        pytest.skip(str(missing))
    assert len(found.train) == train
    assert Counter(item.defect for item in found.test) == counts
    for defect in counts:
        image, marked = load(next(item for item in found.test if item.defect == defect), 256, channels=1)
        assert image.shape == (1, 256, 256)
        assert marked.any() == (defect != GOOD)
