"""Pillow's bicubic on float images that come from top to bottom in bands: the same pixels as in one piece."""

import math
from collections.abc import Iterator

import numpy as np
from PIL import Image

from liif_core.geometry.tiling import Box

SUPPORT = 2  # pixels that the cubic reaches on either side; as many times more as it downsamples
MARGIN = 1  # pixels, for rounding
DIGITS = 6  # of a box's edges, in pixels, that come from fractions


def resize(image: np.ndarray, height: int, width: int, box: Box) -> np.ndarray:
    """float32 (h, w, 3) in [0, 1] -> (height, width, 3), antialiased and clamped. box: the part to take: top, left,
    bottom, right in pixels, fractions too; what lies beside it is looked at."""
    part = box[1], box[0], box[3], box[2]
    channels = [
        Image.fromarray(np.ascontiguousarray(channel)).resize((width, height), Image.Resampling.BICUBIC, part)
        for channel in np.moveaxis(image, 2, 0)
    ]
    return np.clip(np.stack([np.asarray(channel) for channel in channels], axis=-1), 0, 1)


def in_bands(bands: Iterator[np.ndarray], source: tuple[int, int], box: Box, size: tuple[int, int]) -> Iterator:
    """`resize` of an image of `source` (H, W) that comes in bands (rows, W, 3), to `size` (h, w), in bands again. Of
    the image only the rows in use are kept; a part that has its size already is cut out."""
    top, left, bottom, right = (round(edge, DIGITS) for edge in box)
    exact = (bottom - top, right - left) == size and top == int(top) and left == int(left)
    factor = (bottom - top) / size[0]
    reach = 0 if exact else math.ceil(SUPPORT * max(1, factor)) + MARGIN
    kept, start, first = np.empty((0, source[1], 3), np.float32), 0, 0  # start: of what is kept, in rows of the image
    for band in bands:
        kept = np.concatenate([kept, band])
        there = start + len(kept)
        last = size[0] if there == source[0] else min(size[0], math.floor((there - reach - top) / factor))
        if last <= first:
            continue
        above, below = top + first * factor - start, top + last * factor - start
        if exact:
            yield kept[int(above) : int(below), int(left) : int(right)]
        else:
            yield resize(kept, last - first, size[1], (above, left, below, right))
        if last == size[0]:
            return
        first = last
        done = max(0, math.floor(top + first * factor) - reach - start)
        kept, start = kept[done:], start + done
