"""What is read is what the file holds, what is written is read back, and every fault is one line."""

import errno
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from indeed.data.image_files import ImageFileError, format_of, read_image, write_image
from indeed.data.picture import Picture, to_pixels, to_tensor
from indeed.data.samples_of_files import Metadata

KINDS = [
    (suffix, dtype, channels, alpha)
    for suffix, dtypes in (
        (".png", ("uint8", "uint16")),
        (".tif", ("uint8", "uint16", "float32")),
        (".jpg", ("uint8",)),
    )
    for dtype in dtypes
    for channels in (1, 3)
    for alpha in (False, True)
    if not (alpha and suffix == ".jpg")
]


def random_picture(dtype: str, channels: int, alpha: bool, height: int = 13, width: int = 17) -> Picture:
    rng = np.random.default_rng(0)
    samples = rng.random((height, width, channels + 1))
    samples = samples.astype(dtype) if dtype == "float32" else (samples * np.iinfo(dtype).max).astype(dtype)
    return Picture(samples[..., :channels].copy(), samples[..., channels].copy() if alpha else None)


@pytest.mark.parametrize(("suffix", "dtype", "channels", "alpha"), KINDS)
@pytest.mark.parametrize("size", [(13, 17), (1, 1), (1, 9), (9, 1)])
def test_a_written_picture_is_read_back(tmp_path, suffix, dtype, channels, alpha, size):
    picture = random_picture(dtype, channels, alpha, *size)
    path = tmp_path / f"picture{suffix}"
    write_image(path, picture)
    again = read_image(path)
    assert again.pixels.dtype == picture.pixels.dtype
    if suffix == ".jpg":
        assert again.pixels.shape == picture.pixels.shape
    else:
        assert np.array_equal(again.pixels, picture.pixels)
    assert (again.alpha is None) == (picture.alpha is None)
    if picture.alpha is not None:
        assert np.array_equal(again.alpha, picture.alpha)
    assert list(tmp_path.iterdir()) == [path]


