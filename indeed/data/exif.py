"""EXIF blocks: what a camera noted, kept for the copy without what would be wrong in it."""

ORIENTATION = 0x0112
_THUMBNAIL = 1  # number of the directory of the thumbnail


def without_orientation(block: bytes) -> tuple[bytes | None, int, tuple[str, ...]]:
    """EXIF block without orientation and thumbnail, the orientation, and the names of what was left out.

    A block that cannot be read is left out, with the orientation 1.
    """
    from PIL import Image

    exif = Image.Exif()
    try:
        exif.load(block)
        orientation = int(exif.pop(ORIENTATION, 1))
        thumbnail = bool(exif.get_ifd(_THUMBNAIL))
        again = exif.tobytes() if len(exif) else None
    except Exception:  # whatever a damaged block makes Pillow raise
        return None, 1, ("a damaged EXIF block",)
    return again, orientation if orientation in range(1, 9) else 1, ("thumbnail",) if thumbnail else ()
