"""Videos, animations and pages through the network, one image after the other."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from liif_core.images.image import ImageData
from liif_core.inference.network import Network
from liif_core.inference.upscale import passes, upscale
from liif_core.system.files import scratch


def upscaled(
    network: Network,
    images: Iterable[tuple[ImageData, tuple[int, int]]],
    folder: Path,
    advance: Callable[[int], object],
) -> Iterator[tuple[ImageData, np.ndarray]]:
    """Every image, and what becomes of it, (h, w, c) of the size that it comes with, as of `upscale`.

    The second array may be the same every time: use it before the next image is asked for. It lies in a file in
    `folder`. An image that repeats the one before it is not computed again. advance: as of `upscale`. Raises UserError
    as `upscale` does.
    """
    before, result = None, None
    with ExitStack() as stack:
        for image, (height, width) in images:
            shape, kind = (height, width, image.pixels.shape[2]), image.pixels.dtype
            if result is None or result.shape != shape or result.dtype != kind:
                stack.close()
                before, result = None, stack.enter_context(scratch(folder, shape, kind))
            if before is not None and _same(before, image):
                advance(height * width * passes(network, image))
            else:
                upscale(network, image, result, advance)
            before = image
            yield image, result


def _same(one: ImageData, other: ImageData) -> bool:
    return (one.depth, one.cmyk) == (other.depth, other.cmyk) and np.array_equal(one.pixels, other.pixels)