def png16_decoded_by_hand(data: bytes) -> np.ndarray:
    """Decoder from the PNG specification, sections 5, 9 and 11; checks every checksum."""
    position, compressed, header = 8, b"", ()
    while position < len(data):
        length, name = struct.unpack(">I4s", data[position : position + 8])
        body = data[position + 8 : position + 8 + length]
        assert struct.unpack(">I", data[position + 8 + length : position + 12 + length])[0] == zlib.crc32(name + body)
        if name == b"IHDR":
            header = struct.unpack(">IIBBBBB", body)
        if name == b"IDAT":
            compressed += body
        position += 12 + length
    width, height, depth, colour_type, *rest = header
    assert (depth, rest) == (16, [0, 0, 0])
    count = {0: 1, 4: 2, 2: 3, 6: 4}[colour_type]
    lines = np.frombuffer(zlib.decompress(compressed), np.uint8).reshape(height, 1 + 2 * count * width).astype(int)
    rows = np.zeros((height + 1, 2 * count * (width + 1)), int)  # a row above and a pixel to the left, of zeros
    step = 2 * count
    for row, (kind, *line) in enumerate(lines, start=1):
        for k, difference in enumerate(line, start=step):
            left, above, corner = rows[row, k - step], rows[row - 1, k], rows[row - 1, k - step]
            nearest = min((left, above, corner), key=lambda value, a=left + above - corner: abs(a - value))
            rows[row, k] = (difference + [0, left, above, (left + above) // 2, nearest][kind]) % 256
    samples = rows[1:, step:].astype(np.uint8).reshape(height, width, count, 2)
    return samples.astype(np.uint16) @ np.array([256, 1], np.uint16)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("alpha", [False, True])
def test_a_16_bit_png_follows_the_specification(tmp_path, channels, alpha):
    picture = random_picture("uint16", channels, alpha)
    write_image(tmp_path / "a.png", picture)
    samples = png16_decoded_by_hand((tmp_path / "a.png").read_bytes())
    assert np.array_equal(samples[..., :channels], picture.pixels)
    if alpha:
        assert np.array_equal(samples[..., channels], picture.alpha)
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (17, 13)


def filtered_png16(samples: np.ndarray, filters: list[int]) -> bytes:
    """16-bit PNG with a stated filter for each row (PNG specification, section 9)."""
    height, width, count = samples.shape
    rows = samples.astype(">u2").reshape(height, -1).view(np.uint8).astype(int)
    step, above, lines = 2 * count, np.zeros(rows.shape[1], int), []
    for row, kind in zip(rows, filters, strict=True):
        left = np.concatenate([np.zeros(step, int), row[:-step]])
        corner = np.concatenate([np.zeros(step, int), above[:-step]])
        distance = [abs(left + above - corner - z) for z in (left, above, corner)]
        paeth = np.where(
            (distance[0] <= distance[1]) & (distance[0] <= distance[2]),
            left,
            np.where(distance[1] <= distance[2], above, corner),
        )
        guess = [0 * row, left, above, (left + above) // 2, paeth][kind]
        lines.append(bytes([kind]) + ((row - guess) % 256).astype(np.uint8).tobytes())
        above = row

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[count], 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"".join(lines)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_every_bit_of_a_16_bit_png_is_read_whatever_its_filters(tmp_path, count):
    samples = np.random.default_rng(0).integers(0, 65536, (10, 7, count), dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(filtered_png16(samples, [0, 1, 2, 3, 4] * 2))
    picture = read_image(tmp_path / "a.png")
    read = picture.pixels if picture.alpha is None else np.dstack([picture.pixels, picture.alpha])
    assert np.array_equal(read, samples)


def packbits_tiff(samples: np.ndarray) -> bytes:
    """Big-endian 16-bit TIFF, compressed by runs of literals (TIFF 6.0, section 9)."""
    height, width, count = samples.shape
    raw = samples.astype(">u2").tobytes()
    packed = b"".join(bytes([len(raw[i : i + 128]) - 1]) + raw[i : i + 128] for i in range(0, len(raw), 128))
    bits = 8 + len(packed)
    tags = [
        (256, 3, 1, width << 16),
        (257, 3, 1, height << 16),
        (258, 3, count, bits if count > 2 else (16 << 16)),
        (259, 3, 1, 32773 << 16),
        (262, 3, 1, (2 if count > 1 else 1) << 16),
        (273, 4, 1, 8),
        (277, 3, 1, count << 16),
        (278, 3, 1, height << 16),
        (279, 4, 1, len(packed)),
    ]
    directory = struct.pack(">H", len(tags)) + b"".join(struct.pack(">HHII", *tag) for tag in tags) + b"\0\0\0\0"
    sizes = struct.pack(f">{count}H", *[16] * count)
    return b"MM\0*" + struct.pack(">I", bits + len(sizes)) + packed + sizes + directory


@pytest.mark.parametrize("count", [1, 3])
def test_a_compressed_16_bit_tiff_keeps_every_bit(tmp_path, count):
    samples = np.random.default_rng(0).integers(0, 65536, (6, 8, count), dtype=np.uint16)
    (tmp_path / "a.tif").write_bytes(packbits_tiff(samples))
    assert np.array_equal(read_image(tmp_path / "a.tif").pixels, samples)


@given(st.integers(0, 65535))
def test_integers_survive_the_way_through_floats(level):
    for dtype in (np.uint8, np.uint16):
        pixels = np.full((1, 1, 1), level % (np.iinfo(dtype).max + 1), dtype)
        assert np.array_equal(to_pixels(to_tensor(pixels), pixels.dtype), pixels)


def test_out_of_range_floats_are_clipped_not_wrapped():
    image = torch.tensor([[[-5.0, 5.0]]])
    assert to_pixels(image, np.dtype(np.uint16)).ravel().tolist() == [0, 65535]


def test_a_palette_becomes_colour_and_its_transparency_alpha(tmp_path):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), mode=None)
    image = image.convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").pixels.tolist() == [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]
    image.save(tmp_path / "b.png", transparency=1)
    assert read_image(tmp_path / "b.png").alpha.tolist() == [[255, 0, 255]]


def test_one_bit_becomes_black_and_white(tmp_path):
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "a.png")
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "a.tif", compression="group4")
    for name in ("a.png", "a.tif"):
        assert read_image(tmp_path / name).pixels.ravel().tolist() == [255, 0]


def test_a_transparent_colour_key_becomes_alpha(tmp_path):
    Image.fromarray(np.array([[7, 9]], np.uint8)).save(tmp_path / "a.png", transparency=9)
    assert read_image(tmp_path / "a.png").alpha.tolist() == [[255, 0]]
    Image.fromarray(np.array([[7, 999]], np.uint16)).save(tmp_path / "b.png", transparency=999)
    assert read_image(tmp_path / "b.png").alpha.tolist() == [[65535, 0]]


