"""The image that a decoder adds to: between its pixels at the queries, beyond them the pixels of its edge.

Letters: B batch, Q queries, H W low-resolution.
"""

import numpy as np
from jittor import Var

from liif_core.geometry import coords, grids
from liif_jittor.models.decoders.gather import on_device_of, rows_of


def bilinear(image: Var, coord: np.ndarray) -> Var:
    """image (B, 3, H, W) at coord (B, Q, 2) -> (B, Q, 3)."""
    index, weight = on_device_of(image, *coords.bilinear(coord, image.shape[2:]))
    colours = rows_of(image)[index.flatten()].reshape(*index.shape, -1)  # (4, B, Q, 3)
    return (colours * weight.unsqueeze(-1)).sum(dim=0)


def bilinear_on_grid(image: Var, grid: grids.Grid, rows: slice, top: int, columns: slice = slice(None)) -> Var:
    """Output rows and columns of a grid, (rows, columns, 3), from the rows of the image (1, 3, bottom - top, W) that
    begin at `top`."""
    down, weight_down = coords.linear(grid.centres[0][rows], grid.size[0])
    right, weight_right = coords.linear(grid.centres[1][columns], grid.size[1])
    first, second, left, behind = on_device_of(image, *(down - top), *right)
    weights = on_device_of(image, *weight_down[..., None, None], *weight_right[..., None])
    pixels = image[0].permute(1, 2, 0)  # (bottom - top, W, 3)
    x = pixels[first] * weights[0] + pixels[second] * weights[1]  # (rows, W, 3)
    return x[:, left] * weights[2] + x[:, behind] * weights[3]
