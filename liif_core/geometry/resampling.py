"""Interpolation by a whole factor as a matrix for each axis, for networks that work on an upscaled image.

Pixel centres lie as in liif_core.geometry.coords. Beyond the border there is nothing: the weights of the pixels that
are there sum to 1, as Pillow has it.
"""

import functools
from collections.abc import Callable

import numpy as np


def _bilinear(distance: np.ndarray) -> np.ndarray:
    """The triangle: how much a pixel weighs that lies so far away, in pixels."""
    return np.clip(1 - np.abs(distance), 0, None)


def _bicubic(distance: np.ndarray) -> np.ndarray:
    """Keys' cubic (1981) with a = -0.5, which is Pillow's and MATLAB's."""
    x = np.abs(distance)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


KERNELS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"bilinear": _bilinear, "bicubic": _bicubic}


@functools.lru_cache(maxsize=8)  # one of a large image takes hundreds of megabytes
def weights(length: int, scale: int, kernel: str) -> np.ndarray:
    """(scale * length, length) float32: how much each pixel of an axis weighs in each of the upscaled one.

    kernel: of KERNELS. Not to be written to.
    """
    centres = (np.arange(scale * length) + 0.5) / scale - 0.5
    matrix = KERNELS[kernel](centres[:, None] - np.arange(length))
    return (matrix / matrix.sum(axis=1, keepdims=True)).astype(np.float32)
