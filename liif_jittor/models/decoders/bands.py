"""LIIF's decoding function over bands of output rows, from the first layer's map: where decoding spends its time.

Jittor: compiles its kernels itself; what PyTorch has beside this, a kernel of Triton, it could not call.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import jittor as jt
from jittor import Var

from liif_core.geometry import grids
from liif_jittor.models.decoders.gather import on_device_of

Position = Sequence[Var]


def decode_bands(
    imnet: Any, grid: grids.Grid, position: Position, first: Var, top: int, bands: Sequence[slice]
) -> Iterator[Var]:
    """Bands of output rows, (rows, w, 3) each, from feature vectors ((bottom - top) * W, D).

    imnet: an MLP. position: what LIIF.position_on_grid gives behind the constant.
    """
    for rows in bands:
        yield _plain(imnet, grid, position, first, top, rows)


def _plain(imnet: Any, grid: grids.Grid, position: Position, first: Var, top: int, rows: slice) -> Var:
    on_down, on_right, down, right = position
    band = []
    for columns in grid.across:
        index, weight = on_device_of(first, *grid.neighbours(rows, columns, top))
        x = first[index.flatten()].reshape(*index.shape, -1)  # (S, rows, columns, D)
        x += down[:, rows].unsqueeze(2) * on_down  # (S, rows, 1, D)
        x += right[:, columns].unsqueeze(1) * on_right  # (S, 1, columns, D)
        x = imnet.after_first(x.reshape(-1, x.shape[-1])).reshape(*index.shape, -1)
        band.append((x * weight.unsqueeze(-1)).sum(dim=0))  # (rows, columns, 3)
    return jt.concat(band, dim=1)
