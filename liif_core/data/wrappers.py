"""From images to training samples and evaluation pairs (LIIF, section 3.3 and upstream's recipe).

A wrapper has
    pair(index, epoch)    -> uint8 (H, W, 3) low and (h, w, 3) high resolution, cropped and flipped,
    sample(index, epoch)  -> {"inp": uint8 (H, W, 3), "coord": (Q, 2), "cell": (2,), "gt": uint8 (Q, 3)},
both pure functions of (seed, epoch, index).
"""

import abc
import math
from typing import Any

import numpy as np
from pydantic import PositiveInt

from liif_core import coords, imaging
from liif_core.data import WRAPPERS, sampling
from liif_core.errors import UserError


class Wrapper(abc.ABC):
    """What all wrappers share: random numbers per sample, flips, queries."""

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
        """Name of the picture behind item `index`."""
        return self.dataset.name(index)

    @abc.abstractmethod
    def _cut(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Low- and high-resolution crop of item `index`, before flips."""

    def _pair(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        low, high = self._cut(index, rng)
        if self.augment:
            which = sampling.flips(rng)
            low, high = sampling.flip(low, *which), sampling.flip(high, *which)
        return low, high

    def _too_small(self, index: int, image: np.ndarray, needed: int, what: str) -> UserError:
        height, width = image.shape[:2]
        return UserError(
            f"{what} '{self.name(index)}' is {height}x{width}, smaller than the {needed}x{needed} crop that "
            f"inp_size {self.inp_size} asks for: lower inp_size or the scale, or leave the picture out"
        )

    def pair(self, index: int, epoch: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """uint8 (H, W, 3) and (h, w, 3) of item `index` in `epoch`."""
        return self._pair(index, sampling.generator(self.seed, epoch, index, self.training))

    def sample(self, index: int, epoch: int = 0) -> dict[str, np.ndarray]:
        """One training sample; `sample_q` picks that many pixels of the high resolution, None takes all."""
        rng = sampling.generator(self.seed, epoch, index, self.training)
        low, high = self._pair(index, rng)
        pixels = high.shape[0] * high.shape[1]
        if self.sample_q is not None and self.sample_q > pixels:
            raise UserError(f"sample_q is {self.sample_q}, but a crop of '{self.name(index)}' has only {pixels} pixels")
        which = None if self.sample_q is None else sampling.pick(rng, pixels, self.sample_q)
        coord, colours = coords.to_pixel_samples(high, which)
        cell = coords.make_cell((high.shape[0], high.shape[1]))
        return {"inp": np.ascontiguousarray(low), "coord": coord, "cell": cell, "gt": colours}


@WRAPPERS.register("sr-implicit-paired")
class ImplicitPaired(Wrapper):
    """Pairs of given low- and high-resolution pictures at one integer factor.

    inp_size: side of the low-resolution crop, None for the whole picture. augment: random flips.
    sample_q: number of queries per sample.
    """

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

    def _cut(self, index, rng):
        low, high = self.dataset[index]
        scale = high.shape[0] // low.shape[0]
        if scale < 1 or high.shape[1] // low.shape[1] != scale:
            raise UserError(
                f"'{self.name(index)}': low resolution {low.shape[0]}x{low.shape[1]} and high resolution "
                f"{high.shape[0]}x{high.shape[1]} do not differ by one integer factor"
            )
        if self.inp_size is None:
            return low, high[: low.shape[0] * scale, : low.shape[1] * scale]
        size = self.inp_size
        if min(low.shape[:2]) < size:
            raise self._too_small(index, low, size, "low-resolution picture")
        top = sampling.crop_start(rng, low.shape[0], size)
        left = sampling.crop_start(rng, low.shape[1], size)
        large = high[top * scale : (top + size) * scale, left * scale : (left + size) * scale]
        return low[top : top + size, left : left + size], large


@WRAPPERS.register("sr-implicit-downsampled")
class ImplicitDownsampled(Wrapper):
    """High-resolution pictures, shrunk by Pillow's bicubic at a random factor in [scale_min, scale_max].

    scale_max defaults to scale_min. inp_size: side of the low-resolution crop; the crop is cut first
    and then shrunk. None shrinks the whole picture (evaluation): the picture is cut to
    round(floor(h / scale) * scale) first. augment and sample_q as in `sr-implicit-paired`.
    """

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
    ):
        super().__init__(dataset, inp_size, augment, sample_q, seed, training)
        self.scale_min = scale_min
        self.scale_max = scale_min if scale_max is None else scale_max
        if not 1 <= self.scale_min <= self.scale_max:
            raise UserError(
                f"scale_min {self.scale_min} and scale_max {self.scale_max}: accepted is 1 <= scale_min <= scale_max"
            )

    def _cut(self, index, rng):
        image = self.dataset[index]
        scale = rng.uniform(self.scale_min, self.scale_max)
        if self.inp_size is None:
            height, width = (math.floor(side / scale + 1e-9) for side in image.shape[:2])
            if min(height, width) < 1:
                raise UserError(f"'{self.name(index)}' is {image.shape[0]}x{image.shape[1]}: too small for x{scale:g}")
            high = image[: round(height * scale), : round(width * scale)]
            return imaging.resize(high, height, width), high
        size = round(self.inp_size * scale)
        if min(image.shape[:2]) < size:
            raise self._too_small(index, image, size, "picture")
        top = sampling.crop_start(rng, image.shape[0], size)
        left = sampling.crop_start(rng, image.shape[1], size)
        high = image[top : top + size, left : left + size]
        return imaging.resize(high, self.inp_size, self.inp_size), high
