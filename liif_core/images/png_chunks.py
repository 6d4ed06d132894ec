"""What libvips does not do with a PNG: keep what its colours mean, keep texts letter by letter, and read what is
written after the pixels.

Names and layouts of chunks are those of the PNG specification, third edition.
"""

import re
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, NamedTuple

MAGIC = b"\x89PNG\r\n\x1a\n"
HEADER = len(MAGIC) + 25  # bytes: the magic and IHDR, which comes first
AROUND = 12  # bytes of a chunk beside its body: length, name, checksum
COLOURS = {b"cICP": 4, b"mDCV": 24, b"cLLI": 8, b"cHRM": 32, b"gAMA": 4, b"sRGB": 1}  # with their lengths
TEXTS = (b"tEXt", b"zTXt", b"iTXt")
XMP = b"XML:com.adobe.xmp"  # the keyword of an iTXt
RAW_EXIF = b"Raw profile type exif"  # the keyword of EXIF in hexadecimal, from before there was eXIf
LONGEST_EXIF, LONGEST_PROFILE = 1 << 22, 1 << 26  # bytes that are unpacked at most
SHOWN = 1 << 16  # bytes from where the pixels begin that a reader of the header may see
BLOCK = 1 << 20  # bytes that are moved at once

# What is sRGB, or so near that no one sees the difference: exponent and primaries times 100,000, and cICP.
SRGB_GAMMA = (45_455,)
SRGB_PRIMARIES = 31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000
NEAR = 200
SRGB_CODES = bytes((1, 13, 0, 1))

Chunks = tuple[tuple[bytes, bytes], ...]  # names and bodies


class Place(NamedTuple):
    """A chunk in a file. start, end: its bytes. late: it comes after the first of the pixels. keyword: of a text."""

    name: bytes
    start: int
    end: int
    late: bool = False
    keyword: bytes = b""


def places(file: BinaryIO) -> list[Place]:
    """Every whole chunk of a PNG."""
    size = file.seek(0, 2)
    found, start, late = [], len(MAGIC), False
    while start + AROUND <= size:
        file.seek(start)
        length, name = struct.unpack(">I4s", file.read(8))
        end = start + AROUND + length
        if end > size:
            break
        late = late or name == b"IDAT"
        keyword = file.read(min(length, 80)).partition(b"\0")[0] if name in TEXTS else b""
        found.append(Place(name, start, end, late, keyword))
        if name == b"IEND":
            break
        start = end
    return found


