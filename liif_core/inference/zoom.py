"""A video that zooms into an image, bicubic beside LIIF, as GIF or MP4.

Every frame is a part of the image at the size of the frame, at whatever factor that is.
"""

import contextlib
import errno
import importlib.util
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import GifImagePlugin, Image

from liif_core.errors import UserError
from liif_core.geometry import coords
from liif_core.geometry.tiling import Box
from liif_core.images import rgb8
from liif_core.images.comparison import comparison
from liif_core.inference.network import Network
from liif_core.inference.upscale import with_memory_that_is_there
from liif_core.system import packages
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
    if suffix == ".mp4" and importlib.util.find_spec("imageio_ffmpeg") is None:
        command = packages.pip_install("imageio-ffmpeg")
        raise UserError(f"MP4 needs the Python package imageio-ffmpeg: run `{command}`, or write a .gif")
    if suffix == ".mp4":
        import imageio_ffmpeg

        try:
            imageio_ffmpeg.get_ffmpeg_exe()
        except RuntimeError as error:
            raise UserError(f"MP4 needs ffmpeg: {error}; or write a .gif") from None
    check_writable(path)


def make(network: Network, image: np.ndarray, path: Path, video: ZoomVideo, advance: Callable[[int], object]) -> None:
    """Write the zoom video of an image, uint8 RGB (h, w, 3). It appears under its name only when it is whole.

    advance: called with 1 after each of len(video) frames. Raises UserError as `check` does.
    """
    size = image.shape[0], image.shape[1]
    check(video, path, size)
    write = _gif if path.suffix.lower() == ".gif" else _mp4
    with replacing(path) as temporary, write(temporary, video.frames_per_second) as add:
        for number, box in enumerate(video.boxes(size), start=1):
            rest = round(REST * video.frames_per_second) if number == len(video) else 0
            add(frame(network, image, box, video.size), 1 + rest)
            advance(1)


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
    return comparison([(f"bicubic x{factor:.1f}", bicubic), (f"LIIF x{factor:.1f}", upscaled)])


@contextlib.contextmanager
def _gif(path: str, frames_per_second: float) -> Iterator[Callable[[np.ndarray, int], None]]:
    """A function that adds a frame (h, w, 3), shown so many times as long as one.

    Each frame has 256 colours of its own, chosen for the least error; dithering would tremble, and fill the file with
    noise. Pillow's parts are put together here, because Pillow itself would hold all frames until the last.
    """
    with open(path, "wb") as file:
        shown = 0

        def add(image: np.ndarray, times: int) -> None:
            nonlocal shown
            reduced = Image.fromarray(image).quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1)
            if not shown:
                file.writelines(GifImagePlugin.getheader(reduced, info={"loop": 0})[0])  # 0: for ever
            # A GIF counts in hundredths of a second. Rounded one by one, durations would not add up.
            start, shown = shown, shown + times
            begins, ends = (round(100 * count / frames_per_second) for count in (start, shown))
            parts = GifImagePlugin.getdata(reduced, duration=10 * (ends - begins), include_color_table=True)
            file.writelines(parts)

        yield add
        file.write(b";")


@contextlib.contextmanager
def _mp4(path: str, frames_per_second: float) -> Iterator[Callable[[np.ndarray, int], None]]:
    """As `_gif`, in H.264. Raises OSError when the file did not become whole."""
    import imageio_ffmpeg

    failed = OSError(errno.EIO, "ffmpeg did not finish; is the disk full?")
    writer = None

    def add(image: np.ndarray, times: int) -> None:
        nonlocal writer
        # H.264 keeps one colour for 2x2 pixels: both sides have to be even.
        even = np.pad(image, ((0, image.shape[0] % 2), (0, image.shape[1] % 2), (0, 0)), constant_values=255)
        size = even.shape[1], even.shape[0]
        if writer is None:
            writer = imageio_ffmpeg.write_frames(path, size, fps=frames_per_second, quality=8, macro_block_size=1)
            writer.send(None)
        try:
            for _ in range(times):
                writer.send(even)
        except OSError:
            raise failed from None

    try:
        yield add
    finally:
        if writer:
            writer.close()
    try:  # imageio-ffmpeg does not look at how ffmpeg ended
        imageio_ffmpeg.count_frames_and_secs(path)
    except RuntimeError:
        raise failed from None
