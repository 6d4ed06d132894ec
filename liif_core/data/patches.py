"""Pairs of crops at one factor, for models that have no other: liif_core.data.wrappers without queries."""

from typing import Any

import numpy as np
from pydantic import PositiveInt

from liif_core.data.registries import WRAPPERS
from liif_core.data.wrappers import ImplicitDownsampled, ImplicitPaired, Wrapper
from liif_core.errors import UserError


class Patches(Wrapper):
    """A sample is both crops whole. scale: how much larger the high resolution is along an axis."""

    scale: int
    FACTOR = "the wrapper's scale"

    def factor(self, index, *sizes):
        return self.scale

    def sample(self, index: int, epoch: int = 0) -> dict[str, np.ndarray]:
        """See liif_core.data.wrappers."""
        low, high = self.pair(index, epoch)
        return {"inp": np.ascontiguousarray(low), "gt": np.ascontiguousarray(high)}


@WRAPPERS.register("sr-patches-paired")
class PatchesPaired(Patches, ImplicitPaired):
    """Crops of given low- and high-resolution images that differ by the factor `scale`.

    inp_size: side of the low-resolution crop, None for the whole image. augment: random flips.
    """

    def __init__(
        self,
        dataset: Any,
        scale: PositiveInt,
        inp_size: PositiveInt | None = None,
        augment: bool = False,
        seed: int = 0,
        training: bool = False,
    ):
        super().__init__(dataset, inp_size, augment, None, seed, training)
        self.scale = scale

    def check(self, index, *sizes):
        super().check(index, *sizes)
        low, high = sizes
        if high[0] // low[0] != self.scale:
            raise UserError(
                f"'{self.name(index)}': low resolution {low[0]}x{low[1]} and high resolution {high[0]}x{high[1]} "
                f"differ by x{high[0] // low[0]}, the wrapper's scale is {self.scale}"
            )


@WRAPPERS.register("sr-patches-downsampled")
class PatchesDownsampled(Patches, ImplicitDownsampled):
    """Crops of high-resolution images, downsampled by Pillow's bicubic at the factor `scale`.

    inp_size: side of the low-resolution crop; the crop is cut first and then downsampled. None downsamples the whole
    image, cut to a multiple of the factor first. augment: random flips.
    """

    def __init__(
        self,
        dataset: Any,
        scale: PositiveInt,
        inp_size: PositiveInt | None = None,
        augment: bool = False,
        seed: int = 0,
        training: bool = False,
    ):
        super().__init__(dataset, inp_size, scale, scale, augment, None, seed, training)
        self.scale = scale
