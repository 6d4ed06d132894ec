"""Images as a Python program has them, in and out: Pillow's, numpy arrays, and files, which come out as Pillow's.

All become an ImageData, which is what `liif_core.inference.upscale` works on: so a program gets the pixels that demo.py
writes into a file.
"""

import contextlib
import io
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import PIL.Image
from PIL import ExifTags, ImageOps
from PIL.PngImagePlugin import PngInfo

from liif_core.errors import UserError
from liif_core.images import png_chunks, profiles, tiff_tags, vips
from liif_core.images.image import PROFILE, ImageData
from liif_core.images.tiff_tags import quiet
from liif_core.system import files

Source = str | os.PathLike | PIL.Image.Image | np.ndarray
# Makes an image of the source's kind from pixels (h, w, c) of the ImageData's dtype and channels.
Restore = Callable[[np.ndarray], PIL.Image.Image | np.ndarray]

CHANNELS = {"1": 1, "L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4, "I;16": 1, "I;16L": 1, "I;16B": 1}
IFDS = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
DESCRIBING = {*IFDS, 270, 271, 272, 305, 306, 315, 33432}  # description, camera, software, date, artist, copyright
STRAIGHT = {"La": "LA", "RGBa": "RGBA"}  # modes whose colours are multiplied by alpha, and those that they become
PALETTES = ("P", "PA")  # come out as RGB, or RGBA where there is transparency: the result has colours between


def read(source: Source) -> tuple[ImageData, Restore]:
    """What a source shows, upright, and how its result becomes an image of its kind.

    source: a Pillow image; an array, uint8 or uint16, (h, w) or (h, w, 1, 3 or 4), where the fourth channel is alpha;
    or the path of a file in any format of demo.py. Raises UserError for anything else.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, PIL.Image.Image):
        return _from_pillow(source)
    if isinstance(source, (str, os.PathLike)):
        return _from_file(Path(source))
    raise UserError(f"image: expected a Pillow image, a numpy array or a path, got {type(source).__name__}")


def _from_array(array: np.ndarray) -> tuple[ImageData, Restore]:
    kind, shape, channels = array.dtype, array.shape, array.shape[2:]
    if kind.kind != "u" or kind.itemsize > 2:
        hint = "; multiply values in [0, 1] by 255 or 65535 and round them" if kind.kind == "f" else ""
        raise UserError(f"image: expected an array of uint8 or uint16, got {kind}{hint}")
    if channels not in ((), (1,), (3,), (4,)) or len(shape) < 2:
        raise UserError(f"image: expected an array of shape (h, w), (h, w, 1), (h, w, 3) or (h, w, 4), got {shape}")
    if 0 in shape:
        raise UserError(f"image: expected at least one pixel, got an array of shape {shape}")
    pixels = np.asarray(array, dtype=kind.newbyteorder("="), order="C").reshape(*shape[:2], -1)

    def restore(result: np.ndarray) -> np.ndarray:
        return result.reshape(*result.shape[:2], *channels).astype(kind, copy=False)

    return ImageData(pixels, depth=8 * kind.itemsize), restore


def _from_pillow(image: PIL.Image.Image) -> tuple[ImageData, Restore]:
    if 0 in image.size:
        raise UserError(f"image: expected at least one pixel, got a Pillow image of {image.height}x{image.width}")
    if image.mode not in CHANNELS and image.mode not in PALETTES:
        accepted = ", ".join([*CHANNELS, *PALETTES])
        raise UserError(f"image: expected a Pillow image of mode {accepted}, got {image.mode}; {_way_out(image.mode)}")
    # Of a TIFF whose white is 0, Pillow inverts 8 bits and leaves 16 as they are.
    negative = image.mode.startswith("I;16") and getattr(image, "tag_v2", {}).get(tiff_tags.PHOTOMETRIC) == 0
    try:
        exif = _told(image)
        image = ImageOps.exif_transpose(image)
        image.load()
    except Exception as error:  # Pillow decodes only now, and raises whatever a broken file provokes
        raise UserError(f"image: Pillow cannot decode it (truncated or damaged): {error}") from None
    if image.mode in PALETTES or "transparency" in image.info:
        image = _without_palette(image)
    info = {key: value for key, value in image.info.items() if key != "transparency"}
    if exif is not None:
        info["exif"] = exif
    if image.mode.startswith("I;16") and "transparency" in image.info:
        _say("image", "the grey that is transparent is not kept: Pillow has no alpha of 16 bits")
    pixels = np.asarray(image)
    if info.get("icc_profile"):
        problem = profiles.problem(info["icc_profile"], CHANNELS[image.mode], image.mode == "CMYK")
        if problem:
            del info["icc_profile"]
            _say("image", problem)
    if image.mode == "1":
        pixels = pixels.astype(np.uint8) * 255
    stored = pixels.dtype
    pixels = pixels.reshape(image.height, image.width, -1).astype(stored.newbyteorder("="), copy=False)
    if negative:
        pixels = np.iinfo(pixels.dtype).max - pixels
    depth = 1 if image.mode == "1" else 8 * stored.itemsize

    def restore(result: np.ndarray) -> PIL.Image.Image:
        return to_pillow(result.astype(stored, copy=False), image.mode, info)

    return ImageData(pixels, depth=depth, cmyk=image.mode == "CMYK"), restore


def _told(image: PIL.Image.Image) -> bytes | None:
    """The EXIF of an image whose `getexif` says other things than its `info`: where a program has changed it, and of a
    TIFF. None where `info` has it all."""
    exif, kept = image.getexif(), PIL.Image.Exif()
    if "exif" in image.info:
        kept.load(image.info["exif"])
        if dict(kept) == dict(exif):
            return None
        kept = PIL.Image.Exif()
    of_a_file = hasattr(image, "tag_v2")  # of which most tags say how a TIFF is laid out
    for tag, value in exif.items():
        if tag != ExifTags.Base.Orientation and (tag in DESCRIBING or not of_a_file):
            kept[tag] = exif.get_ifd(tag) if tag in IFDS else value
    return kept.tobytes() if kept or "exif" in image.info else None


def _way_out(mode: str) -> str:
    """What to do with a mode that is not taken."""
    if mode in ("I", "F") or mode.startswith("I;"):
        return "scale its values to 0 to 65535 and give them as an array of uint16"
    return f'give image.convert("{STRAIGHT.get(mode, "RGB")}")'


def _say(name: object, *notes: str) -> None:
    """Warn of what is not kept, in the line that called the API."""
    if notes:
        warnings.warn(f"{name}: {'; '.join(notes)}", stacklevel=5)


def _without_palette(image: PIL.Image.Image) -> PIL.Image.Image:
    """Colours instead of numbers of colours, alpha instead of one colour that is transparent."""
    clear = image.mode == "PA" or "transparency" in image.info
    if image.mode in ("1", "L") and clear:
        return image.convert("L").convert("LA") if image.mode == "1" else image.convert("LA")
    if image.mode in PALETTES or image.mode == "RGB":
        return image.convert("RGBA" if clear else "RGB")
    return image


def _from_file(path: Path) -> tuple[ImageData, Restore]:
    files.check_readable(path)
    image = vips.read(path)
    channels = image.pixels.shape[2]
    if image.pixels.dtype == np.uint16 and channels > 1:
        raise UserError(
            f"{path} has {image.depth} bits in {channels} channels, which no Pillow image holds: "
            "give its pixels as an array of uint16, or use demo.py"
        )
    _say(path, *image.notes)
    mode = "CMYK" if image.cmyk else {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
    if channels == 1 and image.depth in (1, 16):
        mode = "1" if image.depth == 1 else "I;16"
    told = info(image)
    if "exif-data" in image.fields and "exif" not in told:
        _say(path, "its EXIF is damaged: not kept")
    return image, lambda result: to_pillow(result, mode, told)


def info(image: ImageData) -> dict:
    """What a file says beside its pixels, as Pillow keeps it."""
    names = {"icc_profile": PROFILE, "exif": "exif-data", "xmp": "xmp-data"}
    info = {name: image.fields[field][1] for name, field in names.items() if field in image.fields}
    if "exif" in info:  # the pixels are upright by now
        exif = PIL.Image.Exif()
        try:
            with quiet():
                exif.load(cast(bytes, info["exif"]))
                exif.pop(ExifTags.Base.Orientation, None)
                info["exif"] = exif.tobytes()
        except Exception:  # Pillow raises whatever damaged EXIF provokes
            del info["exif"]
    return info | _png_info(image)


def _png_info(image: ImageData) -> dict:
    """What a PNG says of its colours, and its texts, as Pillow keeps them; and what writes both: save's pnginfo."""
    if not image.chunks:
        return {}
    file, writes = io.BytesIO(), PngInfo()
    PIL.Image.new("L", (1, 1)).save(file, "PNG")
    png_chunks.insert(file, image.chunks)
    for chunk in image.chunks:
        writes.add(*chunk)
    with contextlib.suppress(Exception), quiet():  # Pillow refuses texts that are too long or damaged
        return {"pnginfo": writes} | PIL.Image.open(file).info
    return {"pnginfo": writes}


def to_pillow(pixels: np.ndarray, mode: str, info: dict) -> PIL.Image.Image:
    """A Pillow image of pixels (h, w, c); `info` holds profile, EXIF and the like."""
    height, width = pixels.shape[:2]
    if mode == "1":
        image = PIL.Image.fromarray(pixels[..., 0] > 0)
    else:
        image = PIL.Image.frombytes(mode, (width, height), np.ascontiguousarray(pixels).tobytes())
    image.info = dict(info)
    return image
