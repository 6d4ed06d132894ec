"""What the decoders of LMF share (lmliif, lmlte): a table of modulations per feature pixel, and images decoded from the
feature pixels' side.

Of an image, all queries that look at a feature pixel are rendered together: its modulations are read once, not once per
query and corner, and the small layers are batched products. A query then picks its four colours.

Letters: D modulations and code, E the code alone, H W low-resolution, M queries around each of N feature pixels, P down
times P' to the right, S neighbours.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from liif_core.errors import UserError
from liif_core.geometry import coords, grids
from liif_torch.models.decoders.ensemble import Ensemble
from liif_torch.models.decoders.features import FeatureMap
from liif_torch.models.decoders.gather import on_device_of
from liif_torch.models.decoders.skip import bilinear_on_grid
from liif_torch.models.registry import make, models

BAND, CHUNK = 32, 2  # queries of a band, and those rendered together, in units of a tile: the latter fit a CPU's cache


class Modulated(Ensemble):
    """An Ensemble whose `table` is first the modulations of `imnet`, an LMMLP, and then a code."""

    imnet: Any

    def code_width(self, imnet_spec: dict) -> int:
        """Of a code as wide as the layers of the MLP described, which must be an lmmlp."""
        if imnet_spec.get("name") != "lmmlp":
            raise UserError(f"imnet_spec: expected lmmlp, whose layers can be modulated, got {imnet_spec.get('name')}")
        return models.arguments(imnet_spec, in_dim=1)["hidden_dim"]

    def hypernetwork(self, spec: dict, in_dim: int, out_dim: int) -> Any:
        """The MLP that gives the table; its out_dim follows from the rest, whatever the spec says."""
        return make(spec | {"args": (spec.get("args") or {}) | {"out_dim": out_dim}}, in_dim=in_dim)

    def known(self, feat: Tensor) -> Tensor:
        """What the hypernetwork makes of the features before it is told of a cell: feature rows with one more above and
        below (B, C, H + 2, W) -> (B, H, W, K)."""
        raise NotImplementedError

    def modulations(self, x: Tensor, relative_cell: Tensor) -> Tensor:
        """Modulations and code: x (..., K) as `known` gives it, relative_cell (..., 2), which broadcasts, -> (..., D),
        float32."""
        raise NotImplementedError

    def table(self, feat: Tensor, relative_cell: Tensor) -> Tensor:
        """See Ensemble. Where every query has a cell of its own, what is known without it."""
        known = self.known(feat)
        return known if relative_cell.shape[1] > 1 else self.modulations(known, relative_cell.unsqueeze(1))

    def entry(self, code: Tensor, down: Tensor, right: Tensor, relative_cell: Tensor) -> Tensor:
        """What the first layer of `imnet` gives before it is modulated: code (N, E), relative coordinates down (N, P)
        and right (N, P'), relative_cell (N or 1, 2) -> (N, P, P', hidden), float32."""
        raise NotImplementedError

    def colours(self, x: Tensor, down: Tensor, right: Tensor, relative_cell: Tensor) -> Tensor:
        """See Ensemble."""
        if relative_cell.shape[1] > 1:
            x = self.modulations(x, relative_cell)
        shape = x.shape[:-1]
        cell = relative_cell.expand(*shape, 2).reshape(-1, 2)
        modulation, code = x.flatten(0, 2).tensor_split([self.imnet.mod_dim], dim=-1)
        entry = self.entry(code, down.reshape(-1, 1), right.reshape(-1, 1), cell)
        return self.imnet.after_first(entry.flatten(0, 2), modulation).view(*shape, -1)

    def decode_image(
        self, features: FeatureMap, height: int, width: int, window: coords.Window = coords.WHOLE
    ) -> Iterator[Tensor]:
        """Decode a regular grid over the window: bands (rows, width, 3) from top to bottom."""
        grid = grids.Grid((height, width), features.size, self.corners, window)
        across = grids.around(grid.centres[1], grid.column, features.size[1])
        tile = grids.TILE[features.device]
        beside = 1 if self.needs_image else 0  # where an image is looked up between its pixels
        columns = slice(max(0, across.first - beside), across.first + len(across.relative) + beside)
        for top, bottom, bands in grid.blocks(BAND * tile):
            first = max(0, top - beside)
            known = features.known(self, slice(first, min(bottom + beside, features.size[0])), columns)
            if self.needs_image:
                known, image = known[..., :-3], known[..., -3:].permute(2, 0, 1).unsqueeze(0)
            (relative_cell,) = on_device_of(known, coords.limited(grid.relative_cell, self.scale_max)[None, None])
            table = self.modulations(known, relative_cell)  # (rows, columns, D)
            for rows in bands:
                down = grids.around(grid.centres[0][rows], grid.row[:, rows], features.size[0])
                start = down.first - first, across.first - columns.start
                values = self.rendered(table, down, across, start, relative_cell[0], CHUNK * tile)
                n_down, n_right = down.relative.shape[1], across.relative.shape[1]
                row = (grid.row[:, rows] - down.first) * (len(across.relative) * n_down) + down.slot
                column = (grid.column - across.first) * (n_down * n_right) + across.slot
                index, weight = on_device_of(
                    values,
                    ((row * n_right)[:, :, None] + column[:, None]).astype(np.int32),
                    grid.weight(rows, slice(None))[..., None],
                )
                rgb = values.index_select(0, index.flatten()).view(*index.shape, 3)
                rgb = (rgb * weight).sum(dim=0)  # (S, rows, width, 3) -> (rows, width, 3)
                if self.needs_image:
                    rgb = rgb + bilinear_on_grid(image, grid, rows, first, left=columns.start)
                yield rgb

    def rendered(
        self,
        table: Tensor,
        down: grids.Around,
        across: grids.Around,
        start: tuple[int, int],
        relative_cell: Tensor,
        queries: int,
    ) -> Tensor:
        """What every feature pixel says of all queries around it: (feature pixels * P * P', 3), from a table (rows,
        columns, D) whose row and column `start` belong to the first of them; so many queries at a time."""
        (n_rows, n_down), (n_columns, n_right) = down.relative.shape, across.relative.shape
        part = table[start[0] : start[0] + n_rows, start[1] : start[1] + n_columns]
        on_down, on_right = on_device_of(
            table, np.repeat(down.relative, n_columns, axis=0), np.tile(across.relative, (n_rows, 1))
        )  # (N, P), (N, P')
        values = []
        step = max(1, queries // (n_down * n_right))
        for x, y, z in zip(part.flatten(0, 1).split(step), on_down.split(step), on_right.split(step), strict=True):
            modulation, code = x.tensor_split([self.imnet.mod_dim], dim=-1)
            entry = self.entry(code, y, z, relative_cell).flatten(1, 2)
            values.append(self.imnet.after_first_around(entry, modulation).flatten(0, 1))
        return torch.cat(values).float()
