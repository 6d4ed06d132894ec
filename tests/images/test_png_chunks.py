"""Chunks of a PNG: what its colours mean comes out again, and metadata counts wherever it is written."""

import struct
import zlib

import numpy as np
import PIL.Image
import pytest

from helpers.image_kinds import LIES_LEFT, MAKER, ORIENTATION, SRGB, noise, png_chunk, png_with
from liif_core.images import objects, png_chunks, vips
from liif_core.images.image import fit

IMAGE = PIL.Image.fromarray(noise(3))
LINEAR = b"gAMA", struct.pack(">I", 100_000)
USUAL = b"gAMA", struct.pack(">I", 45_455)
BT_2020 = b"cHRM", struct.pack(">8I", 31_270, 32_900, 70_800, 29_200, 17_000, 79_700, 13_100, 4_600)
BT_709 = b"cHRM", struct.pack(">8I", 31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000)
PQ = b"cICP", bytes((9, 16, 0, 1))
LIGHT = b"cLLI", struct.pack(">2I", 10_000_000, 4_000_000)
EXIF = PIL.Image.Exif()
EXIF[MAKER], EXIF[ORIENTATION] = "ACME", LIES_LEFT
METADATA = [
    (b"eXIf", EXIF.tobytes().removeprefix(b"Exif\0\0")),
    (b"tEXt", b"parameters\0a cat, steps: 20"),
    (b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'),
]


def write(path, ending=".png", metadata="keep"):
    """Read it and write it with another ending; the new file and what was said."""
    image = fit(vips.read(path), ending)
    output = path.with_name(f"out{ending}")
    vips.write(output, image.pixels, image, metadata)
    return output, image.notes


COLOURS = {  # chunks, the names without which the colours are others
    "linear": ([LINEAR], "gAMA"),
    "wide": ([USUAL, BT_2020], "cHRM"),
    "linear and wide": ([LINEAR, BT_2020], "gAMA, cHRM"),
    "bright": ([PQ, LIGHT], "cICP"),
    "usual": ([USUAL, BT_709], ""),
    "usual by name": ([(b"sRGB", b"\0"), LINEAR], ""),
    "usual by code": ([(b"cICP", bytes((1, 13, 0, 1))), LINEAR], ""),
    "with a profile": ([LINEAR, (b"iCCP", b"x\0\0" + zlib.compress(SRGB))], ""),
}


@pytest.mark.parametrize("kind", COLOURS)
def test_what_the_colours_of_a_png_mean_is_kept_or_its_loss_is_said(tmp_path, kind):
    chunks, names = COLOURS[kind]
    (tmp_path / "in.png").write_bytes(png_with(IMAGE, chunks))
    for metadata in ("keep", "strip"):
        output, notes = write(tmp_path / "in.png", metadata=metadata)
        kept = tuple(chunk for chunk in chunks if chunk[0] != b"iCCP")
        assert png_chunks.read(output) == kept and notes == ()
        assert np.array_equal(np.asarray(PIL.Image.open(output)), noise(3))
    _, notes = write(tmp_path / "in.png", ".jpg")
    assert notes == ((f"JPG has no {names}: colours will look different",) if names else ())


def test_a_large_png_is_moved_block_by_block(tmp_path, monkeypatch):
    monkeypatch.setattr(png_chunks, "BLOCK", 100)
    (tmp_path / "in.png").write_bytes(png_with(IMAGE, [LINEAR]))
    output, _ = write(tmp_path / "in.png")
    with PIL.Image.open(output) as image:
        assert np.array_equal(np.asarray(image), noise(3)) and image.info["gamma"] == 1


def test_chunks_that_are_damaged_or_come_too_late_mean_nothing(tmp_path):
    broken = bytearray(png_chunk(*LINEAR))
    broken[-1] ^= 1
    whole = png_with(IMAGE, [])
    at = whole.index(b"IDAT") - 4
    (tmp_path / "in.png").write_bytes(whole[:at] + bytes(broken) + png_chunk(b"cHRM", bytes(5)) + whole[at:])
    assert png_chunks.read(tmp_path / "in.png") == ()
    (tmp_path / "in.png").write_bytes(png_with(IMAGE, [LINEAR], late=True))
    assert png_chunks.read(tmp_path / "in.png") == ()


@pytest.mark.parametrize("late", [False, True])
def test_metadata_count_before_and_after_the_pixels(tmp_path, late):
    (tmp_path / "in.png").write_bytes(png_with(IMAGE, METADATA, late))
    assert vips.read_header(tmp_path / "in.png") == (31, 23)
    image = vips.read(tmp_path / "in.png")
    assert np.array_equal(image.pixels, np.rot90(noise(3), -1)) and image.notes == ()
    output, _ = write(tmp_path / "in.png")
    with PIL.Image.open(output) as found:
        assert found.getexif()[MAKER] == "ACME" and found.getexif()[ORIENTATION] == 1
        assert found.info["parameters"] == "a cat, steps: 20" and b"xmpmeta" in found.info["xmp"]
    output, notes = write(tmp_path / "in.png", ".bmp")
    assert notes == ("BMP has no EXIF here", "BMP has no texts here")


@pytest.mark.parametrize("late", [False, True])
def test_texts_are_kept_letter_by_letter(tmp_path, late):
    texts = (
        (b"tEXt", "Autür\0Müller".encode("latin-1")),
        (b"iTXt", "Author\0\0\0zh\0作者\0猫".encode()),
        (b"zTXt", b"A-b c-d\0\0" + zlib.compress(b"one\ntwo")),
        (b"tEXt", b"A\0one"),
        (b"tEXt", b"A\0two"),
    )
    (tmp_path / "in.png").write_bytes(png_with(IMAGE, [*texts, (b"iCCP", b"x\0\0" + zlib.compress(SRGB))], late))
    output, notes = write(tmp_path / "in.png")
    assert png_chunks.read(output) == texts and notes == ()
    assert PIL.Image.open(output).info.get("icc_profile") == (None if late else SRGB)
    assert png_chunks.read(write(tmp_path / "in.png", metadata="strip")[0]) == ()


def test_exif_in_other_places_is_exif(tmp_path):
    """As ImageMagick wrote it for many years; and in its own chunk as in a JPEG, as others write it."""
    content = b"Exif\0\0" + METADATA[0][1]
    lines, name = b"\nexif\n%8d\n%b\n" % (len(content), content.hex("\n", 36).encode()), b"Raw profile type exif\0"
    for chunk in (b"zTXt", name + b"\0" + zlib.compress(lines)), (b"tEXt", name + lines), (b"eXIf", content):
        (tmp_path / "in.png").write_bytes(png_with(IMAGE, [chunk], chunk[0] == b"tEXt"))
        assert vips.read_header(tmp_path / "in.png") == vips.read(tmp_path / "in.png").size == (31, 23)
        with PIL.Image.open(write(tmp_path / "in.png")[0]) as found:
            assert found.getexif()[MAKER] == "ACME" and found.getexif()[ORIENTATION] == 1


def test_half_a_png_with_late_metadata_is_still_half_a_png(tmp_path):
    whole = png_with(PIL.Image.fromarray(noise(3, height=200, width=300)), METADATA, late=True)
    at = whole.index(b"IDAT")
    (tmp_path / "in.png").write_bytes(whole[: at + 200] + whole[at + 300 :])
    with pytest.raises(vips.UserError, match="cannot read .*in.png"):
        vips.read(tmp_path / "in.png")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_xmp_alone_may_tell_the_rotation(tmp_path, form):
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="6"/></x:xmpmeta>'
    path = tmp_path / f"in.{form.lower()}"
    if form == "PNG":
        path.write_bytes(png_with(IMAGE, [(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)], late=True))
    else:
        IMAGE.save(path, form, xmp=xmp)
    assert vips.read_header(path) == vips.read(path).size == objects.read(PIL.Image.open(path))[0].size == (31, 23)


def test_a_program_gets_colours_and_texts_as_pillow_keeps_them(tmp_path):
    (tmp_path / "in.png").write_bytes(png_with(IMAGE, [LINEAR, BT_2020, PQ, METADATA[1]]))
    image, restore = objects.read(tmp_path / "in.png")
    large = restore(image.pixels)
    usual = PIL.Image.open(tmp_path / "in.png").info
    assert {name: large.info[name] for name in usual} == usual
    large.save(tmp_path / "out.png", pnginfo=large.info["pnginfo"])
    assert png_chunks.read(tmp_path / "out.png") == (LINEAR, BT_2020, PQ, METADATA[1])


def test_the_colours_of_an_avif_go_into_a_png_and_their_loss_is_said(tmp_path):
    IMAGE.save(tmp_path / "in.avif")
    usual = (tmp_path / "in.avif").read_bytes()
    assert vips.read(tmp_path / "in.avif").chunks == ()
    at = usual.index(b"colrnclx") + 8
    (tmp_path / "in.avif").write_bytes(usual[:at] + struct.pack(">HH", 9, 16) + usual[at + 4 :])
    assert png_chunks.read(write(tmp_path / "in.avif")[0]) == (PQ,)
    assert write(tmp_path / "in.avif", ".avif")[1] == ("AVIF has no cICP: colours will look different",)
