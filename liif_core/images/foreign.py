"""What a file is that is none of the formats: so that a sentence can say it, and what to do.

By content, as `file` does it; magic numbers are those of the formats' specifications.
"""

import os
import re
import shlex
from pathlib import Path
from typing import NamedTuple

from liif_core.images import tiff_tags

CONVERT = "convert it first, as with ImageMagick: magick {source} {target}"
DEVELOP = "develop it first into a TIFF of 16 bits, as with darktable or RawTherapee"
EXPORT = "export it first as PNG from the program that made it, or from GIMP"
TONES = "its values have no white: map them to 8 or 16 bits first, as with darktable or GIMP"
RENDER = "render it first in the size that you need, as with Inkscape"


class Kind(NamedTuple):
    """name: for "it is ...". way_out: what to do, with {source} and {target}. image: whether it is one."""

    name: str
    way_out: str = ""
    image: bool = True


HEIC = Kind("HEIC", "convert it first, as with heif-convert of libheif: heif-convert {source} {target}")
JPEG_2000 = Kind("JPEG 2000", CONVERT)
JPEG_XL = Kind("JPEG XL", "convert it first, as with djxl of libjxl: djxl {source} {target}")
RAW = Kind("a camera's raw file", DEVELOP)
PNM = Kind("PNM", CONVERT)
PDF = Kind("PDF", "render its pages first, as with pdftoppm: pdftoppm -png {source} page")
VIDEO = Kind("a video", "give it a video's ending, like .mp4", image=False)
TEXT = Kind("text", image=False)

# How files begin. Of boxes, of which JPEG 2000, HEIC and MP4 consist, the first four bytes are a length.
BEGINNINGS: list[tuple[bytes, Kind]] = [
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", JPEG_2000),
    (rb"\0\0\0\x0cJXL |\xff\x0a", JPEG_XL),
    (rb"....ftyp(?:crx )", RAW),
    (rb"....ftyp(?:hei[cxms]|hev[cxms])", HEIC),
    (rb"....ftyp(?:mif1|msf1)(?=.{,4000}hvc1)(?!.{,4000}av01)", HEIC),
    (rb"....ftyp(?:iso|mp4|avc1|qt  |M4V|3g|dash)|....moov|....mdat", VIDEO),
    (rb"\x1a\x45\xdf\xa3|RIFF....AVI |FLV\x01|\0\0\x01\xba", VIDEO),
    (rb"FUJIFILMCCD-RAW|II\*\0....CR|IIRO|IIRS|MMOR|IIU\0|\0MRM|FOVb", RAW),
    (rb"8BPS", Kind("a Photoshop file", EXPORT)),
    (rb"gimp xcf", Kind("a GIMP file", EXPORT)),
    (rb"%PDF", PDF),
    (rb"%!PS|\xc5\xd0\xd3\xc6", Kind("PostScript", RENDER)),
    (rb"P[1-7]\s", PNM),
    (rb"P[Ff]\s", Kind("PFM", TONES)),
    (rb"#\?RADIANCE|#\?RGBE", Kind("Radiance HDR", TONES)),
    (rb"\x76\x2f\x31\x01", Kind("OpenEXR", TONES)),
    (rb"SIMPLE  =", Kind("FITS", TONES)),
    (rb"\0\0[\x01\x02]\0[^\0]", Kind("an icon", CONVERT)),
    (rb"qoif", Kind("QOI", CONVERT)),
    (rb"DDS ", Kind("DDS", CONVERT)),
    (rb"II\xbc", Kind("JPEG XR", CONVERT)),
    (rb"\x01\xda[\0\x01][\x01\x02]", Kind("SGI", CONVERT)),
    (rb"\x0a[\0-\x05]\x01[\x01\x02\x04\x08]", Kind("PCX", CONVERT)),
    (rb"\xd7\xcd\xc6\x9a|\x01\0\0\0.{36} EMF", Kind("a Windows metafile", RENDER)),
    (rb"version https://git-lfs", Kind("a pointer of Git LFS", "git lfs pull brings the file itself", image=False)),
    (rb"\s*(?:<!DOCTYPE html|<html)", Kind("a web page", "what was downloaded is not the image", image=False)),
    (rb"(?:\xef\xbb\xbf)?\s*(?:<[?!][^>]*>\s*)*<svg", Kind("SVG", RENDER)),
    (rb"PK\x03\x04|Rar!|7z\xbc\xaf|\x1f\x8b", Kind("an archive", "unpack it first", image=False)),
]
# How those begin that are read.
FORMATS = [
    (rb"\x89PNG\r\n\x1a\n", ".png"),
    (rb"\xff\xd8\xff", ".jpg"),
    (rb"RIFF....WEBP", ".webp"),
    (rb"II[*+]\0|MM\0[*+]", ".tif"),
    (rb"....ftyp(?:avi[fs]|(?:mif1|msf1)(?=.{,4000}av01))", ".avif"),
    (rb"GIF8[79]a", ".gif"),
    (rb"BM.{12}[\x0c(48@l|]\0\0\0", ".bmp"),
]
TGA_TYPES = {bytes((palette, kind)) for palette in (0, 1) for kind in (1, 2, 3, 9, 10, 11)}  # at 1
TGA_ENDS = b"TRUEVISION-XFILE.\0"


def refusal(path: Path, accepted: str) -> str:
    """The sentence for a file that is known and not read; empty for any other. accepted: the endings of what is."""
    known = kind(path)
    if known is not None:
        names = {"source": shlex.quote(path.name), "target": shlex.quote(path.with_suffix(".png").name)}
        way_out = f"; {known.way_out.format(**names)}" if known.way_out else ""
        return f"cannot read {path}: it is {known.name}, accepted are {accepted}{way_out}"
    tags = tiff_tags.read(path)
    samples = tiff_tags.unknown_samples(tags) if tags else ""
    if samples:
        way_out = "scale them to 0 to 65535, and save 16 bits" if "samples" in samples else "save it as RGB"
        kinds = "whole numbers of 1 to 16 bits without a sign, in grey, RGB or CMYK"
        return f"cannot read {path}: it has {samples}, accepted are {kinds}; {way_out}"
    return ""


def suffix(path: Path) -> str:
    """The usual ending of the format that is in a file; empty for none of those that are read."""
    if not os.path.isfile(path) or not os.access(path, os.R_OK):
        return ""
    with open(path, "rb") as file:
        head = file.read(1 << 12)
    found = next((ending for pattern, ending in FORMATS if re.match(pattern, head, re.DOTALL)), "")
    return "" if found == ".tif" and kind(path) else found


def kind(path: Path) -> Kind | None:
    """What the file is; None for the formats that are read, and for what nobody knows."""
    with open(path, "rb") as file:
        head = file.read(1 << 12)
        file.seek(max(0, file.seek(0, 2) - len(TGA_ENDS)))
        tail = file.read()
    if not head:
        return Kind("empty", image=False)
    for pattern, found in BEGINNINGS:
        if re.match(pattern, head, re.DOTALL | re.IGNORECASE if b"<" in pattern else re.DOTALL):
            return found
    if head[:2] in (b"II", b"MM") and tiff_tags.is_raw(path):
        return RAW
    if tail == TGA_ENDS or (path.suffix.lower() == ".tga" and head[1:3] in TGA_TYPES):
        return Kind("TGA", CONVERT)
    return TEXT if _is_text(head) else None


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode(errors="strict") if len(head) < 1 << 12 else head[:-4].decode(errors="ignore")
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter.isspace() for letter in text)