def test_white_is_zero_tiff_is_read_as_seen(tmp_path):
    levels = np.array([[0, 1000, 65535]], np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", levels, photometric="miniswhite")
    assert read_image(tmp_path / "a.tif").pixels.ravel().tolist() == [65535, 64535, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", "lzw.tif", "16.png", "16.tif"])
def test_a_camera_picture_is_turned_upright_whatever_the_format(tmp_path, orientation, suffix):
    # EXIF 2.32, 4.6.4: where the 0th row and the 0th column of the file are in the scene
    scene = np.repeat(np.repeat(np.array([[0, 60, 120], [180, 220, 255]], np.uint8), 8, 0), 8, 1)
    stored = {
        1: scene,
        2: scene[:, ::-1],
        3: scene[::-1, ::-1],
        4: scene[::-1],
        5: scene.T,
        6: scene.T[::-1],
        7: scene.T[::-1, ::-1],
        8: scene.T[:, ::-1],
    }[orientation]
    path = tmp_path / f"a{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    if suffix == "16.tif":
        tifffile.imwrite(path, stored.astype(np.uint16) * 257, extratags=[(274, 3, 1, orientation, True)])
    elif suffix == "16.png":
        Image.fromarray(stored.astype(np.uint16) * 257).save(path, exif=exif)
    else:
        options = {"compression": "tiff_lzw"} if suffix == "lzw.tif" else {}
        Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, **options)
    picture = read_image(path)
    levels = picture.pixels[..., 0] / (257 if "16" in suffix else 1)
    assert levels.shape == scene.shape
    assert np.abs(levels - scene).max() <= 2
    if suffix == ".jpg":
        write_image(tmp_path / "again.jpg", picture)
        assert np.abs(read_image(tmp_path / "again.jpg").pixels[..., 0] - scene.astype(int)).max() <= 4


def test_a_turned_palette_tiff_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    colours = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3)).convert("P")
    colours.save(tmp_path / "a.tif", exif=exif)
    scene = np.rot90(np.asarray(colours.convert("RGB")), -1)
    assert np.array_equal(read_image(tmp_path / "a.tif").pixels, scene)


def test_the_colour_profile_is_kept(tmp_path):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for name in ("a.png", "a.jpg", "a.tif"):
        picture = random_picture("uint8", 3, False)
        write_image(tmp_path / name, Picture(picture.pixels, metadata=Metadata(icc_profile=profile)))
        assert read_image(tmp_path / name).metadata.icc_profile == profile
    write_image(
        tmp_path / "b.png", Picture(random_picture("uint16", 3, False).pixels, metadata=Metadata(icc_profile=profile))
    )
    assert read_image(tmp_path / "b.png").metadata.icc_profile == profile


def test_the_content_decides_the_format_not_the_name(tmp_path):
    write_image(tmp_path / "a.png", random_picture("uint8", 3, False))
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert read_image(tmp_path / "a.jpg").channels == 3


def test_a_cmyk_jpeg_becomes_colour(tmp_path):
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    assert read_image(tmp_path / "a.jpg").pixels[0, 0].tolist() == pytest.approx([255, 0, 0], abs=3)


