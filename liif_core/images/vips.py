"""Files of images: read as they are, written as they were (liif_core.images.image).

libvips reads and writes, because it keeps 16 bits of colour and writes row by row; BMP, which it does not know, is in
liif_core.images.bmp.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

import numpy as np

from liif_core.errors import UserError
from liif_core.images import bmp, foreign, png_chunks, profiles, rgb8, tiff_tags
from liif_core.images.image import (
    AVIF,
    FORMATS,
    GIF,
    JPEG,
    PNG,
    PROFILE,
    TIFF,
    WEBP,
    Format,
    ImageData,
    pyvips,
    to_vips,
)
from liif_core.system import files

QUALITY = 95  # of JPEG, WebP and AVIF, of 100
SUFFIXES = ", ".join(FORMATS)
# Of what a file says beside its pixels; the thumbnail is left out, for it shows the small image.
FIELDS = ("exif-", "xmp-", "iptc-", "icc-", "photoshop-", "resolution-unit")
XMP_ORIENTATION = re.compile(rb"(tiff:Orientation(?:>|=[\"']))(\d)")
BRIGHTER = "uhdrload"  # a JPEG with a map of what is brighter than white, which is read as the JPEG that it is
ANIMATED = b"ftypavis"  # an animated AVIF, which libvips reads but does not recognise


def read_header(path: Path) -> tuple[int, int]:
    """Height and width of the upright image, without its pixels. Raises UserError as `read` does."""
    if _is_bmp(path):
        return bmp.read_header(path)
    image = open_image(path, header=True)
    lies = image.get_typeof("orientation") != 0 and image.get("orientation") >= 5
    return (image.width, image.height) if lies else (image.height, image.width)


def read(path: Path, page: int | None = None) -> ImageData:
    """The image of a file. page: which of several, from 0; without it the first, and the notes say so.

    Raises UserError for a file that is missing, damaged or none of FORMATS, for samples of other than 1 to 16 bits and
    for more than imaging.MAX_PIXELS.
    """
    if _is_bmp(path):
        return bmp.read(path)
    image = open_image(path, **({"page": page} if page else {}))
    notes = _several(path, image) if page is None else []
    if _suffix(image) == ".gif" and b"ICCRGBG1012" in _head(path):
        notes.append("the profile of GIF is not kept")
    tags = tiff_tags.read(path, page or 0) if _suffix(image) == ".tif" else {}
    if tiff_tags.has_exif(tags):
        notes.append("EXIF of TIFF is not kept")
    try:
        image, more = _plain(path, image, tags)
        image = image.copy_memory().autorot()
        pixels = image.numpy().reshape(image.height, image.width, image.bands)
        fields, lost = _fields(image)
        more += lost
        more += _drop_profile(path, image, fields)
    except (pyvips.Error, MemoryError) as error:
        raise unreadable(path, error) from None
    return ImageData(
        pixels,
        depth=_depth(path, image),
        cmyk=image.interpretation == "cmyk",
        palette=image.get_typeof("palette") != 0,
        fields=fields,
        chunks=_chunks(path, image, PROFILE in fields),
        resolution=(image.xres, image.yres),
        suffix=_suffix(image),
        notes=(*notes, *more),
    )


def _fields(image: pyvips.Image) -> tuple[dict[str, tuple[int, object]], list[str]]:
    """FIELDS of an upright image, with their types, and what of them is lost; they no longer say that it is rotated."""
    try:
        every, lost = image.get_fields(), []
    except UnicodeDecodeError:  # pyvips wants names in UTF-8; those of an AVIF's parts may be any four bytes
        every = [name for name in (PROFILE, "xmp-data") if image.get_typeof(name)]
        lost = ["its EXIF is not kept, beside a part with an odd name"]
    names = [name for name in every if name.startswith(FIELDS) and not name.endswith("-Orientation")]
    fields = {name: (image.get_typeof(name), image.get(name)) for name in names}
    if "exif-data" in fields:
        kind, exif = fields["exif-data"]
        fields["exif-data"] = kind, _without_thumbnail(exif)
    if PROFILE in fields:
        kind, profile = fields[PROFILE]
        fields[PROFILE] = kind, profile[: max(128, int.from_bytes(profile[:4], "big"))]  # libpng refuses what follows
    if "xmp-data" in fields:
        kind, xmp = fields["xmp-data"]
        fields["xmp-data"] = kind, XMP_ORIENTATION.sub(rb"\g<1>1", xmp)
    return fields, lost


def _chunks(path: Path, image: pyvips.Image, profile: bool) -> png_chunks.Chunks:
    if _suffix(image) == ".png":
        return png_chunks.read(path)
    return png_chunks.from_avif(_head(path)) if _suffix(image) == ".avif" and not profile else ()


def _drop_profile(path: Path, image: pyvips.Image, fields: dict[str, tuple[int, object]]) -> list[str]:
    """Take a profile that does not go with the image out of its fields; what is to be said of it."""
    found = fields[PROFILE][1] if PROFILE in fields else png_chunks.profile(path) if _suffix(image) == ".png" else None
    if found is None:
        return []
    problem = profiles.problem(cast(bytes, found), image.bands, image.interpretation == "cmyk")
    if problem:
        fields.pop(PROFILE, None)
    elif PROFILE not in fields:
        problem = profiles.DAMAGED
    return [problem] if problem else []


def _without_thumbnail(exif: bytes) -> bytes:
    """EXIF that ends after the first of its directories; the second shows the small image."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order: Literal["little", "big"] = "little" if tiff.startswith(b"II") else "big"
    first = int.from_bytes(tiff[4:8], order)
    link = first + 2 + 12 * int.from_bytes(tiff[first : first + 2], order)
    if link + 4 > len(tiff):
        return exif
    return exif[: len(exif) - len(tiff)] + tiff[:link] + bytes(4) + tiff[link + 4 :]


