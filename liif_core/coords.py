"""The continuous picture: pixel centres, cells, and the feature vectors around a query.

Conventions of LIIF (Chen et al., CVPR 2021, section 3): a picture covers [-1, 1] x [-1, 1], first
axis down, second axis right. Pixel i of n has its centre at -1 + (2 i + 1) / n; its cell is 2 / n.

Letters: B batch, Q queries, H W low-resolution, h w output.

The neighbours are looked up here, in numpy float32, and not in the frameworks: nearest-pixel ties
depend on how a float is rounded, and both frameworks must pick the same pixel.
"""

from collections.abc import Iterator

import numpy as np

from liif_core.errors import UserError

# Shifts per axis, in half feature pixels, that lead to the 4 corners of the local ensemble (section 3.2,
# equation 4), in the order (up, left) (up, right) (down, left) (down, right), or to the nearest pixel.
SHIFTS = {4: (-1, 1), 1: (0,)}

INSIDE = np.float32(1 - 1e-6)  # shifted queries stay inside the picture
EPS_SHIFT = 1e-6  # and are moved off the pixel borders, where rounding would decide
MIN_AREA = np.float32(1e-9)  # a query on a pixel centre has no area on its sides


# Part of a picture, by axis: where it starts and stops, in coordinates.
Window = tuple[tuple[float, float], tuple[float, float]]
WHOLE: Window = ((-1, 1), (-1, 1))


def pixel_centres(n: int, start: float = -1, stop: float = 1) -> np.ndarray:
    """(n,) float32: the centres of n pixels along one axis, which cover [start, stop]."""
    side = (stop - start) / n
    return np.float32(start + side / 2) + np.float32(side) * np.arange(n, dtype=np.float32)


def make_coord(shape: tuple[int, int]) -> np.ndarray:
    """(h * w, 2) float32: the pixel centres of an h x w picture, row by row."""
    down, right = np.meshgrid(pixel_centres(shape[0]), pixel_centres(shape[1]), indexing="ij")
    return np.stack([down, right], axis=-1).reshape(-1, 2)


def make_cell(shape: tuple[int, int], window: Window = WHOLE) -> np.ndarray:
    """(2,) float32: height and width of one pixel, of h x w that cover the window (section 3.2, equation 5)."""
    return np.array([(stop - start) / n for n, (start, stop) in zip(shape, window, strict=True)], dtype=np.float32)


def check_size(height: int, width: int, what: str = "output") -> None:
    """Raise UserError unless height and width are positive."""
    if height < 1 or width < 1:
        raise UserError(f"{what} size {height}x{width}: height and width must be at least 1 pixel")


def nearest_pixel(coord: np.ndarray, n: int, shift: int) -> tuple[np.ndarray, np.ndarray]:
    """The feature pixel nearest to each query along one axis, and where the query lies from it.

    coord: any shape, float32, in [-1, 1]. n: number of feature pixels along the axis. shift: -1 or 1
    moves the query half a feature pixel that way first (local ensemble), 0 leaves it where it is.

    Returns (index int64, relative_coord float32), both of coord's shape; relative_coord is in feature
    pixels times two, so that a pixel spans [-1, 1] around its centre.
    """
    moved = np.clip(coord + np.float32(shift / n + (EPS_SHIFT if shift else 0)), -INSIDE, INSIDE)
    index = np.rint((moved + np.float32(1)) * np.float32(n / 2) - np.float32(0.5)).astype(np.int64)
    relative = (coord - pixel_centres(n)[index]) * np.float32(n)
    return index, relative


