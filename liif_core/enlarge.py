"""A picture of any kind through a network that knows RGB.

Alpha, K and grey pictures go through it as grey RGB of their own. Colours are taken as they are encoded, in whatever
profile, and so they come out.
"""

from collections.abc import Callable, Iterator

import numpy as np

from liif_core import environment, tiling
from liif_core.errors import UserError
from liif_core.evaluation import Network
from liif_core.picture import Picture, levels

SMALLEST_TILE = 16  # pixels


def enlarge(network: Network, picture: Picture, result: np.ndarray, advance: Callable[[int], object]) -> None:
    """Fill `result` (h, w, c), of the dtype and channels of picture.pixels, from top to bottom.

    advance: called with numbers of pixels as they are done, `passes(picture)` times h * w in all; a negative number
    takes some back, when memory was too small and smaller squares are tried. Raises UserError when the smallest are too
    large.
    """
    done = 0

    def count(pixels: int) -> None:
        nonlocal done
        done += pixels
        advance(pixels)

    before = network.tile
    try:
        while True:
            try:
                return _enlarge(network, picture, result, count)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                network.tile = _smaller(network, picture, error)
            if network.engine.device_kind == "cpu":
                environment.limit_memory()
            advance(-done)
            done = 0
    finally:
        network.tile = before


# How PyTorch (CUDA, CPU), Jittor and, last, oneDNN say that memory was refused; oneDNN says it of other troubles too.
REFUSALS = (
    "out of memory",
    "allocate memory",
    "bad_alloc",
    "could not create a primitive",
    "could not create a memory",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it may mean that memory was refused."""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in REFUSALS)


def _smaller(network: Network, picture: Picture, error: BaseException) -> int:
    """Half of the side of the squares that were too large. Raises UserError when there is nothing to halve."""
    halo = network.engine.halo
    height, width = picture.size
    if halo is not None:
        device = network.engine.device_kind
        tile = tiling.side(picture.size, network.tile, halo, device)
        if tile > SMALLEST_TILE:
            return tile // 2
    reason = "this model must see it whole" if halo is None else f"squares of {SMALLEST_TILE} pixels are too large"
    said = " ".join(str(error).split())[:100] or type(error).__name__
    raise UserError(f"not enough memory to enlarge {height}x{width} pixels: {reason} ({said})")


def _enlarge(network: Network, picture: Picture, result: np.ndarray, advance: Callable[[int], object]) -> None:
    height, width = result.shape[:2]
    top_level, step = levels(picture.depth), picture.step
    for part, channels, negative in _parts(picture):
        if channels == ALONE and (part == part.flat[0]).all():  # nothing to enlarge in an opaque alpha
            result[..., channels] = picture.white - part.flat[0] if negative else part.flat[0]
            advance(height * width)
            continue
        rgb = np.broadcast_to(part, (*part.shape[:2], 3))
        top = 0
        for band in network.bands(rgb, height, width, picture.white):
            values = band if part.shape[2] == 3 else band.mean(axis=2, keepdims=True)
            whole = np.rint(values * top_level).astype(result.dtype) * result.dtype.type(step)
            result[top : top + len(band), :, channels] = picture.white - whole if negative else whole
            top += len(band)
            advance(len(band) * width)


ALONE = slice(-1, None)  # alpha, or K of CMYK


def _parts(picture: Picture) -> Iterator[tuple[np.ndarray, slice, bool]]:
    """(h, w, 3) or (h, w, 1) for the network, the channels of the result that come of it, and whether light is dark."""
    pixels = picture.pixels
    if picture.cmyk:
        yield picture.white - pixels[..., :3], slice(0, 3), True
        yield picture.white - pixels[..., 3:], ALONE, True
    elif picture.alpha:
        yield _without_hidden(pixels), slice(0, -1), False
        yield pixels[..., -1:], ALONE, False
    else:
        yield pixels, slice(None), False


def passes(picture: Picture) -> int:
    """How many times the picture goes through the network."""
    return 2 if picture.alpha or picture.cmyk else 1


def _without_hidden(pixels: np.ndarray) -> np.ndarray:
    """The colours (h, w, 1 or 3) of a picture with alpha, where it is transparent those of the nearest visible pixels.

    Editors leave any colour under transparent pixels, often black, which would become a dark seam. Colours are averaged
    over squares of 2, 4, 8 ... pixels, as far as visible, and each hidden pixel takes the smallest square that has any.
    """
    visible = (pixels[..., -1:] > 0).astype(np.float32)
    if visible.all() or not visible.any():
        return pixels[..., :-1]
    filled = _fill(pixels[..., :-1] * visible, visible)
    return np.where(visible > 0, pixels[..., :-1], np.rint(filled).astype(pixels.dtype))


def _fill(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """total / count (h, w, c); where count is 0, that of the square of twice the side."""
    height, width = count.shape[:2]
    mean = total / np.maximum(count, 1)
    if count.all():
        return mean
    even = ((0, height % 2), (0, width % 2), (0, 0))
    halves = []
    for values in (total, count):
        padded = np.pad(values, even)
        halves.append(padded.reshape(padded.shape[0] // 2, 2, padded.shape[1] // 2, 2, -1).sum(axis=(1, 3)))
    coarse = _fill(*halves).repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    return np.where(count > 0, mean, coarse)
