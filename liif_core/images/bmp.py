"""BMP, which libvips does not know: Pillow reads and writes it."""

import logging
from pathlib import Path

import numpy as np
import PIL.Image

from liif_core.errors import UserError
from liif_core.images import rgb8
from liif_core.images.image import ImageData
from liif_core.images.tiff_tags import quiet

DENSEST = 1e6  # pixels per mm that libvips takes
COLOURS = slice(70, 74)  # where a BMP says that it holds a profile, or names its file

logging.getLogger("PIL").addHandler(logging.NullHandler())  # or Python would print what Pillow logs


def _open(path: Path) -> PIL.Image.Image:
    try:
        with quiet():
            image = rgb8.opened(path, formats=["BMP"])
    except PIL.Image.DecompressionBombError:
        raise UserError(f"{path} claims more than {rgb8.MAX_PIXELS:,} pixels; scale it down first") from None
    except Exception as error:  # Pillow raises whatever a broken file provokes
        raise UserError(f"cannot read {path} as an image (damaged or none): {error}") from None
    rgb8.check_claim(path, image.height, image.width)
    return image


def read_header(path: Path) -> tuple[int, int]:
    """As liif_core.images.vips.read_header."""
    with _open(path) as image:
        return image.height, image.width


def read(path: Path) -> ImageData:
    """As liif_core.images.vips.read."""
    with _open(path) as image:
        mode = image.mode
        try:
            pixels = np.array(image.convert("L" if mode in ("1", "L") else "RGB"))
        except MemoryError:
            raise UserError(f"not enough memory to read {path}") from None
        except Exception as error:  # as above
            raise UserError(f"cannot read {path} as an image (truncated or damaged): {error}") from None
        across, down = (min(float(dots) / 25.4, DENSEST) for dots in image.info.get("dpi", (25.4, 25.4)))
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    depth = 1 if mode == "1" else 8
    notes = ["the alpha of BMP is dropped"] if mode == "RGBA" else []
    with open(path, "rb") as file:
        profile = file.read(COLOURS.stop)[COLOURS] in (b"DEBM", b"KNIL")
    if profile:
        notes.append("the profile of BMP is not kept")
    return ImageData(pixels, depth, palette=mode == "P", resolution=(across, down), suffix=".bmp", notes=tuple(notes))


def write(name: str, pixels: np.ndarray, image: ImageData) -> None:
    """As liif_core.images.vips.save. Raises OSError."""
    height, width, channels = pixels.shape
    bmp = PIL.Image.frombuffer("L" if channels == 1 else "RGB", (width, height), pixels)
    if image.depth == 1:
        bmp = bmp.convert("1", dither=PIL.Image.Dither.NONE)
    elif image.palette:
        bmp = bmp.quantize(256)
    dots = tuple(25.4 * per_mm for per_mm in image.resolution)
    bmp.save(name, "BMP", dpi=dots)
