"""Details of images as several methods make them, side by side: which to show, and the figure."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from liif_core.config.registry import nearest_known
from liif_core.errors import UserError
from liif_core.evaluation import psnr_ssim
from liif_core.experiments.compared import ORIGINAL, Task, TestSet
from liif_core.images import comparison, rgb8
from liif_core.report.score_tables import set_title

SIDE = 64  # pixels of a box that is chosen here
SMALLEST = 11  # the window of SSIM
COLUMN = 192  # pixels: how wide a column of the figure is at least
FORM = "SET/IMAGE:top,left,height,width in pixels, like Set5/baby:120,200,64,64"


@dataclass(frozen=True)
class Box:
    """A part of a test set's image, in pixels of its high resolution."""

    test_set: TestSet
    image: str
    top: int
    left: int
    height: int
    width: int

    def __str__(self) -> str:
        """As --boxes takes it."""
        name = f"{set_title(self.test_set.name)}/{self.image}"
        return f"{name}:{self.top},{self.left},{self.height},{self.width}"

    def cut(self, image: np.ndarray) -> np.ndarray:
        """The part of the image."""
        return image[self.top : self.top + self.height, self.left : self.left + self.width]

    @property
    def original(self) -> np.ndarray:
        """The whole high-resolution image."""
        return self.test_set.pairs.pair(self.test_set.images.index(self.image))[1]


@dataclass(frozen=True)
class Detail:
    """A column of the figure: a box of one method's image; scores of Y in it, None for the original."""

    name: str
    pixels: np.ndarray
    psnr: float | None
    ssim: float | None

    @property
    def scores(self) -> str:
        """As they are written below it."""
        return "PSNR / SSIM" if self.psnr is None else f"{self.psnr:.2f} dB / {self.ssim:.4f}"


def read_box(text: str, sets: Sequence[TestSet]) -> Box:
    """A box as people type it. Raises UserError for another form, a set or image that is not compared, and a box that
    is not inside the image or too small for SSIM."""
    found = re.fullmatch(r"([^/]+)/(.+):(\d+),(\d+),(\d+),(\d+)", text)
    if not found:
        raise UserError(f"--boxes: expected {FORM}, got '{text}'")
    known = {test_set.name: test_set for test_set in sets}
    if found[1].lower() not in known and found[1] not in known:
        raise UserError(f"--boxes '{text}': no such set is compared: {nearest_known(found[1].lower(), known)}")
    test_set = known.get(found[1]) or known[found[1].lower()]
    if found[2] not in test_set.images:
        raise UserError(f"--boxes '{text}': no such image: {nearest_known(found[2], test_set.images)}")
    box = Box(test_set, found[2], *map(int, found.groups()[2:]))
    height, width = box.original.shape[:2]
    if box.top + box.height > height or box.left + box.width > width:
        raise UserError(f"--boxes '{text}': expected a box inside the image, which has {height}x{width} pixels")
    if min(box.height, box.width) < SMALLEST:
        raise UserError(f"--boxes '{text}': expected at least {SMALLEST}x{SMALLEST} pixels, the window of SSIM")
    return box


def choose(tasks: Sequence[Task], sets: Sequence[TestSet], count: int) -> list[Box]:
    """In the `count` images where the methods differ most within a box, that box; one method alone is held against
    the original. Images that are smaller than a box are shown whole, if SSIM can be measured there."""
    candidates = []
    places = [(test_set, image) for test_set in sets for image in test_set.images]
    for test_set, image in tqdm(places, "comparing", unit="image", leave=False, disable=None):
        images = [rgb8.read_image(task.png(test_set, image)).astype(np.float32) for task in tasks]
        if len(images) == 1:
            images.append(test_set.pairs.pair(test_set.images.index(image))[1].astype(np.float32))
        spread = np.std(images, axis=0).mean(axis=2)
        height, width = (min(SIDE, side) for side in spread.shape)
        if min(height, width) >= SMALLEST:
            amount, top, left = _most(spread, height, width)
            candidates.append((amount, Box(test_set, image, top, left, height, width)))
    candidates.sort(key=lambda candidate: -candidate[0])
    return [box for _, box in candidates[:count]]


def _most(values: np.ndarray, height: int, width: int) -> tuple[float, int, int]:
    """The largest mean of (h, w) values within a box, and its top and left."""
    sums = np.pad(values.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    means = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = np.unravel_index(np.argmax(means), means.shape)
    return float(means[top, left]) / (height * width), int(top), int(left)


def details(box: Box, tasks: Sequence[Task]) -> Iterator[Detail]:
    """The original, then each method's."""
    original = box.cut(box.original)
    yield Detail(ORIGINAL, original, None, None)
    target = rgb8.to_float(original)
    for task in tasks:
        pixels = box.cut(rgb8.read_image(task.png(box.test_set, box.image)))
        prediction = rgb8.to_float(pixels)
        scores = psnr_ssim.psnr_y(prediction, target), psnr_ssim.ssim(prediction, target)
        yield Detail(task.method.name, pixels, *scores)


def figure(rows: dict[Box, list[Detail]]) -> np.ndarray:
    """A row for each box under its name, uint8 (h, w, 3): pixels are repeated, never smoothed."""
    strips = []
    for box, found in rows.items():
        width = box.width * -(-COLUMN // box.width)
        cells = [(_fitting(one.name, width), comparison.upscale_pixels(one.pixels, width)) for one in found]
        strip = comparison.comparison(cells, below=[one.scores for one in found])
        strips += [comparison.line(str(box), strip.shape[1]), strip]
    width = max(strip.shape[1] for strip in strips)
    padded = [np.pad(strip, ((0, 0), (0, width - strip.shape[1]), (0, 0)), constant_values=255) for strip in strips]
    return np.concatenate(padded)


def _fitting(name: str, width: int) -> str:
    """A name that is too long for its column, cut."""
    longest = width // 9
    return name if len(name) <= longest else name[: longest - 2] + ".."
