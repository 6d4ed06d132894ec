"""Damaged image files for tests/robustness/fuzz_demo.py: a seed of every format and kind, and ways to damage it.

All chance comes from the Random that is handed in, so the same one gives the same file.
"""

import functools
import random
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image

from helpers.image_kinds import CELLS, ENDINGS, SRGB, grey_profile, noise, png_with, save, save_deep, tiff
from liif_core.images.image import pyvips

SIDES = [0, 1, 2, 3, 7, 40, 255, 256, 1000, 4095, 16_384, 65_535, 65_536, 1_000_001, 2**31 - 1, 2**31, 2**32 - 1]
BYTES = [0, 1, 2, 8, 16, 32, 127, 128, 254, 255]
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


@functools.cache
def seeds() -> dict[str, bytes]:
    """Whole files by name, whose ending is that of their format."""
    with tempfile.TemporaryDirectory() as folder:
        for row, kind, cell in CELLS:
            if cell != "-":
                save(Path(folder) / f"{kind.replace(' ', '')}{ENDINGS[row]}", kind)
        _save_more(Path(folder))
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())} | _tiffs() | _foreign()


def _save_more(folder: Path) -> None:
    """What the table of formats does not tell apart, and readers do."""
    rgb = PIL.Image.fromarray(noise(3))
    save_deep(folder / "greyalpha16.png", noise(2, np.uint16), 16)
    save_deep(folder / "grey16.tif", noise(1, np.uint16), 16)
    rgb.save(folder / "progressive.jpg", progressive=True, icc_profile=SRGB, comment=b"hello")
    for compression in ("tiff_lzw", "jpeg", "packbits"):
        rgb.save(folder / f"{compression}.tif", compression=compression)
    rgb.quantize(16).save(folder / "transparent.png", transparency=3)
    PIL.Image.fromarray(noise(1)[..., 0].astype(np.float32)).save(folder / "float.tif")
    PIL.Image.fromarray(noise(1)[..., 0].astype(np.int32)).save(folder / "int.tif")
    image = pyvips.Image.new_from_array(noise(3)).copy(interpretation="srgb")
    image.pngsave(str(folder / "interlaced.png"), interlace=True)
    image.tiffsave(str(folder / "tiles.tif"), tile=True, tile_width=16, tile_height=16, pyramid=True)
    image.tiffsave(str(folder / "big.tif"), bigtiff=True, compression="deflate", predictor="horizontal")
    image.webpsave(str(folder / "lossless.webp"), lossless=True)
    image.gifsave(str(folder / "interlaced.gif"), interlace=True)
    for name, profile in {"badicc": b"no profile" * 40, "otherkind": grey_profile()}.items():
        for ending in (".png", ".jpg", ".tif", ".webp"):
            rgb.save(folder / f"{name}{ending}", icc_profile=profile)
    _save_several(folder)
    exif = PIL.Image.Exif()
    exif[0x010F], exif[0x0112] = "ACME", 6
    early = [(b"gAMA", bytes((0, 1, 134, 160))), (b"cHRM", bytes(32)), (b"cICP", bytes((9, 16, 0, 1)))]
    late = [(b"eXIf", exif.tobytes()[6:]), (b"tEXt", b"parameters\0a cat"), (b"tEXt", b"\xfc\0\xfc")]
    late.append((b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="6"/>'))
    late.append(
        (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n 8\n" + exif.tobytes().hex().encode()))
    )
    (folder / "colours.png").write_bytes(png_with(rgb, early))
    for place in (False, True):
        (folder / f"told{place}.png").write_bytes(png_with(rgb, [*late, *early], place))


def _save_several(folder: Path) -> None:
    """Animations with alpha, durations and disposals of their own, and pages of all sorts."""
    frames = [noise(4, height=23 - number, width=31) for number in range(4)]
    for number, frame in enumerate(frames):
        frame[..., 3] = np.where(frame[..., 3] > 60 * number, 255, 0)
    first, *others = [PIL.Image.fromarray(frame).crop((0, 0, 31, 23)) for frame in frames]
    timed = {"save_all": True, "append_images": others, "loop": 3, "duration": [20, 0, 130, 70]}
    first.save(folder / "cleared.gif", disposal=[1, 2, 3, 2], **timed)
    first.save(folder / "blended.png", disposal=[0, 1, 2, 0], blend=1, default_image=False, **timed)
    first.save(folder / "still.png", default_image=True, **timed | {"duration": 40})
    first.save(folder / "clear.webp", lossless=True, exif=b"Exif\0\0no exif", **timed)
    first.save(folder / "clear.avif", quality=90, **timed)
    first.quantize(16).convert("L").save(
        folder / "grey_frames.png", **timed | {"append_images": [others[0].convert("L")]}
    )
    pages = [PIL.Image.fromarray(noise(3, height=9)), others[0], first.convert("CMYK"), first.convert("1")]
    first.convert("L").save(folder / "pages.tif", save_all=True, append_images=pages)


def _tiffs() -> dict[str, bytes]:
    """Bands beside the colours, and samples that are none that can be read."""
    bands = {
        "nir": (2, 4, (0,)),
        "two": (2, 5, (0, 2)),
        "greyonly": (1, 2, (0,)),
        "ink": (5, 5, (2,)),
        "six": (1, 6, ()),
    }
    files = {
        f"{name}.tif": tiff(noise(n), kind, {338: extra} if extra else {}) for name, (kind, n, extra) in bands.items()
    }
    files |= {
        f"deep{name}": tiff(noise(4, np.uint16), 2, {338: (0,)}, order)
        for name, order in (("l.tif", "<"), ("b.tif", ">"))
    }
    files |= {f"kind{kind}.tif": tiff(noise(1).astype(np.int16), 1, {339: (kind,)}) for kind in (2, 3)}
    return files | {"lab.tif": tiff(noise(3), 8, {}), "raw.dng": tiff(noise(3), 2, {50_706: (1, 4, 0, 0), 330: (8, 8)})}


def _foreign() -> dict[str, bytes]:
    """What libvips reads, or takes for an image, beside the formats of the project."""
    return {
        "svg.png": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="7"><rect width="4" height="4"/></svg>',
        "ppm.png": b"P6\n4 3\n255\n" + bytes(range(36)),
        "pfm.tif": b"PF\n2 2\n-1.0\n" + bytes(48),
        "hdr.png": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 2 +X 2\n" + bytes(16),
        "text.jpg": b"not an image\n",
        "empty.png": b"",
        "zeros.tif": bytes(4096),
        "magic.bmp": b"BM",
        "heic.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64),
        "jp2.jp2": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(64),
        "tga.tga": bytes((0, 0, 2, *bytes(9), 4, 0, 3, 0, 24, 0)) + bytes(44) + b"TRUEVISION-XFILE.\0",
        "psd.psd": b"8BPS\0\1" + bytes(60),
        "cr2.jpg": b"II*\0\x10\0\0\0CR\2\0" + bytes(60),
        "pdf.png": b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\ntrailer<</Root 1 0 R>>\n%%EOF",
    }


def damaged(rng: random.Random) -> tuple[str, bytes]:
    """A file's name and content."""
    name = rng.choice(list(seeds()))
    data = seeds()[name]
    for _ in range(rng.choice([1, 1, 1, 2, 3, 6])):
        particular = [change for start, change in PARTICULAR if data.startswith(start) or data[4:12] == start]
        data = rng.choice(particular if particular and rng.random() < 0.6 else [ANYTHING])(rng, data)
    if rng.random() < 0.05:
        name = Path(name).stem + rng.choice([*ENDINGS.values(), ".jpeg", ".PNG", ".xyz", ""])
    return name, data


def _number(rng: random.Random) -> int:
    return rng.choice([*SIDES, rng.randrange(2**32), rng.randrange(100)])


def _place(rng: random.Random, data: bytes) -> int:
    """Often in the header, where a byte means most."""
    return rng.randrange(min(len(data), rng.choice([32, 200, len(data)])) or 1) if data else 0


# Of any file


def _flip(rng: random.Random, data: bytes) -> bytes:
    raw = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5, 40]) if raw else 0):
        raw[_place(rng, data)] ^= 1 << rng.randrange(8)
    return bytes(raw)


