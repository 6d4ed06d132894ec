"""A checkpoint's network, ready to be asked for images."""

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from liif_core.checkpoints import formats, native
from liif_core.config.schema import DataNorm
from liif_core.data import sampling
from liif_core.geometry import tiling
from liif_core.images import rgb8
from liif_core.images.normalisation import Normalisation
from liif_core.system import devices, signals
from liif_core.system.distributed import ALONE, Ranks


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
) -> "Network":
    """The network of a checkpoint on a device: the one way of commands, web page, scripts and the Python API.

    A command, whose process is its own, calls `choose_device` before. device, precision: as in liif_core.engine.Engine.
    load_tree: the framework's, imported if it is not given.

    Raises UserError for a file that is no checkpoint, a model that gives no images, and a device or precision that is
    not there.
    """
    found = formats.load(path)
    devices.prepare_import(framework, device)
    if load_tree is None:
        load_tree = importlib.import_module(f"liif_{framework}").load_tree
    with signals.kept_handlers():
        engine_class, _ = load_tree()
    engine = engine_class(found.model, device, found.method, precision=precision)
    native.restore(engine, found.state, path)
    norm = Normalisation(DataNorm.model_validate(found.data_norm or {}))
    return Network(engine, norm, tile, f"{framework} on {engine.device_kind}, {engine.precision}")


class Network:
    """Upscales an image, of 8 bits if no `white` is given, with an engine. tile: as in its predict_image.
    device: where it runs, in words."""

    def __init__(self, engine: Any, normalisation: Normalisation, tile: int | None = None, device: str = ""):
        self.engine = engine
        self.normalisation = normalisation
        self.tile = tile
        self.device = device

    def bands(
        self,
        image: np.ndarray,
        height: int,
        width: int,
        white: int = 255,
        noise: np.random.Generator | None = None,
    ) -> Iterator[np.ndarray]:
        """float32 RGB (rows, width, 3) in [0, 1], from top to bottom."""
        inp = self.normalisation.inp(image, white)
        for band in self.engine.predict_image(inp, height, width, self.tile, noise=noise or sampling.noise(0, 0)):
            yield self.normalisation.rgb(band)

    def part(self, image: np.ndarray, box: tiling.Box, height: int, width: int) -> np.ndarray:
        """A part of the image at height x width, float32 (height, width, 3) in [0, 1], of which only what the part's
        pixels depend on is encoded. box: top, left, bottom, right in pixels of the image, fractions too."""
        crop, window = tiling.crop((image.shape[0], image.shape[1]), box, self.engine.receptive_radius)
        inp = self.normalisation.inp(image[crop])
        bands = self.engine.predict_image(inp, height, width, self.tile, window)
        return self.normalisation.rgb(np.concatenate(list(bands)))

    def __call__(
        self, image: np.ndarray, height: int, width: int, noise: np.random.Generator | None = None
    ) -> np.ndarray:
        """uint8 (H, W, 3) -> float32 (height, width, 3) in [0, 1]. noise: as in the engine's predict_image."""
        return np.concatenate(list(self.bands(image, height, width, noise=noise)))


def bicubic(image: np.ndarray, height: int, width: int, noise: np.random.Generator | None = None) -> np.ndarray:
    """Pillow's bicubic with the same signature as a network, rounded to 8 bits."""
    return rgb8.to_float(rgb8.resize(image, height, width))
