"""Thera: a small field of waves per feature pixel, which cools down as heat does, so that a pixel of any size sees no
more detail than it can show (Becker et al., arXiv 2311.17643).

    s(x) = nearest(x) + W_n^T [ sin(r c_k + phase_nk) exp(-|c_k|^2 kappa t) ]_k

x is the query, n the feature pixel nearest to it, r where it lies from n in feature pixels; phases and W_n come from
the features at n, the components c_k are the same everywhere; t = 1 / scale^2; nearest is the image's own pixel.

Letters: B batch, Q queries, C feature channels, D waves, H W low-resolution, h w output, R feature rows of P output
rows each, C' feature columns of P' output columns each.

On a grid the sine of a sum separates: a feature pixel's phases are turned by its output rows, these by its output
columns, with sines and cosines of rows and columns alone. No sine is taken per output pixel.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from liif_core.geometry import coords, grids
from liif_torch.models.decoders.features import FeatureMap, features_of
from liif_torch.models.decoders.gather import on_device_of, rows_of
from liif_torch.models.layers import keeping_size
from liif_torch.models.registry import models

# The authors add the mean of DIV2K to what already has it, in units of data_norm's div.
OFFSET = (0.4488 / 0.5, 0.4371 / 0.5, 0.4040 / 0.5)
AIR = 32  # waves of the smallest model, for which a band of an image is as large as LIIF's


@models.register("thera")
class Thera(nn.Module):
    """encoder_spec: the encoder, with no_upsampling, and what refines its features (convnext for Thera Plus, swinir
    for Thera Pro). hidden_dim: waves of a field, D: 32 in Thera Air, 512 in the larger ones.

    data_norm: sub [0.4488, 0.4371, 0.4040] and div [0.5] for inp and gt are the authors'.
    """

    needs_image = True
    starts = {"components": "disc", "k": "heat"}

    def __init__(self, encoder_spec: dict, hidden_dim: PositiveInt = 32):
        super().__init__()
        self.hidden_dim = hidden_dim
        self.encoder: Any = keeping_size("thera", encoder_spec)
        self.hypernet = nn.Conv2d(self.encoder.out_dim, 4 * hidden_dim, 1)  # W (D, 3), then phases (D,)
        self.components = nn.Parameter(torch.zeros(2, hidden_dim))
        self.k = nn.Parameter(torch.zeros(1))

    def forward(self, inp: Tensor, coord: np.ndarray, cell: np.ndarray) -> Tensor:
        """inp (B, 3, H, W), coord (B, Q, 2) in [-1, 1], cell (B, 2) -> (B, Q, 3); coord, cell in numpy."""
        return self.query_rgb(features_of(self, inp), coord, cell)

    def query_rgb(self, feat: Tensor, coord: np.ndarray, cell: np.ndarray) -> Tensor:
        """Decode any queries: feat (B, C + 3, H, W), coord (B, Q, 2), cell (B, 2) or (B, Q, 2) -> (B, Q, 3)."""
        return self.query_field(feat, coord, cell)[0]

    def query_field(self, feat: Tensor, coord: np.ndarray, cell: np.ndarray) -> tuple[Tensor, Tensor]:
        """`query_rgb`, and the Jacobian of the field before it cools (B, Q, 2, 3), by feature pixels down and right."""
        index, relative, _ = on_device_of(feat, *coords.neighbours(coord, feat.shape[2:], 1))
        (relative_cell,) = on_device_of(feat, coords.relative_cell(cell, feat.shape[2:]))
        told = rows_of(self.fields(feat)).index_select(0, index.flatten()).view(*index.shape[1:], -1)
        nearest = rows_of(feat[:, self.encoder.out_dim :]).index_select(0, index.flatten()).view(*index.shape[1:], 3)
        with torch.autocast(feat.device.type, enabled=False):  # PyTorch: 16 bits would turn waves by a part of one
            weight, phase = told.split([3 * self.hidden_dim, self.hidden_dim], dim=-1)
            theta = relative[0] / 2 @ self.components + phase  # (B, Q, D)
            values = theta.sin() * self.cooled(relative_cell[..., 0])
            slopes = theta.cos().unsqueeze(2) * self.components  # (B, Q, 2, D)
            rgb = torch.cat([values.unsqueeze(2), slopes], dim=2) @ weight.unflatten(-1, (-1, 3))  # (B, Q, 3, 3)
        return rgb[:, :, 0] + nearest + self.offset(nearest), rgb[:, :, 1:]

    def fields(self, feat: Tensor) -> Tensor:
        """What the features say of the fields: (B, C + 3, H, W) -> (B, 4 D, H, W)."""
        return self.hypernet(feat[:, : self.encoder.out_dim]).to(self.k.dtype)

    def cooled(self, relative_cell: Tensor) -> Tensor:
        """What is left of each wave where the height of a pixel is that of so many half feature pixels: (...) ->
        (..., D)."""
        time = (relative_cell / 2).square().unsqueeze(-1)
        return torch.exp(-self.components.square().sum(dim=0) * self.k * time)

    def offset(self, image: Tensor) -> Tensor:
        """(3,)"""
        return torch.tensor(OFFSET, dtype=image.dtype, device=image.device)

    def known(self, feat: Tensor) -> Tensor:
        """What the fields are at any factor: feature rows with one more above and below (B, C, H + 2, W) -> (B, H, W,
        5 D), weights by colour, sines and cosines of the phases."""
        weight, phase = (
            self.fields(feat[:, :, 1:-1]).permute(0, 2, 3, 1).split([3 * self.hidden_dim, self.hidden_dim], -1)
        )
        return torch.cat([weight.unflatten(-1, (-1, 3)).mT.flatten(-2), phase.sin(), phase.cos()], dim=-1)

    def decode_image(
        self, features: FeatureMap, height: int, width: int, window: coords.Window = coords.WHOLE
    ) -> Iterator[Tensor]:
        """Decode a regular grid over the window: bands (rows, width, 3) from top to bottom."""
        grid = grids.Grid((height, width), features.size, 1, window)
        across = grids.around(grid.centres[1], grid.column, features.size[1])
        columns = slice(across.first, across.first + len(across.relative))
        queries = grids.TILE[features.device] * AIR // (self.hidden_dim * len(grid.across))
        right = (grid.column[0] - across.first) * across.relative.shape[1] + across.slot[0]
        turn = None
        for top, bottom, bands in grid.blocks(max(1, queries)):
            known = features.known(self, slice(top, bottom), columns)  # (bottom - top, C', 5 D + 3)
            if turn is None:
                turn = self.turned_right(known, across, grid.relative_cell)
            for rows in bands:
                down = grids.around(grid.centres[0][rows], grid.row[:, rows], features.size[0])
                start = down.first - top
                rgb = self.fields_at(known[start : start + len(down.relative)], down, *turn)
                below = (grid.row[0, rows] - down.first) * down.relative.shape[1] + down.slot[0]
                below, behind = on_device_of(known, below, right)
                yield rgb.index_select(0, below).index_select(1, behind)

    def turned_right(self, known: Tensor, across: grids.Around, relative_cell: np.ndarray) -> tuple[Tensor, Tensor]:
        """By output columns: cosines and sines of what they turn waves by, cooled, (C', P', D)."""
        relative, cell = on_device_of(known, across.relative[..., None] / 2, relative_cell)
        theta, cooled = relative * self.components[1], self.cooled(cell[0])
        return theta.cos() * cooled, theta.sin() * cooled

    def fields_at(self, known: Tensor, down: grids.Around, cosine_right: Tensor, sine_right: Tensor) -> Tensor:
        """The colours of all queries in the feature pixels, known and image (R, C', 5 D + 3) -> (R P, C' P', 3)."""
        (relative,) = on_device_of(known, down.relative[:, None, :, None] / 2)
        dim, (n_rows, n_columns) = self.hidden_dim, known.shape[:2]
        weight, sine, cosine, image = known.unsqueeze(2).split([3 * dim, dim, dim, 3], dim=-1)
        theta = relative * self.components[0]  # (R, 1, P, D)
        sine_down, cosine_down = theta.sin(), theta.cos()
        turned = torch.addcmul(sine * cosine_down, cosine, sine_down).unsqueeze(3)  # (R, C', P, 1, D)
        ahead = torch.addcmul(cosine * cosine_down, sine, sine_down, value=-1).unsqueeze(3)
        waves = torch.addcmul(turned * cosine_right.unsqueeze(1), ahead, sine_right.unsqueeze(1))  # (R, C', P, P', D)
        with torch.autocast(known.device.type, enabled=False):  # PyTorch: as above
            # PyTorch: on the CPU, products of many small matrices want the longest side to be the last.
            rgb = weight.reshape(-1, 3, dim) @ waves.flatten(2, 3).flatten(0, 1).mT  # (R C', 3, P P')
        rgb = rgb.view(n_rows, n_columns, 3, *waves.shape[2:4]) + (image + self.offset(image)).mT.unsqueeze(-1)
        return rgb.permute(0, 3, 1, 4, 2).reshape(n_rows * waves.shape[2], -1, 3)