def open_image(path: Path, header: int = False, **more: int) -> pyvips.Image:
    """Its header; pixels are decoded when they are asked for, from top to bottom. Raises UserError as `read` does.

    header: they will not be. more: options of libvips' reader: page, from 0, and n, how many of them are put one below
    the other; -1: all.
    """
    if refusal := foreign.refusal(path, SUFFIXES):
        raise UserError(refusal)
    options = {"access": "sequential", "fail_on": "error", **more}
    try:
        head = _head(path)
        moved = png_chunks.for_libvips(path, header) if head.startswith(png_chunks.MAGIC) else None
        # No name: names are searched for options, and "a[1].png" is a name. Nor need they be text, as pyvips' errors.
        with open(path, "rb") as file:
            source = pyvips.Source.new_from_memory(moved) if moved else pyvips.Source.new_from_descriptor(file.fileno())
        if head[4:12] == ANIMATED:
            image = pyvips.Image.heifload_source(source, **options)
        else:
            image = pyvips.Image.new_from_source(source, "", **options)
            if image.get("vips-loader").startswith(BRIGHTER):
                image = pyvips.Image.jpegload_source(source, **options).copy()
                image.set_type(pyvips.GValue.gint_type, BRIGHTER, 1)
    except (pyvips.Error, MemoryError) as error:
        raise unreadable(path, error) from None
    if not _suffix(image):
        raise UserError(f"cannot read {path}: accepted are {SUFFIXES}")
    rgb8.check_claim(path, image.get("page-height") if more.get("n") else image.height, image.width)
    return _turned_by_xmp(image)


def _turned_by_xmp(image: pyvips.Image) -> pyvips.Image:
    """With the rotation that XMP tells, where EXIF tells none; Pillow, which reads data sets, heeds it too."""
    if image.get_typeof("orientation") or not image.get_typeof("xmp-data") or _suffix(image) == ".avif":
        return image
    found = XMP_ORIENTATION.search(image.get("xmp-data"))
    if found and b"1" <= found[2] <= b"8":
        image = image.copy()
        image.set_type(pyvips.GValue.gint_type, "orientation", int(found[2]))
    return image


def _is_bmp(path: Path) -> bool:
    files.check_readable(path)
    return _head(path)[:2] == b"BM"


def _suffix(image: pyvips.Image) -> str:
    """The ending of the format that it was read from; empty for what libvips knows beside FORMATS."""
    loader = image.get("vips-loader")
    return next((suffix for suffix, form in FORMATS.items() if form.loader and loader.startswith(form.loader)), "")


