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
from liif_core.config.describe import caption
from liif_core.config.schema import DataNorm
from liif_core.data import sampling
from liif_core.diffusion import samplers
from liif_core.engine import MODEL
from liif_core.errors import UserError, one_line
from liif_core.geometry import coords, tiling
from liif_core.images import resample, rgb8
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
    sampler: dict[str, Any] | None = None,
    seed: int = 0,
) -> "Network":
    """The network of a checkpoint on a device: the one way of commands, web page, scripts and the Python API.

    A command, whose process is its own, calls `choose_device` before. device, precision: as in liif_core.engine.Engine.
    load_tree: the framework's, imported if it is not given. border, self_ensemble: as of Network.
    config: of bare weights, says of which model they are. say: called with what is to be said of how the file was
    read. sampler: arguments of liif_core.diffusion.samplers.Sampler that take the place of the method's. seed: as of
    Network.

    Raises UserError for a file that is no checkpoint, a model that gives no images, and a device or precision that is
    not there.
    """
    found = formats.load_for(path, config)
    if sampler and found.method["name"] != "diffusion":
        given = ", ".join(f"{key} {value}" for key, value in sampler.items())
        raise UserError(f"{path}: its method '{found.method['name']}' draws nothing, so it has no sampler ({given})")
    found.method = samplers.overridden(found.method, **(sampler or {}))
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
    return Network(engine, norm, tile, device, border, self_ensemble, seed, caption(found.model))


ROUNDING = 1e-6  # by which a factor may be larger that was made from sizes


