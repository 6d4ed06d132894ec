"""Windows of attention: an image cut into squares, whose pixels look at each other (Swin Transformer: Liu et al., ICCV
2021, arXiv 2103.14030; SwinIR: Liang et al., ICCV workshops 2021, arXiv 2108.10257).

In every second block the squares lie half a side farther down and to the right. What sticks out there comes in on the
other side, into windows of the last row and column, whose parts are told apart.

Letters: N pixels of a window.
"""

import functools
from collections.abc import Sequence

import numpy as np

SIDE = 8  # pixels, of SwinIR's networks for super-resolution
SHIFT = SIDE // 2
APART = -100.0  # what is added between pixels that shall not look at each other, of Swin's code


def reflected(length: int) -> np.ndarray:
    """The pixels (L,) of an axis that goes on to a multiple of SIDE as its reflection, in which the edge comes once."""
    period = max(1, 2 * (length - 1))
    pixels = np.arange(-(-length // SIDE) * SIDE) % period
    return np.minimum(pixels, period - pixels) if length > 1 else pixels


@functools.cache
def relative_index() -> np.ndarray:
    """Which of (2 SIDE - 1)^2 offsets, row by row, lies between each two pixels of a window: (N, N)."""
    down, right = np.divmod(np.arange(SIDE * SIDE), SIDE)
    down, right = (axis[:, None] - axis[None] + SIDE - 1 for axis in (down, right))
    return down * (2 * SIDE - 1) + right


@functools.cache
def masks() -> np.ndarray:
    """What is added between the pixels of a shifted window: (4, N, N) float32, of a window in the middle, in the last
    column, in the last row and in the corner of both."""
    down, right = np.divmod(np.arange(SIDE * SIDE), SIDE)
    beyond = [axis >= SIDE - SHIFT for axis in (down, right)]
    row, column = (axis[:, None] != axis[None] for axis in beyond)
    apart = [np.zeros_like(row), column, row, row | column]
    return np.where(apart, np.float32(APART), np.float32(0))


def kinds(rows: int, columns: int) -> np.ndarray:
    """Which of `masks` is that of each shifted window, by their numbers down and right: (rows, columns)."""
    kind = np.zeros((rows, columns), np.int64)
    kind[:, -1] += 1
    kind[-1] += 2
    return kind


def receptive_radius(depths: Sequence[int], before: int, after: int) -> int:
    """How many pixels away from its own a feature sees through groups of so many blocks, each group with a 3x3
    convolution behind it: through `before` pixels of convolutions, the groups, and `after` pixels. It is that of the
    pixel that sees farthest; tiles that begin at multiples of SIDE give the same windows."""
    farthest = 0
    for pixel in range(SIDE):
        first, last = pixel - after, pixel + after
        for depth in reversed(depths):
            first, last = first - 1, last + 1
            for block in reversed(range(depth)):
                shift = SHIFT * (block % 2)
                first = (first - shift) // SIDE * SIDE + shift
                last = (last - shift) // SIDE * SIDE + shift + SIDE - 1
        farthest = max(farthest, pixel - first + before, last - pixel + before)
    return farthest