def _bytes(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(end - start)


def _body(file: BinaryIO, place: Place) -> bytes | None:
    """Of a chunk, if its checksum is right."""
    whole = _bytes(file, place.start, place.end)
    return whole[8:-4] if zlib.crc32(whole[4:-4]) == int.from_bytes(whole[-4:], "big") else None


def read(path: Path) -> Chunks:
    """The chunks that libvips does not carry: what the colours mean, and texts other than XMP and EXIF."""
    found: list[tuple[bytes, bytes]] = []
    with open(path, "rb") as file:
        for place in places(file):
            first = place.name not in [name for name, _ in found]
            colours = COLOURS.get(place.name) == place.end - place.start - AROUND and not place.late and first
            text = place.name in TEXTS and place.keyword not in (XMP, RAW_EXIF)
            body = _body(file, place) if colours or text else None
            if body is not None:
                found.append((place.name, body))
    return tuple(found)


def from_avif(head: bytes) -> Chunks:
    """What an AVIF says of its colours in place of a profile, as a PNG would: primaries and transfer, if they are not
    those of sRGB, BT.709 or BT.601, which look alike. head: how the file begins."""
    found = re.search(rb"colrnclx\0(.)\0(.)", head, re.DOTALL)
    if found is None or (found[1][0] in (1, 2, 5, 6, 7) and found[2][0] in (1, 2, 6, 7, 13, 14, 15)):
        return ()
    return ((b"cICP", found[1] + found[2] + b"\0\1"),)


def profile(path: Path) -> bytes | None:
    """What should be an ICC profile, of which libpng refuses some; None if there is none."""
    with open(path, "rb") as file:
        place = next((place for place in places(file) if place.name == b"iCCP" and not place.late), None)
        packed = (_body(file, place) or b"").partition(b"\0")[2][1:] if place else None
    return None if packed is None else _inflated(packed, LONGEST_PROFILE)


def _inflated(packed: bytes, longest: int) -> bytes:
    """Unpacked, nothing if it is damaged."""
    try:
        return zlib.decompressobj().decompress(packed, longest)
    except zlib.error:
        return b""


def frames(path: Path) -> int:
    """How many images an animated PNG holds, as it says itself; 1 of others."""
    with open(path, "rb") as file:
        found = [place for place in places(file) if place.name == b"acTL" and not place.late]
        return int.from_bytes((_body(file, found[0]) or b"")[:4], "big") or 1 if found else 1


def colours(chunks: Chunks) -> Chunks:
    """Those that say what the colours mean."""
    return tuple(chunk for chunk in chunks if chunk[0] in COLOURS)


def other_colours(chunks: Chunks, profile: bool) -> list[str]:
    """The names of those without which the same pixels would look different.

    profile: whether the file has an ICC profile, which comes before gAMA and cHRM.
    """
    found = dict(colours(chunks))
    if b"cICP" in found:  # which comes before all others
        return ["cICP"] if found[b"cICP"] != SRGB_CODES else []
    if profile or b"sRGB" in found:
        return []
    names = [name for name in (b"gAMA", b"cHRM") if name in found and not _near_srgb(name, found[name])]
    return [name.decode() for name in names]


def _near_srgb(name: bytes, body: bytes) -> bool:
    usual = SRGB_GAMMA if name == b"gAMA" else SRGB_PRIMARIES
    return all(abs(a - b) <= NEAR for a, b in zip(struct.unpack(f">{len(usual)}I", body), usual, strict=True))


def for_libvips(path: Path, header: int) -> bytes | None:
    """The PNG as libvips understands it, where it differs: with EXIF and XMP before the pixels and EXIF in its own
    chunk, and without texts, whose names it may not be able to say. None if the file will do.

    header: only so much of it as tells everything but the pixels.
    """
    with open(path, "rb") as file:
        found = places(file)
        first = next((place.start for place in found if place.late), None)
        if first is None:
            return None
        exif = next((place for place in found if place.name == b"eXIf"), None)
        xmp = [place for place in found if place.keyword == XMP][:1]
        raw = next((place for place in found if place.keyword == RAW_EXIF), None) if exif is None else None
        body = (exif and _body(file, exif)) or (raw and _exif(_body(file, raw))) or b""
        as_jpeg_has_it = exif is not None and body.startswith(b"Exif\0\0")
        late = any(place.late for place in (*xmp, exif) if place)
        if not (late or as_jpeg_has_it or raw) and all(place.keyword.isascii() for place in found):
            return None
        told = [_chunk(b"eXIf", body.removeprefix(b"Exif\0\0"))] if body else []
        told += [_bytes(file, place.start, place.end) for place in xmp]
        left = [place for place in found if place.name not in (b"eXIf", *TEXTS)]
        before = b"".join(_bytes(file, place.start, place.end) for place in left if not place.late)
        head = MAGIC + before + b"".join(told)
        if header:
            return head + _bytes(file, first, first + SHOWN)
        pixels = b"".join(_bytes(file, place.start, place.end) for place in left if place.late)
        return head + pixels + _bytes(file, found[-1].end, file.seek(0, 2))


def _exif(text: bytes | None) -> bytes | None:
    """EXIF from the body of a text: keyword, kind, length and hexadecimal digits, which may be compressed."""
    _, _, content = (text or b"").partition(b"\0")
    if content.startswith(b"\0"):
        content = _inflated(content[1:], LONGEST_EXIF)
    digits = re.match(rb"\s*\w+\s+\d+\s+([0-9a-fA-F\s]*)", content)
    if not digits:
        return None
    exif = bytes.fromhex(re.sub(rb"\s", b"", digits[1])[: LONGEST_EXIF // 2 * 2].decode())
    return exif if exif.startswith((b"Exif\0\0", b"II*\0", b"MM\0*")) else None


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def xmp_chunk(xmp: bytes) -> tuple[bytes, bytes]:
    """XMP where programs look for it; libvips writes another kind of text."""
    return b"iTXt", XMP + bytes(5) + xmp


def insert(file: BinaryIO, chunks: Iterable[tuple[bytes, bytes]]) -> None:
    """Write chunks into a PNG, after its IHDR, by moving what follows."""
    more = b"".join(_chunk(*chunk) for chunk in chunks)
    end = file.seek(0, 2) if more else 0
    while end > HEADER:
        start = max(HEADER, end - BLOCK)
        block = _bytes(file, start, end)
        file.seek(start + len(more))
        file.write(block)
        end = start
    file.seek(HEADER)
    file.write(more)
