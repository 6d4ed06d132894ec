"""liif_core.geometry against definitions: centres and cells in exact fractions, neighbours by trying every pixel."""

import itertools
from fractions import Fraction

import numpy as np
import pytest

from liif_core.errors import UserError
from liif_core.geometry import coords, corners, grids

# Odd and non-square. With an odd number of feature pixels on an axis no query of a regular grid lies half-way between
# two of them (that takes (2 i + 1) n = 2 j h), so "the nearest" is one pixel whatever the rounding.
SIZE = (7, 11)


@pytest.mark.parametrize("n", [1, 2, 7, 48, 1001])
def test_pixel_centres_are_the_middles_of_equal_parts(n):
    exact = [float(Fraction(2 * i + 1, n) - 1) for i in range(n)]
    found = coords.pixel_centres(n)
    assert found.dtype == np.float32
    # Two roundings to float32 of numbers below 2, on the constant and on the product.
    np.testing.assert_allclose(found, exact, rtol=0, atol=3 * 2.0**-24)


def test_coordinates_run_row_by_row_down_first():
    grid = coords.make_coord((2, 3))
    np.testing.assert_allclose(grid[:, 0], [-0.5, -0.5, -0.5, 0.5, 0.5, 0.5])
    np.testing.assert_allclose(grid[:, 1], [-2 / 3, 0, 2 / 3] * 2, atol=2.0**-23)


def test_a_cell_is_one_pixel_high_and_wide():
    np.testing.assert_array_equal(coords.make_cell((4, 16)), np.float32([0.5, 0.125]))


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (-1, 5)])
def test_sizes_without_pixels_are_refused(size):
    with pytest.raises(UserError, match=f"{size[0]}x{size[1]}"):
        coords.check_size(*size)


def test_an_image_of_one_pixel_has_its_centre_in_the_middle():
    np.testing.assert_array_equal(coords.make_coord((1, 1)), [[0, 0]])
    coords.check_size(1, 1)


def neighbours_by_trial(coord: np.ndarray, size: tuple[int, int], corners: int):
    """Index, relative coordinate and weight of one query (2,), in float64, by the distance to every pixel."""
    shifts = [(-1, -1), (-1, 1), (1, -1), (1, 1)] if corners == 4 else [(0, 0)]
    indices, relatives = [], []
    for shift in shifts:
        pixel, relative = [], []
        for axis in (0, 1):
            n = size[axis]
            centres = np.array([(2 * i + 1) / n - 1 for i in range(n)])
            expected = coord[axis] + shift[axis] * (1 / n) + (1e-6 if shift[axis] else 0)
            pixel.append(int(np.argmin(np.abs(centres - expected))))
            relative.append((coord[axis] - centres[pixel[-1]]) * n)
        indices.append(pixel[0] * size[1] + pixel[1])
        relatives.append(relative)
    areas = [abs(down * right) + 1e-9 for down, right in relatives]
    weights = [area / sum(areas) for area in areas[::-1]]
    return indices, relatives, weights


@pytest.mark.parametrize("corners", [1, 4])
def test_neighbours_are_the_nearest_pixels(corners):
    coord = np.random.default_rng(0).uniform(-1, 1, (2, 60, 2)).astype(np.float32)
    index, relative, weight = coords.neighbours(coord, SIZE, corners)
    assert (index.dtype, relative.dtype, weight.dtype) == (np.int32, np.float32, np.float32)
    for batch in range(2):
        for query in range(60):
            expected = neighbours_by_trial(coord[batch, query].astype(np.float64), SIZE, corners)
            assert (index[:, batch, query] - batch * SIZE[0] * SIZE[1]).tolist() == expected[0]
            # A float32 rounding of 2^-24 in a coordinate, times 11 feature pixels; the quotient of areas doubles it.
            np.testing.assert_allclose(relative[:, batch, query], expected[1], rtol=0, atol=3e-6)
            np.testing.assert_allclose(weight[:, batch, query], expected[2], rtol=0, atol=6e-6)


