"""Images as data sets and tests see them, 8-bit RGB: in, their sizes, out."""

import errno
import io
import struct

import numpy as np
import pytest
from PIL import Image

from helpers import made_images
from helpers.image_kinds import tiff
from liif_core.errors import UserError
from liif_core.images import late_chunks, rgb8


def test_modes_become_rgb(tmp_path):
    grey = Image.fromarray(made_images.make_image(5, 7)[..., 0])
    for mode in ("L", "LA", "P", "1", "RGBA", "CMYK"):
        path = tmp_path / f"{mode}.{'tif' if mode == 'CMYK' else 'png'}"
        grey.convert(mode).save(path)
        assert rgb8.read_image(path).shape == (5, 7, 3)
    sixteen = np.arange(35, dtype=np.uint16).reshape(5, 7) * 1872
    Image.fromarray(sixteen).save(tmp_path / "16.png")
    np.testing.assert_array_equal(rgb8.read_image(tmp_path / "16.png")[..., 0], sixteen >> 8)


def test_sixteen_bits_are_read_in_either_order_and_polarity(tmp_path):
    levels = np.arange(35, dtype=np.uint16).reshape(5, 7) * 1872
    for order, photometric in (("<", 1), (">", 1), ("<", 0)):  # 0: white is 0
        (tmp_path / "a.tif").write_bytes(tiff(levels[..., None], photometric, {}, order))
        found = rgb8.read_image(tmp_path / "a.tif")[..., 0]
        np.testing.assert_array_equal(found, (levels if photometric else 65535 - levels) >> 8)
    Image.open(tmp_path / "a.tif").save(tmp_path / "lzw.tif", compression="tiff_lzw", tiffinfo={262: 0})
    np.testing.assert_array_equal(rgb8.read_image(tmp_path / "lzw.tif")[..., 0], (65535 - levels) >> 8)
    eight = (levels >> 8).astype(np.uint8)
    (tmp_path / "a.tif").write_bytes(tiff(eight[..., None], 0, {}))
    np.testing.assert_array_equal(rgb8.read_image(tmp_path / "a.tif")[..., 0], 255 - eight)
    (tmp_path / "a.pgm").write_bytes(b"P5 7 5 65535\n" + levels.astype(">u2").tobytes())
    np.testing.assert_array_equal(rgb8.read_image(tmp_path / "a.pgm")[..., 0], eight)
    colours = np.stack([levels, levels[::-1], levels[:, ::-1]], axis=-1)
    for order in "<>":
        (tmp_path / "a.tif").write_bytes(tiff(colours, 2, {}, order))
        np.testing.assert_array_equal(rgb8.read_image(tmp_path / "a.tif"), colours >> 8)


def test_twelve_bits_reach_white(tmp_path):
    packed = bytes.fromhex("fff 000 800 123".replace(" ", ""))  # four samples in six bytes
    content = tiff(np.frombuffer(packed, np.uint8).reshape(1, 6, 1), 1, {256: (4,), 258: (12,)})
    (tmp_path / "a.tif").write_bytes(content)
    assert rgb8.read_image(tmp_path / "a.tif")[0, :, 0].tolist() == [0xFF, 0, 0x80, 0x12]


UNCLEAR = {
    "32-bit floating-point samples": lambda grey: tiff(grey.astype(np.float32), 1, {339: (3,)}),
    "16-bit floating-point samples": lambda grey: tiff(grey.astype(np.float16).repeat(3, axis=2), 2, {339: (3, 3, 3)}),
    "32-bit samples": lambda grey: tiff(grey.astype(np.uint32), 1, {}),
    "signed 16-bit samples": lambda grey: tiff(grey.astype(np.int16), 1, {339: (2,)}),
    "signed 8-bit samples": lambda grey: tiff(grey.astype(np.int8), 1, {339: (2,)}),
    "Lab colours": lambda grey: tiff(grey.repeat(3, axis=2), 8, {}),
    "a camera's raw data": lambda grey: tiff(grey, 1, {50_706: (1, 4, 0, 0)}),
    "floating-point samples": lambda grey: b"Pf\n2 2\n-1.0\n" + bytes(16),
    "that Pillow does not read .photometric interpretation 0": lambda grey: tiff(grey.astype(np.uint16), 0, {}, ">"),
    "as an image .truncated or not an image.:": lambda grey: b"II*\0 nothing",
}


@pytest.mark.parametrize("kind", UNCLEAR)
def test_numbers_that_do_not_say_what_is_white_are_refused_by_their_kind(tmp_path, kind):
    path = tmp_path / "a.tif"
    path.write_bytes(UNCLEAR[kind](made_images.make_image(5, 7)[..., :1]))
    for read in (rgb8.read_image, rgb8.read_size):
        with pytest.raises(UserError, match=f"a.tif.*{kind}.*expected"):
            read(path)


