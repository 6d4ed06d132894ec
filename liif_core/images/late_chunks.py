"""What a PNG holds behind its pixels, where exiftool and others put EXIF, XMP and text.

Pillow knows of it only when the pixels are decoded.
"""

import io
import struct
import zlib
from typing import Any

from PIL import Image

START = b"\x89PNG\r\n\x1a\n"
HEADER = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)  # one grey pixel
TEXTS = (b"eXIf", b"iTXt", b"tEXt", b"zTXt")
TAIL = 1 << 17  # bytes at the end of a file, among which an IDAT chunk begins: seldom has one more than 64 KB


def info(image: Any) -> dict:
    """What an opened PngImageFile of Pillow will have in its `info` once it is loaded, of what stands at the end."""
    size = image.fp.seek(0, io.SEEK_END)
    tail = image.fp.seek(max(0, size - TAIL))
    found = image.fp.read().find(b"IDAT")
    chunks = _texts(image, tail + found - 4) if found >= 0 else None
    if chunks is None:
        chunks = _texts(image, len(START))
    if not chunks:
        return {}
    shell = b"".join(_chunk(*chunk) for chunk in [(b"IHDR", HEADER), *chunks, (b"IDAT", b"")])
    with Image.open(io.BytesIO(START + shell)) as bare:
        return bare.info


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _texts(image: Any, at: int) -> list[tuple[bytes, bytes]] | None:
    """The texts behind the pixels, looked for from a chunk at `at` on; None if there is none that leads to the end."""
    late: list[tuple[bytes, bytes]] = []
    pixels = False
    while True:
        image.fp.seek(at)
        head = image.fp.read(8)
        if len(head) < 8:
            return None
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IEND" or (pixels and kind == b"fcTL" and image.is_animated):  # a second image, unread by Pillow
            return late
        pixels = pixels or kind == b"IDAT"
        if pixels and kind in TEXTS:
            late.append((kind, image.fp.read(length)))
        at += 12 + length
