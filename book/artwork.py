"""Pictures that no chapter draws: ``python book/artwork.py`` writes logo, favicon and photographs of the welcome page.

They are committed, in ``book/_assets``; the tests hold them to what this makes.
"""

import io
import random
from pathlib import Path

import chapters
import torch

from indeed.data.samples import sample_image
from indeed.figures import signed_display
from indeed.images.noise import GREY_LEVEL, gaussian
from indeed.networks.checkpoint import load_checkpoint, shipped_checkpoint
from indeed.networks.whole_image import decompose
from indeed.types import Image

ASSETS = chapters.BOOK / "_assets"
CELLS, CELL = 6, 8
SIDE = CELLS * CELL
GREY, ORANGE = "#808891", "#e08214"  # seen on white and on black
ROWS, COLUMNS = (0.2, 0.9, 0.45, 1.0, 0.3, 0.75), (0.5, 1.0, 0.25, 0.8, 1.0, 0.4)
SPARSE = {(0, 4), (2, 1), (4, 3)}


def tiles() -> dict[str, str]:
    """Draw Y, L, S and N as squares of cells, Y from the other three: a plaid of rank one, three cells, grain."""
    grain = random.Random(1)
    drawn = dict.fromkeys("YLSN", "")
    for j, row in enumerate(ROWS):
        for k, column in enumerate(COLUMNS):
            low_rank, noise, sparse = row * column, grain.uniform(-0.5, 0.5), (j, k) in SPARSE
            place = f'<rect x="{k * CELL}" y="{j * CELL}" width="{CELL}" height="{CELL}" '
            drawn["L"] += f'{place}fill="{_blue(low_rank)}"/>'
            drawn["S"] += f'{place}fill="{ORANGE}"/>' if sparse else ""
            drawn["N"] += f'{place}fill="{GREY}" fill-opacity="{0.5 + noise:.2f}"/>'
            drawn["Y"] += f'{place}fill="{ORANGE if sparse else _blue(low_rank + 0.3 * noise)}"/>'
    frame = f'<rect x="0.5" y="0.5" width="{SIDE - 1}" height="{SIDE - 1}" fill="none" stroke="{GREY}"/>'
    return {name: f"<g>{cells}{frame}</g>" for name, cells in drawn.items()}


def _blue(value: float) -> str:
    """Return a blue: dark for 0, light for 1."""
    share = min(max(value, 0.0), 1.0)
    return "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in ((13, 158), (59, 214), (102, 245)))


def logo() -> str:
    """Draw the equation of the book, Y = L + S + N, in squares."""
    step = SIDE + 26
    parts = [f'<g transform="translate({i * step} 0)">{tile}</g>' for i, tile in enumerate(tiles().values())]
    bars = {"=": ("h10m-10 6h10", 21), "+": ("h10m-5 -5v10", 24)}
    for i, sign in enumerate("=++"):
        path, y = bars[sign]
        parts.append(f'<path d="M{i * step + SIDE + 8} {y}{path}" stroke="{GREY}" stroke-width="2.4" fill="none"/>')
    return _svg(3 * step + SIDE, SIDE, "Y = L + S + N", "".join(parts))


def favicon() -> str:
    """Draw the square Y alone."""
    return _svg(SIDE, SIDE, "Y", tiles()["Y"])


def _svg(width: int, height: int, title: str, body: str) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    return f"{head}<title>{title}</title>{body}</svg>\n"


def photographs() -> dict[str, Image]:
    """Take a photograph apart, as the first chapter does, and cut the same piece out of it and its parts."""
    clean = sample_image("chelsea")
    noisy = gaussian(clean[None], 25 * GREY_LEVEL, torch.Generator().manual_seed(0))[0]
    parts = decompose(load_checkpoint(shipped_checkpoint("denoise_color"))[0], noisy)
    whole = {"Y": noisy, "L": parts.L, "S": signed_display(parts.S)[0], "N": signed_display(parts.N)[0]}
    return {name: image[:, 10:250, 108:348].clamp(0, 1) for name, image in whole.items()}


def jpeg(image: Image) -> bytes:
    """Encode an image in [0, 1] as JPEG: grain as PNG would be five times as large."""
    from PIL import Image as Pillow

    buffer = io.BytesIO()
    pixels = (255 * image).round().byte().permute(1, 2, 0).numpy()
    Pillow.fromarray(pixels).save(buffer, format="JPEG", quality=75)
    return buffer.getvalue()


def main(folder: Path = ASSETS) -> None:
    """Write all of them."""
    (folder / "logo.svg").write_text(logo(), encoding="utf-8")
    (folder / "favicon.svg").write_text(favicon(), encoding="utf-8")
    for name, image in photographs().items():
        (folder / f"welcome-{name}.jpg").write_bytes(jpeg(image))


if __name__ == "__main__":
    main()
