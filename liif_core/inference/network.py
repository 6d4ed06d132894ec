"""A checkpoint's network, ready to be asked for images."""

import importlib
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from liif_core.checkpoints import formats, native
from liif_core.config.schema import DataNorm
from liif_core.data import sampling
from liif_core.errors import one_line
from liif_core.geometry import tiling
from liif_core.images import rgb8
from liif_core.images.normalisation import Normalisation
from liif_core.system import devices, signals
from liif_core.system.distributed import ALONE, Ranks

SYMMETRIES: list[sampling.Flips] = [(a, b, c) for a in (False, True) for b in (False, True) for c in (False, True)]
STRIP = 1 << 24  # pixels of a result that are held at once to be averaged: 192 MiB


def choose_device(framework: str, gpu: str | None, ranks: Ranks = ALONE) -> devices.Device:
    """Prepare the process for a framework and say where it will run, before an import that may take minutes."""
    device = devices.prepare(framework, gpu, ranks)
    print(f"{framework}: {device.note}", flush=True)
    return device


def load(
    path: str | Path,
    framework: str,
    device: str = "auto",
    precision: str = "fp32",
    tile: int | None = None,
    load_tree: Callable | None = None,
    border: str = "zeros",
    self_ensemble: bool = False,
    config: str | Path | None = None,
    say: Callable[[str], object] = print,
) -> "Network":
    """The network of a checkpoint on a device: the one way of commands, web page, scripts and the Python API.

    A command, whose process is its own, calls `choose_device` before. device, precision: as in liif_core.engine.Engine.
    load_tree: the framework's, imported if it is not given. border, self_ensemble: as of Network.
    config: of bare weights, says of which model they are. say: called with what is to be said of how the file was
    read.

    Raises UserError for a file that is no checkpoint, a model that gives no images, and a device or precision that is
    not there.
    """
    found = formats.load_for(path, config)
    devices.prepare_import(framework, device)
    if load_tree is None:
        load_tree = importlib.import_module(f"liif_{framework}").load_tree
    with signals.kept_handlers():
        engine_class, _ = load_tree()
    engine = engine_class(found.model, device, found.method, precision=precision)
    native.restore(engine, found.state, path)
    for note in found.notes:
        say(one_line(f"{path}: {note}"))
    norm = Normalisation(DataNorm.model_validate(found.data_norm or {}))
    device = f"{framework} on {engine.device_kind}, {engine.precision}{', self-ensemble' if self_ensemble else ''}"
    return Network(engine, norm, tile, device, border, self_ensemble)


@dataclass
class Network:
    """Upscales an image, of 8 bits if no `white` is given, with an engine.

    tile: as in its predict_image. device: where it runs, in words. border: what the encoder sees beyond the image, one
    of liif_core.geometry.tiling.BORDERS. self_ensemble: whether a result is the mean of those of the image's eight
    flips and rotations (EDSR's "+", Lim et al., CVPRW 2017, arXiv 1707.02921, section 3.4; Timofte et al., CVPR 2016).
    """

    engine: Any
    normalisation: Normalisation
    tile: int | None = None
    device: str = ""
    border: str = "zeros"
    self_ensemble: bool = False

    @property
    def passes(self) -> int:
        """How many times an image goes through the engine."""
        return len(SYMMETRIES) if self.self_ensemble else 1

    def bands(
        self,
        image: np.ndarray,
        height: int,
        width: int,
        white: int = 255,
        noise: np.random.Generator | None = None,
        box: tiling.Box | None = None,
        advance: Callable[[int], object] = lambda pixels: None,
    ) -> Iterator[np.ndarray]:
        """The image, or a part of it, at height x width: float32 RGB (rows, width, 3) in [0, 1], from top to bottom.

        box: top, left, bottom, right of the part in pixels of the image, fractions too; only what its pixels depend on
        is encoded. advance: called with numbers of pixels as they are done, `passes` * height * width in all.
        """
        noise = noise or sampling.noise(0, 0)
        top, left, bottom, right = box or (0, 0, *image.shape[:2])
        if not self.self_ensemble:
            yield from self._bands(image, (top, left, bottom, right), (height, width), white, noise, advance)
            return
        # The results of rotated images come from left to right, those of flipped ones from the bottom: all of a strip
        # must be there before any of it is done.
        count = min(height, math.ceil(height * width / STRIP))
        rows = [height * number // count for number in range(count + 1)]
        for first, last in itertools.pairwise(rows):
            start, stop = (top + (bottom - top) * row / height for row in (first, last))
            total = np.zeros((last - first, width, 3), np.float32)
            for flips in SYMMETRIES:
                flipped, done = sampling.flip(total, *flips), 0  # a view
                size = (flipped.shape[0], flipped.shape[1])
                for band in self._bands(image, (start, left, stop, right), size, white, noise, advance, flips):
                    flipped[done : done + len(band)] += band
                    done += len(band)
            total /= len(SYMMETRIES)
            yield total

    def _bands(
        self,
        image: np.ndarray,
        box: tiling.Box,
        size: tuple[int, int],
        white: int,
        noise: np.random.Generator,
        advance: Callable[[int], object],
        flips: sampling.Flips = sampling.UNFLIPPED,
    ) -> Iterator[np.ndarray]:
        """A part of the image, flipped, at `size`, as `bands` gives it."""
        radius = self.engine.receptive_radius
        (rows, columns), window = tiling.crop((image.shape[0], image.shape[1]), box, radius, self.border)
        crop = sampling.flip(tiling.cut(image, rows, columns), *flips)
        inp = self.normalisation.inp(crop if flips == sampling.UNFLIPPED else np.ascontiguousarray(crop), white)
        window = sampling.flip_window(window, *flips)
        for band in self.engine.predict_image(inp, *size, self.tile, window, noise):
            yield self.normalisation.rgb(band)
            advance(len(band) * size[1])

    def part(self, image: np.ndarray, box: tiling.Box, height: int, width: int) -> np.ndarray:
        """A part of the image, as in `bands`: float32 (height, width, 3) in [0, 1]."""
        return np.concatenate(list(self.bands(image, height, width, box=box)))

    def __call__(
        self, image: np.ndarray, height: int, width: int, noise: np.random.Generator | None = None
    ) -> np.ndarray:
        """uint8 (H, W, 3) -> float32 (height, width, 3) in [0, 1]. noise: as in the engine's predict_image."""
        return np.concatenate(list(self.bands(image, height, width, noise=noise)))


def bicubic(image: np.ndarray, height: int, width: int, noise: np.random.Generator | None = None) -> np.ndarray:
    """Pillow's bicubic with the same signature as a network, rounded to 8 bits."""
    return rgb8.to_float(rgb8.resize(image, height, width))
