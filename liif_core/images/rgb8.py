"""Images in and out, and the one resize: the only place where (h, w) meets Pillow's (w, h).

An image is uint8 (h, w, 3) RGB everywhere in the core.
"""

import io
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from liif_core.errors import UserError
from liif_core.system import files

# Pillow warns above 89 and refuses above 179 megapixels; a 2 GB image is where memory gets tight.
MAX_PIXELS = 700_000_000
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Pillow raises at twice this value


def read_image(path: str | Path) -> np.ndarray:
    """uint8 (h, w, 3) RGB of an image file, EXIF orientation applied.

    Raises UserError for a missing, truncated or non-image file and for one above MAX_PIXELS.
    """
    path = Path(path)
    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I;16"):  # convert("RGB") would clip 16 bits at 255
                return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, axis=2)
            return np.array(image.convert("RGB"))
    except FileNotFoundError:
        raise UserError(f"no such image: {path}") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder: expected an image file") from None
    except PermissionError:
        raise UserError(f"no permission to read {path}") from None
    except Image.DecompressionBombError:
        raise UserError(f"{path} claims more than {MAX_PIXELS:,} pixels; scale it down first") from None
    except Exception as error:  # Pillow's plugins raise whatever a broken file provokes
        raise UserError(f"cannot read {path} as an image (truncated or not an image): {error}") from None


def is_image(path: str | Path) -> bool:
    """Whether the file starts like an image (its header is read, its pixels are not)."""
    try:
        with Image.open(path):
            return True
    except Exception:
        return False


def read_size(path: str | Path) -> tuple[int, int]:
    """Height and width that `read_image` would give, from the file's header alone; the file is one that `is_image`."""
    with Image.open(path) as image:
        # PngImageFile's own getexif decodes the pixels, and TiffImageFile gives its size upright.
        orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
        lies = orientation >= 5 and image.format != "TIFF"
        return (image.width, image.height) if lies else (image.height, image.width)


def check_writable(path: Path) -> None:
    """Raise UserError before the work starts if `write_image` could not write there."""
    if Image.registered_extensions().get(path.suffix.lower()) not in Image.SAVE:
        raise UserError(f"cannot tell an image format from '{path.name}': end it in .png, .jpg, .webp or .tif")
    files.check_writable(path)


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write uint8 (h, w, 3) under the format of the name's ending.

    The file appears under its name only when it is whole. Raises UserError when the ending is
    unknown or the place cannot be written.
    """
    path = Path(path)
    check_writable(path)
    content = io.BytesIO()
    try:
        Image.fromarray(image).save(content, Image.registered_extensions()[path.suffix.lower()])
    except (OSError, ValueError) as error:  # a format that cannot hold such an image
        raise UserError(f"cannot write {path}: {error}") from None
    files.write_atomically(path, content.getvalue())


def upscaled_size(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """Height and width of an image of `size` upscaled by a factor: each rounded to whole pixels, at least one."""
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def check_pixels(size: tuple[int, int]) -> None:
    """Raise UserError for a result of more than MAX_PIXELS."""
    if size[0] * size[1] > MAX_PIXELS:
        raise UserError(f"output size {size[0]}x{size[1]}: at most {MAX_PIXELS:,} pixels are accepted")


def resize(
    image: np.ndarray, height: int, width: int, box: tuple[float, float, float, float] | None = None
) -> np.ndarray:
    """Pillow's antialiased bicubic (a = -0.5), uint8 (h, w, 3) -> uint8 (height, width, 3), not to be written to.

    box: top, left, bottom, right of the part to take, in pixels, fractions too.
    """
    whole = np.ascontiguousarray(image)  # Pillow alone would copy a crop of a larger image byte by byte
    size = (whole.shape[1], whole.shape[0])
    opened = Image.frombuffer("RGB", size, whole, "raw", "RGB", 0, 1)
    part = box and (box[1], box[0], box[3], box[2])
    return np.asarray(opened.resize((width, height), Image.Resampling.BICUBIC, part))


def to_float(image: np.ndarray, white: int = 255) -> np.ndarray:
    """uint8 [0, 255] -> float32 [0, 1]; `white` of another range, such as 65535."""
    values = image.astype(np.float32)
    values /= np.float32(white)
    return values


def to_uint8(image: np.ndarray) -> np.ndarray:
    """float [0, 1] -> uint8 [0, 255], rounded to the nearest level, not truncated."""
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
