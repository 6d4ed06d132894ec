"""The continuous image: pixel centres, cells, and the feature vectors around a query.

Conventions of LIIF (Chen et al., CVPR 2021, section 3): an image covers [-1, 1] x [-1, 1], first
axis down, second axis right. Pixel i of n has its centre at -1 + (2 i + 1) / n; its cell is 2 / n.

Letters: B batch, Q queries, H W low-resolution, h w output.

The neighbours are looked up here, in numpy float32, and not in the frameworks: nearest-pixel ties
depend on how a float is rounded, and both frameworks must pick the same pixel.
"""

from collections.abc import Sequence

import numpy as np

from liif_core.errors import UserError

# Shifts per axis, in half feature pixels, that lead to the 4 corners of the local ensemble (section 3.2,
# equation 4), in the order (up, left) (up, right) (down, left) (down, right), or to the nearest pixel.
SHIFTS = {4: (-1, 1), 1: (0,)}

INSIDE = np.float32(1 - 1e-6)  # shifted queries stay inside the image
EPS_SHIFT = 1e-6  # and are moved off the pixel borders, where rounding would decide
MIN_AREA = np.float32(1e-9)  # a query on a pixel centre has no area on its sides


# Part of an image, by axis: where it starts and stops, in coordinates.
Window = tuple[tuple[float, float], tuple[float, float]]
WHOLE: Window = ((-1, 1), (-1, 1))
Part = tuple[slice, slice]  # the same in whole rows and columns
EVERYTHING: Part = (slice(None), slice(None))


def pixel_centres(n: int, start: float = -1, stop: float = 1) -> np.ndarray:
    """(n,) float32: the centres of n pixels along one axis, which cover [start, stop]."""
    side = (stop - start) / n
    return np.float32(start + side / 2) + np.float32(side) * np.arange(n, dtype=np.float32)


def make_coord(shape: tuple[int, int]) -> np.ndarray:
    """(h * w, 2) float32: the pixel centres of an h x w image, row by row."""
    down, right = np.meshgrid(pixel_centres(shape[0]), pixel_centres(shape[1]), indexing="ij")
    return np.stack([down, right], axis=-1).reshape(-1, 2)


def make_cell(shape: tuple[int, int], window: Window = WHOLE) -> np.ndarray:
    """(2,) float32: height and width of one pixel, of h x w that cover the window (section 3.2, equation 5)."""
    return np.array([(stop - start) / n for n, (start, stop) in zip(shape, window, strict=True)], dtype=np.float32)


def into_window(coord: np.ndarray, cell: np.ndarray, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates and cells (..., 2) of an image as those of a larger one, of which it is the window: float32."""
    start, stop = np.array(window).T
    half = (stop - start) / 2
    return (start + (coord + 1.0) * half).astype(np.float32), (cell * half).astype(np.float32)


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


def neighbours(coord: np.ndarray, size: Sequence[int], corners: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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


def relative_cell(cell: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Cells (B, 2) or (B, Q, 2) in feature pixels times two, (B, 1 or Q, 2) float32: 2 / scale."""
    return (cell * np.asarray(size, dtype=np.float32)).reshape(len(cell), -1, 2)


def limited(relative_cell: np.ndarray, scale_max: float | None) -> np.ndarray:
    """Such cells, float32, no smaller than those of the factor `scale_max`; None leaves them as they are."""
    return relative_cell if scale_max is None else np.maximum(relative_cell, np.float32(2 / scale_max))


def locate(
    coord: np.ndarray, cell: np.ndarray | None, size: Sequence[int], corners: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`neighbours` with all that the decoding function is told of a query's place.

    cell: (B, 2) or (B, Q, 2) float32, or None without cell decoding (equation 5). Returns index and weight as
    `neighbours` does, and between them position (S, B, Q, 4 or 2): relative_coord and, with cells, the cell in the same
    unit.
    """
    index, position, weight = neighbours(coord, size, corners)
    if cell is not None:
        position = np.concatenate([position, np.broadcast_to(relative_cell(cell, size), position.shape)], axis=-1)
    return index, position, weight


def linear(coord: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Linear interpolation between n pixels along one axis; beyond the outermost centres their value stays.

    coord: any shape, float32, in [-1, 1]. Returns index int64 and weight float32, (2, *coord.shape): the pixels before
    and behind each query, whose weights sum to 1.
    """
    place = np.clip(((coord + np.float32(1)) * np.float32(n) - np.float32(1)) / np.float32(2), 0, n - 1)
    before = np.floor(place)
    index = np.stack([before, np.minimum(before + 1, n - 1)]).astype(np.int64)
    share = (place - before).astype(np.float32)
    return index, np.stack([1 - share, share])


def bilinear(coord: np.ndarray, size: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Bilinear interpolation: `linear` on both axes.

    coord: (B, Q, 2) float32. size: (H, W). Returns index int32 into the B * H * W pixels (batch, then row by row) and
    weight float32, (4, B, Q) each.
    """
    (row, down), (column, right) = (linear(coord[..., axis], size[axis]) for axis in (0, 1))
    first = (np.arange(coord.shape[0]) * (size[0] * size[1]))[:, None]
    index = first + row[:, None] * size[1] + column
    shape = (4, *coord.shape[:2])
    return index.reshape(shape).astype(np.int32), (down[:, None] * right).reshape(shape)
