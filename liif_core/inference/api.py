"""The Python API, once for both trees: `liif_torch.load()` and `liif_jittor.load()` give a Model. See docs/python.md.

Letters: H W low-resolution, h w output, C feature channels.
"""

import math
import numbers
import operator
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from liif_core.engine import MODEL
from liif_core.errors import UserError
from liif_core.geometry import coords, tiling
from liif_core.images import objects, rgb8
from liif_core.images.normalisation import Normalisation
from liif_core.inference import network as networks
from liif_core.inference.upscale import colours, passes, upscale, with_memory_that_is_there

QUERIES = 1 << 15  # decoded at a time: at 4 corners with 256 hidden values in float32, 128 MiB


def load(
    path: str | os.PathLike,
    framework: str,
    device: str,
    precision: str,
    tile: int | None,
    border: str,
    config: str | os.PathLike | None,
) -> "Model":
    """See liif_torch.load."""
    if border not in tiling.BORDERS:
        raise UserError(f"border: expected {' or '.join(tiling.BORDERS)}, got {border!r}")
    told: dict[str, Any] = {"config": None if config is None else Path(config), "say": warnings.warn}
    return Model(networks.load(Path(path), framework, str(device), precision, tile, border=border, **told))


@dataclass(frozen=True)
class Features:
    """An image as `Model.encode` leaves it, to be queried many times.

    map: (1, C, H, W), the framework's tensor on the model's device; with a border other than "zeros" larger by the
    pixels that the encoder saw beyond the image. size: (H, W) of the image. window: where in the map the image lies, by
    axis, -1 and 1 being the map's borders. model: whose features they are.
    """

    map: Any
    size: tuple[int, int]
    window: coords.Window
    model: "Model"


