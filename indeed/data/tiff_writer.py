"""TIFF files that are written: lossless, with what the file that was read says of resolution and colours."""

from typing import Any

import numpy as np

from indeed.data import microscopy
from indeed.data.exif import for_tiff, place_holder, put_into_tiff
from indeed.data.picture import Picture
from indeed.data.samples_of_files import Metadata


def encode(samples: np.ndarray, metadata: Metadata, *, alpha: bool, white: int | None = None) -> bytes:
    """TIFF file of samples (row, column, 1 to 4), with lossless compression unless ImageJ is to read it."""
    from io import BytesIO

    import tifffile

    buffer = BytesIO()
    count = samples.shape[2]
    options = options_of_writer(metadata, samples.dtype, count, alpha=alpha, white=white)
    tifffile.imwrite(buffer, samples if count > 1 else samples[..., 0], **options)
    if metadata.exif:
        buffer.seek(0)
        put_into_tiff(buffer, metadata.exif)
    return buffer.getvalue()


def holds_description(picture: Picture) -> bool:
    """Whether the description of ImageJ or OME that a picture has is written with it: ImageJ has not all kinds."""
    return bool(_special(picture.metadata, picture.pixels.dtype, picture.channels, picture.alpha is not None))


def _special(metadata: Metadata, dtype: np.dtype[Any], colours: int, alpha: bool) -> dict[str, Any]:
    """Give what tifffile has to be told to write a file of ImageJ or OME."""
    special: dict[str, Any] = microscopy.kept_by_writer(metadata.description) if metadata.description else {}
    known = dtype.name in ("uint8", "uint16", "float32") and (colours == 1 or dtype == np.uint8)
    return {} if "imagej" in special and (alpha or not known) else special


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
    special = _special(metadata, dtype, count - alpha, alpha)
    described = special.pop("metadata", {})
    if special or axes:
        known = not special or "".join(axis for axis in "TZC" if axis in axes) == axes
        described |= {"axes": axes + flat} if known else {}
    tags: list[tuple[int, str, int, object, bool]] = []
    if white is not None:
        tags.append((281, "H", count, (white,) * count, True))
    if metadata.exif:
        texts, inner, _ = for_tiff(metadata.exif)
        tags += [(code, "s", 0, text, True) for code, text in texts.items()]
        tags += [(place_holder(code), "I", 1, 0, True) for code in inner]
    options: dict[str, Any] = {
        "photometric": "rgb" if count >= 3 else "minisblack",
        "planarconfig": "contig" if count > 1 else None,
        "extrasamples": ["unassalpha"] if alpha else None,
        "compression": None if "imagej" in special else "zlib",
        "iccprofile": metadata.icc_profile,
        "metadata": described if special or axes else None,
        "extratags": tags,
        **special,
    }
    if metadata.resolution:
        x, y, unit = metadata.resolution
        if unit not in (0, 0.0254, 0.01) and "imagej" not in special:
            x, y, unit = x * 0.01 / unit, y * 0.01 / unit, 0.01
        options |= {"resolution": (x, y), "resolutionunit": {0.0254: 2, 0.01: 3}.get(unit, 1)}
    return options