def unreadable(path: Path, error: Exception) -> UserError:
    """What is said of a file after an error of libvips."""
    # The last is the reason; before it comes what libvips said since its last error, of other files too.
    lines = [line.strip() for line in str(error).splitlines()[1:] if re.search("[A-Za-z]", line)]
    reason = re.sub(r"^Vips\w+: ", "", lines[-1]) if lines else ""
    if not reason or "not in a known format" in reason:
        reason = "its header is damaged" if foreign.suffix(path) else f"it begins like none of {SUFFIXES}"
    if isinstance(error, MemoryError) or "out of memory" in reason:
        return UserError(f"not enough memory to read {path}")
    return UserError(f"cannot read {path} as an image (truncated, damaged or none): {reason}")


def count(path: Path) -> tuple[str, int]:
    """The ending of a file's format, and how many images it holds; 0: several, and nobody tells how many. Raises
    UserError as `read` does."""
    if _is_bmp(path):
        return ".bmp", 1
    image = open_image(path, header=True)
    return _suffix(image), _count(path, image)


def _count(path: Path, image: pyvips.Image) -> int:
    if _head(path)[4:12] == ANIMATED:
        return 0
    if _suffix(image) == ".png":
        return png_chunks.frames(path)
    return image.get("n-pages") if image.get_typeof("n-pages") else 1


def _several(path: Path, image: pyvips.Image) -> list[str]:
    """What the file holds beside the first image."""
    if image.get_typeof(BRIGHTER):
        return ["what is brighter than white (Ultra HDR) is not kept"]
    count = _count(path, image)
    return [] if count == 1 else [f"the first of {count or 'several'} images in the file"]


def _head(path: Path) -> bytes:
    """How a file begins."""
    with open(path, "rb") as file:
        return file.read(1 << 16)


def _plain(path: Path, image: pyvips.Image, tags: tiff_tags.Tags) -> tuple[pyvips.Image, list[str]]:
    """uchar or ushort in 1 to 4 channels; what was lost on the way. Raises UserError for other samples.

    tags: of a TIFF, else empty.
    """
    notes = []
    if image.format not in ("uchar", "ushort"):
        raise UserError(f"{path} has samples of type {image.format}: accepted are whole numbers of 1 to 16 bits")
    if image.interpretation == "cmyk" and image.format == "ushort":
        image, notes = image.cast("uchar", shift=True).copy(interpretation="cmyk"), ["CMYK of 16 bits becomes 8 bits"]
    if tags:
        kept, more = tiff_tags.kept_bands(tags, image.bands)
        notes += more
        if len(kept) < image.bands:
            image = (
                image[kept[0]].bandjoin([image[band] for band in kept[1:]]).copy(interpretation=image.interpretation)
            )
    known = ("b-w", "grey16", "srgb", "rgb", "rgb16", "cmyk", "multiband")
    if image.interpretation not in known or image.bands > 4 or (image.interpretation == "cmyk" and image.bands < 4):
        raise UserError(
            f"{path} has {image.bands} channels of type {image.interpretation}: accepted are grey and RGB, "
            "with or without alpha, and CMYK"
        )
    return image, notes


def _depth(path: Path, image: pyvips.Image) -> int:
    """Bits per sample of the file."""
    bits = image.get("bits-per-sample") if image.get_typeof("bits-per-sample") else 8
    if image.format == "uchar":
        return bits if bits < 8 and image.bands == 1 and not image.get_typeof("palette") else 8
    known = AVIF.depths if _suffix(image) == ".avif" else (16,)
    if bits not in known:
        raise UserError(f"{path} has samples of {bits} bits: accepted are 1, 2, 4, 8 and 16, and in AVIF 8, 10 and 12")
    return bits


def check_output(path: Path, height: int, width: int) -> None:
    """Raise UserError before the work starts if `write` could not write an image of that size there."""
    form = FORMATS.get(path.suffix.lower())
    if form is None:
        raise UserError(f"cannot tell an image format from '{path.name}': accepted are {SUFFIXES}")
    if max(height, width) > form.longest:
        suffix = path.suffix.lower()
        raise UserError(f"output size {height}x{width}: {suffix} holds at most {form.longest:,} pixels along a side")
    files.check_writable(path)


