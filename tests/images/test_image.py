"""Images of every kind in every format, through a network that repeats pixels: what goes in comes out.

At a factor of 1 that network changes nothing, so a file that keeps its pixels must come out with the same ones; at 2
each is there four times. What the results hold is read with Pillow where it can, so that a mistake in writing is not
undone in reading. The kinds and formats are those of the table in docs/upscale.md: a test for every cell.
"""

import io
import os
import re
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from helpers import made_images
from helpers.image_kinds import CELLS, ENDINGS, KINDS, MAKER, ORIENTATION, SRGB, noise, save, save_deep
from helpers.small_run import run
from liif_core.errors import UserError
from liif_core.images import frames_read, vips
from liif_core.images.image import FORMATS, ImageData, fit, pyvips, to_vips
from liif_core.inference.upscale import upscale

LOSSY = {".jpg": 12, ".webp": 24, ".avif": 16}  # levels of 255 by which a noisy image may come out otherwise


class Repeat:
    """Repeats pixels, band by band. The engine is what `upscale` asks for the size of tiles."""

    tile, passes = None, 1

    def bands(self, image, height, width, white=255, advance=None):
        down, right = (np.arange(n) * side // n for n, side in zip((height, width), image.shape, strict=False))
        for rows in np.array_split(down, 3):
            yield (image[rows][:, right] / np.float32(white)).astype(np.float32)
            advance(len(rows) * width)


def through(source: Path, output: Path, factor: int = 1, metadata: str = "keep") -> ImageData:
    """What demo.py does with an image; returns what was written."""
    image = fit(vips.read(source), output.suffix)
    height, width = (side * factor for side in image.size)
    result = np.zeros((height, width, image.pixels.shape[2]), image.pixels.dtype)
    counted = []
    upscale(Repeat(), image, result, counted.append)
    assert sum(counted) in (height * width, 2 * height * width)
    vips.write(output, result, image, metadata)
    return image


def test_the_table_knows_all_formats_and_kinds():
    assert {row for row, _, _ in CELLS} == set(ENDINGS)
    assert set(ENDINGS.values()) == set(FORMATS) - {".jpeg", ".jfif", ".jpe", ".tiff"}
    assert [kind for row, kind, _ in CELLS if row == "PNG"] == KINDS


@pytest.mark.parametrize(("row", "kind", "cell"), [cell for cell in CELLS if cell[2] != "-"])
def test_formats_give_back_what_they_hold(tmp_path, row, kind, cell):
    ending = ENDINGS[row]
    source, output, twice = (tmp_path / f"{name}{ending}" for name in ("in", "out", "twice"))
    expected = save(source, kind)
    image = through(source, output)
    through(source, twice, 2)
    before, after = PIL.Image.open(source), PIL.Image.open(output)
    assert after.format == before.format
    found, large = (vips.read(path).pixels for path in (output, twice))
    if cell in ("kept", "12 bits"):
        assert after.mode == before.mode
        assert vips.read(output).depth == vips.read(source).depth == image.depth
    else:
        assert cell in ("RGB", "frames", "pages"), cell
    if kind == "16 bits":
        assert found.dtype == np.uint16
    if cell == "RGB":
        expected = np.broadcast_to(expected, (*expected.shape[:2], 3))
        assert after.mode == "RGB"
    if kind == "several":
        count = "several" if row == "AVIF" else "3"
        assert frames_read.kind(source) == cell and image.notes == (f"the first of {count} images in the file",)
        assert getattr(after, "n_frames", 1) == 1
    if kind == "EXIF":
        exif = after.getexif()
        assert exif[MAKER].startswith("ACME") and exif.get(ORIENTATION, 1) == 1
        assert not re.search("rotat|orient", str(after.info.get("xmp", "")))
    if kind == "profile":
        assert after.info["icc_profile"] == SRGB
    tolerance = LOSSY.get(ending, 0) * (257 if found.dtype == np.uint16 else 1)
    if kind == "palette" or ending == ".gif":
        tolerance = 40  # other colours are chosen, and dithered between
    if ending == ".gif":  # which is read with alpha
        seen = expected[..., 3:] > 0 if kind == "alpha" else True
        assert ((found[..., 3:] > 0) == seen).all()
        found, large, expected = (array[..., :3] for array in (found * seen, large, expected * seen))
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= tolerance
    assert large.shape == (2 * expected.shape[0], 2 * expected.shape[1], expected.shape[2])
    assert np.abs(large[::2, ::2].astype(int) - expected).max() <= max(tolerance * 2, 0)


LOST = {
    "alpha": "no alpha: laid over white",
    "palette": "no palette",
    "16 bits": "no 16 bits here: 8",
    "1 bit": "no 1 bits here: 8",
    "CMYK": "no CMYK: converted to sRGB",
    "profile": "no profiles: converted to sRGB",
    "EXIF": "no EXIF here",
}


@pytest.mark.parametrize(("row", "kind"), [(row, kind) for row, kind, cell in CELLS if cell == "-"])
def test_formats_say_what_they_do_not_hold(tmp_path, row, kind):
    """From a format that holds it."""
    origin = {"CMYK": ".tif", "alpha": ".png", "several": ".gif"}.get(kind, ".png")
    source, output = tmp_path / f"in{origin}", tmp_path / f"out{ENDINGS[row]}"
    save(source, kind)
    image = through(source, output)
    assert vips.read(output).size == image.size
    if kind in LOST:
        assert any(LOST[kind] in note for note in image.notes), image.notes
    elif kind == "several":
        assert "the first of 3 images in the file" in image.notes
    else:
        assert kind in ("RGB", "grey") and any("GIF has a palette" in note for note in image.notes)


# What the table does not say


@pytest.mark.parametrize(
    ("kind", "ending", "note"),
    [
        ("grey", ".webp", "WEBP has no grey here: RGB"),
        ("palette", ".tif", "TIF has no palette here: RGB"),
        ("alpha", ".gif", "GIF has no half-transparent pixels"),
    ],
)
def test_notes_say_what_changes_on_the_way(tmp_path, kind, ending, note):
    save(tmp_path / "in.png", kind)
    assert note in through(tmp_path / "in.png", tmp_path / f"out{ending}").notes


@pytest.mark.parametrize("depth", [2, 4])
def test_grey_of_few_bits_keeps_them(tmp_path, depth):
    expected = np.rint(noise(1) / 255 * (2**depth - 1)).astype(np.uint8) * (255 // (2**depth - 1))
    to_vips(ImageData(expected), expected).pngsave(str(tmp_path / "in.png"), bitdepth=depth)
    assert through(tmp_path / "in.png", tmp_path / "out.png").depth == depth
    found = vips.read(tmp_path / "out.png")
    assert found.depth == depth and np.array_equal(found.pixels, expected)
    assert through(tmp_path / "in.png", tmp_path / "out.tif").depth == 8
    assert np.array_equal(vips.read(tmp_path / "out.tif").pixels, expected)


def test_the_exif_of_a_tiff_is_said_to_be_lost(tmp_path):
    exif = PIL.Image.Exif()
    exif[MAKER] = "ACME"
    PIL.Image.fromarray(noise(3)).save(tmp_path / "in.tif", exif=exif)
    assert through(tmp_path / "in.tif", tmp_path / "out.png").notes == ("EXIF of TIFF is not kept",)


@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_16_bits_of_grey_and_alpha_are_kept(tmp_path, channels, ending):
    expected = noise(channels, np.uint16) | 1
    save_deep(tmp_path / f"in{ending}", expected, 16)
    through(tmp_path / f"in{ending}", tmp_path / f"out{ending}")
    assert np.array_equal(vips.read(tmp_path / f"out{ending}").pixels, expected)


@pytest.mark.parametrize("depth", [10, 12])
def test_white_stays_white_at_any_depth(tmp_path, depth):
    save_deep(tmp_path / "in.avif", np.full((9, 11, 3), 65535, np.uint16), depth)
    image = vips.read(tmp_path / "in.avif")
    assert image.depth == depth and image.white == image.pixels.max()
    through(tmp_path / "in.avif", tmp_path / "out.png")
    assert (np.asarray(vips.read(tmp_path / "out.png").pixels) == 65535).all()


def test_all_orientations_come_out_upright(tmp_path):
    upright = noise(3)
    turns = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }
    for value, stored in turns.items():
        exif = PIL.Image.Exif()
        exif[ORIENTATION] = value
        for ending in (".png", ".tif"):
            source = tmp_path / f"{value}{ending}"
            PIL.Image.fromarray(np.ascontiguousarray(stored)).save(source, exif=exif)
            assert vips.read_header(source) == upright.shape[:2]
            through(source, tmp_path / f"out{ending}")
            found = PIL.Image.open(tmp_path / f"out{ending}")
            assert np.array_equal(np.asarray(found), upright), value
            assert found.getexif().get(ORIENTATION, 1) == 1


def test_strip_leaves_the_profile_alone(tmp_path):
    exif = PIL.Image.Exif()
    exif[MAKER] = "ACME"
    info = {"exif": exif, "icc_profile": SRGB}
    for ending in (".png", ".jpg", ".webp", ".tif", ".avif"):
        PIL.Image.fromarray(noise(3)).save(tmp_path / f"in{ending}", **info)
        through(tmp_path / f"in{ending}", tmp_path / f"out{ending}", metadata="strip")
        found = PIL.Image.open(tmp_path / f"out{ending}")
        assert MAKER not in found.getexif() and found.info["icc_profile"] == SRGB
        assert b"ACME" not in (tmp_path / f"out{ending}").read_bytes()


def test_a_thumbnail_of_the_small_image_does_not_stay(tmp_path):
    small = io.BytesIO()
    PIL.Image.fromarray(noise(3, height=8, width=8)).save(small, "JPEG")
    exif = PIL.Image.Exif()
    exif[MAKER] = "ACME"
    plain = exif.tobytes()
    order = "little" if plain.startswith(b"Exif\0\0II") else "big"
    # A second directory, as cameras write it: compression JPEG, where the thumbnail begins, how long it is.
    body = plain[6:]
    at = int.from_bytes(body[4:8], order)
    count = int.from_bytes(body[at : at + 2], order)
    link = at + 2 + 12 * count
    entries = [(0x0103, 3, 1, 6), (0x0201, 4, 1, len(body) + 2 + 12 * 3 + 4), (0x0202, 4, 1, len(small.getvalue()))]
    second = len(entries).to_bytes(2, order)
    for tag, kind, number, value in entries:
        second += tag.to_bytes(2, order) + kind.to_bytes(2, order)
        second += number.to_bytes(4, order) + value.to_bytes(4, order)
    body = body[:link] + len(body).to_bytes(4, order) + body[link + 4 :] + second + bytes(4) + small.getvalue()
    PIL.Image.fromarray(noise(3)).save(tmp_path / "in.jpg", exif=b"Exif\0\0" + body)
    assert small.getvalue() in (tmp_path / "in.jpg").read_bytes()
    through(tmp_path / "in.jpg", tmp_path / "out.jpg")
    assert PIL.Image.open(tmp_path / "out.jpg").getexif()[MAKER].startswith("ACME")
    assert small.getvalue()[100:] not in (tmp_path / "out.jpg").read_bytes()


@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp", ".avif"])
def test_no_exif_is_made_up(tmp_path, ending):
    PIL.Image.fromarray(noise(3)).save(tmp_path / f"in{ending}")
    through(tmp_path / f"in{ending}", tmp_path / f"out{ending}")
    assert not PIL.Image.open(tmp_path / f"out{ending}").getexif()


def test_dots_per_inch_are_kept(tmp_path):
    for ending in (".png", ".jpg", ".tif", ".bmp"):
        PIL.Image.fromarray(noise(3)).save(tmp_path / f"in{ending}", dpi=(300, 300))
        through(tmp_path / f"in{ending}", tmp_path / f"out{ending}")
        assert [round(float(dots)) for dots in PIL.Image.open(tmp_path / f"out{ending}").info["dpi"]] == [300, 300]


@pytest.mark.parametrize("ending", [".png", ".bmp"])
def test_dots_per_inch_are_kept_by_a_jpeg_of_a_scan(tmp_path, ending):
    PIL.Image.fromarray(noise(3)).save(tmp_path / f"in{ending}", dpi=(300, 300))
    through(tmp_path / f"in{ending}", tmp_path / "out.jpg")
    assert PIL.Image.open(tmp_path / "out.jpg").info["dpi"] == pytest.approx((300, 300), abs=0.01)


def test_gif_says_nothing_of_an_alpha_that_is_opaque_in_16_bits():
    pixels = np.full((5, 7, 4), 65535, np.uint16)
    assert not [note for note in fit(ImageData(pixels, depth=16), ".gif").notes if "half-transparent" in note]
    pixels[0, 0, 3] = 300
    assert [note for note in fit(ImageData(pixels, depth=16), ".gif").notes if "half-transparent" in note]


def test_the_ending_may_lie(tmp_path):
    PIL.Image.fromarray(noise(3)).save(tmp_path / "in.jpg", "PNG")
    image = vips.read(tmp_path / "in.jpg")
    assert image.suffix == ".png" and np.array_equal(image.pixels, noise(3))
    PIL.Image.fromarray(noise(3)).save(tmp_path / "b.png", "BMP")
    assert vips.read(tmp_path / "b.png").suffix == ".bmp"


def test_names_with_brackets_are_names(tmp_path):
    source, output = tmp_path / "a[1].png", tmp_path / "b[Q=3].png"
    PIL.Image.fromarray(noise(3)).save(source)
    through(source, output)
    assert np.array_equal(np.asarray(PIL.Image.open(output)), noise(3))


# Transparent pixels, negatives


def test_hidden_colours_do_not_show_at_an_edge():
    """A white disc over transparent black, through a network that blurs: it stays white as far as it is seen."""
    pixels = np.zeros((41, 53, 4), np.uint8)
    down, right = np.mgrid[:41, :53]
    pixels[(down - 20) ** 2 + (right - 26) ** 2 < 200] = 255

    class Blur(Repeat):
        def bands(self, image, height, width, white=255, advance=None):
            whole = PIL.Image.fromarray(np.ascontiguousarray(image)).resize((width, height), PIL.Image.Resampling.BOX)
            yield np.asarray(whole.reduce(1)) / np.float32(255)
            assert (height, width) == (whole.height, whole.width)

    result = np.zeros((17, 22, 4), np.uint8)  # smaller: each pixel is a mean of several
    upscale(Blur(), ImageData(pixels), result, lambda _: None)
    seen = result[..., 3] > 0
    assert seen.any() and not seen.all() and (result[seen] < 255).any()
    assert (result[seen][:, :3] == 255).all()


def test_an_opaque_alpha_needs_no_network(tmp_path):
    class Once(Repeat):
        calls = 0

        def bands(self, *arguments, **rest):
            self.calls += 1
            return super().bands(*arguments, **rest)

    pixels = np.dstack([noise(3), np.full((23, 31), 255, np.uint8)])
    network, result = Once(), np.zeros((46, 62, 4), np.uint8)
    upscale(network, ImageData(pixels), result, lambda _: None)
    assert network.calls == 1 and (result[..., 3] == 255).all()


def test_cmyk_with_one_ink_keeps_the_others_empty():
    pixels = np.zeros((23, 31, 4), np.uint8)
    pixels[..., 3] = 77
    result = np.ones((46, 62, 4), np.uint8)
    upscale(Repeat(), ImageData(pixels, cmyk=True), result, lambda _: None)
    assert (result[..., :3] == 0).all() and (result[..., 3] == 77).all()


# What is refused


def bomb(ending: str) -> bytes:
    """A file of some bytes that claims more pixels than are accepted."""
    content = io.BytesIO()
    PIL.Image.new("1", (64, 64)).save(content, {".png": "PNG", ".bmp": "BMP", ".tif": "TIFF"}[ending])
    raw = bytearray(content.getvalue())
    if ending == ".bmp":
        raw[18:26] = (100_000).to_bytes(4, "little") * 2
    elif ending == ".tif":
        for tag in (256, 257):
            at = raw.index(tag.to_bytes(2, "little") + b"\4\0" + b"\1\0\0\0")
            raw[at + 8 : at + 12] = (100_000).to_bytes(4, "little")
    else:
        import zlib

        raw[16:24] = (100_000).to_bytes(4, "big") * 2
        raw[29:33] = zlib.crc32(raw[12:29]).to_bytes(4, "big")
    return bytes(raw)


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tif"])
def test_a_bomb_is_refused_naming_the_limit(tmp_path, ending):
    path = tmp_path / f"bomb{ending}"
    path.write_bytes(bomb(ending))
    assert path.stat().st_size < 3000
    for read in (vips.read, vips.read_header):
        with pytest.raises(UserError, match="claims .*700,000,000 pixels"):
            read(path)


@pytest.mark.parametrize("ending", [*ENDINGS.values()])
def test_half_a_file_is_refused(tmp_path, ending):
    path = tmp_path / f"in{ending}"
    PIL.Image.fromarray(made_images.make_image(60, 90)).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cannot read .*in[.]"):
        vips.read(path)


def test_a_size_that_a_format_cannot_hold_is_refused(tmp_path):
    for ending, longest in ((".webp", 16_383), (".jpg", 65_500), (".avif", 16_384)):
        vips.check_output(tmp_path / f"a{ending}", 1, longest)
        with pytest.raises(UserError, match=f"{ending} holds at most {longest:,} pixels along a side"):
            vips.check_output(tmp_path / f"a{ending}", 1, longest + 1)


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "out.png"
    path.write_bytes(b"before")

    def fail(*_):
        raise pyvips.Error("no")

    monkeypatch.setattr(vips, "to_vips", fail)
    with pytest.raises(UserError, match="cannot write .*out.png"):
        vips.write(path, noise(3), ImageData(noise(3)))
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]