@dataclass
class Network:
    """Upscales an image, of 8 bits if no `white` is given, with an engine.

    tile: as in its predict_image. device: where it runs, in words. border: what the encoder sees beyond the image, one
    of liif_core.geometry.tiling.BORDERS. self_ensemble: whether a result is the mean of those of the image's eight
    flips and rotations (EDSR's "+", Lim et al., CVPRW 2017, arXiv 1707.02921, section 3.4; Timofte et al., CVPR 2016).
    seed: of what is drawn where nobody hands over a generator.
    caption: what is written under its images.
    """

    engine: Any
    normalisation: Normalisation
    tile: int | None = None
    device: str = ""
    border: str = "zeros"
    self_ensemble: bool = False
    seed: int = 0
    caption: str = "LIIF"

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

        A model of one factor upscales by it, and the result is downsampled. Raises UserError for a larger one.
        """
        noise = noise or sampling.noise(self.seed, 0)
        top, left, bottom, right = box or (0, 0, *image.shape[:2])
        self.check_reach((bottom - top, right - left), height, width)
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
        # What is made of noise has no border to be spared from zeros, and takes a time that grows with its area.
        border = "zeros" if self.engine.preupsampled else self.border
        radius = self.engine.receptive_radius
        (rows, columns), window = tiling.crop((image.shape[0], image.shape[1]), box, radius, border)
        crop = sampling.flip(tiling.cut(image, rows, columns), *flips)
        crop = crop if flips == sampling.UNFLIPPED else np.ascontiguousarray(crop)
        if self.engine.preupsampled:
            crop, white = self._upscaled(crop, white), 255
        inp = self.normalisation.inp(crop, white)
        window = sampling.flip_window(window, *flips)
        for band in self._predicted(inp, window, size, noise):
            yield band
            advance(len(band) * size[1])

    def _predicted(
        self, inp: np.ndarray, window: coords.Window, size: tuple[int, int], noise: np.random.Generator
    ) -> Iterator[np.ndarray]:
        """A window of what the network makes of inp (1, 3, H, W), at `size`."""
        scale = self.engine.scale
        if scale is None:
            yield from map(self.normalisation.rgb, self.engine.predict_image(inp, *size, self.tile, window, noise))
            return
        growth: Any = 1 if self.engine.preupsampled else scale
        own = growth * inp.shape[2], growth * inp.shape[3]
        if self.engine.preupsampled:
            inp = self._padded(inp)
        found = self.engine.predict_image(inp, *(growth * side for side in inp.shape[2:]), self.tile, noise=noise)
        # Of a padded image the result is one band.
        bands = (self.normalisation.rgb(band[: own[0], : own[1]]) for band in found)
        starts, stops = (
            [(edges[end] + 1) / 2 * side for side, edges in zip(own, window, strict=True)] for end in (0, 1)
        )
        yield from resample.in_bands(bands, own, (*starts, *stops), size)

    def _upscaled(self, image: np.ndarray, white: int) -> np.ndarray:
        """What a preupsampled engine takes for an image (H, W, 3): uint8 (scale H, scale W, 3)."""
        bytes_of = image if white == 255 else np.rint(image * (255 / white)).astype(np.uint8)
        return rgb8.resize(bytes_of, self.engine.scale * image.shape[0], self.engine.scale * image.shape[1])

    def _padded(self, inp: np.ndarray) -> np.ndarray:
        """(1, 3, H, W) mirrored below and on the right, up to the multiples of sides that a preupsampled engine
        takes."""
        multiple = self.engine.networks[MODEL].predictor.multiple
        below, right = (-side % multiple for side in inp.shape[2:])
        return np.pad(inp, ((0, 0), (0, 0), (0, below), (0, right)), mode="symmetric")

    def process(self, image: np.ndarray, noise: np.random.Generator) -> list[np.ndarray]:
        """What a preupsampled engine has on the way from noise to `image`, uint8 (H, W, 3), upscaled: float32 RGB
        (scale H, scale W, 3) in [0, 1], the last of which is the result."""
        inp, found = self.normalisation.inp(self._upscaled(image, 255)), []  # type: ignore[var-annotated]
        padded = self._padded(inp)
        self.engine.sample(1, *padded.shape[2:], noise, padded, found)
        return [self.normalisation.rgb(images[0, : inp.shape[2], : inp.shape[3]]) for images in found]

    def check_reach(self, size: tuple[float, float], height: int, width: int) -> None:
        """Raise UserError if an image, or a part of one, of `size` (H, W) shall become larger than the network makes
        it."""
        scale = self.engine.scale
        if scale is not None and max(height / size[0], width / size[1]) > scale + ROUNDING:
            asked = f"{height}x{width} of {size[0]:g}x{size[1]:g} pixels"
            raise UserError(f"this model upscales x{scale} and no further, asked was {asked}: take one of any factor")

    def notes(self, size: tuple[int, int], height: int, width: int) -> tuple[str, ...]:
        """What may surprise where an image of `size` (H, W) becomes height x width, a few words each."""
        scale = self.engine.scale
        if scale is None or (height, width) == (scale * size[0], scale * size[1]):
            return ()
        return (f"the model upscales x{scale} alone: downsampled from {scale * size[0]}x{scale * size[1]}",)

    def part(self, image: np.ndarray, box: tiling.Box, height: int, width: int) -> np.ndarray:
        """A part of the image, as in `bands`: float32 (height, width, 3) in [0, 1]."""
        return np.concatenate(list(self.bands(image, height, width, box=box)))

    def __call__(
        self, image: np.ndarray, height: int, width: int, noise: np.random.Generator | None = None
    ) -> np.ndarray:
        """uint8 (H, W, 3) -> float32 (height, width, 3) in [0, 1]: what the network itself gives. noise: as in the
        engine's predict_image. Raises UserError for another factor than that of a model of one."""
        scale, size = self.engine.scale, (image.shape[0], image.shape[1])
        if scale is not None and (height, width) != (scale * size[0], scale * size[1]):
            found = f"{size[0]}x{size[1]} to {height}x{width} pixels is x{height / size[0]:.4g}"
            raise UserError(f"this model upscales x{scale} alone, and {found}")
        return np.concatenate(list(self.bands(image, height, width, noise=noise)))


def bicubic(image: np.ndarray, height: int, width: int, noise: np.random.Generator | None = None) -> np.ndarray:
    """Pillow's bicubic with the same signature as a network, rounded to 8 bits."""
    return rgb8.to_float(rgb8.resize(image, height, width))