def _set_bytes(rng: random.Random, data: bytes) -> bytes:
    at = _place(rng, data)
    order, size = rng.choice("<>"), rng.choice("BHIQ")
    limit = 256 ** struct.calcsize(size)
    value = struct.pack(order + size, (rng.choice(BYTES) if size == "B" else _number(rng)) % limit)
    return data[:at] + value + data[at + len(value) :]


def _cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _move(rng: random.Random, data: bytes) -> bytes:
    """A part removed, repeated, zeroed or moved elsewhere."""
    start = _place(rng, data)
    part = data[start : start + rng.choice([1, 4, 12, 100, 1000])]
    rest = data[:start] + data[start + len(part) :]
    to = _place(rng, rest)
    return rng.choice(
        [
            rest,
            data[:start] + part * rng.choice([2, 2, 50]) + data[start + len(part) :],
            data[:start] + bytes(len(part)) + data[start + len(part) :],
            rest[:to] + part + rest[to:],
        ]
    )


def _splice(rng: random.Random, data: bytes) -> bytes:
    other = rng.choice(list(seeds().values()))
    return rng.choice(
        [data + other, data[: _place(rng, data)] + other, data[: len(data) // 2] + other[len(other) // 2 :]]
    )


def ANYTHING(rng: random.Random, data: bytes) -> bytes:
    return rng.choice([_flip, _flip, _set_bytes, _set_bytes, _cut, _move, _splice])(rng, data)


def _garbage(rng: random.Random, kind: str) -> bytes:
    """Metadata that is damaged or lies. kind: exif, icc or xmp."""
    exif = PIL.Image.Exif()
    exif[0x010F], exif[0x0112], exif[0x9286] = "ACME", rng.choice([0, 1, 6, 9, 65_535]), b"ASCII\0\0\0text"
    whole = {
        "exif": b"Exif\0\0" + exif.tobytes().removeprefix(b"Exif\0\0"),
        "icc": SRGB,
        "xmp": b'<x:xmpmeta><tiff:Orientation="6" \xff\xfe\0 bad</x:xmpmeta>',
    }[kind]
    return rng.choice([whole, ANYTHING(rng, whole), b"", rng.randbytes(30), whole * 3])


# PNG: checksums are made right again, so that the damage gets past them


def _png(rng: random.Random, data: bytes) -> bytes:
    chunks = _png_chunks(data)
    if not chunks:
        return ANYTHING(rng, data)
    at = rng.randrange(len(chunks))
    kind, body = chunks[at]
    what = rng.choice(["header", "header", "change", "remove", "repeat", "swap", "insert", "inflate"])
    if what == "header" and len(chunks[0][1]) == 13:
        chunks[0] = (chunks[0][0], _png_header(rng, chunks[0][1]))
    elif what == "change":
        chunks[at] = (kind, ANYTHING(rng, body))
    elif what == "remove":
        del chunks[at]
    elif what == "repeat":
        chunks[at:at] = [chunks[at]] * rng.choice([1, 30])
    elif what == "swap":
        chunks.append(chunks.pop(at))
    elif what == "insert":
        chunks.insert(rng.randrange(1, len(chunks) + 1), _png_extra(rng))
    elif what == "inflate":
        pixels = rng.choice([b"", bytes(10), bytes(100_000), rng.randbytes(5000)])
        chunks = [(kind, zlib.compress(pixels) if kind == b"IDAT" else body) for kind, body in chunks]
    return PNG_MAGIC + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def _png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks, at = [], len(PNG_MAGIC)
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def _png_header(rng: random.Random, body: bytes) -> bytes:
    fields = list(struct.unpack(">IIBBBBB", body))
    which = rng.randrange(7)
    fields[which] = _number(rng) if which < 2 else rng.choice([0, 1, 2, 3, 4, 6, 8, 16, 255])
    return struct.pack(">IIBBBBB", *fields)


def _png_extra(rng: random.Random) -> tuple[bytes, bytes]:
    text = rng.choice([b"Comment\0hello", b"\xff\xfe\0\xff", b"a" * 200 + b"\0b", b"no zero", b"New\nline\0\n\n"])
    return rng.choice(
        [
            (b"eXIf", _garbage(rng, "exif").removeprefix(b"Exif\0\0")),
            (b"iCCP", b"p\0\0" + zlib.compress(_garbage(rng, "icc"))),
            (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + _garbage(rng, "xmp")),
            (b"tEXt", text),
            (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(rng.choice([10, 3_000_000])))),
            (b"tRNS", rng.randbytes(rng.choice([1, 2, 6, 300]))),
            (b"PLTE", rng.randbytes(rng.choice([1, 3, 768, 900]))),
            (b"acTL", struct.pack(">II", _number(rng), 0)),
            (b"pHYs", struct.pack(">IIB", _number(rng), _number(rng), rng.randrange(3))),
            (b"gAMA", struct.pack(">I", _number(rng))),
            (b"cHRM", struct.pack(">8I", *(_number(rng) for _ in range(8)))),
            (b"cICP", rng.randbytes(rng.choice([4, 4, 3]))),
            (b"sRGB", rng.randbytes(1)),
            (b"iTXt", b"Author\0\1\0\0\0" + ANYTHING(rng, zlib.compress(b"words"))),
            (
                b"zTXt",
                b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n%d\n" % rng.randrange(99) + text.hex().encode()),
            ),
            (rng.randbytes(4), rng.randbytes(9)),
        ]
    )


# JPEG


def _jpeg(rng: random.Random, data: bytes) -> bytes:
    segments, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        length = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        segments.append(data[at : at + length])
        at += length
    if not segments:
        return ANYTHING(rng, data)
    index = rng.randrange(len(segments))
    frames = [k for k, segment in enumerate(segments) if segment[1] in (0xC0, 0xC1, 0xC2)]
    what = rng.choice(["frame", "change", "remove", "repeat", "swap", "insert", "insert"])
    if what == "frame" and frames:
        frame = segments[frames[0]]
        sides = struct.pack(">HH", _number(rng) % 65_536, rng.choice([31, _number(rng) % 65_536]))
        segments[frames[0]] = rng.choice([frame[:5] + sides + frame[9:], frame[:4] + bytes([12]) + frame[5:]])
    elif what == "change":
        segments[index] = segments[index][:4] + ANYTHING(rng, segments[index][4:])
    elif what == "remove":
        del segments[index]
    elif what == "repeat":
        segments.insert(index, segments[index])
    elif what == "swap":
        segments.append(segments.pop(index))
    else:
        marker, body = rng.choice(
            [
                (0xE1, _garbage(rng, "exif")),
                (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + _garbage(rng, "xmp")),
                (0xE2, b"ICC_PROFILE\0" + bytes([rng.randrange(3), rng.randrange(4)]) + _garbage(rng, "icc")),
                (0xED, b"Photoshop 3.0\0008BIM" + rng.randbytes(20)),
                (0xEE, b"Adobe" + rng.randbytes(7)),
                (0xFE, b"comment\n\xff\0"),
                (0xDD, struct.pack(">H", _number(rng) % 65_536)),
            ]
        )
        body = body[:65_000]
        segments.insert(index, bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body)
    return data[:2] + b"".join(segments) + data[at:]


# Headers whose numbers stand in known places


def _tiff(rng: random.Random, data: bytes) -> bytes:
    """An entry of the first directory: its tag, type, count or value."""
    order = "<" if data.startswith(b"II") else ">"
    first = struct.unpack_from(order + "I", data, 4)[0] if len(data) > 8 else 0
    if data[2:4] != (b"*\0" if order == "<" else b"\0*") or first + 2 > len(data):
        return ANYTHING(rng, data)
    count = struct.unpack_from(order + "H", data, first)[0]
    at = first + 2 + 12 * rng.randrange(count or 1)
    if at + 12 > len(data):
        return ANYTHING(rng, data)
    tag, kind, number, value = struct.unpack_from(order + "HHII", data, at)
    tags = [254, 256, 257, 258, 259, 262, 273, 274, 277, 278, 279, 282, 284, 317, 320, 338, 339, 34_675, 700, 34_665]
    what = rng.randrange(5)
    entry = (
        rng.choice(tags) if what == 0 else tag,
        rng.randrange(20) if what == 1 else kind,
        _number(rng) if what == 2 else number,
        rng.choice([_number(rng), rng.randrange(17), first]) if what > 2 else value,
    )
    return data[:at] + struct.pack(order + "HHII", *entry) + data[at + 12 :]


def _at(order: str, *places: tuple[int, str]) -> Callable[[random.Random, bytes], bytes]:
    """A change of one of the numbers at these offsets."""

    def change(rng: random.Random, data: bytes) -> bytes:
        at, size = rng.choice(places)
        value = struct.pack(order + size, _number(rng) % 256 ** struct.calcsize(size))
        return data[:at] + value + data[at + len(value) :]

    return change


def _in_boxes(*names: bytes) -> Callable[[random.Random, bytes], bytes]:
    """A change of some bytes after one of these four letters, or of the length before them."""

    def change(rng: random.Random, data: bytes) -> bytes:
        found = [data.find(name) for name in names if name in data]
        if not found:
            return ANYTHING(rng, data)
        at = rng.choice(found) + rng.choice([-4, 4, 8, 12, 16, rng.randrange(4, 40)])
        value = rng.choice([struct.pack(">I", _number(rng)), struct.pack("<I", _number(rng)), rng.randbytes(1)])
        return data[: max(0, at)] + value + data[max(0, at) + len(value) :]

    return change


def _webp(rng: random.Random, data: bytes) -> bytes:
    """A block of metadata more, announced in the header of the extended format."""
    name, kind = rng.choice([(b"EXIF", "exif"), (b"ICCP", "icc"), (b"XMP ", "xmp")])
    body = _garbage(rng, kind)
    block = name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)
    inside = data[12:]
    if not inside.startswith(b"VP8X"):
        inside = b"VP8X" + struct.pack("<IB", 10, 0x2C) + bytes(3) + bytes([30, 0, 0, 22, 0, 0]) + inside
    inside = inside[:18] + block + inside[18:] if rng.random() < 0.5 else inside + block
    return b"RIFF" + struct.pack("<I", 4 + len(inside)) + b"WEBP" + inside