def write(path: Path, pixels: np.ndarray, image: ImageData, metadata: str = "keep") -> None:
    """Write pixels (h, w, c) as what `image` is: a file of its depth, with its profile and its fields.

    image: what `fit` gave for the ending. metadata: "keep", or "strip" for all but the profile and the chunks like it,
    without which the colours would be others. The file appears under its name only when it is whole. Raises UserError
    when it cannot be written.
    """
    with files.replacing(path) as temporary:
        with explained(path):
            save(temporary, path.suffix.lower(), pixels, image, metadata)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """An error of libvips becomes a UserError: what is written to that path cannot be written."""
    try:
        yield
    except (pyvips.Error, UnicodeDecodeError) as error:  # pyvips fails to say names that are no text
        lines = [line.strip() for line in str(error).splitlines()[1:] if line.strip()]
        raise UserError(f"cannot write {path}: {'; '.join(lines) or error}") from None


def save(
    name: str, suffix: str, pixels: np.ndarray, image: ImageData, metadata: str = "keep", large: bool = False
) -> None:
    """What `write` does, straight into a file of that name. large: a TIFF that may pass 4 GiB. Raises pyvips.Error and
    OSError."""
    if suffix == ".bmp":
        bmp.write(name, pixels, image)
        return
    kept = ["icc"]
    if metadata == "keep":
        kept += ["iptc", "other"] + ["xmp"] * (FORMATS[suffix] is not PNG)
    # Only if there was EXIF, or libvips makes some; but it is where JPEG keeps dots per inch.
    dots = FORMATS[suffix] is JPEG and "resolution-unit" in image.fields
    if FORMATS[suffix] is JPEG and image.suffix in (".png", ".bmp") and image.resolution != (1.0, 1.0):
        dots = True  # whose readers leave the unit out
    if metadata == "keep" and ("exif-data" in image.fields or dots):
        kept.append("exif")
    if dots and "resolution-unit" not in image.fields:
        image = replace(image, fields=image.fields | {"resolution-unit": (pyvips.GValue.gstr_type, "in")})
    _savers(image, large)[FORMATS[suffix]](to_vips(image, pixels), os.fsencode(name), ":".join(kept))
    if FORMATS[suffix] is PNG:
        _insert_chunks(name, image, metadata)


def _insert_chunks(name: str, image: ImageData, metadata: str) -> None:
    chunks = image.chunks if metadata == "keep" else png_chunks.colours(image.chunks)
    if metadata == "keep" and "xmp-data" in image.fields:
        chunks = (*chunks, png_chunks.xmp_chunk(cast(bytes, image.fields["xmp-data"][1])))
    with open(name, "r+b") as file:
        png_chunks.insert(file, chunks)


def _savers(image: ImageData, large: bool) -> dict[Format, Callable[[pyvips.Image, bytes, str], None]]:
    depth = image.depth
    small = {"bitdepth": depth} if depth < 8 else {}
    palette = {"palette": True, "bitdepth": 8} if image.palette else small
    fax = depth == 1
    tiff = {"compression": "ccittfax4" if fax else "deflate", "predictor": "none" if fax else "horizontal", **small}
    return {
        PNG: lambda made, name, keep: made.pngsave(name, keep=keep, filter="all", **palette),
        JPEG: lambda made, name, keep: made.jpegsave(name, keep=keep, Q=QUALITY, optimize_coding=True),
        WEBP: lambda made, name, keep: made.webpsave(name, keep=keep, Q=QUALITY),
        TIFF: lambda made, name, keep: made.tiffsave(name, keep=keep, bigtiff=large or _large(made), **tiff),
        AVIF: lambda made, name, keep: made.heifsave(
            name, keep=keep, Q=QUALITY, compression="av1", bitdepth=depth, subsample_mode="off"
        ),
        GIF: lambda made, name, keep: made.gifsave(name, keep=keep),
    }


def _large(image: pyvips.Image) -> bool:
    """Whether a TIFF might pass its limit of 4 GiB."""
    return image.width * image.height * image.bands * (2 if image.format == "ushort" else 1) > 3 << 30
