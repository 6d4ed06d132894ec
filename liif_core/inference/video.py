"""A video through the network, frame by frame."""

from collections.abc import Callable, Iterator

import numpy as np

from liif_core.images import video_read
from liif_core.images.image import ImageData
from liif_core.images.video_read import Video
from liif_core.inference.network import Network
from liif_core.inference.upscale import upscale


def upscaled(
    network: Network, video: Video, size: tuple[int, int], advance: Callable[[int], object]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every frame, uint8 (H, W, 3), and what becomes of it, uint8 (h, w, 3) of that size.

    The second array is the same every time: use it before the next frame is asked for. A frame that repeats the one
    before it is not computed again. advance: as of `upscale`. Raises UserError as `upscale` and `video_read.frames` do.
    """
    result = np.empty((*size, 3), np.uint8)
    before = None
    for frame in video_read.frames(video):
        if before is not None and np.array_equal(frame, before):
            advance(network.passes * size[0] * size[1])
        else:
            upscale(network, ImageData(frame), result, advance)
        before = frame
        yield frame, result
