"""The feature map of an image as a decoder takes it: row by row from top to bottom, never whole if it is large.

A decoder with the attribute `needs_image` finds the image, as the network sees it, behind the features: three more
channels of the map, so that tiles, windows and borders hold for both.

Letters: B batch, C feature channels, H W feature map.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import jittor as jt
from jittor import Var, nn

from liif_core.engine import encoder_of
from liif_core.geometry import tiling


class FeatureMap:
    """size: (H, W). bands: (1, C, rows, W) from top to bottom, of which only those in use are kept. device: of them."""

    def __init__(self, size: tuple[int, int], bands: Iterable[Var], device: str = "cpu"):
        self.size = size
        self.device = device
        self.bands = iter(bands)
        self.kept: list[Var] = []
        self.top = self.bottom = 0  # of what is kept

    def rows(self, top: int, bottom: int) -> Var:
        """Rows top to bottom (excluded), (1, C, bottom - top, W), zeros outside of the map. top never decreases."""
        while self.kept and self.top + self.kept[0].shape[2] <= top:
            self.top += self.kept.pop(0).shape[2]
        while self.bottom < min(bottom, self.size[0]):
            self.kept.append(next(self.bands))
            self.bottom += self.kept[-1].shape[2]
        parts, start = [], self.top
        for band in self.kept:
            parts.append(band[:, :, max(top - start, 0) : max(bottom - start, 0)])
            start += band.shape[2]
        return nn.ConstantPad2d((0, 0, max(0, -top), max(0, bottom - self.size[0])), 0)(jt.concat(parts, dim=2))

    def known(self, model: Any, rows: slice, columns: slice) -> Var:
        """What `model.known` makes of some rows and columns, and with `needs_image` the image: (rows, columns, K or
        K + 3)."""
        feat = self.rows(rows.start - 1, rows.stop + 1)
        known = model.known(feat[:, : model.encoder.out_dim])[0, :, columns]
        if not model.needs_image:
            return known
        image = feat[0, model.encoder.out_dim :, 1:-1, columns].permute(1, 2, 0)
        return jt.concat([known, image], dim=-1)


class KnownMap(FeatureMap):
    """A feature map (H, W, K) of which a decoder's `known` has been asked before."""

    def __init__(self, values: Var, device: str = "cpu"):
        super().__init__((values.shape[0], values.shape[1]), [], device)
        self.values = values

    def known(self, model: Any, rows: slice, columns: slice) -> Var:
        """Some rows and columns of it."""
        return self.values[rows, columns]


def features_of(model: Any, inp: Var) -> Var:
    """What inp (B, 3, H, W) becomes for a model, or an encoder alone: (B, C, H, W), with the image (B, C + 3, H, W)."""
    feat = encoder_of(model)(inp)
    return jt.concat([feat, inp], dim=1) if getattr(model, "needs_image", False) else feat


def encode(model: Any, inp: Var, tile: int | None = None) -> FeatureMap:
    """The feature map of inp (1, 3, H, W) for a model, or of an encoder alone, in tiles of `tile` pixels
    (liif_core.geometry.tiling)."""
    encoder = encoder_of(model)
    height, width = inp.shape[2:]
    device = "cuda" if jt.flags.use_cuda else "cpu"
    down, right = tiling.tiles((height, width), tile, encoder.receptive_radius, encoder.scale, device)

    def band(row: tiling.Span) -> Var:
        tiles = []
        for column in right:
            tiles.append(features_of(model, inp[:, :, row.pixels, column.pixels])[:, :, row.keep, column.keep])
            tiles[-1].sync()  # Jittor: evaluated here, or all tiles at once, and then again for each block of rows
        return tiles[0] if len(tiles) == 1 else jt.concat(tiles, dim=3)

    return FeatureMap((height * encoder.scale, width * encoder.scale), map(band, down), device)


def pixels(features: FeatureMap) -> Iterator[Var]:
    """Of a model of one factor, whose feature map is the image (1, 3, h, w): bands (rows, w, 3) from top to bottom."""
    for band in features.bands:
        yield band[0].permute(1, 2, 0)
