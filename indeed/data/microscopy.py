"""What ImageJ and OME say of a picture in the description of a TIFF file: the size of a pixel, the names of channels.

A description counts the pictures, too. So it is not copied: what it says of sizes is written anew for what is written.
"""

from typing import Any
from xml.etree import ElementTree

UNITS = {
    "m": 1.0,
    "cm": 0.01,
    "mm": 1e-3,
    "um": 1e-6,
    "µm": 1e-6,
    "μm": 1e-6,
    "\\u00b5m": 1e-6,
    "micron": 1e-6,
    "microns": 1e-6,
    "nm": 1e-9,
    "inch": 0.0254,
}
"""Names of units in small letters, in metres."""
_IMAGEJ = ("unit", "spacing", "finterval", "fps", "min", "max", "mode", "loop")
_IMAGEJ_SHAPE = ("ImageJ", "images", "channels", "slices", "frames", "hyperstack")
_OME_SIZES = ("PhysicalSize", "TimeIncrement")
_OME_KEPT = ("OME", "Image", "Pixels", "Channel", "TiffData", "UUID")


def is_ome(description: str) -> bool:
    """Whether a description is OME-XML; otherwise it is that of ImageJ."""
    return description.lstrip().startswith("<")


def described_resolution(description: str, x: float, y: float) -> tuple[float, float, float] | None:
    """Pixels per unit along x and y, and the unit in metres, as a description says; None if it does not.

    Parameters
    ----------
    description
        Text of ImageJ, or OME-XML.
    x, y
        Pixels per unit as the tags of the file say, whose unit ImageJ names.
    """
    if not is_ome(description):
        unit = UNITS.get(_imagej(description).get("unit", "").lower())
        return (x, y, unit) if unit and x > 0 and y > 0 else None
    pixels = _pixels(description)
    if pixels is None:
        return None
    sizes = [float(pixels.get(f"PhysicalSize{axis}", "0")) for axis in "XY"]
    units = {pixels.get(f"PhysicalSize{axis}Unit", "µm").lower() for axis in "XY"}
    if min(sizes) <= 0 or len(units) != 1 or not units <= UNITS.keys():
        return None
    return 1 / sizes[0], 1 / sizes[1], UNITS[units.pop()]


def kept_by_writer(description: str) -> dict[str, Any]:
    """Give what tifffile has to be told to write the sizes and names of a description."""
    if not is_ome(description):
        said = _imagej(description)
        return {"imagej": True, "metadata": {name: said[name] for name in _IMAGEJ if name in said}}
    pixels = _pixels(description)
    kept: dict[str, Any] = {}
    if pixels is not None:
        kept = {name: value for name, value in pixels.attrib.items() if name.startswith(_OME_SIZES)}
        names = [x.attrib["Name"] for x in pixels.iter() if _name(x) == "Channel" and "Name" in x.attrib]
        kept |= {"Channel": {"Name": names}} if names else {}
    return {"ome": True, "metadata": kept}


def not_kept(description: str) -> tuple[str, ...]:
    """Names of what a description says and `kept_by_writer` leaves out."""
    if not is_ome(description):
        return tuple(f"ImageJ {name}" for name in _imagej(description) if name not in (*_IMAGEJ, *_IMAGEJ_SHAPE))
    said = (x for x in _root(description).iter() if x.attrib or (x.text or "").strip())
    return tuple(sorted({f"OME {_name(x)}" for x in said if _name(x) not in _OME_KEPT}))


def _imagej(description: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in description.splitlines() if "=" in line)


def _root(description: str) -> ElementTree.Element:
    return ElementTree.fromstring(description)


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _pixels(description: str) -> ElementTree.Element | None:
    return next((x for x in _root(description).iter() if _name(x) == "Pixels"), None)
