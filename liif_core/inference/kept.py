"""Features of an image that stay, with what the decoder makes of them at any factor, so that a view of it costs the
rest alone: what lets the web page zoom while the slider moves, with decoders of which little is left.

The image lies in tiles. Those that a view touches are encoded when it is first asked for, the ones around it when
there is time.
"""

import itertools
import math
from typing import Any

import numpy as np

from liif_core.engine import MODEL
from liif_core.geometry import tiling
from liif_core.inference.network import Network

SIDE = 160  # pixels of a tile at most: with EDSR-baseline's halo a second of two CPU cores
HALOS = 3  # of an encoder that reads further, as RDN does, tiles are so many times as large, lest most of them be halo
VALUES = 1 << 27  # kept at most, 512 MiB: LM-LIIF has 208 for each pixel, Thera Air 163
WIDEST = 512  # for each pixel: Thera Plus has 2563, of which the tiles of a single view would be gigabytes
PROBE = 8  # pixels of the side of an image that tells how many there are

Tile = tuple[int, int]


def worthwhile(network: Network) -> bool:
    """Whether a view of kept features takes hardly any time and memory: the decoder makes most of them beforehand,
    whatever the factor, they are few for each pixel, and depend on their surroundings alone."""
    engine = network.engine
    cheap = hasattr(engine.networks[MODEL].predictor, "known")
    if not cheap or engine.receptive_radius is None or network.self_ensemble:
        return False
    return engine.encode(np.zeros((1, 3, PROBE, PROBE), np.float32), 0, known=True).shape[2] <= WIDEST


class KeptFeatures:
    """Of one image, uint8 (H, W, 3), and a network that is `worthwhile`, whose encoder gives a feature per pixel."""

    def __init__(self, network: Network, image: np.ndarray):
        self.network, self.image = network, image
        self.side = max(SIDE, HALOS * network.engine.receptive_radius)
        self.borders = [_borders(length, self.side) for length in image.shape[:2]]
        self.tiles: dict[Tile, tuple[Any, tuple[int, int]]] = {}
        self.viewed: set[Tile] = set()  # by the last view

    def part(self, box: tiling.Box, height: int, width: int) -> np.ndarray:
        """As network.part."""
        result = np.empty((height, width, 3), np.float32)
        down, right = self._touched(box, height, width)
        for (row, rows), (column, columns) in itertools.product(down, right):
            features, first = self._features((row, column))
            size = rows.stop - rows.start, columns.stop - columns.start
            window: list[tuple[float, float]] = []
            for axis, (pixels, total) in enumerate(((rows, height), (columns, width))):
                pitch, length = (box[axis + 2] - box[axis]) / total, features.shape[axis]
                edges = (box[axis] + number * pitch - first[axis] for number in (pixels.start, pixels.stop))
                start, stop = (2 * edge / length - 1 for edge in edges)
                window.append((start, stop))
            bands = self.network.engine.decode_image(features, *size, (window[0], window[1]))
            result[rows, columns] = np.concatenate([self.network.normalisation.rgb(band) for band in bands])
        self.viewed = {(row, column) for (row, _), (column, _) in itertools.product(down, right)}
        self._forget(self._nearest(box), self._room())
        return result

    def covers(self, box: tiling.Box, height: int, width: int) -> bool:
        """Whether nothing has to be encoded for `part`."""
        down, right = self._touched(box, height, width)
        return all((row, column) in self.tiles for (row, _), (column, _) in itertools.product(down, right))

    def surround(self, box: tiling.Box) -> bool:
        """Encode the nearest tile that is missing around a part, and drop the one that is farthest from it if there is
        no room for both; False if the tiles that there is room for are the nearest."""
        order = self._nearest(box)
        number = next((number for number, tile in enumerate(order[: self._room()]) if tile not in self.tiles), None)
        if number is None or not self._forget(order[number + 1 :], self._room() - 1):
            return False
        self._features(order[number])
        return True

    def _nearest(self, box: tiling.Box) -> list[Tile]:
        """All tiles, those whose centres are near the middle of a part first."""
        middle = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        rows, columns = (range(len(borders) - 1) for borders in self.borders)

        def distance(tile: Tile) -> float:
            centres = ((edges[i] + edges[i + 1]) / 2 for i, edges in zip(tile, self.borders, strict=True))
            return math.dist(middle, tuple(centres))

        return sorted(itertools.product(rows, columns), key=distance)

    def _touched(self, box: tiling.Box, height: int, width: int) -> list[list[tuple[int, slice]]]:
        """By axis, the tiles and their pixels."""
        return [_parts(*axis) for axis in zip(self.borders, box[:2], box[2:], (height, width), strict=True)]

    def _features(self, tile: Tile) -> tuple[Any, tuple[int, int]]:
        """Those of a tile with what queries read around it, and their first row and column in the image."""
        if tile not in self.tiles:
            self.tiles[tile] = self._encoded(tile)
        return self.tiles[tile]

    def _encoded(self, tile: Tile) -> tuple[Any, tuple[int, int]]:
        top, left = (edges[i] for i, edges in zip(tile, self.borders, strict=True))
        bottom, right = (edges[i + 1] for i, edges in zip(tile, self.borders, strict=True))
        size, engine = (self.image.shape[0], self.image.shape[1]), self.network.engine
        pixels, window = tiling.crop(size, (top, left, bottom, right), engine.receptive_radius, self.network.border)
        crop = tiling.cut(self.image, *pixels)
        kept, first = [], []
        for axis, (edge, side) in enumerate(((top, bottom - top), (left, right - left))):
            offset = round((window[axis][0] + 1) / 2 * crop.shape[axis])
            begin = max(0, offset - tiling.NEIGHBOURS)
            kept.append(slice(begin, min(crop.shape[axis], offset + side + tiling.NEIGHBOURS)))
            first.append(edge - offset + begin)
        features = engine.encode(self.network.normalisation.inp(crop, 255), 0, (kept[0], kept[1]), known=True)
        return features, (first[0], first[1])

    def _forget(self, order: list[Tile], room: int) -> bool:
        """Drop the last tiles of an order until no more than `room` are kept, but for what the last view shows; whether
        as many could be dropped."""
        for tile in reversed(order):
            if len(self.tiles) > room and tile not in self.viewed:
                self.tiles.pop(tile, None)
        return len(self.tiles) <= room

    def _room(self) -> int:
        """How many tiles are kept."""
        return next((VALUES // (self.side**2 * features.shape[-1]) for features, _ in self.tiles.values()), 1)


def _borders(length: int, side: int) -> list[int]:
    """Where tiles of about the same length, of `side` at most, begin and end."""
    count = math.ceil(length / side)
    return [length * i // count for i in range(count + 1)]


def _parts(borders: list[int], start: float, stop: float, n: int) -> list[tuple[int, slice]]:
    """Tiles along an axis, and which of n pixels between start and stop have their centres in each."""
    centres = start + (np.arange(n) + 0.5) * (stop - start) / n
    ends = np.searchsorted(centres, borders)
    ends[0], ends[-1] = 0, n
    pairs = enumerate(itertools.pairwise(ends.tolist()))
    return [(tile, slice(first, last)) for tile, (first, last) in pairs if last > first]
