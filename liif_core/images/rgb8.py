"""Images in and out, and the one resize: the only place where (h, w) meets Pillow's (w, h).

An image is uint8 (h, w, 3) RGB everywhere in the core.
"""

import contextlib
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from liif_core.errors import UserError
from liif_core.images import late_chunks, tiff_tags
from liif_core.system import files

# Pillow warns above 89 and refuses above 179 megapixels; a 2 GB image is where memory gets tight.
MAX_PIXELS = 700_000_000
_limit = threading.Lock()


def opened(source: Any, formats: list[str] | None = None) -> Image.Image:
    """Pillow's image of a file, its header read, with MAX_PIXELS as the limit instead of Pillow's own, which stays as
    the program that calls has it."""
    with _limit:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, MAX_PIXELS // 2  # Pillow raises at twice this value
        try:
            return Image.open(source, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = before


def read_image(path: str | Path, content: bytes | None = None) -> np.ndarray:
    """uint8 (h, w, 3) RGB of an image file, EXIF orientation applied, of 12 and 16 bits the upper eight. content: the
    file's bytes where they are in no file; `path` is then what to call them.

    Raises UserError for a missing, truncated or non-image file, for one above MAX_PIXELS and for one of ranges that
    are not 0 to white, such as floating-point numbers.
    """
    with _opened(path, content) as image:
        upright = ImageOps.exif_transpose(image)
        if (drop := _surplus_bits(image)) is not None:  # convert("RGB") would clip at 255
            levels = np.asarray(upright)
            if image.format == "TIFF" and image.tag_v2.get(tiff_tags.PHOTOMETRIC) == 0:  # white is 0
                levels = 65535 - levels
            return np.repeat((levels >> drop).astype(np.uint8)[..., None], 3, axis=2)
        straight = {"La": "LA", "RGBa": "RGBA"}.get(upright.mode)  # which Pillow converts no further in one step
        return np.array((upright.convert(straight) if straight else upright).convert("RGB"))


def is_image(path: str | Path) -> bool:
    """Whether the file starts like an image (its header is read, its pixels are not)."""
    try:
        with opened(path):
            return True
    except Exception:
        return False


def read_size(path: str | Path, content: bytes | None = None) -> tuple[int, int]:
    """Height and width that `read_image` would give, without the pixels; UserError for what it would refuse by then."""
    with _opened(path, content) as image:
        turned = False
        if image.format == "PNG":
            image.info.update(late_chunks.info(image))
        elif image.format == "TIFF":  # Pillow gives the size upright, unless XMP alone says how it lies
            turned = image.tag_v2.get(ExifTags.Base.Orientation, 1) >= 5
        # PngImageFile's own getexif decodes the pixels.
        lies = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8) and not turned
        return (image.width, image.height) if lies else (image.height, image.width)


@contextlib.contextmanager
def _opened(path: str | Path, content: bytes | None) -> Iterator[Any]:
    """A file as Pillow's, its header read and found acceptable; what goes wrong with it inside is a UserError."""
    try:
        with opened(path if content is None else io.BytesIO(content)) as image:
            _check_kind(image, path)
            yield image
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"no such image: {path}") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder: expected an image file") from None
    except PermissionError:
        raise UserError(f"no permission to read {path}") from None
    except Image.DecompressionBombError:
        raise UserError(f"{path} claims more than {MAX_PIXELS:,} pixels; scale it down first") from None
    except UnidentifiedImageError:
        if tags := tiff_tags.read(Path(path)):
            what = f"photometric interpretation {tags.get(tiff_tags.PHOTOMETRIC)}, bits {tags.get(tiff_tags.BITS)}"
            kind = tiff_tags.unknown_samples(tags) or f"a TIFF that Pillow does not read ({what})"
            raise _of_kind(path, kind) from None
        known = "expected PNG, JPEG, TIFF or another format of Pillow's"
        raise UserError(f"cannot read {path} as an image (truncated or not an image): {known}") from None
    except MemoryError:
        raise UserError(f"not enough memory to read {path}") from None
    except Exception as error:  # Pillow's plugins raise whatever a broken file provokes
        if isinstance(error, OSError) and error.errno:  # of the system: too many open files, a disk that fails
            raise UserError(f"cannot read {path}: {error.strerror}") from None
        raise UserError(f"cannot read {path} as an image (truncated or not an image): {error}") from None


ACCEPTED = "of 1 to 8 or unsigned 16 bits per sample, in grey, RGB, CMYK or with a palette"
CONVERTED = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"}
OTHERS = {"F": "floating-point samples", "I": "32-bit samples", "LAB": "Lab colours"}  # by Pillow's mode


