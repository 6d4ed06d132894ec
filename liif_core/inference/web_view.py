"""What the web page shows of an image: scripts/demo_web.py without its page.

The page shows a view: the pixels of the upscaled image around a point, as many of them at every factor.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from liif_core.checkpoints import formats
from liif_core.checkpoints.shipped import listed
from liif_core.geometry import tiling
from liif_core.images import rgb8, vips
from liif_core.inference.kept import KeptFeatures
from liif_core.inference.network import Network

FACTORS = 1.0, 30.0
VIEW = 384, 512  # pixels of the upscaled image: 5 s of one CPU core with the weights in pretrained/
DRAFT = 3  # the same view with a third of the pixels along each axis comes first, in a sixth of the time
OVERVIEW = 640  # pixels: the larger side of the image in which a click chooses the view
Pair = tuple[np.ndarray, np.ndarray]  # the halves of a view, uint8 (h, w, 3), or of its draft
BORDER = 3  # pixels: bicubic reads two on each side, and a box may begin within one


@dataclass(frozen=True)
class View:
    """A part of the upscaled image. box: its position in the image, in pixels; height, width: its own pixels."""

    box: tiling.Box
    height: int
    width: int


@dataclass
class Visit:
    """What one visitor looks at.

    source: the file. rgb: the image as the views are made from, uint8 (H, W, 3), in a .npy for the web worker. small:
    the same as the overview shows it. centre: of the view, down and right, in [0, 1]. asked: how many views were asked
    for, of which only the last is needed. drawing: which of them was begun last, of those that take time. stop: ends
    the upscaling of the whole image, if it is under way.
    """

    source: Path | None = None
    suffix: str = ""
    size: tuple[int, int] = (1, 1)
    small: np.ndarray = field(default_factory=lambda: np.zeros((1, 1, 3), np.uint8))
    centre: tuple[float, float] = (0.5, 0.5)
    view: View | None = None
    asked: int = 0
    drawing: int = 0
    stop: Callable[[], None] | None = None

    @property
    def rgb(self) -> Path:
        """Where the pixels of the views are."""
        assert self.source is not None
        return self.source.with_name("rgb.npy")

    def open(self, path: Path, folder: Path) -> None:
        """Look at another image, at its middle; what is needed of it goes into the folder, which `close` removes."""
        image = vips.read(path)
        rgb = image.rgb()
        source = folder / path.name
        shutil.copyfile(path, source)
        np.save(source.with_name("rgb.npy"), rgb)
        self.close()
        self.source, self.suffix, self.size, self.small = source, image.suffix, image.size, downsample(rgb)
        self.centre = 0.5, 0.5
        self.asked += 1

    def close(self) -> None:
        """Remove what was kept of the image."""
        if self.source is not None:
            shutil.rmtree(self.source.parent, ignore_errors=True)

    def look_at(self, down: int, right: int) -> None:
        """Move the view to a pixel of the overview."""
        height, width = self.small.shape[:2]
        self.centre = (down + 0.5) / height, (right + 0.5) / width


def view(size: tuple[int, int], factor: float, centre: tuple[float, float]) -> View:
    """The view around a point of an image of `size` (H, W), moved to lie inside; all of an image that is smaller.

    It begins on a pixel of the upscaled image, so that both have the same pixels.
    """
    axes = zip(size, rgb8.upscaled_size(size, factor), VIEW, centre, strict=True)
    (top, bottom, height), (left, right, width) = (_axis(*axis) for axis in axes)
    return View((top, left, bottom, right), height, width)


def _axis(side: int, upscaled: int, shown: int, centre: float) -> tuple[float, float, int]:
    shown = min(shown, upscaled)
    first = min(max(0, round(centre * upscaled - shown / 2)), upscaled - shown)
    return first * side / upscaled, (first + shown) * side / upscaled, shown


def bicubic(image: np.ndarray, view: View) -> np.ndarray:
    """uint8 (height, width, 3): the view as Pillow upscales it."""
    top, left, bottom, right = view.box
    first_row, first_column = max(0, int(top) - BORDER), max(0, int(left) - BORDER)
    near = image[first_row : int(bottom) + BORDER + 1, first_column : int(right) + BORDER + 1]
    box = top - first_row, left - first_column, bottom - first_row, right - first_column
    return rgb8.resize(near, view.height, view.width, box)


def liif(source: Network | KeptFeatures, image: np.ndarray, view: View, step: int = 1) -> np.ndarray:
    """uint8 (height, width, 3): the view as a network upscales it, with 1 / step of the pixels along each axis. source:
    the network, or its features of the image."""
    size = -(-view.height // step), -(-view.width // step)
    if isinstance(source, KeptFeatures):
        return rgb8.to_uint8(source.part(view.box, *size))
    return rgb8.to_uint8(source.part(image, view.box, *size))


def whole(pair: Pair, view: View) -> bool:
    """Whether these are all pixels of the view and not its draft."""
    return pair[1].shape[:2] == (view.height, view.width)


def downsample(image: np.ndarray) -> np.ndarray:
    """The overview of uint8 (h, w, 3), its larger side OVERVIEW."""
    factor = OVERVIEW / max(image.shape[:2])
    return rgb8.resize(image, *rgb8.upscaled_size((image.shape[0], image.shape[1]), factor))


def framed(small: np.ndarray, size: tuple[int, int], box: tiling.Box) -> np.ndarray:
    """The overview of an image of `size` with the box drawn in: white between black, to be seen on any image."""
    height, width = small.shape[:2]
    factors = height / size[0], width / size[1]
    top, left, bottom, right = (round(edge * factor) for edge, factor in zip(box, factors * 2, strict=True))
    # As large as its four lines are wide, however small the view is.
    top, left = max(0, min(top, height - 8)), max(0, min(left, width - 8))
    bottom, right = max(bottom, top + 8), max(right, left + 8)
    image = small.copy()
    for inset, level in ((0, 0), (1, 255), (2, 255), (3, 0)):
        rows, columns = slice(top + inset, bottom - inset), slice(left + inset, right - inset)
        for edge in (rows.start, rows.stop - 1):
            image[min(max(0, edge), height - 1), columns] = level
        for edge in (columns.start, columns.stop - 1):
            image[rows, min(max(0, edge), width - 1)] = level
    return image


def find_models(given: list[Path]) -> dict[str, Path]:
    """Names and files of the models to choose from, for either half: those given, and those in pretrained/. Raises
    UserError for a file that is none."""
    models: dict[str, Path] = {}
    for name, path in [*((path.stem, path) for path in given), *((one.name, one.path) for one in listed().values())]:
        formats.load(path)
        models[name if name not in models else str(path)] = formats.locate(path).resolve()
    return models


def file_name(name: str, factor: float, suffix: str) -> str:
    """What the upscaled image is called."""
    return f"{Path(name).stem}_x{factor:g}{suffix}"
