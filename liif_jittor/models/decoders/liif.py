"""LIIF: an image as a continuous function of the coordinate (Chen et al., CVPR 2021, arXiv 2012.09161).

    s(x) = sum_t  S_t / S * f(z_t, x - v_t, c)          (equations 4 and 5)

x is the query, z_t the feature vectors at its t = 4 neighbours v_t, S_t the area opposite of t, c the cell.

Letters: B batch, Q queries, C feature channels, D width of the first layer, H W low-resolution,
h w output, S neighbours (4, or 1 without local ensemble).

The first layer of f is linear, so it is taken apart: its columns for the features, unfolded 3x3
(equation 3), are a 3x3 convolution K over the feature map, computed once per low-resolution pixel; its
columns for relative coordinate and cell stay with the query. On a regular grid they separate too: one
vector per output row and one per output column. tests/helpers/equations.py has the equations as they are printed.
"""

from collections.abc import Iterator
from typing import Any

import jittor as jt
import numpy as np
from jittor import Var, nn

from liif_core.errors import UserError
from liif_core.geometry import coords, grids
from liif_jittor.models.decoders.bands import decode_bands
from liif_jittor.models.decoders.features import FeatureMap
from liif_jittor.models.decoders.gather import on_device_of, rows_of
from liif_jittor.models.registry import make, models


@models.register("liif")
class LIIF(nn.Module):
    """encoder_spec: the encoder E. imnet_spec: the decoding function f; None reads the feature map as RGB.

    local_ensemble, feat_unfold, cell_decode: the parts that the ablations -e, -u and -c leave out.
    """

    def __init__(
        self,
        encoder_spec: dict,
        imnet_spec: dict | None = None,
        local_ensemble: bool = True,
        feat_unfold: bool = True,
        cell_decode: bool = True,
    ):
        super().__init__()
        self.local_ensemble = local_ensemble
        self.feat_unfold = feat_unfold
        self.cell_decode = cell_decode
        self.encoder: Any = make(encoder_spec)
        self.scale = self.encoder.scale if imnet_spec is None else None
        self.imnet: Any = None
        if imnet_spec is None and self.encoder.out_dim != 3:
            raise UserError(
                f"model 'liif': without imnet_spec the encoder must end in 3 channels, not {self.encoder.out_dim}: "
                "give an imnet_spec, or an encoder without no_upsampling"
            )
        self.corners = 4 if local_ensemble and imnet_spec is not None else 1  # S
        if imnet_spec is not None:
            in_dim = self.encoder.out_dim * (9 if feat_unfold else 1) + 2 + (2 if cell_decode else 0)
            self.imnet = make(imnet_spec, in_dim=in_dim)

    def execute(self, inp: Var, coord: np.ndarray, cell: np.ndarray) -> Var:
        """inp (B, 3, H, W), coord (B, Q, 2) in [-1, 1], cell (B, 2) -> (B, Q, 3); coord, cell in numpy."""
        return self.query_rgb(self.encoder(inp), coord, cell)

    def query_rgb(self, feat: Var, coord: np.ndarray, cell: np.ndarray) -> Var:
        """Decode any queries: feat (B, C, H, W), coord (B, Q, 2), cell (B, 2) or (B, Q, 2) -> (B, Q, 3)."""
        located = coords.locate(coord, cell if self.cell_decode else None, feat.shape[2:], self.corners)
        index, position, weight = on_device_of(feat, *located)
        if self.imnet is None:
            return rows_of(feat)[index.flatten()].reshape(*index.shape[1:], -1)
        kernel, on_position, bias = self.first_layer()
        first = rows_of(nn.conv2d(feat, kernel, bias, padding=kernel.shape[-1] // 2))  # (B * H * W, D)
        x = first[index.flatten()]  # (S * B * Q, D)
        # Jittor: no addmm
        x = x + nn.matmul_transpose(position.reshape(-1, position.shape[-1]), on_position)
        rgb = self.imnet.after_first(x).reshape(*index.shape, -1)
        return (rgb * weight.unsqueeze(-1)).sum(dim=0)  # (S, B, Q, 3) -> (B, Q, 3)

    def decode_image(
        self, features: FeatureMap, height: int, width: int, window: coords.Window = coords.WHOLE
    ) -> Iterator[Var]:
        """Decode a regular grid over the window: bands (rows, width, 3) from top to bottom.

        A model without f is one of its encoder's factor, and its image the encoder's.
        """
        grid = grids.Grid((height, width), features.size, self.corners, window)
        constant, *position = self.position_on_grid(grid)
        for top, bottom, bands in grid.blocks(grids.TILE[features.device]):
            first = self.first_layer_of_rows(features, top, bottom, constant)  # ((bottom - top) * W, D)
            yield from decode_bands(self.imnet, grid, position, first, top, bands)

    def first_layer_of_rows(self, features: FeatureMap, top: int, bottom: int, constant: Var) -> Var:
        """What feature rows top to bottom (excluded) and a constant contribute: ((bottom - top) * W, D)."""
        kernel, _, _ = self.first_layer()
        margin = kernel.shape[-1] // 2
        rows = features.rows(top - margin, bottom + margin)
        first = rows_of(nn.conv2d(rows, kernel, constant, padding=(0, margin)))
        first.sync()  # Jittor: evaluated here, or every tile would evaluate it again
        return first

    def position_on_grid(self, grid: grids.Grid) -> tuple[Var, ...]:
        """The rest of the first layer on a regular grid: bias and cell, the same for all queries (D,); what relative
        coordinates down and right are multiplied with (D,) each; these coordinates, (S, h, 1) and (S, w, 1)."""
        _, on_position, constant = self.first_layer()
        down, right, cell = on_device_of(constant, grid.relative_down, grid.relative_right, grid.relative_cell)
        if self.cell_decode:
            constant = constant + (on_position[:, 2:] * cell).sum(dim=1)
        found = constant, on_position[:, 0], on_position[:, 1], down.unsqueeze(-1), right.unsqueeze(-1)
        jt.sync(list(found))  # Jittor: as above
        return found

    def first_layer(self) -> tuple[Var, Var, Var]:
        """The first layer of f, by input: features (D, C, 3, 3) or (D, C, 1, 1), position (D, 2 or 4), bias (D,)."""
        layer = self.imnet.layers[0]
        side = 3 if self.feat_unfold else 1
        n_feat = self.encoder.out_dim * side * side
        kernel = layer.weight[:, :n_feat].reshape(-1, self.encoder.out_dim, side, side)
        return kernel, layer.weight[:, n_feat:], layer.bias
