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

import jittor as jt
import numpy as np
from jittor import Var, nn
from pydantic import PositiveInt

from liif_core.geometry import coords, grids
from liif_jittor.models.decoders.features import FeatureMap, features_of
from liif_jittor.models.decoders.gather import on_device_of, rows_of
from liif_jittor.models.layers import keeping_size
from liif_jittor.models.registry import models

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
        self.components = jt.zeros((2, hidden_dim))
        self.k = jt.zeros((1,))

    def execute(self, inp: Var, coord: np.ndarray, cell: np.ndarray) -> Var:
        """inp (B, 3, H, W), coord (B, Q, 2) in [-1, 1], cell (B, 2) -> (B, Q, 3); coord, cell in numpy."""
        return self.query_rgb(features_of(self, inp), coord, cell)

    def query_rgb(self, feat: Var, coord: np.ndarray, cell: np.ndarray) -> Var:
        """Decode any queries: feat (B, C + 3, H, W), coord (B, Q, 2), cell (B, 2) or (B, Q, 2) -> (B, Q, 3)."""
        return self.query_field(feat, coord, cell)[0]

    def query_field(self, feat: Var, coord: np.ndarray, cell: np.ndarray) -> tuple[Var, Var]:
        """`query_rgb`, and the Jacobian of the field before it cools (B, Q, 2, 3), by feature pixels down and right."""
        index, relative, _ = on_device_of(feat, *coords.neighbours(coord, feat.shape[2:], 1))
        (relative_cell,) = on_device_of(feat, coords.relative_cell(cell, feat.shape[2:]))
        told = rows_of(self.fields(feat))[index.flatten()].reshape(*index.shape[1:], -1)
        nearest = rows_of(feat[:, self.encoder.out_dim :])[index.flatten()].reshape(*index.shape[1:], 3)
        weight, phase = told[..., : 3 * self.hidden_dim], told[..., 3 * self.hidden_dim :]
        weight = weight.reshape(*weight.shape[:2], self.hidden_dim, 3)
        down, right = relative[0, :, :, :1] / 2, relative[0, :, :, 1:] / 2
        theta = down * self.components[0] + right * self.components[1] + phase  # (B, Q, D)
        values = theta.sin() * self.cooled(relative_cell[..., 0])
        slopes = theta.cos().unsqueeze(2) * self.components  # (B, Q, 2, D)
        # Jittor: its batched products are slow on the CPU; product and sum are one fused pass.
        rgb = (values.unsqueeze(-1) * weight).sum(dim=2)
        jacobian = (slopes.unsqueeze(-1) * weight.unsqueeze(2)).sum(dim=3)  # (B, Q, 2, 3)
        return rgb + nearest + self.offset(nearest), jacobian

    def fields(self, feat: Var) -> Var:
        """What the features say of the fields: (B, C + 3, H, W) -> (B, 4 D, H, W)."""
        return self.hypernet(feat[:, : self.encoder.out_dim])

    def cooled(self, relative_cell: Var) -> Var:
        """What is left of each wave where the height of a pixel is that of so many half feature pixels: (...) ->
        (..., D)."""
        time = (relative_cell / 2).sqr().unsqueeze(-1)
        return jt.exp(-self.components.sqr().sum(dim=0) * self.k * time)

    def offset(self, image: Var) -> Var:
        """(3,)"""
        return jt.array(np.array(OFFSET, dtype=np.float32))

    def known(self, feat: Var) -> Var:
        """What the fields are at any factor: feature rows with one more above and below (B, C, H + 2, W) -> (B, H, W,
        5 D), weights by colour, sines and cosines of the phases."""
        told = self.fields(feat[:, :, 1:-1]).permute(0, 2, 3, 1)
        weight, phase = told[..., : 3 * self.hidden_dim], told[..., 3 * self.hidden_dim :]
        weight = weight.reshape(*weight.shape[:3], self.hidden_dim, 3).transpose(3, 4).reshape(weight.shape)
        return jt.concat([weight, phase.sin(), phase.cos()], dim=-1)

    def decode_image(
        self, features: FeatureMap, height: int, width: int, window: coords.Window = coords.WHOLE
    ) -> Iterator[Var]:
        """Decode a regular grid over the window: bands (rows, width, 3) from top to bottom."""
        grid = grids.Grid((height, width), features.size, 1, window)
        across = grids.around(grid.centres[1], grid.column, features.size[1])
        columns = slice(across.first, across.first + len(across.relative))
        queries = grids.TILE[features.device] * AIR // (self.hidden_dim * len(grid.across))
        right = (grid.column[0] - across.first) * across.relative.shape[1] + across.slot[0]
        turn = None
        for top, bottom, bands in grid.blocks(max(1, queries)):
            known = features.known(self, slice(top, bottom), columns)  # (bottom - top, C', 5 D + 3)
            known.sync()  # Jittor: evaluated here, or every band would evaluate it again
            if turn is None:
                turn = self.turned_right(known, across, grid.relative_cell)
            for rows in bands:
                down = grids.around(grid.centres[0][rows], grid.row[:, rows], features.size[0])
                start = down.first - top
                rgb = self.fields_at(known[start : start + len(down.relative)], down, *turn)
                below = (grid.row[0, rows] - down.first) * down.relative.shape[1] + down.slot[0]
                below, behind = on_device_of(known, below, right)
                yield rgb[below][:, behind]

    def turned_right(self, known: Var, across: grids.Around, relative_cell: np.ndarray) -> tuple[Var, Var]:
        """By output columns: cosines and sines of what they turn waves by, cooled, (C', P', D)."""
        relative, cell = on_device_of(known, across.relative[..., None] / 2, relative_cell)
        theta, cooled = relative * self.components[1], self.cooled(cell[:1])  # Jittor: has no array without axes
        turn = theta.cos() * cooled, theta.sin() * cooled
        jt.sync(turn)  # Jittor: as above
        return turn

    def fields_at(self, known: Var, down: grids.Around, cosine_right: Var, sine_right: Var) -> Var:
        """The colours of all queries in the feature pixels, known and image (R, C', 5 D + 3) -> (R P, C' P', 3)."""
        (relative,) = on_device_of(known, down.relative[:, None, :, None] / 2)
        dim, (n_rows, n_columns) = self.hidden_dim, known.shape[:2]
        weight = known[..., : 3 * dim]
        sine, cosine = known[..., 3 * dim : 4 * dim].unsqueeze(2), known[..., 4 * dim : 5 * dim].unsqueeze(2)
        image = (known[..., 5 * dim :] + self.offset(known)).unsqueeze(-1).unsqueeze(-1)  # (R, C', 3, 1, 1)
        theta = relative * self.components[0]  # (R, 1, P, D)
        sine_down, cosine_down = theta.sin(), theta.cos()
        turned = (sine * cosine_down + cosine * sine_down).unsqueeze(3)  # (R, C', P, 1, D)
        ahead = (cosine * cosine_down - sine * sine_down).unsqueeze(3)
        waves = turned * cosine_right.unsqueeze(1) + ahead * sine_right.unsqueeze(1)  # (R, C', P, P', D)
        # Jittor: on the CPU, products of many small matrices want the longest side to be the last.
        rgb = nn.bmm_transpose(weight.reshape(-1, 3, dim), waves.reshape(n_rows * n_columns, -1, dim))
        rgb = rgb.reshape(n_rows, n_columns, 3, *waves.shape[2:4]) + image  # (R, C', 3, P, P')
        return rgb.permute(0, 3, 1, 4, 2).reshape(n_rows * waves.shape[2], -1, 3)
