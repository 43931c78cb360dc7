"""``indeed decompose``: the parts of an image, with their uncertainty."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from indeed.cli.faults import Faults
from indeed.cli.models import Models, WithNoise, bar_label
from indeed.cli.paths import InputFile, Out, folder_of_results
from indeed.data.image_files import read_image, write_image
from indeed.data.picture import Picture, to_pixels
from indeed.networks.whole_image import Decomposition, decompose
from indeed.types import Image


@dataclass(frozen=True, kw_only=True)
class Decompose(WithNoise):
    """Decompose an image: write L.png, S.png, N.png, parts.npz and panel.png.

    parts.npz holds float arrays L, S, N (height, width[, colour]) that add up to the image, and the posterior of each
    tile: mean and log-variance of A and B (tile, channel, side, rank) and of S (tile, channel, side, side), with the
    tiles' first rows and columns. In S.png and N.png mid grey is zero; the values of black and white are printed, and
    stored as S_limit, N_limit. An alpha channel goes into L.png.
    """

    image: InputFile
    """PNG, JPEG or TIFF file, 8 or 16 bit (TIFF also float)."""
    out: Out
    """Folder, made if it is not there."""
    refine: int = 0
    """Sweeps that move from S to L what L can explain of the denoised image, such as 10; slow, L + S stays as it is."""

    def run(self, faults: Faults) -> None:
        """Decompose the image; the folder gets all files or none."""
        picture = read_image(self.image)
        image = self.observed(picture)
        model = Models(self)(picture.channels)
        with folder_of_results(self.out) as folder, tempfile.TemporaryDirectory(dir=folder) as scratch:
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
    write_image(folder / "L.png", Picture(to_pixels(parts.L, depth), alpha, picture.icc_profile))
    arrays: dict[str, Any] = {name: _as_array(getattr(parts, name)) for name in "LSN"}
    for name in "SN":
        display, limit = signed_display(getattr(parts, name))
        arrays[f"{name}_limit"] = np.float32(limit)
        write_image(folder / f"{name}.png", Picture(to_pixels(display, np.dtype(np.uint8))))
        print(f"{name}.png: mid grey is 0, black {-limit:.4g}, white {limit:+.4g}")
    for name, factor in parts.posterior._asdict().items():
        arrays[f"{name}_mean"], arrays[f"{name}_log_variance"] = factor.mean.numpy(), factor.log_variance.numpy()
    arrays["tile_tops"], arrays["tile_lefts"] = np.array(parts.tops), np.array(parts.lefts)
    np.savez(folder / "parts.npz", **arrays)
    decomposition_panel(image, parts.L, parts.S, parts.N)[0].savefig(folder / "panel.png", dpi=150)


def _as_array(part: Image) -> Float[np.ndarray, "height width *channel"]:
    """Part as other image libraries have it: (height, width) for grey, (height, width, 3) for colour."""
    array = part.permute(1, 2, 0).numpy()
    return array[..., 0] if array.shape[2] == 1 else array
