"""Files of several images, read one image after the other: the frames of an animation, the pages of a TIFF.

Most files hold what changes from one frame to the next; here frames come as they are seen. libvips gives those of GIF
and WebP, Pillow those of PNG and AVIF, of which libvips knows the first alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import PIL.Image

from liif_core.errors import UserError
from liif_core.images import rgb8, vips
from liif_core.images.image import ImageData, pyvips, to_vips
from liif_core.images.tiff_tags import quiet

TIMED = (".gif", ".webp", ".png", ".avif")  # what an animation can be in
PAGED = (".tif", ".tiff")
FETCHED = 256  # rows that libvips is asked for at once: for all of a tall frame it would take seconds
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}  # Pillow's, by channels


@dataclass(frozen=True)
class Frames:
    """What a file holds.

    sizes: height and width of each upright image. durations: how many seconds each is shown; pages have none. plays:
    how many times all are shown; 0: for ever. opaque: no frame has a transparent pixel, so alpha is left out. notes:
    what of the file is not kept, a few words each.
    """

    path: Path
    sizes: tuple[tuple[int, int], ...]
    durations: tuple[Fraction, ...] = ()
    plays: int = 0
    opaque: bool = False
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many images there are."""
        return len(self.sizes)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the first."""
        return self.sizes[0]

    def images(self) -> Iterator[ImageData]:
        """All, one in memory at a time. Raises UserError when one cannot be read any more."""
        number = 0
        for number, (image, _) in enumerate(_images(self.path), 1):
            if image.size not in self.sizes[number - 1 : number]:
                raise UserError(f"{self.path} changed while it was read")
            yield replace(image, pixels=image.pixels[..., :-1]) if self.opaque and image.alpha else image
        if number != self.count:
            raise UserError(f"{self.path} changed while it was read")


def kind(path: Path) -> str:
    """Of a file of several images "frames" or "pages", of others nothing. Raises UserError as `vips.read` does."""
    suffix, count = vips.count(path)
    if suffix in PAGED and count > 1:
        return "pages"
    return "frames" if suffix in TIMED and count != 1 else ""


def inspect(path: Path) -> Frames:
    """What is in a file of several images. All are decoded once, one at a time, which shows whether they are whole.

    Raises UserError for a file that is cut short or damaged.
    """
    suffix, _ = vips.count(path)
    notes = _look_at_end(path) if suffix == ".gif" else []
    sizes, durations, opaque = [], [], True
    for image, duration in _images(path):
        sizes.append(image.size)
        durations.append(duration)
        opaque = opaque and (not image.alpha or bool((image.pixels[..., -1] == image.white).all()))
    if suffix in PAGED:
        return Frames(path, tuple(sizes))
    return Frames(path, tuple(sizes), tuple(durations), _plays(path, suffix), opaque, tuple(notes))


def _images(path: Path) -> Iterator[tuple[ImageData, Fraction]]:
    """Every image, and how many seconds it is shown."""
    suffix, count = vips.count(path)
    if suffix in PAGED:
        for number in range(count):
            try:
                page = vips.read(path, number)
            except UserError as error:
                raise UserError(f"page {number + 1}: {error}") from None
            yield page, Fraction(0)
        return
    first = vips.read(path, 0)
    header = vips.open_image(path, header=True)
    lies = header.get("orientation") if header.get_typeof("orientation") else 1
    for pixels, duration in _joined(path) if suffix in (".gif", ".webp") else _by_pillow(path, first):
        deep = pixels.dtype == np.uint16
        depth, notes = first.depth, first.notes
        if depth > 8 and not deep:
            depth, notes = 8, (*notes, f"{depth} bits of an animation become 8")
        yield replace(first, pixels=_upright(pixels, lies), depth=depth, notes=notes), duration


def _joined(path: Path) -> Iterator[tuple[np.ndarray, Fraction]]:
    """What libvips gives as one image, the frames below each other, of which it decodes one at a time."""
    image = vips.open_image(path, n=-1)
    height, width = image.get("page-height"), image.width
    delays = image.get("delay") if image.get_typeof("delay") else []  # in ms
    try:
        region = pyvips.Region.new(image)
        for number in range(image.height // height):
            pixels = np.empty((height, width, image.bands), np.uint8)
            for top in range(0, height, FETCHED):
                rows = pixels[top : top + FETCHED]
                content = region.fetch(0, number * height + top, width, len(rows))
                rows[...] = np.frombuffer(content, np.uint8).reshape(rows.shape)
            yield pixels, Fraction(delays[number] if number < len(delays) else 0, 1000)
    except pyvips.Error as error:
        raise vips.unreadable(path, error) from None


def _by_pillow(path: Path, first: ImageData) -> Iterator[tuple[np.ndarray, Fraction]]:
    """first: as libvips reads it, for its channels."""
    with _pillow(path) as file:
        start = bool(file.info.get("default_image"))  # shown where there are no animations, and not of this one
        for number in range(start, getattr(file, "n_frames", 1)):
            with _refused(path), quiet():
                file.seek(number)
                file.load()
                frame: PIL.Image.Image = file
                if not (first.pixels.dtype == np.uint16 and frame.mode.startswith("I;16")):
                    frame = frame.convert(MODES[first.pixels.shape[2]])
                pixels = np.array(frame).reshape(frame.height, frame.width, -1)
                pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
                # PNG has fractions of a second with 16 bits above and below the line.
                duration = Fraction(file.info.get("duration", 0) / 1000).limit_denominator(65_535)
            yield pixels, duration


@contextmanager
def _pillow(path: Path) -> Iterator[PIL.Image.Image]:
    with _refused(path), quiet():
        file = rgb8.opened(path, formats=["PNG", "AVIF"])
    with file:
        yield file


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise UserError(f"not enough memory to read {path}") from None
    except Exception as error:  # Pillow raises whatever a broken file provokes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"cannot read {path} as an animation (truncated or damaged): {reason}") from None


def _plays(path: Path, suffix: str) -> int:
    if suffix in (".gif", ".webp"):
        image = vips.open_image(path, n=-1)
        return image.get("loop") if image.get_typeof("loop") else 1
    with _pillow(path) as file:
        return file.info.get("loop", 0)


def _upright(pixels: np.ndarray, lies: int) -> np.ndarray:
    """lies: EXIF's orientation, from 1 to 8."""
    if lies == 1:
        return pixels
    image = to_vips(ImageData(pixels), np.ascontiguousarray(pixels)).copy()
    image.set_type(pyvips.GValue.gint_type, "orientation", lies)
    return image.autorot().numpy().reshape(-1, image.height if lies >= 5 else image.width, pixels.shape[2])


def _look_at_end(path: Path) -> list[str]:
    """What is to be said of the end of a GIF. Raises UserError if it is cut short: libvips takes what is there."""
    images = 0
    with open(path, "rb") as file:
        flags = file.read(13)[10]
        file.seek(_colours(flags), 1)
        while (mark := file.read(1)) not in (b";", b""):
            if mark == b",":
                images += 1
                file.seek(_colours((file.read(9) or b"\0")[-1]), 1)
            if mark in (b",", b"!"):
                file.seek(1, 1)
                while (length := file.read(1)) != b"\0":
                    if not length:
                        raise UserError(f"cannot read {path} as an animation: it is cut short, in frame {images}")
                    file.seek(length[0], 1)
    return [] if mark else ["it does not say where it ends: frames may be missing"]


def _colours(flags: int) -> int:
    """Bytes of the palette that follows."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
