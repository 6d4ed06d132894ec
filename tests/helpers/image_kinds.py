"""Image files of every kind in every format that the table of formats in docs/upscale.md names."""

import io
import re
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import PIL.Image
from PIL import ImageCms

from helpers import ROOT
from liif_core.images.image import pyvips

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
MAKER, ORIENTATION = 0x010F, 0x0112
LIES_LEFT = 6  # turn it clockwise to see it upright


def noise(channels: int, dtype=np.uint8, height: int = 23, width: int = 31) -> np.ndarray:
    """Every level somewhere; gentle, so that lossy formats come near it."""
    down, right = np.mgrid[:height, :width]
    waves = [np.sin(down / 7 + k) + np.cos(right / (5 + k)) for k in range(channels)]
    unit = (np.stack(waves, axis=-1) + 2) / 4
    return np.rint(unit * np.iinfo(dtype).max).astype(dtype)


def save_deep(path: Path, pixels: np.ndarray, depth: int) -> None:
    """More than 8 bits, which Pillow does not write in colour."""
    image = pyvips.Image.new_from_memory(pixels, *pixels.shape[1::-1], pixels.shape[2], "ushort")
    image = image.copy(interpretation="rgb16" if pixels.shape[2] > 2 else "grey16")
    if path.suffix == ".avif":
        image.heifsave(str(path), compression="av1", bitdepth=depth, lossless=True)
    else:
        image.write_to_file(str(path))


def save(path: Path, kind: str) -> np.ndarray:
    """A file of a kind; its pixels (h, w, c) upright."""
    rgb, quality = noise(3), {"quality": 98} if path.suffix in (".jpg", ".webp", ".avif") else {}
    image = PIL.Image.fromarray(rgb)
    if kind == "RGB":
        image.save(path, **quality)
        return rgb
    if kind == "grey":
        image.convert("L").save(path, **quality)
        return np.asarray(image.convert("L"))[..., None]
    if kind == "alpha":
        rgba = noise(4)
        rgba[..., 3] = np.where(rgba[..., 3] > 128, 255, 0) if path.suffix == ".gif" else rgba[..., 3] | 1
        PIL.Image.fromarray(rgba).save(path, **quality)
        return rgba
    if kind == "palette":
        few = image.quantize(64)
        few.save(path)
        return np.asarray(few.convert("RGB"))
    if kind == "1 bit":
        ink = noise(1)[..., 0] > 128
        PIL.Image.fromarray(ink).save(path)
        return (ink * np.uint8(255))[..., None]
    if kind == "16 bits":
        deep = noise(3, np.uint16)
        save_deep(path, deep, 12)
        return deep
    if kind == "CMYK":
        cmyk = noise(4)
        PIL.Image.fromarray(cmyk, "CMYK").save(path, **quality)
        return cmyk
    if kind == "profile":
        image.save(path, icc_profile=SRGB, **quality)
        return rgb
    if kind == "EXIF":
        exif = PIL.Image.Exif()
        exif[MAKER], exif[ORIENTATION] = "ACME", LIES_LEFT
        more = {"subsampling": "4:4:4"} if path.suffix == ".avif" else {}
        image.save(path, exif=exif, **quality, **more)
        return np.rot90(rgb, -1)
    assert kind == "several"
    others = [PIL.Image.fromarray(rgb[::-1]), PIL.Image.fromarray(rgb[:, ::-1])]
    image.save(path, save_all=True, append_images=others, **quality)
    return rgb


def tiff(pixels: np.ndarray, photometric: int, tags: dict[int, tuple[int, ...]], order: str = "<") -> bytes:
    """A TIFF of pixels (h, w, c) with tags of its own beside those that it needs; order: "<" or ">"."""
    height, width, bands = pixels.shape
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    bits = (8 * pixels.dtype.itemsize,) * bands
    entries = {256: (width,), 257: (height,), 258: bits, 259: (1,), 262: (photometric,), 273: (8,), 277: (bands,)}
    entries |= {278: (height,), 279: (len(data),)} | tags
    first = 8 + len(data) + len(data) % 2
    after, directory, more = first + 2 + 12 * len(entries) + 4, b"", b""
    for tag, values in sorted(entries.items()):
        # Shorts, and what is no short as long.
        kind, code = (3, "H") if max(values) < 1 << 16 else (4, "I")
        body = struct.pack(f"{order}{len(values)}{code}", *values)
        if len(body) > 4:
            more, body = more + body, struct.pack(f"{order}I", after + len(more))
        directory += struct.pack(f"{order}HHI", tag, kind, len(values)) + body.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, first)
    return head + data.ljust(first - 8, b"\0") + struct.pack(f"{order}H", len(entries)) + directory + bytes(4) + more


def png_with(image: PIL.Image.Image, chunks: Iterable[tuple[bytes, bytes]], late: bool = False) -> bytes:
    """A PNG with more chunks, before its pixels or (late) after them."""
    content = io.BytesIO()
    image.save(content, "PNG")
    png = content.getvalue()
    at = png.index(b"IEND" if late else b"IDAT") - 4
    return png[:at] + b"".join(png_chunk(*chunk) for chunk in chunks) + png[at:]


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """With its length and its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def grey_profile() -> bytes:
    """An ICC profile of grey images, with the exponent 2.2."""
    tags = {b"wtpt": b"XYZ \0\0\0\0" + struct.pack(">3i", 63_190, 65_536, 54_061)}
    tags |= {b"kTRC": b"curv\0\0\0\0" + struct.pack(">IHH", 1, 563, 0), b"cprt": b"text\0\0\0\0none\0\0\0\0"}
    at = 128 + 4 + 12 * len(tags)
    table, content = struct.pack(">I", len(tags)), b"".join(tags.values())
    for name, body in tags.items():
        table += name + struct.pack(">II", at, len(body))
        at += len(body)
    head = struct.pack(">I4sI12s", at, b"lcms", 0x02400000, b"mntrGRAYXYZ ") + bytes(12) + b"acsp" + bytes(28)
    return (head + struct.pack(">3i", 63_190, 65_536, 54_061)).ljust(128, b"\0") + table + content


def table() -> list[tuple[str, str, str]]:
    """(ending, kind, cell) of the table of formats in docs/upscale.md."""
    page = (ROOT / "docs/upscale.md").read_text(encoding="utf-8")
    lines = re.search(r"<!-- formats -->\n\n(.*?)\n\n", page, re.DOTALL).group(1).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    kinds = rows[0][1:]
    return [(row[0], kind, cell) for row in rows[2:] for kind, cell in zip(kinds, row[1:], strict=True)]


CELLS = table()
ENDINGS = {
    "PNG": ".png",
    "JPEG": ".jpg",
    "WebP": ".webp",
    "TIFF": ".tif",
    "AVIF": ".avif",
    "BMP": ".bmp",
    "GIF": ".gif",
}
KINDS = ["RGB", "grey", "alpha", "palette", "1 bit", "16 bits", "CMYK", "profile", "EXIF", "several"]
