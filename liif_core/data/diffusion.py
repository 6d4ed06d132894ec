"""Samples for diffusion: an image, the noise that it gets and how much of it, and what it is conditioned on.

The condition is the low resolution on the grid of the high one, by Pillow's bicubic and rounded to 8 bits, as SR3 has
it (Saharia et al., arXiv 2104.07636, section 2); liif_core.diffusion.targets draws noise and level. Flips are from left
to right alone: faces have an upper end.
"""

from typing import Any

import numpy as np
from pydantic import PositiveInt

from liif_core.data import sampling
from liif_core.data.patches import Patches, PatchesDownsampled, PatchesPaired
from liif_core.data.registries import WRAPPERS
from liif_core.data.wrappers import Wrapper
from liif_core.diffusion import targets
from liif_core.diffusion.schedules import Schedule
from liif_core.errors import UserError
from liif_core.images import rgb8


class Diffused(Patches):
    """A sample has "gt" uint8 (h, w, 3), "noise" float32 (3, h, w) and what else `targets.draw` gives, and "inp", the
    condition, as large as "gt" and of its kind; `inp_size` is a side of the low resolution.

    schedule, kind: of the noise; a training takes them from its method and model (`take_noise`).
    """

    schedule = Schedule()
    kind: targets.Kind = "sr3"

    def _draw(self, index, rng):
        low, high = self._cut(index, rng)
        return low, high, (False, bool(self.augment and rng.random() < 0.5), False)

    def _condition(self, index: int, low: np.ndarray, size: tuple[int, int]) -> np.ndarray | None:
        """uint8 (h, w, 3) of a low-resolution crop, at the size (h, w) of the high one; None for none."""
        return rgb8.resize(low, *size)

    def sample(self, index: int, epoch: int = 0) -> dict[str, np.ndarray]:
        """See Diffused; all chance is of (seed, epoch, index)."""
        rng = sampling.generator(self.seed, epoch, index, self.training)
        low, high, flips = self._draw(index, rng)
        height, width = high.shape[:2]
        condition = self._condition(index, low, (height, width))
        sample = {"gt": np.ascontiguousarray(sampling.flip(high, *flips))}
        if condition is not None:
            sample["inp"] = np.ascontiguousarray(sampling.flip(condition, *flips))
        return sample | targets.draw(rng, self.schedule, (3, height, width), self.kind)


def take_noise(wrapper: Wrapper, model: dict, method: dict) -> None:
    """Have the samples of diffusion get the noise that a network is trained for. model, method: specs."""
    if isinstance(wrapper, Diffused):
        wrapper.schedule = Schedule.model_validate((method.get("args") or {}).get("schedule") or {})
        wrapper.kind = "ddpm" if model["name"].startswith("ddpm") else "sr3"


@WRAPPERS.register("sr-diffusion-paired")
class DiffusionPaired(Diffused, PatchesPaired):
    """For conditional diffusion: whole pairs that differ by the factor `scale`, such as those of `prepared-folders`.

    The condition is the data set's, or else the low resolution, upscaled by Pillow's bicubic. augment: flips from left
    to right.
    """

    def __init__(self, dataset: Any, scale: PositiveInt, augment: bool = False, seed: int = 0, training: bool = False):
        super().__init__(dataset, scale, None, augment, seed, training)

    def check(self, index, *sizes):
        super().check(index, *sizes)
        low, high = sizes
        if high != (low[0] * self.scale, low[1] * self.scale):
            found, expected = (
                f"{height}x{width}" for height, width in (high, (low[0] * self.scale, low[1] * self.scale))
            )
            raise UserError(
                f"'{self.name(index)}': high resolution {found}: expected {expected}, x{self.scale} of the low"
            )

    def _condition(self, index, low, size):
        found = self.dataset.condition(index)
        return super()._condition(index, low, size) if found is None else found


@WRAPPERS.register("sr-diffusion-downsampled")
class DiffusionDownsampled(Diffused, PatchesDownsampled):
    """For conditional diffusion: crops of high-resolution images, downsampled by Pillow's bicubic at the factor `scale`
    and upscaled again as the condition.

    inp_size: side of the low-resolution crop; the crop is cut first and then downsampled. None downsamples the whole
    image, cut to a multiple of the factor first. augment: flips from left to right.
    """


@WRAPPERS.register("diffusion-images")
class DiffusionImages(Diffused):
    """For diffusion without a condition: images whose shorter side is downsampled to `size` pixels by Pillow's bicubic,
    and whose middle is cut to size x size.

    augment: flips from left to right. A pair is the image twice.
    """

    def __init__(self, dataset: Any, size: PositiveInt, augment: bool = False, seed: int = 0, training: bool = False):
        Wrapper.__init__(self, dataset, None, augment, None, seed, training)
        self.size, self.scale = size, 1

    def check(self, index, *sizes):
        height, width = sizes[-1]
        if min(height, width) < self.size:
            raise UserError(
                f"image '{self.name(index)}' is {height}x{width}, smaller than size {self.size}: lower size, or leave "
                "the image out"
            )

    def _cut(self, index, rng):
        image = self._image(index)
        self.check(index, image.shape[:2])
        found = rgb8.centred(image, self.size)
        return found, found

    def _condition(self, index, low, size):
        return None

    def _image(self, index: int) -> np.ndarray:
        return self.dataset[index]


@WRAPPERS.register("diffusion-images-paired")
class DiffusionImagesPaired(DiffusionImages):
    """As `diffusion-images`, of the high resolutions of pairs, such as those of `prepared-folders`."""

    images_per_item = 2

    def _image(self, index):
        return self.dataset[index][1]
