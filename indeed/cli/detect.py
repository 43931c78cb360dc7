"""``indeed detect``: anomalies in images of a kind."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from indeed.cli.faults import Faults
from indeed.cli.models import detector_checkpoint, device_named
from indeed.cli.paths import InputFiles, Out, WithImages, check_apart, named_images
from indeed.data.folders import OWN, shown
from indeed.data.image_files import write_image
from indeed.data.picture import Picture, to_pixels
from indeed.data.samples_of_files import Metadata
from indeed.files import atomic_write
from indeed.images.detection_metrics import allowed_false_positives, score_threshold
from indeed.networks.anomaly_detection import load_detector
from indeed.networks.checkpoint import read_record
from indeed.tables import ResumableTable, data_hash
from indeed.types import Map


@dataclass(frozen=True, kw_only=True)
class Detect(WithImages):
    """Find anomalies in images by a detector that was trained on good ones of their kind.

    Folders are searched with those inside them, and the results lie in folders of the same names.

    Each image NAME.* gets NAME_map.npy (float32, at its size), NAME_heat.png, NAME_overlay.png and a row of scores.csv.
    The pictures of a run have one scale, from 0 to twice the largest score of a good image or, where the map is a
    share, to 1 if that is less; it is printed. A run that was stopped goes on: what is there already, from the same
    image and checkpoint, is not computed again. A detector of photographs, but not that of textures, sees each image
    squeezed into 256 x 256 pixels, as in its training: take details of one size for its training and here.
    """

    images: InputFiles
    """PNG, JPEG, TIFF, BMP or WebP files, or folders of them; grey or colour, converted to what the detector was
    trained on."""
    out: Out
    """Folder, made if it is not there."""
    checkpoint: str = "textures"
    """A file that train --task uad wrote, or one that ships: textures (trained on scikit-image's photographs of brick,
    grass and gravel) or parts (on good screws of MVTec AD and good magnetic tiles). It knows nothing else."""
    false_positive_rate: float | None = None
    """Share of the good images that may be called anomalous: sets the threshold, the smallest of their scores that at
    most this share of them exceeds. n good images cannot resolve a rate below 1/n."""
    good: Path | None = None
    """Folder of good images, not among those trained on, to set scale and threshold by; their scores are kept in
    good_scores.csv. Default: the images that were held out of the training of the detector."""
    device: str = "auto"
    """Where the network runs: cpu, cuda, cuda:1, ...; auto: a GPU if there is one."""

    def run(self, faults: Faults) -> None:
        """Score good images where they are given, then map the anomalies of each image."""
        from tqdm import tqdm

        rate, checkpoint = self.false_positive_rate, detector_checkpoint(self.checkpoint)
        detector = load_detector(checkpoint, device_named(self.device))
        if self.good and not self.good.is_dir():
            raise ValueError(f"{self.good}: got no folder, expected one of good images")
        good = named_images((self.good,), self.out) if self.good else {}
        if rate is not None:
            allowed_false_positives(rate, len(good or detector.good_scores))  # before the work
        images = named_images(self.images, self.out)
        files = {path: _detection_files(self.out / name) for path, name in images.items()}
        self._check(images, good, checkpoint, files)
        usual = read_record(checkpoint)["record"].get("white")
        reader = self.reader([*images, *good], usual)
        self.out.mkdir(parents=True, exist_ok=True)
        made_by = data_hash([checkpoint])

        def watched(paths: dict[Path, Path], label: str) -> Iterable[tuple[Path, str]]:
            bar: Iterable[tuple[Path, Path]] = tqdm(
                paths.items(), desc=label, disable=not sys.stderr.isatty(), unit="image", leave=False
            )
            return ((path, str(name)) for path, name in bar)

        good_scores = [] if self.good else list(detector.good_scores)
        columns = {"score", "image", "checkpoint"}
        table = ResumableTable(self.out / "good_scores.csv", made_by, columns, by="name")
        for path, name in watched(good, "good images"):
            with faults.reported(path):
                row = table.find(path, name, **reader.settings)
                if row is None:
                    picture = reader(path)
                    row = table.put(
                        path, name, score=detector(picture.tensor()).score, white=picture.white, **reader.settings
                    )
                good_scores.append(float(row["score"]))
        if not good_scores:
            raise ValueError(f"{self.good}: no good image was scored, expected at least one")
        limit = 2 * max(good_scores)
        scale = f"twice the largest score of {len(good_scores)} good images"
        if detector.settings.form == "share" and limit > 1:
            limit, scale = 1.0, f"the largest share that there can be: good images score up to {max(good_scores):.4g}"
        print(f"heat: black 0, light yellow {limit:.4g}, {scale}")
        threshold = None
        if rate is not None:
            threshold = score_threshold(good_scores, rate)
            most = allowed_false_positives(rate, len(good_scores))
            print(f"threshold: {threshold:.4g}, exceeded by at most {most} of {len(good_scores)} good images")

        table = ResumableTable(self.out / "scores.csv", made_by, columns, by="stem")
        for path, name in watched(images, "images"):
            with faults.reported(path):
                found = table.find(path, name, limit=limit, **reader.settings)
                if found and all(file.is_file() for file in files[path]):
                    score, white = float(found["score"]), found.get("white")
                else:
                    for file in files[path]:  # from an earlier run: none may stay if the image cannot be read now
                        file.unlink(missing_ok=True)
                    picture = reader(path)
                    detection = detector(picture.tensor())
                    files[path][0].parent.mkdir(parents=True, exist_ok=True)
                    _write_detection(files[path], picture.tensor(), detection.map, limit)
                    score, white = detection.score, str(picture.white)
                anomalous = None if threshold is None else score > threshold
                values = {"score": score, "threshold": threshold, "anomalous": anomalous, "limit": limit}
                table.put(path, name, **values, white=white, **reader.settings)
                tqdm.write(f"{shown(name):<24} {score:.4g}{' anomalous' if anomalous else ''}")
        reader.tell()

    def _check(
        self,
        images: dict[Path, Path],
        good: dict[Path, Path],
        checkpoint: Path,
        files: dict[Path, tuple[Path, Path, Path]],
    ) -> None:
        """Refuse a call that would write over what it reads, or among it."""
        by_stem: dict[Path, Path] = {}
        for path, name in images.items():
            other = by_stem.setdefault(name.with_suffix(""), path)
            if other.resolve() != path.resolve():
                raise ValueError(f"{path}: would have the outputs of {other}, expected another name")
        for path in [*good, *images]:
            place = self.out / (images.get(path) or good[path])
            if path.parent.resolve() in (self.out.resolve(), place.parent.resolve()):
                raise ValueError(f"{self.out}: holds images of the run, expected another folder")
        tables = [self.out / "scores.csv", self.out / "good_scores.csv"]
        check_apart([*images, *good, checkpoint], [*tables, *(file for three in files.values() for file in three)])


def _detection_files(place: Path) -> tuple[Path, Path, Path]:
    """Files that the detection in an image is written to: map, heat map, overlay."""
    map_file, heat_file, overlay_file = (
        place.with_name(f"{place.stem}_{part}") for part in ("map.npy", "heat.png", "overlay.png")
    )
    return map_file, heat_file, overlay_file


def _write_detection(
    files: tuple[Path, Path, Path], image: Float[Tensor, "_ height width"], anomaly_map: Map, limit: float
) -> None:
    from indeed.figures import heat, heat_overlay

    with atomic_write(files[0]) as temporary:
        np.save(temporary, anomaly_map.numpy())
    pictures = {"heat": heat(anomaly_map, limit), "overlay": heat_overlay(image, anomaly_map, limit)}
    for file, (kind, picture) in zip(files[1:], pictures.items(), strict=True):
        pixels = to_pixels(picture, np.dtype(np.uint8))
        write_image(file, Picture(pixels, metadata=Metadata(software=OWN + kind)))
