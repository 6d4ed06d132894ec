"""What decoders share that give a colour at each of the neighbours of a query and weigh them as LIIF does.

Letters: B batch, Q queries, C feature channels, D what a feature pixel is told to the queries around it, H W
low-resolution, h w output, S neighbours (4, or the nearest alone).
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from liif_core.geometry import coords, grids
from liif_torch.models.decoders.features import FeatureMap, features_of
from liif_torch.models.decoders.gather import on_device_of
from liif_torch.models.decoders.skip import bilinear, bilinear_on_grid
from liif_torch.models.layers import keeping_size


class Ensemble(nn.Module):
    """A decoder of two functions: `table` of the features alone, once per feature pixel, and `colours` of what that
    gives and a query's place. corners: S. needs_image: the image is added, bilinearly. scale_max: cells stay those of
    this factor beyond it; None takes any as it is."""

    corners = 4
    needs_image = False
    scale_max: float | None = None

    def __init__(self, name: str, encoder_spec: dict):
        super().__init__()
        self.encoder: Any = keeping_size(name, encoder_spec)

    def table(self, feat: Tensor, relative_cell: Tensor) -> Tensor:
        """Feature rows with one more above and below (B, C, H + 2, W) -> (B, H, W, D), float32.

        relative_cell (B, 1 or Q, 2): height and width of the queries' pixels in feature pixels, times two.
        """
        raise NotImplementedError

    def colours(self, x: Tensor, down: Tensor, right: Tensor, relative_cell: Tensor) -> Tensor:
        """What a neighbour says of a query: x (S, n, m, D), and its relative coordinates down and right, which
        broadcast to (S, n, m) -> (S, n, m, 3). n, m: B, Q, or rows and columns, where relative_cell is (1, 1, 2)."""
        raise NotImplementedError

    def forward(self, inp: Tensor, coord: np.ndarray, cell: np.ndarray) -> Tensor:
        """inp (B, 3, H, W), coord (B, Q, 2) in [-1, 1], cell (B, 2) -> (B, Q, 3); coord, cell in numpy."""
        return self.query_rgb(features_of(self, inp), coord, cell)

    def query_rgb(self, feat: Tensor, coord: np.ndarray, cell: np.ndarray) -> Tensor:
        """Decode any queries: feat (B, C or, with the image, C + 3, H, W), coord (B, Q, 2), cell (B, 2) or (B, Q, 2)
        -> (B, Q, 3)."""
        index, relative, weight = on_device_of(feat, *coords.neighbours(coord, feat.shape[2:], self.corners))
        (relative_cell,) = on_device_of(
            feat, coords.limited(coords.relative_cell(cell, feat.shape[2:]), self.scale_max)
        )
        table = self.table(F.pad(feat[:, : self.encoder.out_dim], (0, 0, 1, 1)), relative_cell)
        x = table.flatten(0, 2).index_select(0, index.flatten()).view(*index.shape, -1)  # (S, B, Q, D)
        rgb = self.colours(x, relative[..., 0], relative[..., 1], relative_cell)
        rgb = (rgb * weight.unsqueeze(-1)).sum(dim=0)  # (S, B, Q, 3) -> (B, Q, 3)
        return rgb + bilinear(feat[:, self.encoder.out_dim :], coord) if self.needs_image else rgb

    def decode_image(
        self, features: FeatureMap, height: int, width: int, window: coords.Window = coords.WHOLE
    ) -> Iterator[Tensor]:
        """Decode a regular grid over the window: bands (rows, width, 3) from top to bottom."""
        grid = grids.Grid((height, width), features.size, self.corners, window)
        cell = coords.limited(grid.relative_cell, self.scale_max)[None, None]
        for top, bottom, bands in grid.blocks(grids.TILE[features.device]):
            feat = features.rows(top - 1, bottom + 1)
            down, right, relative_cell = on_device_of(
                feat, grid.relative_down[..., None], grid.relative_right[:, None], cell
            )
            table = self.table(feat[:, : self.encoder.out_dim], relative_cell).flatten(0, 2)  # ((bottom - top) * W, D)
            for rows in bands:
                band = []
                for columns in grid.across:
                    index, weight = on_device_of(table, *grid.neighbours(rows, columns, top))
                    x = table.index_select(0, index.flatten()).view(*index.shape, -1)  # (S, rows, columns, D)
                    rgb = self.colours(x, down[:, rows], right[:, :, columns], relative_cell)
                    band.append((rgb * weight.unsqueeze(-1)).sum(dim=0))  # (rows, columns, 3)
                whole = torch.cat(band, dim=1)
                if self.needs_image:
                    whole = whole + bilinear_on_grid(feat[:, self.encoder.out_dim :], grid, rows, top - 1)
                yield whole
