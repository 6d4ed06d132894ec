"""What follows from the sizes of images alone, each (height, width) in pixels."""

import math

import numpy as np

from liif_core.errors import UserError

Size = tuple[int, int]


class RoundedUp(UserError):
    """A pair whose low resolution is too large by less than a pixel: where one is, there are many."""


def whole_factor(name: str, low: Size, high: Size) -> int:
    """The integer factor of a pair; UserError if there is none.

    A high resolution may have fewer pixels more than the factor: 321 comes with 160.
    """
    scale = high[0] // low[0]
    if scale >= 1 and all(0 <= large - scale * small < scale for small, large in zip(low, high, strict=True)):
        return scale
    what = f"'{name}': low resolution {low[0]}x{low[1]} and high resolution {high[0]}x{high[1]}"
    nearest = {round(large / small) for small, large in zip(low, high, strict=True)}
    scale = min(nearest)
    lacks = [scale * small - large for small, large in zip(low, high, strict=True)]
    if len(nearest) > 1 or scale < 2 or not all(abs(lack) < scale for lack in lacks):
        raise UserError(f"{what} do not differ by one integer factor")
    small = [min(side, large // scale) for side, large in zip(low, high, strict=True)]
    raise RoundedUp(
        f"{what} do not differ by one integer factor: x{scale} of the low one would be {max(0, lacks[0])} rows and "
        f"{max(0, lacks[1])} columns larger, as where sizes are rounded up; crop the low one to {small[0]}x{small[1]} "
        f"and the high one to {small[0] * scale}x{small[1] * scale}"
    )


def fewest_pixels(size: Size, scale_min: float, scale_max: float) -> int:
    """The fewest pixels of an image cut to round(floor(side / scale) * scale), at any scale from min to max."""
    # A side falls by nearly a whole scale where one low-resolution pixel less fits into it.
    fits = [np.arange(math.ceil(side / scale_max), side / scale_min) for side in size]
    falls = [side / count * (1 + 1e-6) for side, count in zip(size, fits, strict=True)]
    scales = np.concatenate([[scale_min, scale_max], *falls]).clip(scale_min, scale_max)
    height, width = (np.round(np.floor(side / scales + 1e-9) * scales) for side in size)
    return int((height * width).min())


def with_shorter(size: Size, length: int) -> Size:
    """The size whose shorter side has that length, the aspect kept: int(length * long / short) on the longer."""
    height, width = size
    if height <= width:
        return length, int(length * width / height)
    return int(length * height / width), length