def test_names_that_are_no_text_are_names(tmp_path):
    folder = tmp_path / os.fsdecode(b"\xff\xfe")
    folder.mkdir()
    for ending in ENDINGS.values():
        source, output = folder / os.fsdecode(b"\xfd" + ending.encode()), folder / f"out{ending}"
        PIL.Image.fromarray(noise(3)).save(tmp_path / f"in{ending}")
        (tmp_path / f"in{ending}").rename(source)
        assert vips.read_header(source) == (23, 31)
        through(source, output)
        assert vips.read(output).size == (23, 31)


def test_damage_is_told_in_the_sentence_and_nowhere_else(tmp_path, capfd, recwarn):
    """Pillow warns and logs about a TIFF's directory, and libvips about a BMP of a million dots per inch."""
    PIL.Image.fromarray(noise(3)).save(tmp_path / "a.tif")
    raw = (tmp_path / "a.tif").read_bytes()
    channels = (277).to_bytes(2, "little") + b"\3\0\1\0\0\0"
    assert channels in raw
    (tmp_path / "a.tif").write_bytes(raw.replace(channels + b"\3", channels + b"\x99"))
    with pytest.raises(UserError, match="a.tif"):
        vips.read(tmp_path / "a.tif")
    count = (258).to_bytes(2, "little") + b"\3\0"
    (tmp_path / "a.tif").write_bytes(raw.replace(count + b"\3\0\0\0", count + b"\xff\xff\xff\0"))
    with pytest.raises(UserError, match="a.tif"):
        vips.read(tmp_path / "a.tif")
    PIL.Image.fromarray(noise(3)).save(tmp_path / "b.bmp")
    raw = (tmp_path / "b.bmp").read_bytes()
    (tmp_path / "b.bmp").write_bytes(raw[:38] + b"\xff" * 8 + raw[46:])
    for ending in (".png", ".bmp"):
        through(tmp_path / "b.bmp", tmp_path / f"out{ending}")
    (tmp_path / "b.bmp").write_bytes(raw[:18] + (16_777_209).to_bytes(4, "little") + raw[22:])
    vips.read_header(tmp_path / "b.bmp")
    assert capfd.readouterr() == ("", "") and not list(recwarn)


