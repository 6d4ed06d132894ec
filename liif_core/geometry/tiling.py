"""An image in tiles that overlap, so that an encoder needs memory for one tile at a time.

A feature vector depends on the pixels at most `halo` away from its own, along each axis: the encoder's receptive
field. Tiles that are wider by the halo on every side, and cut back afterwards, therefore give the features of the
whole image. Where a tile ends with the image it is not wider, and the encoder pads it as it pads the image. Tiles begin
at multiples of ALIGNED, so that windows of attention (windows.py) are those of the whole image.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np

from liif_core.geometry.coords import Window
from liif_core.geometry.windows import SIDE as ALIGNED

# Side of a tile in pixels, by device: what overlap costs and what a tile takes in memory, benchmarks/memory.py.
TILE_SIDE = {"cpu": 384, "cuda": 1024}
WORTHWHILE = 8  # halos; below that most of a tile would be overlap


class Span(NamedTuple):
    """Part of an axis: the pixels to encode, and which of the features that come of them to keep."""

    pixels: slice
    keep: slice


def tiles(
    size: tuple[int, int], tile: int | None, halo: int | None, scale: int, device: str
) -> tuple[list[Span], list[Span]]:
    """The spans, down and right, of the tiles in which an image of `size` (H, W) is encoded.

    tile: the largest side of a tile, 0 for the whole image, None to choose by the device and the halo. halo: in
    pixels, None for an encoder that must see the image whole. scale: features per pixel along an axis.
    """
    tile = side(size, tile, halo, device)
    if tile >= max(size) or halo is None:
        halo = 0
    return spans(size[0], tile, halo, scale), spans(size[1], tile, halo, scale)


def side(size: tuple[int, int], tile: int | None, halo: int | None, device: str) -> int:
    """The side of a tile: see `tiles`."""
    if halo is None or tile == 0:
        return max(size)
    if tile is None:
        tile = max(TILE_SIDE[device], WORTHWHILE * halo)
        if max(size) <= tile + 2 * halo:  # no larger than a tile in the middle with its overlap
            return max(size)
    return min(max(size), tile)


def spans(length: int, tile: int, halo: int, scale: int) -> list[Span]:
    """An axis of `length` pixels in equal parts of at most `tile`, and what to encode for each."""
    count = math.ceil(length / tile)
    borders = [length * i // count for i in range(count + 1)]
    found = []
    for start, stop in itertools.pairwise(borders):
        first, last = max(0, start - halo) // ALIGNED * ALIGNED, min(length, stop + halo)
        found.append(Span(slice(first, last), slice((start - first) * scale, (stop - first) * scale)))
    return found


# Part of an image: top, left, bottom, right in its pixels, fractions too.
Box = tuple[float, float, float, float]
# Pixels along an axis: a slice, or their numbers where some come more than once.
Pixels = slice | np.ndarray
# What an encoder sees beyond the image: its reflection, the pixels of its edge again and again, or zeros, as in LIIF.
BORDERS = ("mirror", "repeat", "zeros")
NEIGHBOURS = 3  # pixels: a query reads a feature vector up to one pixel off, unfolded by one, and may round by one
MARGIN = 32  # pixels beyond the image for an encoder that sees it whole, whose reach has no end


def crop(
    size: tuple[int, int], box: Box, halo: int | None, border: str = "zeros"
) -> tuple[tuple[Pixels, Pixels], Window]:
    """The rows and columns of an image of `size` (H, W) that a part of it depends on, with those beyond the image that
    a border other than "zeros" puts there; and the part as a window of them."""
    reach = max(size) + MARGIN if halo is None else halo + NEIGHBOURS
    beyond = 0 if border == "zeros" else MARGIN if halo is None else reach
    (down, top_bottom), (right, left_right) = (
        _crop_axis(length, start, stop, reach, beyond, border)
        for length, start, stop in zip(size, box[:2], box[2:], strict=True)
    )
    return (down, right), (top_bottom, left_right)


def cut(image: np.ndarray, rows: Pixels, columns: Pixels) -> np.ndarray:
    """Rows and columns, as `crop` gives them, of an image (H, W, C): a view where none comes more than once."""
    for axis, pixels in enumerate((rows, columns)):
        if isinstance(pixels, slice):
            image = image[(slice(None),) * axis + (pixels,)]
        else:
            image = image.take(pixels, axis=axis)
    return image


def _crop_axis(
    length: int, start: float, stop: float, reach: int, beyond: int, border: str
) -> tuple[Pixels, tuple[float, float]]:
    first, last = max(-beyond, math.floor(start) - reach), min(length + beyond, math.ceil(stop) + reach)
    # From either end, for what is flipped begins at the other one.
    first -= (first + beyond) % ALIGNED
    last += (length + beyond - last) % ALIGNED
    window = (2 * (start - first) / (last - first) - 1, 2 * (stop - first) / (last - first) - 1)
    if first >= 0 and last <= length:
        return slice(first, last), window
    pixels = np.arange(first, last)
    if border == "mirror":  # the edge comes twice
        pixels %= 2 * length
        return np.minimum(pixels, 2 * length - 1 - pixels), window
    return np.clip(pixels, 0, length - 1), window
