"""What a TIFF says of itself in its first directory, as far as libvips does not tell it.

Numbers of tags and their values are those of TIFF 6.0, its supplements and DNG.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from PIL import ExifTags
from PIL.TiffImagePlugin import ImageFileDirectory_v2

BITS, PHOTOMETRIC, PER_PIXEL, SUB_DIRECTORIES, INK_SET = 258, 262, 277, 330, 332
EXTRA_SAMPLES, SAMPLE_FORMAT, DNG = 338, 339, 50_706
EXIF = ExifTags.Base.Make, ExifTags.Base.Model, ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo
GREY, PALETTE, SEPARATED = (0, 1), 3, 5  # of PHOTOMETRIC
ALPHA = 1, 2  # of EXTRA_SAMPLES; 0 is unspecified: near infrared, a mask, or nothing at all
RAW = 32_803, 34_892  # of PHOTOMETRIC: what a camera's sensor saw
COLOURS = {8: "Lab", 9: "Lab", 10: "Lab", 32_844: "LogLuv", 32_845: "LogLuv"}  # of PHOTOMETRIC
SAMPLES = {2: "signed {}-bit", 3: "{}-bit floating-point", 5: "complex", 6: "complex"}  # of SAMPLE_FORMAT

Tags = Mapping[int, Any]


@contextmanager
def quiet() -> Iterator[None]:
    """Without Pillow's warnings: what they are about is refused, or is none of the user's concern."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read(path: Path, page: int = 0) -> Tags:
    """The values of a page's directory by tag, a tuple where there may be several; empty where it cannot be read."""
    return next(_directories(path, page), {})


def _directories(path: Path, page: int = 0) -> Iterator[Tags]:
    """The directory of a page, and then those that it refers to as its parts."""
    with quiet(), suppress(Exception), open(path, "rb") as file:  # Pillow raises whatever a broken file provokes
        head = file.read(16)
        head = head if head[2:4] in (b"+\0", b"\0+") else head[:8]
        places = [ImageFileDirectory_v2(head).next]
        for _ in range(page):
            before = ImageFileDirectory_v2(head)
            file.seek(places[0])
            before.load(file)
            places = [before.next]
        for place in places:
            directory = ImageFileDirectory_v2(head)
            file.seek(place)
            directory.load(file)
            tags = dict(directory)
            if len(places) == 1:
                places += _several(tags.get(SUB_DIRECTORIES))[:16]
            yield tags


def _several(value: Any) -> tuple:
    """The numbers of a tag; a damaged one may have texts instead."""
    values = value if isinstance(value, tuple) else (value,)
    return tuple(one for one in values if isinstance(one, int))


def has_exif(tags: Tags) -> bool:
    """Whether there is more than a TIFF needs."""
    return not set(tags).isdisjoint(EXIF)


def unknown_samples(tags: Tags) -> str:
    """What the pixels are, if they are none that can be read: "signed 16-bit samples"; else nothing."""
    colours = COLOURS.get(tags.get(PHOTOMETRIC, 1))
    if colours:
        return f"{colours} colours"
    if tags.get(PHOTOMETRIC) == SEPARATED and (tags.get(INK_SET, 1) != 1 or tags.get(PER_PIXEL, 4) in (1, 2, 3)):
        return "inks other than those of CMYK"
    bits = max((*_several(tags.get(BITS)), 1))
    kind = SAMPLES.get(max((*_several(tags.get(SAMPLE_FORMAT)), 1)))
    if kind or bits > 16:
        return f"{(kind or '{}-bit').format(bits)} samples"
    return ""


def is_raw(path: Path) -> bool:
    """Whether it is a camera's raw file, like DNG, NEF and ARW, whose first image is a preview."""
    return any(DNG in tags or tags.get(PHOTOMETRIC) in RAW for tags in _directories(path))


def kept_bands(tags: Tags, bands: int) -> tuple[list[int], list[str]]:
    """Which of the bands are colours or alpha, and what is to be said of the others.

    Colours come first; of the bands after them, one that ExtraSamples declares is alpha.
    """
    photometric = tags.get(PHOTOMETRIC, -1)
    declared = _several(tags.get(EXTRA_SAMPLES))
    colours, notes = {SEPARATED: 4, PALETTE: bands}.get(photometric, 3), []
    if photometric in GREY:
        colours = 1
        if bands > 2 and set(declared).isdisjoint(ALPHA):  # so GDAL writes colours that nobody has named
            colours, notes = 3, ["its grey bands 1 to 3 are taken as RGB"]
    colours = min(colours, bands)
    alpha = [colours + place for place, kind in enumerate(declared) if kind in ALPHA][:1]
    dropped = [str(band + 1) for band in range(colours, bands) if band not in alpha]
    if alpha and photometric == SEPARATED:
        alpha, notes = [], [*notes, "the alpha of CMYK is dropped"]
    if dropped:
        which = f"band {dropped[0]} is" if len(dropped) == 1 else f"bands {', '.join(dropped)} are"
        notes.append(f"{which} not declared as alpha (ExtraSamples): dropped")
    return [*range(colours), *(band for band in alpha if band < bands)], notes