def test_a_part_of_an_avif_with_an_odd_name_does_not_keep_the_image_out(tmp_path):
    exif = PIL.Image.Exif()
    exif[MAKER] = "ACME"
    PIL.Image.fromarray(noise(3)).save(tmp_path / "in.avif", exif=exif, icc_profile=SRGB)
    whole = (tmp_path / "in.avif").read_bytes()
    at = whole.index(b"Exif")  # what its part is called
    (tmp_path / "in.avif").write_bytes(whole[:at] + b"Ex\xe9f" + whole[at + 4 :])
    image = through(tmp_path / "in.avif", tmp_path / "out.png")
    assert image.notes == ("its EXIF is not kept, beside a part with an odd name",)
    assert PIL.Image.open(tmp_path / "out.png").info["icc_profile"] == SRGB


def test_the_reason_is_that_of_this_file(tmp_path):
    """libvips keeps what it had to say of a file that could be read in the end, and says it with the next error."""
    save(tmp_path / "good.avif", "RGB")
    (tmp_path / "bad.png").write_bytes(b"\xffbytes")
    vips.read(tmp_path / "good.avif")
    with pytest.raises(UserError, match="bad.png .*: it begins like none of .png, .* .bmp$"):
        vips.read(tmp_path / "bad.png")


SHORT_OF_MEMORY = """
import re, resource, sys
from pathlib import Path
from liif_core.images import frames_read, vips
held = int(re.search(r"VmData:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10
resource.setrlimit(resource.RLIMIT_DATA, (held + (60 << 20), -1))
try:
    vips.read(Path(sys.argv[1]))
except vips.UserError as error:
    print(error)
"""


@pytest.mark.parametrize("ending", [".png", ".bmp"])
def test_an_image_too_large_for_the_memory_is_not_called_damaged(tmp_path, ending):
    path = tmp_path / f"in{ending}"
    PIL.Image.new("RGB", (6000, 5001)).save(path)  # 86 MiB
    result = run([sys.executable, "-c", SHORT_OF_MEMORY, str(path)])
    assert (result.stdout, result.stderr) == (f"not enough memory to read {path}\n", "")


def test_png_files_are_written_whatever_follows_their_profile(tmp_path):
    PIL.Image.fromarray(noise(3)).save(tmp_path / "in.jpg", icc_profile=SRGB * 3)
    through(tmp_path / "in.jpg", tmp_path / "out.png")
    assert PIL.Image.open(tmp_path / "out.png").info["icc_profile"] == SRGB
