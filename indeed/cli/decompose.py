"""``indeed decompose``: the parts of an image, with their uncertainty."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from indeed.cli.faults import Faults
from indeed.cli.models import Models, WithNoise, bar_label
from indeed.cli.paths import InputFile, Out, check_apart, check_file, folder_of_results, tell_lost
from indeed.cli.planes import opened
from indeed.data.folders import OWN
from indeed.data.image_files import write_image
from indeed.data.picture import Picture, to_pixels
from indeed.data.samples_of_files import Metadata
from indeed.networks.whole_image import Decomposition, decompose
from indeed.types import Image

FILES = ("L.png", "S.png", "N.png", "parts.npz", "panel.png")
"""What a decomposition is written to."""


@dataclass(frozen=True, kw_only=True)
class Decompose(WithNoise):
    """Decompose an image: write L.png, S.png, N.png, parts.npz and panel.png.

    A stack in a TIFF file is decomposed plane by plane, each into a folder of its own: 1, 2, 3, ... (with as many
    digits as the last one has).

    parts.npz holds float arrays L, S, N (height, width[, colour]) that add up to the image, and the posterior of each
    tile: mean and log-variance of A and B (tile, channel, side, rank) and of S (tile, channel, side, side), with the
    tiles' first rows and columns. In S.png and N.png mid grey is zero; the values of black and white are printed, and
    stored as S_limit, N_limit. An alpha channel goes into L.png. The other commands skip the pictures in a folder that
    is given to them.
    """

    image: InputFile
    """PNG, JPEG, TIFF, BMP or WebP file, 8 or 16 bit (TIFF also float)."""
    out: Out
    """Folder, made if it is not there."""
    page: int | None = None
    """The one plane of a stack to decompose, from 1 on; its parts go into the folder itself."""
    refine: int = 0
    """Sweeps that move from S to L what L can explain of the denoised image, such as 10; slow, L + S stays as it is."""

    def run(self, faults: Faults) -> None:
        """Decompose the image, or each plane; a folder gets all files or none."""
        models = Models(self)
        check_file(self.image)
        reader = self.reader([self.image])
        with opened(self.image, reader, self.page) as given:
            read = [self.image, *([self.checkpoint] if self.checkpoint else [])]
            if isinstance(given, Picture):
                check_apart(read, [self.out / name for name in FILES])
                tell_lost(self.out / FILES[0], given)
                self._decompose(given, models, self.out)
            else:
                count = len(given)
                folders = [self.out / str(index + 1).zfill(len(str(count))) for index in range(count)]
                check_apart(read, [folder / name for folder in folders for name in FILES])
                for index, folder in enumerate(folders):
                    with faults.reported(folder):
                        picture = reader.noted(given[index])
                        if folder == folders[0]:  # the others say the same
                            tell_lost(folder / FILES[0], picture)
                        self._decompose(picture, models, folder)
        reader.tell()

    def _decompose(self, picture: Picture, models: Models, out: Path) -> None:
        image = self.observed(picture)
        model = models(picture.channels)
        with folder_of_results(out) as folder, tempfile.TemporaryDirectory(dir=folder) as scratch:
            parts = decompose(
                model,
                image,
                overlap=self.overlap,
                progress=bar_label(self.image.name),
                scratch=Path(scratch),
                refine=self.refine,
            )
            _write_parts(folder, picture, image, parts)


def _write_parts(folder: Path, picture: Picture, image: Image, parts: Decomposition) -> None:
    from indeed.figures import decomposition_panel, signed_display

    depth = picture.pixels.dtype if picture.pixels.dtype.kind == "u" else np.dtype(np.uint16)
    alpha = picture.alpha if depth == picture.pixels.dtype else None
    white = picture.white if depth == picture.pixels.dtype else 0
    metadata = picture.metadata._replace(description=None, software=OWN + "L")
    write_image(folder / "L.png", Picture(to_pixels(parts.L, depth, white), alpha, metadata, white))
    arrays: dict[str, Any] = {name: _as_array(getattr(parts, name)) for name in "LSN"}
    for name in "SN":
        display, limit = signed_display(getattr(parts, name))
        arrays[f"{name}_limit"] = np.float32(limit)
        write_image(
            folder / f"{name}.png",
            Picture(to_pixels(display, np.dtype(np.uint8)), metadata=Metadata(software=OWN + name)),
        )
        print(f"{name}.png: mid grey is 0, black {-limit:.4g}, white {limit:+.4g}")
    for name, factor in parts.posterior._asdict().items():
        arrays[f"{name}_mean"], arrays[f"{name}_log_variance"] = factor.mean.numpy(), factor.log_variance.numpy()
    arrays["tile_tops"], arrays["tile_lefts"] = np.array(parts.tops), np.array(parts.lefts)
    np.savez(folder / "parts.npz", **arrays)
    decomposition_panel(image, parts.L, parts.S, parts.N)[0].savefig(
        folder / "panel.png", dpi=150, metadata={"Software": OWN + "panel"}
    )


def _as_array(part: Image) -> Float[np.ndarray, "height width *channel"]:
    """Part as other image libraries have it: (height, width) for grey, (height, width, 3) for colour."""
    array = part.permute(1, 2, 0).numpy()
    return array[..., 0] if array.shape[2] == 1 else array
