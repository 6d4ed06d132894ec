"""From images to training samples and evaluation pairs (LIIF, section 3.3 and the recipe of its code).

A wrapper has
    pair(index, epoch)    -> uint8 (H, W, 3) low and (h, w, 3) high resolution, cropped and flipped,
    sample(index, epoch)  -> {"inp": uint8 (H, W, 3), "coord": (Q, 2), "cell": (2,), "gt": uint8 (Q, 3)}, or, where
                             `scale` is a factor, {"inp": uint8 (H, W, 3), "gt": uint8 (h, w, 3)},
    check(index, *sizes)  -> UserError if images of these (h, w) cannot give every sample that may be asked for,
    factor(index, *sizes) -> how much larger the high resolution is, None where it is drawn anew for each sample;
the first two are pure functions of (seed, epoch, index).
"""

import abc
import math
from typing import Annotated, Any

import numpy as np
from pydantic import Field, PositiveInt

from liif_core.data import sampling
from liif_core.data.registries import WRAPPERS
from liif_core.data.sizes import fewest_pixels, whole_factor, with_shorter
from liif_core.errors import UserError
from liif_core.geometry import coords
from liif_core.images import rgb8


class Wrapper(abc.ABC):
    """What all wrappers share: random numbers per sample, flips, queries."""

    images_per_item = 1  # an item of the data sets that it takes: 2 for pairs
    scale: int | None = None  # of whole crops at one factor; None for queries
    FACTOR = "the factor"  # what `factor` gives, in the words of the config

    def __init__(self, dataset, inp_size, augment, sample_q, seed, training):
        self.dataset = dataset
        self.inp_size = inp_size
        self.augment = augment
        self.sample_q = sample_q
        self.seed = seed
        self.training = training

    def __len__(self) -> int:
        return len(self.dataset)

    def name(self, index: int) -> str:
        """Name of the image behind item `index`."""
        return self.dataset.name(index)

    @abc.abstractmethod
    def _cut(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Low- and high-resolution crop of item `index`, before flips."""

    @abc.abstractmethod
    def check(self, index: int, *sizes: tuple[int, int]) -> None:
        """Raise UserError if the images of item `index`, of these sizes (h, w), are too small or do not fit."""

    @abc.abstractmethod
    def factor(self, index: int, *sizes: tuple[int, int]) -> float | None:
        """High resolution by low resolution of item `index`, whose images are of these sizes (h, w); None where it is
        drawn for each sample."""

    def _draw(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, sampling.Flips]:
        """Low- and high-resolution crop of item `index`, and the flips that both still have to undergo."""
        low, high = self._cut(index, rng)
        return low, high, sampling.flips(rng) if self.augment else sampling.UNFLIPPED

    def _check_room(self, index: int, size: tuple[int, int], needed: int, what: str) -> None:
        if min(size) < needed:
            raise UserError(
                f"{what} '{self.name(index)}' is {size[0]}x{size[1]}, smaller than the {needed}x{needed} crop that "
                f"inp_size {self.inp_size} asks for: lower inp_size or the scale, or leave the image out"
            )

    def _check_queries(self, index: int, pixels: int) -> None:
        if self.sample_q is not None and self.sample_q > pixels:
            raise UserError(f"sample_q is {self.sample_q}, but a crop of '{self.name(index)}' has only {pixels} pixels")

    def pair(self, index: int, epoch: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """uint8 (H, W, 3) and (h, w, 3) of item `index` in `epoch`."""
        low, high, flips = self._draw(index, sampling.generator(self.seed, epoch, index, self.training))
        return sampling.flip(low, *flips), sampling.flip(high, *flips)

    def sample(self, index: int, epoch: int = 0) -> dict[str, np.ndarray]:
        """One training sample; `sample_q` picks that many pixels of the high resolution, None takes all."""
        rng = sampling.generator(self.seed, epoch, index, self.training)
        low, high, flips = self._draw(index, rng)
        height, width = sampling.flip(high, *flips).shape[:2]
        pixels = height * width
        self._check_queries(index, pixels)
        which = np.arange(pixels) if self.sample_q is None else sampling.pick(rng, pixels, self.sample_q)
        coord, colours = sampling.queries(high, flips, which)
        cell = coords.make_cell((height, width))
        return {"inp": np.ascontiguousarray(sampling.flip(low, *flips)), "coord": coord, "cell": cell, "gt": colours}


@WRAPPERS.register("sr-implicit-paired")
class ImplicitPaired(Wrapper):
    """Pairs of given low- and high-resolution images at one integer factor.

    inp_size: side of the low-resolution crop, None for the whole image. augment: random flips.
    sample_q: number of queries per sample.
    """

    images_per_item = 2
    FACTOR = "the pairs' factor"

    def __init__(
        self,
        dataset: Any,
        inp_size: PositiveInt | None = None,
        augment: bool = False,
        sample_q: PositiveInt | None = None,
        seed: int = 0,
        training: bool = False,
    ):
        super().__init__(dataset, inp_size, augment, sample_q, seed, training)

    def check(self, index, *sizes):
        low, high = sizes
        scale = whole_factor(self.name(index), low, high)
        if self.inp_size is not None:
            self._check_room(index, low, self.inp_size, "low-resolution image")
        height, width = low if self.inp_size is None else (self.inp_size, self.inp_size)
        self._check_queries(index, height * width * scale**2)

    def factor(self, index, *sizes):
        low, high = sizes
        return high[0] // low[0]

    def _cut(self, index, rng):
        low, high = self.dataset[index]
        self.check(index, low.shape[:2], high.shape[:2])
        scale = high.shape[0] // low.shape[0]
        if self.inp_size is None:
            return low, high[: low.shape[0] * scale, : low.shape[1] * scale]
        size = self.inp_size
        top = sampling.crop_start(rng, low.shape[0], size)
        left = sampling.crop_start(rng, low.shape[1], size)
        large = high[top * scale : (top + size) * scale, left * scale : (left + size) * scale]
        return low[top : top + size, left : left + size], large


@WRAPPERS.register("sr-implicit-downsampled")
class ImplicitDownsampled(Wrapper):
    """High-resolution images, downsampled by Pillow's bicubic at a random factor in [scale_min, scale_max].

    scale_max defaults to scale_min. inp_size: side of the low-resolution crop; the crop is cut first
    and then downsampled. None downsamples the whole image (evaluation): the image is cut to
    round(floor(h / scale) * scale) first. augment and sample_q as in `sr-implicit-paired`.

    gt_downsample_max: above 1, every second crop is that much larger, by a factor between 1 and this, and downsampled
    before anything else, so that the ground truth is as sharp as a photograph made smaller (Becker et al., 2025).
    """

    FACTOR = "the factor of scale_min and scale_max"

    def __init__(
        self,
        dataset: Any,
        inp_size: PositiveInt | None = None,
        scale_min: float = 1,
        scale_max: float | None = None,
        augment: bool = False,
        sample_q: PositiveInt | None = None,
        seed: int = 0,
        training: bool = False,
        gt_downsample_max: Annotated[float, Field(ge=1)] = 1,
    ):
        super().__init__(dataset, inp_size, augment, sample_q, seed, training)
        self.scale_min = scale_min
        self.scale_max = scale_min if scale_max is None else scale_max
        self.gt_downsample_max = gt_downsample_max
        if gt_downsample_max > 1 and inp_size is None:
            raise UserError("gt_downsample_max is of crops: expected an inp_size, or gt_downsample_max 1")
        if not 1 <= self.scale_min <= self.scale_max:
            raise UserError(
                f"scale_min {self.scale_min} and scale_max {self.scale_max}: accepted is 1 <= scale_min <= scale_max"
            )
        if inp_size is not None and sample_q is not None and sample_q > (smallest := round(inp_size * scale_min) ** 2):
            raise UserError(
                f"sample_q is {sample_q}, but the smallest crop (inp_size {inp_size}, scale_min {scale_min:g}) has "
                f"only {smallest} pixels: lower sample_q, or raise inp_size"
            )

    def check(self, index, *sizes):
        self._check_scale(index, sizes[0], self.scale_max * self.gt_downsample_max)
        if self.inp_size is None and self.sample_q is not None:
            self._check_queries(index, fewest_pixels(sizes[0], self.scale_min, self.scale_max))

    def factor(self, index, *sizes):
        return self.scale_min if self.scale_min == self.scale_max else None

    def _check_scale(self, index: int, size: tuple[int, int], scale: float) -> None:
        if self.inp_size is not None:
            self._check_room(index, size, round(self.inp_size * scale), "image")
        elif min(size) / scale + 1e-9 < 1:
            raise UserError(f"'{self.name(index)}' is {size[0]}x{size[1]}: too small for x{scale:g}")

    def _cut(self, index, rng):
        image = self.dataset[index]
        scale = rng.uniform(self.scale_min, self.scale_max)
        self._check_scale(index, image.shape[:2], scale)
        if self.inp_size is None:
            height, width = (math.floor(side / scale + 1e-9) for side in image.shape[:2])
            high = image[: round(height * scale), : round(width * scale)]
            return rgb8.resize(high, height, width), high
        size = final = round(self.inp_size * scale)
        if self.gt_downsample_max > 1 and rng.random() < 0.5:
            size = round(size * rng.uniform(1, self.gt_downsample_max))
            self._check_room(index, image.shape[:2], size, "image")
        top = sampling.crop_start(rng, image.shape[0], size)
        left = sampling.crop_start(rng, image.shape[1], size)
        high = np.ascontiguousarray(image[top : top + size, left : left + size])
        high = high if size == final else rgb8.resize(high, final, final)
        return rgb8.resize(high, self.inp_size, self.inp_size), high


@WRAPPERS.register("sr-implicit-uniform-varied")
class ImplicitUniformVaried(Wrapper):
    """Whole pairs whose ground truth is downsampled to a size that grows evenly over the data set.

    size_min, size_max: the ground truth of the first and of the last item, size_max defaults to
    size_min. gt_resize: resize it once more, to this size; the cell is that of the result. augment:
    flips from left to right only. sample_q as in `sr-implicit-paired`.

    A size is the length of the shorter side; the longer one keeps the aspect, rounded down, as
    torchvision's Resize and so the original LIIF have it. The low-resolution image stays as it is.
    """

    images_per_item = 2
    FACTOR = "the factor of size_min and size_max"

    def __init__(
        self,
        dataset: Any,
        size_min: PositiveInt,
        size_max: PositiveInt | None = None,
        augment: bool = False,
        gt_resize: PositiveInt | None = None,
        sample_q: PositiveInt | None = None,
        seed: int = 0,
        training: bool = False,
    ):
        super().__init__(dataset, None, augment, sample_q, seed, training)
        self.size_min = size_min
        self.size_max = size_min if size_max is None else size_max
        self.gt_resize = gt_resize

    def check(self, index, *sizes):
        (low_height, low_width), (height, width) = sizes
        if abs(low_height * width - low_width * height) > max(low_height, low_width, height, width):
            raise UserError(
                f"'{self.name(index)}': low resolution {low_height}x{low_width} and high resolution "
                f"{height}x{width} differ in aspect"
            )
        for shorter in filter(None, (self._size(index), self.gt_resize)):
            height, width = with_shorter((height, width), shorter)
        self._check_queries(index, height * width)

    def factor(self, index, *sizes):
        return (self.gt_resize or self._size(index)) / min(sizes[0])

    def _size(self, index: int) -> int:
        """Of the shorter side of item `index`'s high resolution."""
        progress = index / max(len(self) - 1, 1)
        return round(self.size_min + (self.size_max - self.size_min) * progress)

    def _cut(self, index, rng):
        low, high = self.dataset[index]
        self.check(index, low.shape[:2], high.shape[:2])
        return low, _resize_shorter(high, self._size(index))

    def _draw(self, index, rng):
        low, high = self._cut(index, rng)
        if self.augment and rng.random() < 0.5:
            low, high = low[:, ::-1], high[:, ::-1]
        if self.gt_resize is not None:
            high = _resize_shorter(high, self.gt_resize)
        return low, high, sampling.UNFLIPPED


def _resize_shorter(image: np.ndarray, size: int) -> np.ndarray:
    """Bicubic to `size` pixels on the shorter side."""
    height, width = image.shape[:2]
    return rgb8.resize(image, *with_shorter((height, width), size))
