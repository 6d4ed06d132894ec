"""A video that zooms into an image, bicubic beside a network, as GIF or MP4.

Every frame is a part of the image at the size of the frame, at whatever factor that is.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from liif_core.errors import UserError
from liif_core.geometry import coords
from liif_core.geometry.tiling import Box
from liif_core.images import rgb8, video_read, video_write
from liif_core.images.comparison import comparison
from liif_core.inference.network import Network
from liif_core.inference.upscale import with_memory_that_is_there
from liif_core.system.files import check_writable, replacing

FASTEST = {".gif": 50, ".mp4": 240}  # frames per second, by ending; browsers slow down faster GIFs
LONGEST = 4096  # pixels along a side of a half
LASTING = 3600  # seconds at most
HALF = 400  # pixels along the longer side of a half, if nobody says
REST = 1  # seconds for which the last frame stays


@dataclass(frozen=True)
class ZoomVideo:
    """What is shown, and how long.

    size: height and width of each half of a frame. zoom: above 1; the first frame shows the whole image, cut to the
    aspect of `size`, the last one a part whose sides are so many times shorter. centre: of the last frame, down and
    right in fractions of the image. seconds: from the first frame to the last.
    """

    size: tuple[int, int]
    zoom: float
    centre: tuple[float, float] = (0.5, 0.5)
    seconds: float = 5
    frames_per_second: float = 20

    def __len__(self) -> int:
        """Number of different frames."""
        return max(2, round(self.seconds * self.frames_per_second))

    def boxes(self, image: tuple[int, int]) -> Iterator[Box]:
        """The part of an image of that size (H, W) which each frame shows, one inside the other.

        The zoom is exponential, so that it looks even, and starts and ends slowly. One point stands still.
        """
        step = min(length / side for length, side in zip(image, self.size, strict=True))
        for number in range(len(self)):
            time = number / (len(self) - 1)
            factor = self.zoom ** (time * time * (3 - 2 * time))
            way = (1 - 1 / factor) / (1 - 1 / self.zoom)  # from the first box to the last
            starts, stops = [], []
            for length, side, centre in zip(image, self.size, self.centre, strict=True):
                whole, part = step * side, step * side / self.zoom
                first, last = (min(max(0, centre * length - span / 2), length - span) for span in (whole, part))
                starts.append(max(0, first + way * (last - first)))
                stops.append(min(length, starts[-1] + whole / factor))
            yield (*starts, *stops)


def default_size(image: tuple[int, int]) -> tuple[int, int]:
    """Height and width of a half that shows an image of that size whole."""
    height, width = (max(1, round(side * HALF / max(image))) for side in image)
    return height, width


def check(video: ZoomVideo, path: Path, image: tuple[int, int]) -> None:
    """Raise UserError before the work starts if `make` could not make the video of an image of that size (H, W)."""
    suffix = path.suffix.lower()
    if suffix not in FASTEST:
        raise UserError(f"cannot tell a video format from '{path.name}': accepted are {' and '.join(FASTEST)}")
    coords.check_size(*video.size, "video")
    if max(video.size) > LONGEST:
        height, width = video.size
        raise UserError(f"video size {height}x{width}: at most {LONGEST} pixels along a side are accepted")
    most = min(length / side for length, side in zip(image, video.size, strict=True)) * min(video.size)
    if not 1 < video.zoom <= most:
        raise UserError(
            f"zoom: expected a factor above 1 and at most {int(most)}, which shows one pixel, got {video.zoom:g}"
        )
    if not all(0 <= fraction <= 1 for fraction in video.centre):
        down, right = video.centre
        raise UserError(
            f"centre: expected fractions of the image, down and right, like 0.4,0.6, got {down:g},{right:g}"
        )
    if not 0 < video.seconds <= LASTING:
        raise UserError(f"seconds: expected a number above 0 and at most {LASTING}, got {video.seconds:g}")
    if not 1 <= video.frames_per_second <= FASTEST[suffix]:
        raise UserError(f"{video.frames_per_second:g} frames per second: {suffix} takes 1 to {FASTEST[suffix]}")
    video_read.require_ffmpeg()
    check_writable(path)


def make(network: Network, image: np.ndarray, path: Path, video: ZoomVideo, advance: Callable[[int], object]) -> None:
    """Write the zoom video of an image, uint8 RGB (h, w, 3). It appears under its name only when it is whole.

    advance: called with 1 after each of len(video) frames. Raises UserError as `check` does.
    """
    size = image.shape[0], image.shape[1]
    check(video, path, size)
    *_, (top, left, bottom, right) = video.boxes(size)
    network.check_reach((bottom - top, right - left), *video.size)
    rate, rest = Fraction(video.frames_per_second).limit_denominator(1000), round(REST * video.frames_per_second)

    def frames() -> Iterator[np.ndarray]:
        for box in video.boxes(size):
            yield frame(network, image, box, video.size)
            advance(1)

    options = video_write.colour_options(video_read.Colours())
    with replacing(path) as temporary:
        if path.suffix.lower() == ".gif":
            video_write.encode_gif(temporary, frames(), rate, rest)
        else:
            video_write.encode(temporary, _shown(frames(), rest), rate, video_write.WRITTEN[".mp4"], options)


def frame(network: Network, image: np.ndarray, box: Box, size: tuple[int, int]) -> np.ndarray:
    """A part of the image twice, of `size` each, under captions that say the factor: uint8 (h, w, 3).

    Up to x1 there is nothing to upscale: the image is downsampled, in both halves alike.
    """
    height, width = size
    bicubic = rgb8.resize(image, height, width, box)
    factor = height / (box[2] - box[0])
    upscaled = bicubic
    if factor > 1:
        shown = math.ceil(box[2] - box[0]), math.ceil(box[3] - box[1])
        part = with_memory_that_is_there(network, shown, lambda: network.part(image, box, height, width))
        upscaled = rgb8.to_uint8(part)
    return comparison([(f"bicubic x{factor:.1f}", bicubic), (f"{network.caption} x{factor:.1f}", upscaled)])


def _shown(frames: Iterator[np.ndarray], rest: int) -> Iterator[np.ndarray]:
    """The frames, the last one so many times more, with white on the right and below where H.264 needs even sides."""
    for frame in frames:
        even = np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), constant_values=255)
        yield even
    yield from [even] * rest
