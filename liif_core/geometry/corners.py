"""Corners of cells, from which MetaSR counts its coordinates."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from liif_core.geometry.coords import EPS_SHIFT, INSIDE, WHOLE, Window, pixel_centres

BETWEEN = 1e-6  # feature pixels: a window that comes so near to their border begins on it


def cell_corner(coord: np.ndarray, cell: np.ndarray | float, n: int) -> tuple[np.ndarray, np.ndarray]:
    """MetaSR's view of a query along one axis (Hu et al., CVPR 2019, arXiv 1903.00875, section 3.2): the feature pixel
    in which the query's own pixel begins, and where in it.

    coord: any shape, float32, in [-1, 1]. cell: side of the query's pixel in the same unit, to be broadcast. n: number
    of feature pixels along the axis.

    Returns (index int64, offset float32), both of coord's shape; offset is in feature pixels, in [0, 1) but for
    rounding.
    """
    corner = coord - np.float32(0.5) * np.asarray(cell, dtype=np.float32)
    moved = np.clip(corner + np.float32(EPS_SHIFT), -INSIDE, INSIDE)
    index = np.rint((moved + np.float32(1)) * np.float32(n / 2) - np.float32(0.5)).astype(np.int64)
    offset = (corner - (pixel_centres(n)[index] - np.float32(1 / n))) * np.float32(n / 2)
    return index, offset


def corners_on_axis(n_out: int, start: float, stop: float, n: int) -> tuple[np.ndarray, np.ndarray, float]:
    """`cell_corner` of n_out queries that cover [start, stop], and the side of their pixels in feature pixels."""
    side = (stop - start) / n_out
    return *cell_corner(pixel_centres(n_out, start, stop), side, n), side * n / 2


def locate_corner(coord: np.ndarray, cell: np.ndarray, size: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """`cell_corner` on both axes of a batch of queries.

    coord: (B, Q, 2) float32 in [-1, 1]. cell: (B, 2) or (B, Q, 2) float32. size: (H, W) of the feature map. Returns
    index (B, Q) int32 into the B * H * W feature vectors, and position (B, Q, 3) float32: offset down, offset right,
    and the cell's height in feature pixels, which is 1 / scale.
    """
    height, width = size
    cell = cell.reshape(len(cell), -1, 2)  # (B, 1 or Q, 2)
    row, down = cell_corner(coord[..., 0], cell[..., 0], height)
    column, right = cell_corner(coord[..., 1], cell[..., 1], width)
    first = (np.arange(coord.shape[0]) * (height * width))[:, None]
    relative_cell = np.broadcast_to(cell[..., 0] * np.float32(height / 2), down.shape)
    return (first + row * width + column).astype(np.int32), np.stack([down, right, relative_cell], axis=-1)


class Phases(NamedTuple):
    """The queries of feature pixels that are upscaled by whole factors: the factors, and the feature rows and columns
    that are covered."""

    down: int
    right: int
    rows: slice
    columns: slice


def whole_factors(output: tuple[int, int], size: tuple[int, int], window: Window = WHOLE) -> Phases | None:
    """How a feature map (H, W), or a window of it, becomes an output (h, w), if the window begins and ends between
    feature pixels, both factors are whole numbers and a feature pixel has no more queries than are covered of them;
    else None."""
    (down, rows), (right, columns) = map(_whole_factor, output, size, window)
    covered = (rows.stop - rows.start) * (columns.stop - columns.start)
    return Phases(down, right, rows, columns) if 0 < down * right <= covered else None


def _whole_factor(length: int, n: int, window: tuple[float, float]) -> tuple[int, slice]:
    """Along one axis; 0 where it is none."""
    places = [(place + 1) * n / 2 for place in window]
    first, last = map(round, places)
    between = max(abs(place - round(place)) for place in places) < BETWEEN
    whole = between and last > first and length % (last - first) == 0
    return length // (last - first) if whole else 0, slice(first, last)


def phase_positions(down: int, right: int) -> np.ndarray:
    """(down * right, 3) float32: the position of each query of a feature pixel that is upscaled by whole factors, as
    `locate_corner` gives it, row by row."""
    offsets = np.meshgrid(np.arange(down) / down, np.arange(right) / right, indexing="ij")
    return np.stack([*offsets, np.full((down, right), 1 / down)], axis=-1).reshape(-1, 3).astype(np.float32)


def stretches(index: np.ndarray) -> list[tuple[int, slice]]:
    """Where a non-decreasing index (n,) keeps its value: [(value, slice), ...], in order."""
    starts = np.flatnonzero(np.diff(index, prepend=index[0] - 1))
    ends = [*starts[1:], len(index)]
    return [(int(index[start]), slice(int(start), int(end))) for start, end in zip(starts, ends, strict=True)]
