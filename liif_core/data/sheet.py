"""Samples beside each other, for the eye: what a network is given and what it should make of it."""

from collections.abc import Sequence

import numpy as np

from liif_core.images import comparison

SIDE = 192  # pixels of an input and of a target on the sheet
SHOWN = 48  # pixels of an input that are shown at most
COLUMNS = 4


def sheet(wrapper, chosen: Sequence[int]) -> np.ndarray:
    """uint8 (h, w, 3): of each item the middle of its input, pixels repeated, beside the same part of its target.

    wrapper: see liif_core.data.wrappers. chosen: at least one item, in its state of epoch 1.
    """
    cells = []
    for index in chosen:
        low, high = wrapper.pair(index, 1)
        factor = high.shape[0] / low.shape[0]
        gap = np.full((SIDE, 1, 3), 255, np.uint8)
        parts = (_middle(image, min(SHOWN, *low.shape[:2]) * scale) for image, scale in ((low, 1), (high, factor)))
        shown, target = (comparison.upscale_pixels(np.ascontiguousarray(part), SIDE) for part in parts)
        cells.append((f"{wrapper.name(index)} x{factor:.2f}", np.concatenate([shown, gap, target], axis=1)))
    return comparison.comparison(cells, columns=COLUMNS)


def _middle(image: np.ndarray, side: float) -> np.ndarray:
    """The square in the middle."""
    height, width = image.shape[:2]
    length = min(round(side), height, width)
    top, left = (height - length) // 2, (width - length) // 2
    return image[top : top + length, left : left + length]