def test_the_nearer_corner_weighs_more():
    # A quarter pixel up and left of the common corner of the first four pixels: 0.75 * 0.75 of the cell is the
    # rectangle on the far side, which is the weight of the pixel the query lies in.
    down, right = coords.pixel_centres(SIZE[0])[0], coords.pixel_centres(SIZE[1])[0]
    coord = np.array([[[down + 0.5 / SIZE[0], right + 0.5 / SIZE[1]]]], dtype=np.float32)
    index, _, weight = coords.neighbours(coord, SIZE, 4)
    assert index[:, 0, 0].tolist() == [0, 1, SIZE[1], SIZE[1] + 1]
    np.testing.assert_allclose(weight[:, 0, 0], [0.5625, 0.1875, 0.1875, 0.0625], atol=6e-6)


def test_weights_sum_to_one_and_stay_finite_everywhere():
    lines = np.linspace(-1, 1, 45, dtype=np.float32)  # with both ends, which no pixel centre reaches
    coord = np.stack(np.meshgrid(lines, lines, indexing="ij"), axis=-1).reshape(1, -1, 2)
    index, relative, weight = coords.neighbours(coord, SIZE, 4)
    assert index.min() >= 0 and index.max() < SIZE[0] * SIZE[1]
    assert np.isfinite(relative).all() and (np.abs(relative) <= 2 + 1e-5).all()
    np.testing.assert_allclose(weight.sum(axis=0), 1, atol=4 * 2.0**-23)  # four quotients, each rounded once


def test_a_query_on_a_pixel_centre_belongs_to_that_pixel_alone():
    # Inside the image: along its border two areas are 1e-9 plus rounding, as the printed equation has it.
    coord = coords.make_coord(SIZE).reshape(*SIZE, 2)[1:-1, 1:-1].reshape(1, -1, 2)
    index, _, weight = coords.neighbours(coord, SIZE, 4)
    own = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE)[1:-1, 1:-1].reshape(-1)
    share = (weight * (index == own[None, None])).sum(axis=0)
    np.testing.assert_allclose(share, 1, atol=1e-6)


@pytest.mark.parametrize("corners", [1, 4])
@pytest.mark.parametrize("output", [(7, 11), (13, 40), (5, 3), (61, 1000)])  # the last is wider than one tile
def test_a_grid_gives_the_neighbours_of_its_pixel_centres(corners, output):
    grid = grids.Grid(output, SIZE, corners)
    index = np.full((corners, *output), -1)
    weight = np.zeros((corners, *output), dtype=np.float32)
    seen = np.zeros(output, dtype=int)
    for top, bottom, bands in grid.blocks(4096):
        for y in bands:
            for x in grid.across:
                index[:, y, x], weight[:, y, x] = grid.neighbours(y, x, top)
                assert index[:, y, x].min() >= 0 and index[:, y, x].max() < (bottom - top) * SIZE[1]
                index[:, y, x] += top * SIZE[1]
                seen[y, x] += 1
    assert (seen == 1).all()
    expected = coords.neighbours(coords.make_coord(output)[None], SIZE, corners)
    np.testing.assert_array_equal(index.reshape(corners, 1, -1), expected[0])
    np.testing.assert_array_equal(weight.reshape(corners, 1, -1), expected[2])
    relative = np.stack(
        [
            np.broadcast_to(grid.relative_down[:, :, None], index.shape),
            np.broadcast_to(grid.relative_right[:, None], index.shape),
        ],
        axis=-1,
    )
    np.testing.assert_array_equal(relative.reshape(expected[1].shape), expected[1])