class Model:
    """A network with its weights on a device."""

    def __init__(self, network: networks.Network):
        self._network = network

    @property
    def network(self) -> Any:
        """The framework's module: torch.nn.Module or jittor.Module. It sees and gives normalised values."""
        return self._network.engine.networks[MODEL].predictor

    @property
    def normalisation(self) -> Normalisation:
        """Between pixels and what `network` sees: `inp` before it, `rgb` after it."""
        return self._network.normalisation

    @property
    def device(self) -> str:
        """Where it runs: "cpu" or "cuda"."""
        return self._network.engine.device_kind

    @property
    def precision(self) -> str:
        """What convolutions and products are computed in: "fp32", "bf16" or "fp16"."""
        return self._network.engine.precision

    def upscale(
        self,
        image: objects.Source,
        scale: float | None = None,
        size: tuple[int, int] | None = None,
        progress: Callable[[float], object] | None = None,
        self_ensemble: bool = False,
    ) -> Any:
        """The image at `scale` times its height and width, or at `size` (h, w); the pixels are those of demo.py.

        image: a Pillow image; an array, uint8 or uint16, (h, w) or (h, w, 1, 3 or 4), where the fourth channel is
        alpha; or the path of a file. Of several frames it is the one that a Pillow image is at, of a file the first.
        The result is of its kind: a Pillow image with its mode, profile and EXIF, an array with its dtype and number of
        axes; of a file it is a Pillow image. Images are turned upright as their EXIF says. progress: called with the
        finished share, in [0, 1], as bands of rows are done. self_ensemble: average the results of the eight flips and
        rotations, which takes eight times as long.

        Raises UserError, which is a ValueError.
        """
        data, like_source = objects.read(image)
        height, width = output_size(data.size, scale, size)
        try:
            result = np.empty((height, width, data.pixels.shape[2]), data.pixels.dtype)
        except MemoryError:
            raise UserError(f"not enough memory for an output of {height}x{width} pixels") from None
        network = replace(self._network, self_ensemble=True) if self_ensemble else self._network
        total, done = passes(network, data) * height * width, 0

        def advance(pixels: int) -> None:
            nonlocal done
            done += pixels
            if progress is not None:
                progress(done / total)

        upscale(network, data, result, advance)
        return like_source(result)

    def encode(self, image: objects.Source) -> Features:
        """The feature map of an image, as `upscale` takes it, to be queried many times.

        The network knows colours alone: a grey image is encoded as RGB, alpha is left out, CMYK is refused.
        """
        if not hasattr(self.network, "query_rgb"):
            raise UserError("this model gives whole images, not colours at coordinates: use upscale")
        data, _ = objects.read(image)
        if data.cmyk:
            raise UserError("image: expected grey or RGB to query, got CMYK; convert it first")
        network = self._network
        (rows, columns), window = tiling.crop(
            data.size, (0, 0, *data.size), network.engine.receptive_radius, network.border
        )
        image_rgb = np.broadcast_to(colours(data), (*data.size, 3))
        inp = self.normalisation.inp(tiling.cut(image_rgb, rows, columns), data.white)

        def attempt() -> Any:
            return network.engine.encode(inp, network.tile)

        return Features(with_memory_that_is_there(network, data.size, attempt), data.size, window, self)

    def query(self, image: objects.Source | Features, coord: Any, cell: Any = None) -> np.ndarray:
        """float32 RGB (..., 3) in [0, 1] at any coordinates of an image.

        image: as in `upscale`, or what `encode` gave. coord: (..., 2) in [-1, 1], first down, then right: -1 and 1 are
        the image's borders, pixel i of n has its centre at -1 + (2 i + 1) / n. cell: (2,), or (..., 2) for one per
        coordinate: height and width of the pixel that is asked for in the same unit, 2 / n for one of n pixels that
        cover the image; without it that of the image's own pixels.

        Raises UserError, which is a ValueError.
        """
        points = _pairs("coord", coord)
        if not (np.abs(points) <= 1).all():
            raise UserError(f"coord: expected values in [-1, 1], got {points.min():g} to {points.max():g}")
        cells = None if cell is None else _pairs("cell", cell)
        if cells is not None and not (cells > 0).all():
            raise UserError(f"cell: expected values above 0, got {cells.min():g}")
        if cells is not None and cells.shape not in ((2,), points.shape):
            raise UserError(f"cell: expected shape (2,) or that of coord, {points.shape}, got {cells.shape}")
        features = image if isinstance(image, Features) else self.encode(image)
        if features.model is not self:
            raise UserError("features: expected those of this model's encode, got another model's")
        cells = coords.make_cell(features.size) if cells is None else cells
        row, cells = coords.into_window(points.reshape(1, -1, 2), cells.reshape(1, -1, 2), features.window)
        result = np.empty((row.shape[1], 3), np.float32)
        step = len(result) if getattr(self.network, "joint_queries", False) else QUERIES
        for start in range(0, len(result), max(1, step)):
            part = slice(start, start + step)
            own = cells if cells.shape[1] == 1 else cells[:, part]
            result[part] = self._network.engine.decode(features.map, row[:, part], own)[0]
        return self.normalisation.rgb(result).reshape(*points.shape[:-1], 3)


def output_size(image_size: tuple[int, int], scale: Any, size: Any) -> tuple[int, int]:
    """(h, w) for an image of `image_size` (H, W). Raises UserError unless one of scale and size is given and makes
    sense."""
    if (scale is None) == (size is None):
        raise UserError(f"expected scale or size, got {'neither' if scale is None else 'both'}")
    if scale is not None:
        number = isinstance(scale, numbers.Real) and not isinstance(scale, bool)
        if not number or not 0 < scale < math.inf or scale * max(image_size) == math.inf:
            raise UserError(f"scale: expected a number above 0 like 3.7, got {scale!r}")
        height, width = rgb8.upscaled_size(image_size, float(scale))
    else:
        try:
            height, width = map(operator.index, size)
        except (TypeError, ValueError):
            raise UserError(f"size: expected two whole numbers, (height, width), got {size!r}") from None
        coords.check_size(height, width)
    rgb8.check_pixels((height, width))
    return height, width


def _pairs(name: str, values: Any) -> np.ndarray:
    """Pairs of finite numbers (..., 2) as float32. Raises UserError for anything else."""
    try:
        array = np.asarray(values)
        pairs = array.astype(np.float32)
    except (TypeError, ValueError):
        raise UserError(f"{name}: expected numbers of shape (..., 2), got {type(values).__name__}") from None
    if array.dtype.kind not in "fiu" or pairs.ndim == 0 or pairs.shape[-1] != 2:
        raise UserError(f"{name}: expected numbers of shape (..., 2), got {array.dtype} of shape {array.shape}")
    if not np.isfinite(pairs).all():
        raise UserError(f"{name}: expected finite numbers, got NaN or infinity")
    return pairs
