"""The output grid of an image: which feature vectors each of its pixels reads, and how much they weigh."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from liif_core.geometry import coords
from liif_core.geometry.coords import MIN_AREA, SHIFTS, WHOLE, Window, make_cell, nearest_pixel

# Queries decoded at a time: what fits the caches of a CPU, or keeps a GPU busy without filling its memory.
TILE = {"cpu": 8192, "cuda": 1 << 17}
TILE_COLUMNS = 256
WITHIN = 1e-3  # output pixels: grids that end so near to the image end with it
FEATURE_ROWS = 8  # of a wide image that go through the first layer at a time; one in eight does so twice


def surrounding(output: tuple[int, int], window: Window) -> tuple[tuple[int, int], Window, tuple[slice, slice]]:
    """The grid of which a grid over a window is a part: with as many of its pixels on every side as have their centres
    in the image. Returns its size (h, w), its own window, WHOLE where pixels and image end together, and the rows and
    columns of the part."""
    (height, down, rows), (width, right, columns) = map(_surrounding_axis, output, window)
    return (height, width), (down, right), (rows, columns)


def _surrounding_axis(n: int, part: tuple[float, float]) -> tuple[int, tuple[float, float], slice]:
    start, stop = part
    side = (stop - start) / n
    before, behind = max(0, round((start + 1) / side)), max(0, round((1 - stop) / side))
    start, stop = start - before * side, stop + behind * side
    start, stop = (-1 if abs(start + 1) < WITHIN * side else start, 1 if abs(stop - 1) < WITHIN * side else stop)
    return before + n + behind, (start, stop), slice(before, before + n)


class Tile(NamedTuple):
    """Part of an output, in its pixels."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def rows(self) -> slice:
        """Top to bottom."""
        return slice(self.top, self.bottom)

    @property
    def columns(self) -> slice:
        """Left to right."""
        return slice(self.left, self.right)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.bottom - self.top, self.right - self.left


def bands(rows: slice, columns: slice, queries: int) -> Iterator[list[Tile]]:
    """Rows and columns of an output in bands from top to bottom, each in tiles of about so many queries."""
    start, width = columns.start, columns.stop - columns.start
    count = -(-width // TILE_COLUMNS)
    borders = [start + width * i // count for i in range(count + 1)]
    step = max(1, queries * count // width)
    for top in range(rows.start, rows.stop, step):
        yield [Tile(top, min(top + step, rows.stop), *sides) for sides in itertools.pairwise(borders)]


class Grid:
    """The queries of an image or a window of it, where rows and columns separate: one value per axis, not per pixel.

    output: (h, w). size: (H, W) of the feature map. corners: S, as in `neighbours`, and in its order.
    relative_down (S, h) and relative_right (S, w) are relative coordinates, relative_cell (2,) the cell in the same
    unit, centres (h,) and (w,) the coordinates, all float32. across: the columns of each tile of a band.
    """

    def __init__(self, output: tuple[int, int], size: tuple[int, int], corners: int, window: Window = WHOLE):
        self.output, self.size, self.corners = output, size, corners
        parts = -(-output[1] // TILE_COLUMNS)
        self.across = [slice(output[1] * i // parts, output[1] * (i + 1) // parts) for i in range(parts)]
        self.relative_cell = make_cell(output, window) * np.asarray(size, dtype=np.float32)
        self.centres = [coords.pixel_centres(n, *part) for n, part in zip(output, window, strict=True)]
        down, right = (
            [nearest_pixel(axis, n, shift) for shift in SHIFTS[corners]]
            for axis, n in zip(self.centres, size, strict=True)
        )
        pairs = [(row, column) for row in down for column in right]
        self.row, self.relative_down = (np.stack([row[i] for row, _ in pairs]) for i in (0, 1))
        self.column, self.relative_right = (np.stack([column[i] for _, column in pairs]) for i in (0, 1))

    def blocks(self, queries: int) -> Iterator[tuple[int, int, list[slice]]]:
        """The image from top to bottom: feature rows top to bottom (excluded), and the bands of output rows that
        look at no others. A tile of a band, of the columns `across`, has about `queries` feature vectors."""
        limit = max(FEATURE_ROWS, queries // self.size[1])
        step = max(1, queries * len(self.across) // (self.output[1] * self.corners))
        top = bottom = 0
        bands: list[slice] = []
        for start in range(0, self.output[0], step):
            rows = slice(start, min(start + step, self.output[0]))
            lowest, highest = int(self.row[:, rows].min()), int(self.row[:, rows].max()) + 1
            if bands and highest > top + limit:
                yield top, bottom, bands
                bands = []
            if not bands:
                top = lowest
            bands.append(rows)
            bottom = highest
        yield top, bottom, bands

    def neighbours(self, y: slice, x: slice, top: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Of the pixels in rows y and columns x: index (S, rows, columns) int32 into the feature vectors from feature
        row `top` on, row by row, and weight (S, rows, columns) float32, as in the function `neighbours`.

        The area stays the product of equation 4: a separable version loses the 1e-9 and differs by
        7e-3 where a query lies on a pixel centre.
        """
        index = (self.row[:, y, None] - top) * self.size[1] + self.column[:, None, x]
        return index.astype(np.int32), self.weight(y, x)

    def weight(self, y: slice, x: slice) -> np.ndarray:
        """Weight (S, rows, columns) float32 of the neighbours alone."""
        area = np.abs(self.relative_down[:, y, None] * self.relative_right[:, None, x]) + MIN_AREA
        return area[::-1] / area.sum(axis=0)


class Around(NamedTuple):
    """The same along one axis from the side of the R feature pixels that are looked at, of which P queries at most look
    at one; they follow on one another.

    first: the first of these feature pixels. relative (R, P): relative coordinates of its queries, float32, where it
    has fewer those of queries that are not its own. slot (S, m): which of a neighbour's queries each of the m queries
    is.
    """

    first: int
    relative: np.ndarray
    slot: np.ndarray


def around(centres: np.ndarray, index: np.ndarray, n: int) -> Around:
    """centres (m,): coordinates of the queries in rising order. index (S, m): their neighbours among n feature pixels,
    as `Grid.row` and `Grid.column` have them."""
    first = int(index[0].min())
    pixels = np.arange(first, int(index[-1].max()) + 1)
    begin = np.searchsorted(index[-1], pixels, "left")  # the first query whose later neighbour it is
    end = np.searchsorted(index[0], pixels, "right")  # behind the last query whose earlier neighbour it is
    queries = np.minimum(begin[:, None] + np.arange((end - begin).max()), len(centres) - 1)
    relative = (centres[queries] - coords.pixel_centres(n)[pixels][:, None]) * np.float32(n)
    return Around(first, relative, np.arange(len(centres)) - begin[index - first])
