"""Thera: a small field of waves per feature pixel, which cools down as heat does, so that a pixel of any size sees no
more detail than it can show (Becker et al., arXiv 2311.17643).

    s(x) = nearest(x) + W_n^T [ sin(r c_k + phase_nk) exp(-|c_k|^2 kappa t) ]_k

x is the query, n the feature pixel nearest to it, r where it lies from n in feature pixels; phases and W_n come from
the features at n, the components c_k are the same everywhere; t = 1 / scale^2; nearest is the image's own pixel.

Letters: B batch, Q queries, C feature channels, D waves, H W low-resolution, h w output, R feature rows of P output
rows each, C' feature columns of P' output columns each.

On a grid the sine of a sum separates: what depends on the feature pixel and the output row, and what depends on the
output column, meet in a matrix product per feature column. No sine is taken per output pixel.
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
    cheap = True  # beside the encoder (liif_core.inference.kept)
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

    def decode_image(
        self, features: FeatureMap, height: int, width: int, window: coords.Window = coords.WHOLE
    ) -> Iterator[Var]:
        """Decode a regular grid over the window: bands (rows, width, 3) from top to bottom."""
        grid = grids.Grid((height, width), features.size, 1, window)
        across = grids.around(grid.centres[1], grid.column, features.size[1])
        columns = slice(across.first, across.first + len(across.relative))
        n_right, basis = across.relative.shape[1], None
        queries = grids.TILE[features.device] * AIR // (self.hidden_dim * len(grid.across))
        for top, bottom, bands in grid.blocks(max(1, queries)):
            feat = features.rows(top, bottom)
            told = self.fields(feat)[0, :, :, columns].permute(2, 1, 0)  # (C', bottom - top, 4 D)
            image = feat[0, self.encoder.out_dim :].permute(1, 2, 0) + self.offset(feat)  # (bottom - top, W, 3)
            jt.sync([told, image])  # Jittor: evaluated here, or every band would evaluate them again
            if basis is None:
                basis = self.on_columns(told, across, grid.relative_cell)
            right, column = on_device_of(
                told, (grid.column[0] - across.first) * n_right + across.slot[0], grid.column[0]
            )
            for rows in bands:
                down = grids.around(grid.centres[0][rows], grid.row[:, rows], features.size[0])
                n_down = down.relative.shape[1]
                start = down.first - top
                waves = self.on_rows(told[:, start : start + len(down.relative)], down)  # (C', R P 3, 2 D)
                rgb = nn.bmm(waves, basis).reshape(len(waves), -1, 3, n_right)  # (C', R P, 3, P')
                rgb = rgb.permute(1, 0, 3, 2).reshape(-1, len(waves) * n_right, 3)  # (R P, C' P', 3)
                below, row = on_device_of(
                    told, (grid.row[0, rows] - down.first) * n_down + down.slot[0], grid.row[0, rows] - top
                )
                yield rgb[below][:, right] + image[row][:, column]

    def on_rows(self, told: Var, down: grids.Around) -> Var:
        """Of output rows and feature columns: sines, then cosines, by colour and weighted, (C', R, 4 D) ->
        (C', R P 3, 2 D)."""
        (relative,) = on_device_of(told, down.relative[..., None] / 2)
        weight, phase = told[..., : 3 * self.hidden_dim], told[..., 3 * self.hidden_dim :]
        theta = relative * self.components[0] + phase.unsqueeze(2)  # (C', R, P, D)
        weight = weight.reshape(*weight.shape[:2], self.hidden_dim, 3).transpose(2, 3).unsqueeze(2)  # (C', R, 1, 3, D)
        waves = jt.concat([theta.sin().unsqueeze(3) * weight, theta.cos().unsqueeze(3) * weight], dim=-1)
        return waves.reshape(len(told), -1, 2 * self.hidden_dim)

    def on_columns(self, told: Var, across: grids.Around, relative_cell: np.ndarray) -> Var:
        """Of output columns what `on_rows` is multiplied with: (C', 2 D, P')."""
        relative, cell = on_device_of(told, across.relative[..., None] / 2, relative_cell)
        theta = relative * self.components[1]  # (C', P', D)
        cooled = self.cooled(cell[:1])
        waves = jt.concat([theta.cos() * cooled, theta.sin() * cooled], dim=-1).transpose(1, 2)
        waves.sync()  # Jittor: as above
        return waves
