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


def bilinear_on_grid(
    image: Var, grid: grids.Grid, rows: slice, top: int, columns: slice = slice(None), left: int = 0
) -> Var:
    """Output rows and columns of a grid, (rows, columns, 3), from the part of the image (1, 3, rows, columns) that
    begins at row `top` and column `left`."""
    down, weight_down = coords.linear(grid.centres[0][rows], grid.size[0])
    right, weight_right = coords.linear(grid.centres[1][columns], grid.size[1])
    first, second, before, behind = on_device_of(image, *(down - top), *(right - left))
    weights = on_device_of(image, *weight_down[..., None, None], *weight_right[..., None])
    pixels = image[0].permute(1, 2, 0)  # (rows of the part, columns of it, 3)
    x = pixels[first] * weights[0] + pixels[second] * weights[1]  # (rows, columns of the part, 3)
    return x[:, before] * weights[2] + x[:, behind] * weights[3]