def test_an_image_that_lies_on_its_side_is_turned(tmp_path):
    image = made_images.make_image(20, 10)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    Image.fromarray(image).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(rgb8.read_image(tmp_path / "a.png"), np.rot90(image, -1))


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")


def xmp_of(orientation):
    return b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta tiff:Orientation="%d"/>' % orientation


ENDS = {
    "EXIF": ([], [exif_of(6)], True),
    "XMP": ([], [xmp_of(8)], True),
    "EXIF before XMP": ([], [exif_of(1), xmp_of(6)], False),
    "the later EXIF": ([exif_of(6)], [exif_of(1)], False),
    "a mirror image": ([], [exif_of(5)], True),
    "no orientation": ([], [exif_of(9)], False),
    "a text longer than the tail": ([], [exif_of(6), (b"tEXt", b"a\0" + b"IDAT " * 40_000)], True),
    "two images": ([(b"acTL", struct.pack(">II", 2, 0))], [(b"fcTL", bytes(26)), exif_of(6)], False),
}


@pytest.mark.parametrize("what", ENDS)
def test_what_stands_behind_the_pixels_of_a_png_counts(tmp_path, what):
    early, late, turned = ENDS[what]
    buffer = io.BytesIO()
    Image.fromarray(made_images.make_image(151, 333)).save(buffer, "PNG")
    content = buffer.getvalue()
    first, end = content.index(b"IDAT") - 4, content.index(b"IEND") - 4
    written = [b"".join(late_chunks._chunk(*chunk) for chunk in chunks) for chunks in (early, late)]
    path = tmp_path / "a.png"
    path.write_bytes(content[:first] + written[0] + content[first:end] + written[1] + content[end:])
    assert rgb8.read_size(path) == rgb8.read_image(path).shape[:2] == ((333, 151) if turned else (151, 333))


def test_xmp_in_a_tiff_counts_where_no_tag_says_how_it_lies(tmp_path):
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    for tags in ({}, {274: 1}, {274: 8}):
        Image.fromarray(made_images.make_image(20, 13)).save(tmp_path / "a.tif", tiffinfo={700: xmp} | tags)
        size = rgb8.read_size(tmp_path / "a.tif")
        assert size == rgb8.read_image(tmp_path / "a.tif").shape[:2] == ((20, 13) if tags == {274: 1} else (13, 20))


def test_what_the_system_refuses_is_not_called_truncated(tmp_path, monkeypatch):
    def fail(path, **_):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(rgb8.Image, "open", fail)
    for read in (rgb8.read_image, rgb8.read_size):
        with pytest.raises(UserError, match="^cannot read a.png: Too many open files$"):
            read("a.png")


@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize("orientation", [None, 1, 3, 6, 8])
def test_the_size_from_the_header_is_that_of_the_image_read(tmp_path, ending, orientation):
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    path = tmp_path / f"a.{ending}"
    Image.fromarray(made_images.make_image(20, 13)).save(path, exif=exif)
    size = rgb8.read_size(path)
    assert size == rgb8.read_image(path).shape[:2] == ((13, 20) if orientation in (6, 8) else (20, 13))


def test_the_size_is_read_without_the_pixels(tmp_path):
    made_images.write(tmp_path / "b.png", 9, 13)
    content = (tmp_path / "b.png").read_bytes()
    (tmp_path / "b.png").write_bytes(content[: len(content) * 2 // 3])
    assert rgb8.read_size(tmp_path / "b.png") == (9, 13)


def test_numbers_are_rounded_not_truncated():
    values = np.array([-0.5, 0, 0.4999 / 255, 0.5001 / 255, 254.6 / 255, 1, 7])
    assert rgb8.to_uint8(values).tolist() == [0, 0, 0, 1, 255, 255, 255]
    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(rgb8.to_uint8(rgb8.to_float(levels)), levels)


def test_writing_and_reading_back(tmp_path):
    image = made_images.make_image(5, 9)
    rgb8.write_image(tmp_path / "new" / "a.png", image)
    np.testing.assert_array_equal(rgb8.read_image(tmp_path / "new" / "a.png"), image)


@pytest.mark.parametrize("name", ["a", "a.xyz", "a.psd", "a.txt"])
def test_endings_that_cannot_be_written_are_refused_before_the_work(tmp_path, name):
    with pytest.raises(UserError, match="end it in .png"):
        rgb8.check_writable(tmp_path / name)
    assert not list(tmp_path.iterdir())
