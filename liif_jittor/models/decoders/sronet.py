"""SRNO: an image as a function that two layers of Galerkin attention over all of its queries make of the features
(Wei and Zhang, CVPR 2023, arXiv 2303.02584).

    z(x) = L [x - v_1, .., x - v_4, S_1 / S F(v_1), .., S_4 / S F(v_4), c]
    z <- z + O_2 gelu(O_1 (z + q (k^T v) / n)),   q, k, v = linear of z, k and v normalised          (twice)
    s(x) = M z + bilinear(x)

x is one of n queries, v_t its t = 4 neighbours, F the features, S_t the area opposite of t, c the cell, M two linear
layers, bilinear the image between its pixels. k^T v, one matrix per head, is a sum over all queries: what a query is
answered depends on what else is asked.

Letters: B batch, Q queries, C feature channels, D width, c channels of a head, H W low-resolution, h w output.

Without gradients the queries go through in tiles, as often as there are sums: first for the sum of the one layer, then
for that of the other, then for the colours. As k^T v is known before q is asked for, q, the product with it and O_1 are
one matrix.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jittor as jt
import numpy as np
from jittor import Var, nn
from pydantic import PositiveFloat, PositiveInt

from liif_core.errors import UserError
from liif_core.geometry import coords, grids
from liif_jittor.models.decoders.features import FeatureMap, features_of
from liif_jittor.models.decoders.gather import on_device_of, rows_of
from liif_jittor.models.decoders.mlp import product
from liif_jittor.models.decoders.skip import bilinear, bilinear_on_grid
from liif_jittor.models.layers import keeping_size
from liif_jittor.models.registry import models

QUERIES = {"cpu": 2048, "cuda": 1 << 17}  # in a tile
KEPT = {"cpu": 1 << 18, "cuda": 1 << 20}  # queries whose z, 256 numbers each, is kept from one sum to the next
MOST = 1 << 27  # output pixels that a sum is taken over: an hour on two CPU cores


class HeadNorm(nn.LayerNorm):
    """Each head's channels, whose mean is 0 already, by their deviation with Bessel's correction."""

    def __init__(self, heads: int, channels: int):
        super().__init__((heads, 1, channels), eps=1e-5)

    def execute(self, x: Var) -> Var:
        """(N, heads, c) -> (N, heads, c)"""
        deviation = ((x * x).sum(dim=-1, keepdims=True) / (x.shape[-1] - 1)).sqrt()
        return x / (deviation + self.eps) * self.weight.squeeze(1) + self.bias.squeeze(1)


class Galerkin(nn.Module):
    """A layer of attention without softmax (Cao, NeurIPS 2021), (N, D) to the same."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv_proj: Any = nn.Conv2d(width, 3 * width, 1)
        self.o_proj1: Any = nn.Conv2d(width, width, 1)
        self.o_proj2 = nn.Conv2d(width, width, 1)
        self.kln, self.vln = HeadNorm(heads, width // heads), HeadNorm(heads, width // heads)

    def sums(self, z: Var) -> Var:
        """k^T v of queries (N, D): (heads, c, c) float64."""
        weight, bias = (part[1:] for part in self.projection())
        # What is normalised loses its mean over a head's channels: the layer may give it without.
        weight, bias = weight - weight.mean(dim=2, keepdims=True), bias - bias.mean(dim=2, keepdims=True)
        keys_values = product(z, weight.reshape(-1, weight.shape[-1]), bias.flatten()).reshape(
            len(z), 2, self.heads, -1
        )
        key, value = self.kln(keys_values[:, 0]), self.vln(keys_values[:, 1])
        return nn.bmm(key.permute(1, 2, 0), value.permute(1, 0, 2)).float64()

    def folded(self, mean: Var) -> tuple[Var, Var]:
        """O_1 (z + q mean) as one product with z, for the mean of k^T v: weight (D, D), bias (D,)."""
        weight, bias = self.projection()
        width = weight.shape[-1]
        mean = mean.float32().transpose(1, 2)  # (heads, c of v, c of k)
        out, out_bias = self.o_proj1.weight.flatten(1), self.o_proj1.bias
        attention = nn.bmm(mean, weight[0]).reshape(width, width) + jt.init.eye((width, width), "float32")
        on_bias = nn.bmm(mean, bias[0].unsqueeze(-1)).reshape(width, 1)
        return nn.matmul(out, attention), nn.matmul(out, on_bias).flatten() + out_bias

    def execute(self, z: Var, weight: Var, bias: Var) -> Var:
        """The layer, given what `folded` gives: (N, D) -> (N, D)."""
        hidden = nn.gelu(product(z, weight, bias))
        return z + product(hidden, self.o_proj2.weight.flatten(1), self.o_proj2.bias)

    def projection(self) -> tuple[Var, Var]:
        """Of q, k and v: weight (3, heads, c, D), bias (3, heads, c)."""
        weight = self.qkv_proj.weight.reshape(self.heads, 3, -1, self.qkv_proj.in_channels)
        return weight.transpose(0, 1), self.qkv_proj.bias.reshape(self.heads, 3, -1).transpose(0, 1)


@models.register("sronet")
class SRNO(nn.Module):
    """encoder_spec: the encoder, with no_upsampling. width: numbers per query, D. blocks: heads of an attention layer.
    scale_max: the largest factor it is trained for; beyond it, cells stay those of this factor, as in the authors' test
    script and demo; null takes any cell as it is.
    """

    needs_image = True
    joint_queries = True  # asked together, they are answered together

    def __init__(
        self,
        encoder_spec: dict,
        width: PositiveInt = 256,
        blocks: PositiveInt = 16,
        scale_max: PositiveFloat | None = 4,
    ):
        super().__init__()
        if width % blocks or width == blocks:  # the numbers of a head are normalised, which one alone cannot be
            raise UserError(
                f"model 'sronet': expected a width that is a multiple of blocks, twice it at least, got {width} and "
                f"{blocks}"
            )
        self.scale_max = scale_max
        self.encoder: Any = keeping_size("sronet", encoder_spec)
        self.conv00 = nn.Conv2d((self.encoder.out_dim + 2) * 4 + 2, width, 1)
        self.conv0, self.conv1 = Galerkin(width, blocks), Galerkin(width, blocks)
        self.fc1 = nn.Conv2d(width, 256, 1)
        self.fc2 = nn.Conv2d(256, 3, 1)

    def execute(self, inp: Var, coord: np.ndarray, cell: np.ndarray) -> Var:
        """inp (B, 3, H, W), coord (B, Q, 2) in [-1, 1], cell (B, 2) -> (B, Q, 3); coord, cell in numpy."""
        return self.query_rgb(features_of(self, inp), coord, cell)

    def query_rgb(self, feat: Var, coord: np.ndarray, cell: np.ndarray) -> Var:
        """Decode queries, each image's together: feat (B, C + 3, H, W), coord (B, Q, 2), cell (B, 2) or (B, Q, 2)
        -> (B, Q, 3)."""
        found = [self.query_image(feat[i : i + 1], coord[i : i + 1], cell[i : i + 1]) for i in range(len(coord))]
        return jt.concat(found) + bilinear(feat[:, self.encoder.out_dim :], coord)

    def query_image(self, feat: Var, coord: np.ndarray, cell: np.ndarray) -> Var:
        """`query_rgb` of one image, without it: (1, Q, 3)."""
        size, count, device = feat.shape[2:], coord.shape[1], "cuda" if jt.flags.use_cuda else "cpu"
        table = rows_of(feat[:, : self.encoder.out_dim])
        relative_cell = np.broadcast_to(coords.limited(coords.relative_cell(cell, size), self.scale_max), coord.shape)
        on_relative, on_cell = self.on_position()
        weight_position = jt.concat([on_relative, on_cell], dim=1)

        def lift(part: tuple[int, int]) -> Var:
            found, relative, areas = coords.neighbours(coord[:, slice(*part)], size, 4)
            places = np.concatenate([*relative[:, 0], relative_cell[0, slice(*part)]], axis=-1)
            index, weight, position = on_device_of(feat, found[:, 0].T, areas[:, 0].T, places)
            return self.lifted(table, index, weight) + product(position, weight_position)

        starts = range(0, count, QUERIES[device])
        parts = [(start, min(start + starts.step, count)) for start in starts]
        answer = self.attended(lift, parts, count, device)
        return jt.concat([self.colours(answer(part)) for part in parts]).unsqueeze(0)

    def decode_image(
        self, features: FeatureMap, height: int, width: int, window: coords.Window = coords.WHOLE
    ) -> Iterator[Var]:
        """Decode a regular grid over the window, as part of the grid over the whole image: bands (rows, width, 3) from
        top to bottom."""
        output, whole, (rows, columns) = grids.surrounding((height, width), window)
        if output[0] * output[1] > MOST:
            raise UserError(
                f"model 'sronet' sums over all pixels of an image, and at this scale it has {output[0]}x{output[1]}: "
                f"accepted are at most {MOST}"
            )
        grid = grids.Grid(output, features.size, 4, whole)
        feat = features.rows(0, features.size[0])
        table = rows_of(feat[:, : self.encoder.out_dim])
        on_down, on_right = self.position_on_grid(grid, feat)

        def lift(tile: grids.Tile) -> Var:
            index, weight = (part.reshape(4, -1).T for part in grid.neighbours(tile.rows, tile.columns))
            z = self.lifted(table, *on_device_of(feat, index, weight)).reshape(*tile.shape, -1)
            return (z + on_down[tile.rows].unsqueeze(1) + on_right[tile.columns]).reshape(-1, on_right.shape[1])

        queries = QUERIES[features.device]
        everywhere = [tile for band in grids.bands(slice(0, output[0]), slice(0, output[1]), queries) for tile in band]
        answer = self.attended(lift, everywhere, output[0] * output[1], features.device)
        for band in grids.bands(rows, columns, queries):
            rgb = jt.concat([self.colours(answer(tile)).reshape(*tile.shape, 3) for tile in band], dim=1)
            yield rgb + bilinear_on_grid(feat[:, self.encoder.out_dim :], grid, band[0].rows, 0, columns)

    def attended(self, lift: Callable[[Any], Var], tiles: list, count: int, device: str) -> Callable:
        """z behind both layers, as a function of a tile. lift: z before them. tiles: all `count` queries."""
        known: list[tuple[Galerkin, Var, Var]] = []
        kept: dict[Any, tuple[int, Var]] = {}

        def answer(tile: Any) -> Var:
            depth, z = kept[tile] if tile in kept else (0, lift(tile))
            for layer, weight, bias in known[depth:]:
                z = layer(z, weight, bias)
            z.sync()  # Jittor: evaluated here, or everything that is made of it would evaluate it again
            if count <= KEPT[device]:
                kept[tile] = len(known), z
            return z

        for layer in (self.conv0, self.conv1):
            total = jt.zeros((), "float64")
            for tile in tiles:
                total = total + layer.sums(answer(tile))
                total.sync()  # Jittor: as above
            weight, bias = layer.folded(total / count)
            jt.sync([weight, bias])  # Jittor: as above
            known.append((layer, weight, bias))
        return answer

    def lifted(self, table: Var, index: Var, weight: Var) -> Var:
        """L without the queries' places: rows (N, 4) of the table (H * W, C), times their weights -> (N, D)."""
        x = table[index.flatten()].reshape(*index.shape, -1) * weight.unsqueeze(-1)  # (N, 4, C)
        on_features = self.conv00.weight[:, 8:-2].flatten(1)
        return product(x.flatten(1), on_features, self.conv00.bias)

    def on_position(self) -> tuple[Var, Var]:
        """What L multiplies relative coordinates (D, 8) and the cell (D, 2) with."""
        weight = self.conv00.weight.flatten(1)
        return weight[:, :8], weight[:, -2:]

    def position_on_grid(self, grid: grids.Grid, feat: Var) -> tuple[Var, Var]:
        """What the places of queries add on a grid: by output row (h, D), and by column (w, D) with the cell."""
        on_relative, on_cell = self.on_position()
        places = grid.relative_down.T, grid.relative_right.T, coords.limited(grid.relative_cell, self.scale_max)
        down, right, relative_cell = on_device_of(feat, *map(np.ascontiguousarray, places))
        on_down = product(down, on_relative[:, 0::2])
        on_right = product(right, on_relative[:, 1::2]) + nn.matmul_transpose(relative_cell.unsqueeze(0), on_cell)
        jt.sync([on_down, on_right])  # Jittor: as above
        return on_down, on_right

    def colours(self, z: Var) -> Var:
        """M: (N, D) -> (N, 3)"""
        hidden = nn.gelu(product(z, self.fc1.weight.flatten(1), self.fc1.bias))
        return product(hidden, self.fc2.weight.flatten(1), self.fc2.bias)
