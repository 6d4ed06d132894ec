"""MetaSR (Hu et al., CVPR 2019, arXiv 1903.00875) as LIIF's authors compare with it: a network that predicts, for each
query, the weights by which the 3x3 feature vectors around it become a colour.

    rgb(q) = F(q) W(q),   W(q) = A relu(B v(q) + b) + a        (equations 3 and 5)

F(q) (9 C) are the features around the feature pixel in which q's own pixel begins, v(q) the offset in it and 1 / scale.

Letters: B batch, Q queries, C feature channels, K width of the hidden layer, H W low-resolution, h w output.

W(q) has 9 C x 3 numbers per query. It is never built: F(q) A is a 3x3 convolution over the feature map, computed once
per low-resolution pixel, and the hidden vector (K) of the query is multiplied with that. The
equations as they are printed are in tests/helpers/equations.py.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from liif_core.geometry import coords, corners, grids
from liif_torch.models.decoders.features import FeatureMap
from liif_torch.models.decoders.gather import on_device_of, rows_of
from liif_torch.models.registry import make, models

HIDDEN = 256  # K


@models.register("metasr")
class MetaSR(nn.Module):
    """encoder_spec: the feature learning module. The network that predicts weights has one hidden layer of 256."""

    def __init__(self, encoder_spec: dict):
        super().__init__()
        self.encoder: Any = make(encoder_spec)
        weights = self.encoder.out_dim * 9 * 3
        self.imnet: Any = make({"name": "mlp", "args": {"in_dim": 3, "out_dim": weights, "hidden_list": [HIDDEN]}})

    def forward(self, inp: Tensor, coord: np.ndarray, cell: np.ndarray) -> Tensor:
        """inp (B, 3, H, W), coord (B, Q, 2) in [-1, 1], cell (B, 2) -> (B, Q, 3); coord, cell in numpy."""
        return self.query_rgb(self.encoder(inp), coord, cell)

    def query_rgb(self, feat: Tensor, coord: np.ndarray, cell: np.ndarray) -> Tensor:
        """Decode any queries: feat (B, C, H, W), coord (B, Q, 2), cell (B, 2) or (B, Q, 2) -> (B, Q, 3)."""
        index, position = on_device_of(feat, *corners.locate_corner(coord, cell, feat.shape[2:]))
        # PyTorch: coordinates stay in float32 when autocast would have 16 bits.
        with torch.autocast(feat.device.type, enabled=False):
            hidden = self.imnet.layers[0](position.flatten(0, 1)).relu()  # (B * Q, K)
        table = rows_of(F.conv2d(feat, self.kernel(), padding=1))  # (B * H * W, 3 * (K + 1))
        weight = table.index_select(0, index.flatten()).view(-1, 3, HIDDEN + 1)
        rgb = torch.baddbmm(weight[..., HIDDEN:], weight[..., :HIDDEN], hidden.unsqueeze(-1))  # (B * Q, 3, 1)
        return rgb.view(*index.shape, 3)

    def decode_image(
        self, features: FeatureMap, height: int, width: int, window: coords.Window = coords.WHOLE
    ) -> Iterator[Tensor]:
        """Decode a regular grid over the window: bands (rows, width, 3) from top to bottom."""
        phases = corners.whole_factors((height, width), features.size, window)
        return self.decode_phases(features, phases) if phases else self.decode_rows(features, height, width, window)

    def decode_phases(self, features: FeatureMap, phases: corners.Phases) -> Iterator[Tensor]:
        """Upscale by whole factors: the queries of every feature pixel lie alike, so W has down x right
        values only, and each is a 3x3 convolution."""
        down, right, rows, columns = phases
        (position,) = on_device_of(self.imnet.layers[0].weight, corners.phase_positions(down, right))
        with torch.autocast(features.device, enabled=False):  # PyTorch: as above
            weight = self.imnet(position)  # (down * right, 9 C * 3)
        weight = weight.view(-1, self.encoder.out_dim, 3, 3, 3)  # down * right, C, down, right, colour
        kernel = weight.permute(0, 4, 1, 2, 3).flatten(0, 1)
        step = max(1, grids.TILE[features.device] // features.size[1])
        for top in range(rows.start, rows.stop, step):
            bottom = min(top + step, rows.stop)
            rgb = F.conv2d(features.rows(top - 1, bottom + 1), kernel, padding=(0, 1))[..., columns]
            rgb = rgb.reshape(down, right, 3, bottom - top, -1).permute(3, 0, 4, 1, 2)
            yield rgb.reshape((bottom - top) * down, -1, 3)

    def decode_rows(self, features: FeatureMap, height: int, width: int, window: coords.Window) -> Iterator[Tensor]:
        """Upscale by any factors: bands of the rows that begin in one low-resolution row."""
        kernel = self.kernel()
        size = features.size
        row, down, relative_cell = corners.corners_on_axis(height, *window[0], size[0])
        column, right, _ = corners.corners_on_axis(width, *window[1], size[1])
        on_down, on_right = self.hidden_on_grid(down, right, relative_cell)  # (h, K), (w, K)
        (columns,) = on_device_of(on_right, column)
        tile = grids.TILE[features.device]
        n_rows, bottom = max(1, tile // size[1]), 0
        for low, rows in corners.stretches(row):
            if low >= bottom:
                top, bottom = low, min(low + n_rows, size[0])
                table = self.weights_of_rows(features, kernel, top, bottom)  # (n_rows, W, 3, K + 1)
            band = []
            step = max(1, tile // (rows.stop - rows.start))
            for left in range(0, width, step):
                weight = table[low - top].index_select(0, columns[left : left + step])  # (columns, 3, K + 1)
                hidden = (on_right[left : left + step].unsqueeze(1) + on_down[rows]).relu_()  # (columns, rows, K)
                weight, bias = weight[..., :HIDDEN].transpose(1, 2), weight[..., HIDDEN].unsqueeze(1)
                band.append(torch.baddbmm(bias, hidden, weight).transpose(0, 1))  # (rows, columns, 3)
            yield torch.cat(band, dim=1)

    def hidden_on_grid(self, down: np.ndarray, right: np.ndarray, relative_cell: float) -> tuple[Tensor, Tensor]:
        """The hidden layer before its ReLU on a regular grid, to be added for each query: what the offset down
        contributes (h, K), and what the offset right, the cell and the bias contribute (w, K)."""
        layer = self.imnet.layers[0]
        offset_down, offset_right = on_device_of(layer.weight, down, right)
        bias = layer.bias + layer.weight[:, 2] * relative_cell
        return torch.outer(offset_down, layer.weight[:, 0]), torch.outer(offset_right, layer.weight[:, 1]) + bias

    def weights_of_rows(self, features: FeatureMap, kernel: Tensor, top: int, bottom: int) -> Tensor:
        """What the queries of feature rows top to bottom (excluded) multiply their hidden vector with:
        (rows, W, 3, K + 1)."""
        table = F.conv2d(features.rows(top - 1, bottom + 1), kernel, padding=(0, 1))
        return table.permute(0, 2, 3, 1).reshape(bottom - top, -1, 3, HIDDEN + 1)

    def kernel(self) -> Tensor:
        """A and a as a convolution (3 * (K + 1), C, 3, 3): for each colour what every hidden unit, and last the
        bias, takes from the features."""
        layer = self.imnet.layers[2]
        weight = torch.cat([layer.weight, layer.bias.unsqueeze(1)], dim=1)  # (9 * C * 3, K + 1)
        weight = weight.view(self.encoder.out_dim, 3, 3, 3, HIDDEN + 1)  # C, down, right, colour, hidden
        return weight.permute(3, 4, 0, 1, 2).flatten(0, 1)
