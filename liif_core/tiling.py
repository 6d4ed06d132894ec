"""A picture in squares that overlap, so that an encoder needs memory for one square at a time.

A feature vector depends on the pixels at most `halo` away from its own, along each axis: the encoder's receptive
field. Squares that are wider by the halo on every side, and cut back afterwards, therefore give the features of the
whole picture. Where a square ends with the picture it is not wider, and the encoder pads it as it pads the picture.
"""

import itertools
import math
from typing import NamedTuple

# Side of a square in pixels, by device: what overlap costs and what a square takes in memory, benchmarks/memory.py.
SQUARE = {"cpu": 384, "cuda": 1024}
WORTHWHILE = 8  # halos; below that most of a square would be overlap


class Span(NamedTuple):
    """Part of an axis: the pixels to encode, and which of the features that come of them to keep."""

    pixels: slice
    keep: slice


def squares(
    size: tuple[int, int], tile: int | None, halo: int | None, scale: int, device: str
) -> tuple[list[Span], list[Span]]:
    """The spans, down and right, of the squares in which a picture of `size` (H, W) is encoded.

    tile: side of a square at most, 0 for the whole picture, None to choose by the device and the halo. halo: in
    pixels, None for an encoder that must see the picture whole. scale: features per pixel along an axis.
    """
    if halo is None or tile == 0:
        tile, halo = max(size), 0
    elif tile is None:
        tile = max(SQUARE[device], WORTHWHILE * halo)
    return spans(size[0], tile, halo, scale), spans(size[1], tile, halo, scale)


def spans(length: int, tile: int, halo: int, scale: int) -> list[Span]:
    """An axis of `length` pixels in equal parts of at most `tile`, and what to encode for each."""
    count = math.ceil(length / tile)
    borders = [length * i // count for i in range(count + 1)]
    found = []
    for start, stop in itertools.pairwise(borders):
        first, last = max(0, start - halo), min(length, stop + halo)
        found.append(Span(slice(first, last), slice((start - first) * scale, (stop - first) * scale)))
    return found