@pytest.mark.parametrize("queries", [1, 4096, 1 << 17])
def test_tiles_stay_near_the_size_asked_for(queries):
    grid = grids.Grid((70, 1300), SIZE, 4)
    bands = [rows for _, _, bands in grid.blocks(queries) for rows in bands]
    assert [row for rows in bands for row in range(rows.start, rows.stop)] == list(range(70))
    for rows in bands:
        for columns in grid.across:
            height = rows.stop - rows.start
            assert height == 1 or height * (columns.stop - columns.start) * 4 <= queries


def test_blocks_of_feature_rows_are_few_and_overlap_little():
    grid = grids.Grid((300, 40), (100, 2000), 4)
    blocks = [(top, bottom) for top, bottom, _ in grid.blocks(64)]
    assert blocks[0][0] == 0 and blocks[-1][1] == 100
    assert all(bottom - top <= grids.FEATURE_ROWS for top, bottom in blocks)
    for (_, bottom), (top, _) in itertools.pairwise(blocks):
        assert bottom - 2 <= top <= bottom  # a row that two blocks need goes through the first layer twice
    assert len(blocks) < 2 * 100 / grids.FEATURE_ROWS


def test_the_corner_of_a_pixel_by_hand():
    """Four feature pixels on [-1, 1], upscaled by 2: pixels 2k and 2k + 1 begin at 0 and 0.5 in feature pixel k."""
    index, offset = corners.cell_corner(coords.pixel_centres(8), 2 / 8, 4)
    assert index.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    np.testing.assert_allclose(offset, [0, 0.5] * 4, atol=1e-6)


def test_stretches():
    assert corners.stretches(np.array([2, 2, 3, 7, 7, 7])) == [(2, slice(0, 2)), (3, slice(2, 3)), (7, slice(3, 6))]


@pytest.mark.parametrize(
    ("h", "n", "window"), [(41, 11, (-1, 1)), (11, 11, (-1, 1)), (9, 23, (-1, 1)), (17, 5, (0.31, 0.39))]
)
@pytest.mark.parametrize("corners", [4, 1])
def test_around_finds_the_queries_of_every_feature_pixel(h, n, window, corners):
    grid = grids.Grid((h, h), (n, n), corners, (window, (-1, 1)))
    found = grids.around(grid.centres[0], grid.row, n)
    assert found.relative.dtype == np.float32 and (found.slot >= 0).all()
    np.testing.assert_array_equal(found.relative[grid.row - found.first, found.slot], grid.relative_down)
    for pixel in range(len(found.relative)):
        queries, slots = np.nonzero(grid.row == found.first + pixel)[1], found.slot[grid.row == found.first + pixel]
        assert len(set(queries)) == len(set(slots)) == len(set(zip(queries, slots, strict=True)))


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ((-1, 1), (7, (-1, 1), slice(0, 7))),
        ((-1 + 6 / 11, -1 + 20 / 11), (11, (-1, 1), slice(3, 10))),
        ((-0.53, 0.41), None),  # no whole number of pixels on either side
    ],
)
def test_a_grid_over_a_window_is_part_of_one_over_the_image(window, expected):
    (height, width), (down, right), (rows, columns) = grids.surrounding((7, 5), (window, (-1, 1)))
    assert (width, right, columns) == (5, (-1, 1), slice(0, 5))
    inside, whole = coords.pixel_centres(7, *window), coords.pixel_centres(height, *down)
    np.testing.assert_allclose(whole[rows], inside, rtol=0, atol=1e-6)
    side = (window[1] - window[0]) / 7
    assert -1 <= whole[0] <= -1 + side and 1 - side <= whole[-1] <= 1
    assert expected in (None, (height, down, rows))


def test_bands_cover_their_rows_and_columns_once():
    tiles = [tile for band in grids.bands(slice(3, 40), slice(10, 611), 900) for tile in band]
    covered = np.zeros((50, 700), int)
    for tile in tiles:
        covered[tile.rows, tile.columns] += 1
        assert tile.shape == covered[tile.rows, tile.columns].shape and tile.shape[0] * tile.shape[1] <= 900
    assert covered[3:40, 10:611].all() and covered.sum() == 37 * 601
