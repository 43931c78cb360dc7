"""TIFF files that are written: lossless, with what the file that was read says of resolution and colours."""

from typing import Any

import numpy as np

from indeed.data import microscopy
from indeed.data.samples_of_files import Metadata


def encode(samples: np.ndarray, metadata: Metadata, *, alpha: bool, white: int | None = None) -> bytes:
    """TIFF file of samples (row, column, 1 to 4), with lossless compression unless ImageJ is to read it."""
    from io import BytesIO

    import tifffile

    buffer = BytesIO()
    count = samples.shape[2]
    options = options_of_writer(metadata, samples.dtype, count, alpha=alpha, white=white)
    tifffile.imwrite(buffer, samples if count > 1 else samples[..., 0], **options)
    return buffer.getvalue()


def options_of_writer(
    metadata: Metadata, dtype: np.dtype[Any], count: int, *, alpha: bool, white: int | None = None, axes: str = ""
) -> dict[str, Any]:
    """Give what tifffile has to be told to write pictures.

    Parameters
    ----------
    metadata
        What else the file is to say.
    dtype, count
        Type of the samples, and how many a pixel has.
    alpha
        Whether the last one is alpha.
    white
        Value noted as MaxSampleValue; None: white is the largest value of the type.
    axes
        Those of the pictures among themselves; none for a single one.
    """
    flat = "YXS" if count > 1 else "YX"
    special: dict[str, Any] = microscopy.kept_by_writer(metadata.description) if metadata.description else {}
    colour_of_imagej = count == 1 or (count == 3 and dtype == np.uint8)
    if "imagej" in special and (alpha or dtype.name not in ("uint8", "uint16", "float32") or not colour_of_imagej):
        special = {}
    described = special.pop("metadata", {})
    if special or axes:
        known = not special or "".join(axis for axis in "TZC" if axis in axes) == axes
        described |= {"axes": axes + flat} if known else {}
    options: dict[str, Any] = {
        "photometric": "rgb" if count >= 3 else "minisblack",
        "planarconfig": "contig" if count > 1 else None,
        "extrasamples": ["unassalpha"] if alpha else None,
        "compression": None if "imagej" in special else "zlib",
        "iccprofile": metadata.icc_profile,
        "metadata": described if special or axes else None,
        "extratags": [(281, "H", count, (white,) * count, True)] if white is not None else (),
        **special,
    }
    if metadata.resolution:
        x, y, unit = metadata.resolution
        if unit not in (0, 0.0254, 0.01) and "imagej" not in special:
            x, y, unit = x * 0.01 / unit, y * 0.01 / unit, 0.01
        options |= {"resolution": (x, y), "resolutionunit": {0.0254: 2, 0.01: 3}.get(unit, 1)}
    return options
