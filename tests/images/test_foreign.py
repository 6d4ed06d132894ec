"""Files of other kinds: the sentence says what they are, what is accepted, and a way out."""

import struct

import numpy as np
import PIL.Image
import pytest

from helpers.image_kinds import noise, tiff
from liif_core.errors import UserError
from liif_core.images import foreign, vips
from liif_core.images.image import pyvips

RGB, GREY = tiff(noise(3), 2, {}), noise(1)
FORMAT = 339


def head_of(form: str) -> bytes:
    import io

    content = io.BytesIO()
    PIL.Image.fromarray(noise(3)).save(content, form)
    return content.getvalue()


KINDS = {  # name, content, what it is, a part of the way out
    "a.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64), "it is HEIC", "heif-convert a.heic a.png"),
    "b.heif": (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic\0\0\0\0hvc1" + bytes(64), "it is HEIC", "heif-convert"),
    "a.jp2": (head_of("JPEG2000"), "it is JPEG 2000", "magick a.jp2 a.png"),
    "a.jxl": (b"\xff\x0a" + bytes(30), "it is JPEG XL", "djxl"),
    "a.tga": (head_of("TGA"), "it is TGA", "magick"),
    "old.tga": (head_of("TGA")[:-26], "it is TGA", "magick"),
    "a b.ppm": (head_of("PPM"), "it is PNM", "magick 'a b.ppm' 'a b.png'"),
    "a.psd": (b"8BPS\0\1" + bytes(40), "it is a Photoshop file", "export it first"),
    "a.svg": (b'<?xml version="1.0"?>\n<!-- a -->\n<svg width="9" height="7"/>', "it is SVG", "render it first"),
    "a.pdf": (b"%PDF-1.4\n", "it is PDF", "pdftoppm -png a.pdf page"),
    "a.cr2": (RGB[:8] + b"CR\2\0" + RGB[12:], "it is a camera's raw file", "develop it first"),
    "a.dng": (tiff(noise(3), 2, {50_706: (1, 4, 0, 0)}), "it is a camera's raw file", "darktable"),
    "a.png": (b"version https://git-lfs.github.com/spec/v1\n", "it is a pointer of Git LFS", "git lfs pull"),
    "b.png": (b"<!DOCTYPE html><html>", "it is a web page", "not the image"),
    "c.png": (b"", "it is empty", "accepted are .png, .jpg"),
    "d.png": (b"some words\n", "it is text", "accepted are .png, .jpg"),
    "e.png": (b"\0\0\0\x20ftypisom" + bytes(40), "it is a video", "like .mp4"),
    "signed.tif": (tiff(GREY.astype(np.int16), 1, {FORMAT: (2,)}), "it has signed 16-bit samples", "0 to 65535"),
    "float.tif": (tiff(GREY.astype(np.float16), 1, {FORMAT: (3,)}), "it has 16-bit floating-point samples", "65535"),
    "wide.tif": (tiff(GREY.astype(np.uint32), 1, {}), "it has 32-bit samples", "without a sign"),
    "cmy.tif": (tiff(noise(3), 5, {}), "it has inks other than those of CMYK", "save it as RGB"),
    "six.tif": (tiff(noise(6), 5, {332: (2,)}), "it has inks other than those of CMYK", "save it as RGB"),
    "lab.tif": (tiff(noise(3), 8, {}), "it has Lab colours", "in grey, RGB or CMYK; save it as RGB"),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_file_of_another_kind_is_named_with_a_way_out(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    content, kind, way_out = KINDS[name]
    path = vips.Path(name)
    path.write_bytes(content)
    for read in (vips.read, vips.read_header):
        with pytest.raises(UserError, match=f"^cannot read {name}: {kind}, accepted are ") as refused:
            read(path)
        assert way_out in str(refused.value)


def test_a_raw_file_that_looks_like_a_tiff_is_known_by_its_parts(tmp_path):
    """The first image of a NEF or ARW is a preview; what the sensor saw is one of its parts."""
    first = tiff(noise(3), 2, {330: (1 << 20,)})
    part = struct.pack("<HHHIIHHII", 2, 256, 4, 1, 31, 262, 3, 1, 32_803) + bytes(4)
    (tmp_path / "a.nef").write_bytes(first.ljust(1 << 20, b"\0") + part)
    with pytest.raises(UserError, match="it is a camera's raw file"):
        vips.read_header(tmp_path / "a.nef")
    part = part.replace(struct.pack("<I", 32_803), struct.pack("<I", 1))
    (tmp_path / "a.tif").write_bytes(first.ljust(1 << 20, b"\0") + part)  # a smaller copy, say
    assert np.array_equal(vips.read(tmp_path / "a.tif").pixels, noise(3))


def test_the_formats_that_are_read_are_not_foreign(tmp_path):
    for form in ("png", "jpg", "webp", "tif", "avif", "gif", "bmp"):
        PIL.Image.fromarray(noise(3)).save(tmp_path / f"a.{form}")
        assert foreign.refusal(tmp_path / f"a.{form}", "") == ""


@pytest.mark.skipif(not pyvips.type_find("VipsOperation", "uhdrload"), reason="this libvips knows no Ultra HDR")
def test_ultra_hdr_is_read_as_the_jpeg_that_it_is(tmp_path):
    image = pyvips.Image.new_from_array(noise(3)).copy(interpretation="srgb")
    image.colourspace("scrgb").uhdrsave(str(tmp_path / "a.jpg"))
    assert vips.read_header(tmp_path / "a.jpg") == (23, 31)
    found = vips.read(tmp_path / "a.jpg")
    assert found.notes == ("what is brighter than white (Ultra HDR) is not kept",) and found.suffix == ".jpg"
    pillow = np.asarray(PIL.Image.open(tmp_path / "a.jpg").convert("RGB")).astype(int)
    assert np.abs(found.pixels - pillow).max() <= 2
    vips.write(tmp_path / "b.jpg", found.pixels, found)
    assert vips.read(tmp_path / "b.jpg").size == (23, 31)