def faulty_files(folder: Path) -> dict[str, Path]:
    """Every kind of bad input, and words that its message must have."""
    picture = random_picture("uint8", 3, False, 64, 64)
    sound = {suffix: folder / f"sound{suffix}" for suffix in (".png", ".jpg", ".tif")}
    for path in sound.values():
        write_image(path, picture)
    write_image(folder / "sixteen.png", random_picture("uint16", 3, False, 64, 64))
    write_image(folder / "sixteen.tif", random_picture("uint16", 3, False, 64, 64))
    cases = {
        "no such file": folder / "missing.png",
        "is a folder": folder / "folder.png",
        "is empty": folder / "empty.png",
        "is not a PNG, JPEG, TIFF, BMP or WebP image": folder / "text.png",
        "is a pointer of Git LFS": folder / "pointer.png",
        "holds NaN": folder / "nan.tif",
        "expected units where white is 1": folder / "counts.tif",
        "holds int32": folder / "int.tif",
        "holds several pictures": folder / "pages.tif",
    }
    (folder / "folder.png").mkdir()
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("this is no picture, whatever its name\n")
    (folder / "pointer.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    tifffile.imwrite(folder / "nan.tif", np.array([[0.1, np.nan]], np.float32))
    tifffile.imwrite(folder / "counts.tif", np.array([[0.1, 700]], np.float32))
    tifffile.imwrite(folder / "int.tif", np.zeros((4, 4), np.int32))
    tifffile.imwrite(folder / "pages.tif", np.zeros((3, 4, 4), np.uint8), photometric="minisblack")
    for name in ("sound.png", "sound.jpg", "sound.tif", "sixteen.png", "sixteen.tif"):
        data = (folder / name).read_bytes()
        for part, size in (("half", len(data) // 2), ("header", 20), ("magic", 8)):
            path = folder / f"{part}-{name}"
            path.write_bytes(data[:size])
            cases[f"damaged (?#{path.name})"] = path
    return cases


def test_every_faulty_file_is_one_line_that_names_it_and_the_fault(tmp_path):
    for words, path in faulty_files(tmp_path).items():
        with pytest.raises(ImageFileError) as caught:
            read_image(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: ")
        assert words.partition(" (?#")[0] in message
        assert "\n" not in message


@given(st.data())
def test_a_corrupted_file_is_read_or_refused_but_never_breaks(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "corrupted"
    folder.mkdir(exist_ok=True)
    kinds = [(".png", "uint8"), (".png", "uint16"), (".tif", "uint16"), (".jpg", "uint8")]
    suffix, dtype = data.draw(st.sampled_from(kinds))
    write_image(folder / f"a{suffix}", random_picture(dtype, 3, False))
    content = bytearray((folder / f"a{suffix}").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / f"a{suffix}").write_bytes(content)
    try:
        message = str(read_image(folder / f"a{suffix}").pixels.shape)
    except ImageFileError as error:
        message = str(error)
    assert "\n" not in message


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp", ".webp"])
def test_too_many_pixels_are_refused_before_they_are_decoded_in_every_format(tmp_path, monkeypatch, suffix):
    Image.new("L", (11, 10)).save(tmp_path / f"a{suffix}")
    monkeypatch.setenv("INDEED_MAX_PIXELS", "110")
    assert read_image(tmp_path / f"a{suffix}").pixels.shape[:2] == (10, 11)
    monkeypatch.setenv("INDEED_MAX_PIXELS", "109")
    with pytest.raises(
        ImageFileError, match="has 110 pixels, more than 109; the environment variable INDEED_MAX_PIXELS"
    ):
        read_image(tmp_path / f"a{suffix}")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(tmp_path):
    write_image(tmp_path / "a.png", random_picture("uint8", 1, False))
    (tmp_path / "a.png").chmod(0)
    with pytest.raises(ImageFileError, match="permission denied"):
        read_image(tmp_path / "a.png")


def test_a_denied_read_is_named(tmp_path, monkeypatch):
    write_image(tmp_path / "a.png", random_picture("uint8", 1, False))

    def denied(*_args, **_options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(ImageFileError, match=r"a\.png: permission denied"):
        read_image(tmp_path / "a.png")


def test_a_full_disk_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    old = random_picture("uint8", 1, False)
    write_image(tmp_path / "a.png", old)
    write_bytes = Path.write_bytes

    def full(self, data):
        write_bytes(self, data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ImageFileError, match=r"a\.png: cannot be written: no space left on device"):
        write_image(tmp_path / "a.png", random_picture("uint8", 3, True))
    assert list(tmp_path.iterdir()) == [tmp_path / "a.png"]
    assert np.array_equal(read_image(tmp_path / "a.png").pixels, old.pixels)


@pytest.mark.parametrize(
    ("name", "picture", "words"),
    [
        ("a.jpg", random_picture("uint8", 3, True), "JPEG holds no alpha channel"),
        ("a.jpg", random_picture("uint16", 3, False), "JPEG holds no 16-bit values"),
        ("a.png", random_picture("float32", 3, False), "PNG holds no float values"),
        ("a.gif", random_picture("uint8", 3, False), "ends in '.gif'"),
        ("a", random_picture("uint8", 3, False), "ends in ''"),
        ("none/a.png", random_picture("uint8", 3, False), "its folder does not exist"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(tmp_path, name, picture, words):
    with pytest.raises(ImageFileError, match=words):
        write_image(tmp_path / name, picture)
    assert list(tmp_path.iterdir()) == []


def test_an_animation_is_refused(tmp_path):
    first, second = (Image.fromarray(np.full((4, 4), level, np.uint8)) for level in (10, 20))
    first.save(tmp_path / "a.png", save_all=True, append_images=[second], pnginfo=PngImagePlugin.PngInfo())
    first.save(tmp_path / "a.webp", save_all=True, append_images=[second])
    for name in ("a.png", "a.webp"):
        with pytest.raises(ImageFileError, match="holds several pictures"):
            read_image(tmp_path / name)


def test_a_picture_refuses_what_no_image_file_holds():
    with pytest.raises(ValueError, match="pixels: got shape"):
        Picture(np.zeros((0, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="pixels: got shape"):
        Picture(np.zeros((4, 4, 2), np.uint8))
    with pytest.raises(ValueError, match="alpha: got another"):
        Picture(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint16))


def test_upper_case_endings_are_known():
    assert format_of(Path("A.TIFF")) == "TIFF"