def _check_kind(image: Any, path: str | Path) -> None:
    """Raise UserError for samples of which nobody can say what is white, and for the preview of a raw file."""
    if image.format == "TIFF":  # Pillow's modes do not tell signed from unsigned
        if kind := "a camera's raw data" if tiff_tags.is_raw(Path(path)) else tiff_tags.unknown_samples(image.tag_v2):
            raise _of_kind(path, kind)
    if image.mode not in CONVERTED and _surplus_bits(image) is None:
        raise _of_kind(path, OTHERS.get(image.mode, f"samples of the mode {image.mode}"))


def _of_kind(path: str | Path, kind: str) -> UserError:
    return UserError(f"{path} holds {kind}: expected an image {ACCEPTED}")


def _surplus_bits(image: Any) -> int | None:
    """How many of the bits of a deep grey image are below the upper eight; None for one that is not deep."""
    if image.mode.startswith("I;16") and image.format in ("PNG", "TIFF", "JPEG2000"):
        return 4 if image.format == "TIFF" and image.tag_v2.get(tiff_tags.BITS) == (12,) else 8
    return 8 if image.mode == "I" and image.format == "PPM" else None


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
    try:
        content = encoded(image, Image.registered_extensions()[path.suffix.lower()])
    except (OSError, ValueError) as error:  # a format that cannot hold such an image
        raise UserError(f"cannot write {path}: {error}") from None
    files.write_atomically(path, content)


def encoded(image: np.ndarray, kind: str = "PNG", **options: int) -> bytes:
    """The file of uint8 (h, w, 3) in a format of Pillow's, with options of that. Raises OSError and ValueError for what
    it cannot hold."""
    content = io.BytesIO()
    Image.fromarray(image).save(content, kind, **options)
    return content.getvalue()


def upscaled_size(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """Height and width of an image of `size` upscaled by a factor: each rounded to whole pixels, at least one."""
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def check_pixels(size: tuple[int, int]) -> None:
    """Raise UserError for a result of more than MAX_PIXELS."""
    if size[0] * size[1] > MAX_PIXELS:
        raise UserError(f"output size {size[0]}x{size[1]}: at most {MAX_PIXELS:,} pixels are accepted")


def check_claim(path: Path, height: int, width: int) -> None:
    """Raise UserError for a file whose header claims more than MAX_PIXELS."""
    if height * width > MAX_PIXELS:
        limit = f"at most {MAX_PIXELS:,} pixels are accepted"
        raise UserError(f"{path} claims {height}x{width} pixels: {limit}; scale it down first")


def resize(
    image: np.ndarray,
    height: int,
    width: int,
    box: tuple[float, float, float, float] | None = None,
    resample: Image.Resampling = Image.Resampling.BICUBIC,
) -> np.ndarray:
    """Pillow's antialiased bicubic (a = -0.5), uint8 (h, w, 3) -> uint8 (height, width, 3), not to be written to.

    box: top, left, bottom, right of the part to take, in pixels, fractions too. resample: another of its filters.
    """
    whole = np.ascontiguousarray(image)  # Pillow alone would copy a crop of a larger image byte by byte
    size = (whole.shape[1], whole.shape[0])
    opened = Image.frombuffer("RGB", size, whole, "raw", "RGB", 0, 1)
    part = box and (box[1], box[0], box[3], box[2])
    return np.asarray(opened.resize((width, height), resample, part))


def centred(image: np.ndarray, side: int, resample: Image.Resampling = Image.Resampling.BICUBIC) -> np.ndarray:
    """The middle of an image, uint8 (h, w, 3) -> (side, side, 3): its shorter side is resized to `side` pixels, then
    the longer one is cut, an odd pixel more where Python's rounding has it, as in torchvision's resize and centre crop.
    """
    height, width = image.shape[:2]
    shorter = min(height, width)
    height, width = int(side * height / shorter), int(side * width / shorter)
    if (height, width) != image.shape[:2]:
        image = resize(image, height, width, resample=resample)
    top, left = round((height - side) / 2), round((width - side) / 2)
    return image[top : top + side, left : left + side]


def to_float(image: np.ndarray, white: int = 255) -> np.ndarray:
    """uint8 [0, 255] -> float32 [0, 1]; `white` of another range, such as 65535."""
    values = image.astype(np.float32)
    values /= np.float32(white)
    return values


def to_uint8(image: np.ndarray) -> np.ndarray:
    """float [0, 1] -> uint8 [0, 255], rounded to the nearest level, not truncated."""
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