def neighbours(coord: np.ndarray, size: tuple[int, int], corners: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The feature vectors a batch of queries is decoded from.

    coord: (B, Q, 2) float32 in [-1, 1]. size: (H, W) of the feature map. corners: S, 4 for the local
    ensemble, 1 for the nearest feature vector alone.

    Returns index (S, B, Q) int32 into the B * H * W feature vectors (batch, then row by row),
    relative_coord (S, B, Q, 2) float32, and weight (S, B, Q) float32 that sums to 1 over S: the area
    of the rectangle diagonally opposite (equation 4), so a nearer corner weighs more.
    """
    height, width = size
    first = (np.arange(coord.shape[0]) * (height * width))[:, None]
    rows = [nearest_pixel(coord[..., 0], height, shift) for shift in SHIFTS[corners]]
    columns = [nearest_pixel(coord[..., 1], width, shift) for shift in SHIFTS[corners]]
    pairs = [(row, column) for row in rows for column in columns]
    index = np.stack([first + row[0] * width + column[0] for row, column in pairs])
    relative = np.stack([np.stack([row[1], column[1]], axis=-1) for row, column in pairs])
    area = np.abs(relative[..., 0] * relative[..., 1]) + MIN_AREA
    weight = area[::-1] / area.sum(axis=0)  # corner k lies opposite of corner S - 1 - k
    return index.astype(np.int32), relative, weight


def locate(
    coord: np.ndarray, cell: np.ndarray | None, size: tuple[int, int], corners: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`neighbours` with all that the decoding function is told of a query's place.

    cell: (B, 2) float32, or None without cell decoding (equation 5). Returns index and weight as `neighbours` does,
    and between them position (S, B, Q, 4 or 2): relative_coord and, with cells, the cell in the same unit.
    """
    index, position, weight = neighbours(coord, size, corners)
    if cell is not None:
        relative_cell = (cell * np.asarray(size, dtype=np.float32))[:, None]  # (B, 1, 2)
        position = np.concatenate([position, np.broadcast_to(relative_cell, position.shape)], axis=-1)
    return index, position, weight


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


def locate_corner(coord: np.ndarray, cell: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """`cell_corner` on both axes of a batch of queries.

    coord: (B, Q, 2) float32 in [-1, 1]. cell: (B, 2) float32. size: (H, W) of the feature map. Returns index (B, Q)
    int32 into the B * H * W feature vectors, and position (B, Q, 3) float32: offset down, offset right, and the cell's
    height in feature pixels, which is 1 / scale.
    """
    height, width = size
    row, down = cell_corner(coord[..., 0], cell[:, :1], height)
    column, right = cell_corner(coord[..., 1], cell[:, 1:], width)
    first = (np.arange(coord.shape[0]) * (height * width))[:, None]
    relative_cell = np.broadcast_to(cell[:, :1] * np.float32(height / 2), down.shape)
    return (first + row * width + column).astype(np.int32), np.stack([down, right, relative_cell], axis=-1)


def whole_factors(output: tuple[int, int], size: tuple[int, int], window: Window = WHOLE) -> tuple[int, int] | None:
    """Factors down and right from a feature map (H, W) to an output (h, w), if that covers the map, both are whole
    numbers and a feature pixel has no more queries than the map has pixels; else None."""
    if window != WHOLE:
        return None
    down, right = output[0] // size[0], output[1] // size[1]
    whole = (down * size[0], right * size[1]) == tuple(output)
    return (down, right) if whole and down * right <= size[0] * size[1] else None


def phase_positions(down: int, right: int) -> np.ndarray:
    """(down * right, 3) float32: the position of each query of a feature pixel that is enlarged by whole factors, as
    `locate_corner` gives it, row by row."""
    offsets = np.meshgrid(np.arange(down) / down, np.arange(right) / right, indexing="ij")
    return np.stack([*offsets, np.full((down, right), 1 / down)], axis=-1).reshape(-1, 3).astype(np.float32)


def stretches(index: np.ndarray) -> list[tuple[int, slice]]:
    """Where a non-decreasing index (n,) keeps its value: [(value, slice), ...], in order."""
    starts = np.flatnonzero(np.diff(index, prepend=index[0] - 1))
    ends = [*starts[1:], len(index)]
    return [(int(index[start]), slice(int(start), int(end))) for start, end in zip(starts, ends, strict=True)]


# Queries decoded at a time: what fits the caches of a CPU, or keeps a GPU busy without filling its memory.
TILE = {"cpu": 8192, "cuda": 1 << 17}
TILE_COLUMNS = 256
FEATURE_ROWS = 8  # of a wide picture that go through the first layer at a time; one in eight does so twice


class Grid:
    """The queries of a picture or a window of it, where rows and columns separate: one value per axis, not per pixel.

    output: (h, w). size: (H, W) of the feature map. corners: S, as in `neighbours`, and in its order.
    relative_down (S, h) and relative_right (S, w) are relative coordinates, relative_cell (2,) the cell in the same
    unit, all float32. across: the columns of each tile of a band.
    """

    def __init__(self, output: tuple[int, int], size: tuple[int, int], corners: int, window: Window = WHOLE):
        self.output, self.size, self.corners = output, size, corners
        parts = -(-output[1] // TILE_COLUMNS)
        self.across = [slice(output[1] * i // parts, output[1] * (i + 1) // parts) for i in range(parts)]
        self.relative_cell = make_cell(output, window) * np.asarray(size, dtype=np.float32)
        centres = [pixel_centres(n, *part) for n, part in zip(output, window, strict=True)]
        down, right = (
            [nearest_pixel(axis, n, shift) for shift in SHIFTS[corners]] for axis, n in zip(centres, size, strict=True)
        )
        pairs = [(row, column) for row in down for column in right]
        self.row, self.relative_down = (np.stack([row[i] for row, _ in pairs]) for i in (0, 1))
        self.column, self.relative_right = (np.stack([column[i] for _, column in pairs]) for i in (0, 1))

    def blocks(self, queries: int) -> Iterator[tuple[int, int, list[slice]]]:
        """The picture from top to bottom: feature rows top to bottom (excluded), and the bands of output rows that
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
        area = np.abs(self.relative_down[:, y, None] * self.relative_right[:, None, x]) + MIN_AREA
        return index.astype(np.int32), area[::-1] / area.sum(axis=0)
