"""Results beside others, for the eye."""

from dataclasses import replace

import numpy as np

from liif_core.data import sampling
from liif_core.images import comparison, rgb8
from liif_core.images.image import ImageData
from liif_core.inference.network import Network

COMPARED = 1024  # pixels: the largest side of the part that --compare shows


def compared(image: ImageData, result: np.ndarray, caption: str) -> np.ndarray:
    """Bicubic and a network's result beside each other, uint8 (h, w, 3), of large images the middle."""
    size = result.shape[:2]
    part = [((side - min(side, COMPARED)) // 2, (side + min(side, COMPARED)) // 2) for side in size]
    (top, bottom), (left, right) = part
    down, across = (before / after for before, after in zip(image.size, size, strict=True))
    box = top * down, left * across, bottom * down, right * across
    bicubic = rgb8.resize(image.rgb(), bottom - top, right - left, box)
    own = replace(image, pixels=np.array(result[top:bottom, left:right])).rgb()
    return comparison.comparison([("bicubic", bicubic), (caption, own)])


def samples(network: Network, image: ImageData, count: int) -> np.ndarray:
    """The images that a network draws of one, at its own factor, after bicubic, uint8 (h, w, 3); the first is what it
    gives if it is asked for one."""
    rgb, scale = image.rgb(), network.engine.scale
    size = scale * rgb.shape[0], scale * rgb.shape[1]
    found = [network(rgb, *size, sampling.noise(network.seed, number)) for number in range(count)]
    numbered = [(str(number), rgb8.to_uint8(one)) for number, one in enumerate(found, start=1)]
    return comparison.comparison([("bicubic", rgb8.resize(rgb, *size)), *numbered])
