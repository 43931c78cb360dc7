"""Stacks: read plane by plane, written as they were, in the memory of one plane."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tifffile

from indeed.data.image_files import ImageFileError, lost, read_image
from indeed.data.picture import Picture
from indeed.data.stacks import TiffStack, opened_stack, write_stack


def copied(source, target) -> tuple[str, tuple[int, ...]]:
    """Axes and lengths of a stack that is written again plane by plane."""
    with opened_stack(source) as stack:
        assert isinstance(stack, TiffStack)
        write_stack(target, stack, (stack[index] for index in range(len(stack))))
        return stack.pictures.axes, stack.pictures.shape


def values(shape, dtype="uint16") -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.random(shape, np.float32) if dtype == "float32" else rng.integers(0, 250, shape).astype(dtype)


KINDS = {
    "plain": (values((4, 9, 11)), {"photometric": "minisblack"}),
    "plain, 8 bit, LZW": (values((4, 9, 11), "uint8"), {"photometric": "minisblack", "compression": "lzw"}),
    "plain, float, big-endian": (values((4, 9, 11), "float32"), {"photometric": "minisblack", "byteorder": ">"}),
    "plain, without a word": (values((4, 9, 11)), {"photometric": "minisblack", "metadata": None}),
    "colour": (values((4, 9, 11, 3), "uint8"), {"photometric": "rgb"}),
    "colour, 16 bit, planes": (values((4, 3, 9, 11)), {"photometric": "rgb", "planarconfig": "separate"}),
    "colour with alpha": (values((4, 9, 11, 4), "uint8"), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    "one directory": (values((4, 9, 11)), {"photometric": "minisblack", "contiguous": True}),
    "ImageJ": (values((4, 9, 11)), {"imagej": True, "metadata": {"axes": "ZYX", "unit": "um", "spacing": 2.5}}),
    "ImageJ, float": (values((4, 9, 11), "float32"), {"imagej": True, "metadata": {"axes": "TYX", "finterval": 0.5}}),
    "ImageJ, colour": (values((4, 9, 11, 3), "uint8"), {"imagej": True, "metadata": {"axes": "ZYXS"}}),
    "ImageJ hyperstack": (values((2, 3, 2, 9, 11)), {"imagej": True, "metadata": {"axes": "TZCYX"}}),
    "OME": (values((4, 9, 11)), {"ome": True, "metadata": {"axes": "ZYX", "PhysicalSizeX": 0.1, "PhysicalSizeY": 0.2}}),
    "OME hyperstack": (
        values((2, 3, 2, 9, 11)),
        {"ome": True, "metadata": {"axes": "TZCYX", "Channel": {"Name": ["DAPI", "GFP"]}}},
    ),
    "OME, colour": (values((4, 9, 11, 3), "uint8"), {"ome": True, "photometric": "rgb", "metadata": {"axes": "ZYXS"}}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_stack_is_written_as_it_was_read(tmp_path, kind):
    data, options = KINDS[kind]
    source, target = tmp_path / "a.tif", tmp_path / "b.tif"
    tifffile.imwrite(source, data, resolution=(120, 130), resolutionunit=None if "ImageJ" in kind else 3, **options)
    with pytest.raises(ImageFileError, match="holds several pictures"):
        read_image(source)
    _, shape = copied(source, target)
    planes = int(np.prod(shape))
    assert planes == (12 if "hyper" in kind else 4)
    with tifffile.TiffFile(source) as before, tifffile.TiffFile(target) as after:
        was, now = before.series[0], after.series[0]
        colours = data.transpose(0, 2, 3, 1) if kind.endswith("planes") else data
        assert np.array_equal(now.asarray(), colours)
        assert now.dtype == was.dtype
        if not kind.endswith("planes"):
            assert (now.axes, now.shape) == (was.axes, was.shape)
        assert (after.is_imagej, after.is_ome) == (before.is_imagej, before.is_ome)
        if "PhysicalSizeX" not in (before.ome_metadata or ""):  # which counts, and is written to the tags too
            assert after.pages[0].get_resolution() == pytest.approx(before.pages[0].get_resolution())
        assert after.pages[0].resolutionunit == before.pages[0].resolutionunit
        for name in ("unit", "spacing", "finterval", "channels", "slices", "frames"):
            assert (after.imagej_metadata or {}).get(name) == (before.imagej_metadata or {}).get(name)
        for word in ('PhysicalSizeX="0.1"', 'PhysicalSizeY="0.2"', 'Name="DAPI"', 'Name="GFP"'):
            assert (word in (after.ome_metadata or "")) == (word in (before.ome_metadata or ""))


def test_the_size_of_a_pixel_is_known_from_the_description(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", values((4, 9, 11)), imagej=True, resolution=(5, 4), metadata={"unit": "um"})
    tifffile.imwrite(tmp_path / "b.tif", values((4, 9, 11)), ome=True, metadata=KINDS["OME"][1]["metadata"])
    for name, expected in (("a.tif", (5, 4, 1e-6)), ("b.tif", (10, 5, 1e-6))):
        with opened_stack(tmp_path / name) as stack:
            assert stack[2].metadata.resolution == pytest.approx(expected)


@pytest.mark.parametrize("imagej", [False, True])
def test_a_single_directory_stands_for_many_planes(tmp_path, imagej):
    data = values((5, 9, 11))
    page = {"contiguous": True, "metadata": {"truncated": True}} if not imagej else {"imagej": True}
    if imagej:
        tifffile.imwrite(tmp_path / "a.tif", data, metadata={"axes": "ZYX"}, **page)
    else:
        with tifffile.TiffWriter(tmp_path / "a.tif", shaped=True) as writer:
            writer.write(data, photometric="minisblack", metadata={"truncated": True})
    with opened_stack(tmp_path / "a.tif") as stack:
        assert len(stack) == 5
        assert all(np.array_equal(stack[index].pixels[..., 0], data[index]) for index in range(5))
        with pytest.raises(IndexError):
            stack[5]


def test_planes_of_ome_are_in_the_order_of_its_axes(tmp_path):
    data = values((2, 3, 9, 11))
    swapped = data.transpose(1, 0, 2, 3).reshape(6, 9, 11)  # C is outside in the file, and Z, says the text
    text = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" '
        'DimensionOrder="XYCZT" SizeX="11" SizeY="9" SizeC="3" SizeZ="2" SizeT="1" Type="uint16">'
        + "".join(f'<Channel ID="Channel:0:{c}" SamplesPerPixel="1"/>' for c in range(3))
        + "".join(
            f'<TiffData IFD="{2 * c + z}" FirstC="{c}" FirstZ="{z}" PlaneCount="1"/>'
            for c in range(3)
            for z in range(2)
        )
        + "</Pixels></Image></OME>"
    )
    tifffile.imwrite(tmp_path / "a.ome.tif", swapped, photometric="minisblack", description=text, metadata=None)
    copied(tmp_path / "a.ome.tif", tmp_path / "b.ome.tif")
    assert np.array_equal(tifffile.imread(tmp_path / "b.ome.tif"), data)


def test_what_a_stack_says_is_kept_or_named(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for kind in (0, 0, 4, 1):  # two planes, a mask and a thumbnail
            pixels = values((9, 11)) > 99 if kind == 4 else values((9, 11))
            tags = [(0x010F, "s", 0, "a camera", True), (700, "B", 3, b"xmp", True)]
            writer.write(pixels, photometric="minisblack", subfiletype=kind, description="text", extratags=tags)
    copied(tmp_path / "a.tif", tmp_path / "b.tif")
    with opened_stack(tmp_path / "a.tif") as stack, opened_stack(tmp_path / "b.tif") as copy:
        names = ("XMP", "reduced pictures", "mask", "the description", "the descriptions of its pictures")
        assert lost(tmp_path / "b.tif", stack[1]) == names
        assert copy[0].metadata.dropped == ()
        assert copy[1].metadata.exif == stack[1].metadata.exif
        assert b"a camera" in copy[1].metadata.exif


def test_pyramids_and_thumbnails_are_no_planes(tmp_path):
    data = values((4, 32, 32))
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as writer:
        writer.write(data, subifds=1, metadata={"axes": "ZYX"})
        writer.write(data[:, ::2, ::2], subfiletype=1)
    with opened_stack(tmp_path / "a.ome.tif") as stack:
        assert len(stack) == 4
        assert np.array_equal(stack[3].pixels[..., 0], data[3])


def test_what_is_no_stack_is_said_to_be_none(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", values((9, 11)))
    with opened_stack(tmp_path / "a.tif") as stack:
        assert stack is None


def test_pictures_of_different_sizes_are_no_stack(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for side in (9, 20):
            writer.write(values((side, 11)), photometric="minisblack")
    with pytest.raises(ImageFileError, match="different sizes or kinds"), opened_stack(tmp_path / "a.tif"):
        pass


def test_a_damaged_plane_is_named_and_the_others_are_read(tmp_path):
    path, data = tmp_path / "a.tif", values((5, 40, 41))
    tifffile.imwrite(path, data, photometric="minisblack", compression="zlib")
    with tifffile.TiffFile(path) as tiff:
        place = tiff.pages[4].dataoffsets[0]
    content = bytearray(path.read_bytes())
    content[place + 10 : place + 40] = bytes(30)
    path.write_bytes(content)
    with opened_stack(path) as stack:
        assert np.array_equal(stack[3].pixels[..., 0], data[3])
        with pytest.raises(ImageFileError, match="plane 5: is damaged"):
            stack[4]


def test_the_end_that_a_stack_of_one_directory_lacks_is_named(tmp_path):
    whole = Path(__file__).with_name("cases") / "06_stack_one_ifd.tif"
    (tmp_path / "a.tif").write_bytes(whole.read_bytes()[:-100])
    with opened_stack(tmp_path / "a.tif") as stack, opened_stack(whole) as sound:
        assert np.array_equal(stack[3].pixels, sound[3].pixels)
        with pytest.raises(ImageFileError, match="plane 5: is damaged"):
            stack[4]


def test_a_failure_while_planes_are_made_leaves_no_file(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", values((5, 40, 41)), photometric="minisblack")

    def planes(stack):
        yield stack[0]
        raise KeyboardInterrupt

    with opened_stack(tmp_path / "a.tif") as stack:
        with pytest.raises(KeyboardInterrupt):
            write_stack(tmp_path / "b.tif", stack, planes(stack))
        with pytest.raises(ImageFileError, match="different sizes"):
            write_stack(tmp_path / "b.tif", stack, iter([stack[0], Picture(values((4, 4, 1)))]))
        with pytest.raises(ImageFileError, match="written as TIFF"):
            write_stack(tmp_path / "b.png", stack, iter([stack[0]]))
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_memory_is_that_of_one_plane(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((40, 300, 300), np.uint16), photometric="minisblack")
    tracemalloc.start()
    try:
        copied(tmp_path / "a.tif", tmp_path / "b.tif")
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 20 * 300 * 300 * 2  # the stack has 40 planes
