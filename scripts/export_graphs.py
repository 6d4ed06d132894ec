"""The two halves of a model as graphs of plain tensor operations, for scripts/export.py.

Encoder: inp (1, 3, H, W) -> feat (1, C, H, W). Decoder: feat, coord (1, Q, 2), cell (1, 2) -> rgb (1, Q, 3). H, W and
Q are free. The repository looks coordinates up in numpy (liif_core/geometry/coords.py); a graph that travels alone has
to do it itself, with the same float32 formulas in the same order, so that it reads the same feature vectors
(tests/trees/test_export.py holds the two against each other, ties included).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from liif_core.geometry import coords
from liif_torch.models.decoders.gather import rows_of
from liif_torch.models.decoders.liif import LIIF
from liif_torch.models.decoders.metasr import HIDDEN, MetaSR
from liif_torch.models.encoders.rdn import RDN


def as_floats(size: tuple[int, int]) -> Tensor:
    """(2,) float32: a height and a width, which a graph knows only when it runs."""
    return torch.stack([torch.full((), side, dtype=torch.float32) for side in size])


def centre(number: Tensor, n: Tensor) -> Tensor:
    """`coords.pixel_centres` at these numbers. Numpy rounds its constants once, from float64; so do the divisions."""
    return (1 - n) / n + 2 / n * number


def pixel_at(moved: Tensor, n: Tensor) -> Tensor:
    """The number, as float32, of the pixel of n that a coordinate lies in: a line of `coords.nearest_pixel` and of
    `coords.cell_corner`. A tie goes to the even number in both."""
    inside = moved.clamp(-float(coords.INSIDE), float(coords.INSIDE))
    return torch.round((inside + 1) * (n / 2) - 0.5)


def nearest_pixel(coord: Tensor, size: tuple[int, int], corners: int) -> tuple[Tensor, Tensor]:
    """`coords.nearest_pixel` on both axes, for each of its N shifts (2, or 1 without local ensemble): coord (1, Q, 2)
    -> number float32 and relative_coord, (N, 1, Q, 2) each."""
    n, moved = as_floats(size), coord.unsqueeze(0)
    if corners > 1:
        shifts = torch.tensor(coords.SHIFTS[corners], dtype=torch.float64).unsqueeze(-1)  # (N, 1)
        # Numpy rounds this sum once, from float64. In float32 it has another last bit for one n in six.
        offset = (shifts / n + coords.EPS_SHIFT).float()
        moved = moved + offset[:, None, None]
    number = pixel_at(moved, n)
    return number, (coord - centre(number, n)) * n


def cell_corner(coord: Tensor, cell: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """`coords.cell_corner` on both axes: coord (1, Q, 2), cell (1, 2) -> number float32 and offset, (1, Q, 2) each."""
    n = as_floats(size)
    corner = coord - 0.5 * cell.unsqueeze(1)
    number = pixel_at(corner + coords.EPS_SHIFT, n)
    return number, (corner - (centre(number, n) - 1 / n)) * (n / 2)


def locate(coord: Tensor, cell: Tensor | None, size: tuple[int, int], corners: int) -> tuple[Tensor, Tensor, Tensor]:
    """`coords.locate` of one image: index (S, 1, Q) int64, position (S, 1, Q, 4 or 2), weight (S, 1, Q)."""
    number, relative = nearest_pixel(coord, size, corners)
    row, column = number[:, None, ..., 0].long(), number[None, ..., 1].long()  # every row shift with every column's
    index = (row * size[1] + column).flatten(0, 1)
    down_and_right = torch.broadcast_tensors(relative[:, None, ..., 0], relative[None, ..., 1])
    position = torch.stack(down_and_right, dim=-1).flatten(0, 1)
    # Optimisers of graphs take the 1e-9 of MIN_AREA for zero. All areas times 2^30 give the same weights, bit for bit.
    area = (position[..., 0] * position[..., 1]).abs() * 2**30 + float(coords.MIN_AREA) * 2**30
    weight = area.flip(0) / area.sum(dim=0)
    if cell is not None:
        relative_cell = (cell * as_floats(size)).unsqueeze(1)  # (1, 1, 2)
        position = torch.cat([position, relative_cell.expand(position.shape)], dim=-1)
    return index, position, weight


def locate_corner(coord: Tensor, cell: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """`coords.locate_corner` of one image: index (1, Q) int64, position (1, Q, 3)."""
    number, offset = cell_corner(coord, cell, size)
    row, column = number[..., 0].long(), number[..., 1].long()
    relative_cell = (cell[:, :1] * (as_floats(size)[:1] / 2)).unsqueeze(1)  # (1, 1, 1)
    position = torch.cat([offset, relative_cell.expand(-1, offset.shape[1], -1)], dim=-1)
    return row * size[1] + column, position


def plain(weight: Tensor) -> nn.Parameter:
    """A parameter of its own, not a view of another one, which torch.export.save would take for a part."""
    return nn.Parameter(weight.clone(memory_format=torch.contiguous_format))


class RDNEncoder(nn.Module):
    """`RDN` with one convolution for each layer of a block, over concatenated maps. The model convolves the maps one by
    one, which saves copies when it runs as it is written; as a graph that is five times as many nodes."""

    def __init__(self, model: RDN):
        super().__init__()
        self.model = model

    def forward(self, inp: Tensor) -> Tensor:
        """(1, 3, H, W) -> (1, out_dim, H, W), or (1, 3, scale * H, scale * W) with an upsampling network."""
        model = self.model
        shallow = model.SFENet1(inp)
        x = model.SFENet2(shallow)
        fuse, smooth = model.GFF
        fused, channels = fuse.bias.view(1, -1, 1, 1), x.shape[1]
        for i, block in enumerate(model.RDBs):
            maps = x  # (1, G0 + layers so far * G, H, W)
            for layer in block.convs:
                maps = torch.cat([maps, layer.conv(maps)], dim=1)
            x = x + block.LFF(maps)
            fused = fused + F.conv2d(x, fuse.weight[:, i * channels : (i + 1) * channels])
        x = smooth(fused) + shallow
        return x if model.no_upsampling else model.UPNet(x)


class NearestDecoder(nn.Module):
    """LIIF without a decoding function: the feature map is the image."""

    def forward(self, feat: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
        """feat (1, 3, H, W), coord (1, Q, 2), cell (1, 2) -> (1, Q, 3)"""
        index, _, _ = locate(coord, None, feat.shape[2:], 1)
        return rows_of(feat).index_select(0, index.flatten()).unsqueeze(0)


class LIIFDecoder(nn.Module):
    """`LIIF.query_rgb` with its first layer taken apart once and for all."""

    def __init__(self, model: LIIF):
        super().__init__()
        kernel, on_position, bias = model.first_layer()
        self.corners, self.cell_decode = model.corners, model.cell_decode
        self.on_features = nn.Conv2d(kernel.shape[1], kernel.shape[0], kernel.shape[-1], padding=kernel.shape[-1] // 2)
        self.on_features.weight, self.on_features.bias = plain(kernel), bias
        self.on_position = nn.Linear(on_position.shape[1], on_position.shape[0], bias=False)
        self.on_position.weight = plain(on_position)
        self.after_first = model.imnet.layers[1:]

    def forward(self, feat: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
        """feat (1, C, H, W), coord (1, Q, 2), cell (1, 2) -> (1, Q, 3)"""
        index, position, weight = locate(coord, cell if self.cell_decode else None, feat.shape[2:], self.corners)
        first = rows_of(self.on_features(feat))  # (H * W, D)
        x = first.index_select(0, index.flatten()) + self.on_position(position.flatten(0, 2))  # (S * Q, D)
        rgb = self.after_first(x).view(*index.shape, -1)  # (S, 1, Q, 3)
        return (rgb * weight.unsqueeze(-1)).sum(dim=0)


class MetaSRDecoder(nn.Module):
    """`MetaSR.query_rgb` with its last layer as a convolution."""

    def __init__(self, model: MetaSR):
        super().__init__()
        kernel = model.kernel()
        self.on_position = model.imnet.layers[:2]
        self.on_features = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1, bias=False)
        self.on_features.weight = plain(kernel)

    def forward(self, feat: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
        """feat (1, C, H, W), coord (1, Q, 2), cell (1, 2) -> (1, Q, 3)"""
        index, position = locate_corner(coord, cell, feat.shape[2:])
        hidden = self.on_position(position.flatten(0, 1)).unsqueeze(-1)  # (Q, K, 1)
        table = rows_of(self.on_features(feat))  # (H * W, 3 * (K + 1))
        weight = table.index_select(0, index.flatten()).view(-1, 3, HIDDEN + 1)
        rgb = torch.matmul(weight[..., :HIDDEN], hidden) + weight[..., HIDDEN:]  # (Q, 3, 1)
        return rgb.view(*index.shape, 3)


def encoder_of(model: LIIF | MetaSR) -> nn.Module:
    """The encoder of a model."""
    return RDNEncoder(model.encoder) if isinstance(model.encoder, RDN) else model.encoder


def decoder_of(model: LIIF | MetaSR) -> nn.Module:
    """The decoder of a model, sharing its parameters where they need no new order."""
    if isinstance(model, MetaSR):
        return MetaSRDecoder(model)
    return NearestDecoder() if model.imnet is None else LIIFDecoder(model)
