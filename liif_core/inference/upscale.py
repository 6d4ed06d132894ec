"""An image of any kind through a network that knows RGB.

Alpha, K and grey images go through it as grey RGB of their own. Colours are taken as they are encoded, in whatever
profile, and so they come out.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import numpy as np

from liif_core.errors import UserError
from liif_core.geometry import tiling
from liif_core.images.image import ImageData, levels
from liif_core.inference.network import Network
from liif_core.system import memory

SMALLEST_TILE = 16  # pixels
Result = TypeVar("Result")


def upscale(network: Network, image: ImageData, result: np.ndarray, advance: Callable[[int], object]) -> None:
    """Fill `result` (h, w, c), of the dtype and channels of image.pixels, from top to bottom.

    advance: called with numbers of pixels as they are done, `passes(network, image)` times h * w in all; a negative
    number takes some back, when memory was too small and smaller tiles are tried. Raises UserError when the smallest
    are too large, MemoryError when not even what goes into the network fits.
    """
    parts = list(_parts(image))
    done = 0

    def count(pixels: int) -> None:
        nonlocal done
        done += pixels
        advance(pixels)

    def attempt() -> None:
        nonlocal done
        advance(-done)
        done = 0
        for part in parts:
            _fill_channels(network, image, part, result, count)

    with_memory_that_is_there(network, image.size, attempt)


def with_memory_that_is_there(network: Network, size: tuple[int, int], attempt: Callable[[], Result]) -> Result:
    """What `attempt` returns, which asks the network for an image of that size (H, W): when memory is refused, it is
    called again with the encoder's tiles half as large. Raises UserError when nothing is left to halve."""
    before = network.tile
    try:
        while True:
            try:
                return attempt()
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                network.tile = _smaller(network, size, error)
            memory.renew_limit()
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


def _smaller(network: Network, size: tuple[int, int], error: BaseException) -> int:
    """Half of the side of the tiles that were too large. Raises UserError when there is nothing to halve."""
    radius = network.engine.receptive_radius
    if radius is not None:
        side = tiling.side(size, network.tile, radius, network.engine.device_kind)
        if side > SMALLEST_TILE:
            return max(SMALLEST_TILE, side // 2)
    reason = "this model must see it whole" if radius is None else f"tiles of {SMALLEST_TILE} pixels are too large"
    said = " ".join(str(error).split())[:100] or type(error).__name__
    raise UserError(f"not enough memory to upscale {size[0]}x{size[1]} pixels: {reason} ({said})")


class Part(NamedTuple):
    """What goes through the network at once: values (h, w, 3) or (h, w, 1), the channels of the result that come of
    it, and whether they are ink, of which white has none."""

    values: np.ndarray
    channels: slice
    ink: bool


def _fill_channels(
    network: Network, image: ImageData, part: Part, result: np.ndarray, advance: Callable[[int], object]
) -> None:
    height, width = result.shape[:2]
    values, channels, ink = part
    if channels == ALONE and (values == values.flat[0]).all():  # nothing to upscale in an opaque alpha
        result[..., channels] = image.white - values.flat[0] if ink else values.flat[0]
        advance(network.passes * height * width)
        return
    top = 0
    whole_rgb = np.broadcast_to(values, (*values.shape[:2], 3))
    for band in network.bands(whole_rgb, height, width, image.white, advance=advance):
        colours = band if values.shape[2] == 3 else band.mean(axis=2, keepdims=True)
        whole = np.rint(colours * levels(image.depth)).astype(result.dtype) * result.dtype.type(image.step)
        result[top : top + len(band), :, channels] = image.white - whole if ink else whole
        top += len(band)


ALONE = slice(-1, None)  # alpha, or K of CMYK


def _parts(image: ImageData) -> Iterator[Part]:
    pixels = image.pixels
    if image.cmyk:
        yield Part(image.white - pixels[..., :3], slice(0, 3), ink=True)
        yield Part(image.white - pixels[..., 3:], ALONE, ink=True)
    elif image.alpha:
        yield Part(_without_hidden(pixels), slice(0, -1), ink=False)
        yield Part(pixels[..., -1:], ALONE, ink=False)
    else:
        yield Part(pixels, slice(None), ink=False)


def colours(image: ImageData) -> np.ndarray:
    """(H, W, 1 or 3): what the network sees of the image first, without alpha or K."""
    return next(_parts(image)).values


def passes(network: Network, image: ImageData) -> int:
    """How many times the image goes through the engine."""
    return network.passes * (2 if image.alpha or image.cmyk else 1)


def _without_hidden(pixels: np.ndarray) -> np.ndarray:
    """The colours (h, w, 1 or 3) of an image with alpha, where it is transparent those of the nearest visible pixels.

    Editors leave any colour under transparent pixels, often black, which would become a dark seam. Colours are averaged
    over squares of 2, 4, 8 ... pixels, as far as visible, and each hidden pixel takes the smallest square that has any.
    """
    colours, visible = pixels[..., :-1], pixels[..., -1:] > 0
    if visible.all() or not visible.any():
        return colours
    # Whole numbers at full size; only the squares of 2 and more are counted in float32.
    nearest = np.rint(_means(_sums(colours * visible), _sums(visible))).astype(pixels.dtype)
    return np.where(visible, colours, _twice(nearest, visible.shape))


def _means(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """total / count (h, w, c); where count is 0, that of the square of twice the side."""
    mean = total / np.maximum(count, 1)
    if count.all():
        return mean
    return np.where(count > 0, mean, _twice(_means(_sums(total), _sums(count)), count.shape))


def _sums(values: np.ndarray) -> np.ndarray:
    """Sums over squares of 2 pixels, of which the last ones may be cut: (h, w, c) -> float32 (h / 2, w / 2, c)."""
    height, width, channels = values.shape
    padded = np.pad(values, ((0, height % 2), (0, width % 2), (0, 0)))
    return padded.reshape(-1, 2, (width + 1) // 2, 2, channels).sum(axis=(1, 3), dtype=np.float32)


def _twice(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Each value four times, cut to the height and width of a shape."""
    return values.repeat(2, axis=0).repeat(2, axis=1)[: shape[0], : shape[1]]