AVIF_BOXES = (
    b"ispe",
    b"iloc",
    b"iinf",
    b"infe",
    b"ipco",
    b"ipma",
    b"pixi",
    b"av1C",
    b"colr",
    b"irot",
    b"iref",
    b"meta",
)

PARTICULAR: list[tuple[bytes, Callable[[random.Random, bytes], bytes]]] = [
    (PNG_MAGIC, _png),
    (b"\xff\xd8", _jpeg),
    (b"II", _tiff),
    (b"MM", _tiff),
    (b"BM", _at("<", (2, "I"), (10, "I"), (14, "I"), (18, "I"), (22, "I"), (28, "H"), (30, "I"), (38, "I"), (46, "I"))),
    (b"GIF8", _at("<", (6, "H"), (8, "H"), (10, "B"), (11, "B"))),
    (b"GIF8", _in_boxes(b"\x2c\0\0\0", b"\x21\xf9\x04", b"NETSCAPE2.0")),
    (b"RIFF", _in_boxes(b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANMF", b"RIFF")),
    (b"RIFF", _webp),
    (b"ftypavif", _in_boxes(*AVIF_BOXES)),
    (b"ftypavis", _in_boxes(*AVIF_BOXES, b"moov", b"stsz", b"stco", b"tkhd")),
]
