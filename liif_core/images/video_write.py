"""Videos written image by image with ffmpeg, through imageio's plugin, and the sound of another beside them."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import imageio.v2
import imageio_ffmpeg
import numpy as np
from PIL import Image

from liif_core.errors import UserError
from liif_core.images.video_read import EXACT, INPUT, MATRICES, Colours, Video, ffmpeg, full_name, reason
from liif_core.system.files import WRITING, check_writable, replacing


class Container(NamedTuple):
    """How a format is written: ffmpeg's name of it, and the encoders of images, with their options, and of sound."""

    muxer: str
    encoder: str
    options: tuple[str, ...]
    sound: str


# -crf goes from 0 to 51 (VP9: 63), where 0 is lossless.
H264 = ("libx264", ("-crf", "16"), "aac")
VP9 = ("libvpx-vp9", ("-crf", "20", "-b:v", "0", "-row-mt", "1", "-cpu-used", "4"), "libopus")
WRITTEN = {
    ".mp4": Container("mp4", *H264),
    ".m4v": Container("mp4", *H264),
    ".mov": Container("mov", *H264),
    ".mkv": Container("matroska", *H264),
    ".webm": Container("webm", *VP9),
}
LONGEST = 16_384  # pixels along a side, of H.264


def check_output(path: Path, size: tuple[int, int]) -> None:
    """Raise UserError before the work starts if `write` could not write a video of that size (h, w) there."""
    if path.suffix.lower() not in WRITTEN:
        raise UserError(f"cannot tell a video format from '{path.name}': accepted are {', '.join(WRITTEN)}")
    if max(size) > LONGEST:
        raise UserError(f"output size {size[0]}x{size[1]}: a video holds at most {LONGEST:,} pixels along a side")
    check_writable(path)


def even(size: tuple[int, int]) -> tuple[int, int]:
    """The size, or the next larger one with even sides: of 2x2 pixels a video keeps one colour."""
    return size[0] + size[0] % 2, size[1] + size[1] % 2


def colour_options(colours: Colours, pixel: Fraction = Fraction(1)) -> list[str]:
    """What encodes RGB in these colours, and says so in the file, with the shape of its pixels."""
    scaled = f"scale=out_color_matrix={MATRICES[colours.matrix]}:out_range=tv:{EXACT},format=yuv420p"
    options = ["-vf", f"{scaled},setsar={pixel.numerator}/{pixel.denominator}"]
    options += ["-colorspace", colours.matrix, "-color_range", "tv"]
    for name, value in (("-color_primaries", colours.primaries), ("-color_trc", colours.transfer)):
        options += [name, value] if value not in ("unknown", "reserved") else []
    return options


def write(
    path: Path, images: Iterable[np.ndarray], video: Video, metadata: str = "keep", alone: bool = False
) -> list[str]:
    """Write images, uint8 RGB (h, w, 3) with even sides, as a video that has rate, colours and sound of another one.

    metadata: "keep" or "strip". alone: the other one is no video, so there are no sound and metadata to be read. The
    file appears under its name only when it is whole. Returns what was not kept, a few words each. Raises UserError
    when it cannot be written.
    """
    container = WRITTEN[path.suffix.lower()]
    with replacing(path) as temporary, tempfile.TemporaryDirectory(prefix=WRITING, dir=path.parent) as folder:
        silent = os.path.join(os.path.abspath(folder), "images.mp4")
        options = colour_options(video.colours, video.pixel) + ["-movflags", "+faststart"] * alone
        encode(silent, images, video.rate, container, options)
        if not alone:
            return _join(silent, video, os.path.abspath(temporary), container, metadata)
        os.replace(silent, temporary)
        return []


def encode(path: str, images: Iterable[np.ndarray], rate: Fraction, container: Container, about: Sequence[str]) -> None:
    """Write images, uint8 RGB (h, w, 3) with even sides, one in memory at a time and without sound, into a file whose
    name ends with .mp4, whatever the container. Raises OSError unless it became whole.
    """
    fixed = {"quality": None, "macro_block_size": 1, "pixelformat": "yuv420p", "ffmpeg_log_level": "quiet"}
    exact = ["-r", str(rate)]  # some versions of the plugin round fps
    options = ["-f", container.muxer, *container.options, *about]
    varied = {"fps": float(rate), "codec": container.encoder, "input_params": exact, "output_params": options}
    count = 0
    writer: Any = imageio.v2.get_writer(path, "FFMPEG", "I", **fixed, **varied)
    with contextlib.closing(writer):  # after an error, `with writer` would not do it
        for image in images:
            try:
                writer.append_data(image)
            except OSError:
                raise _unfinished() from None
            count += 1
    _check_whole(path, count)


def encode_gif(path: str, images: Iterable[np.ndarray], rate: Fraction, rest: int) -> None:
    """As `encode`, an endless GIF whose last image stays `rest` times longer.

    Each image has 256 colours of its own, which Pillow chooses for the least error; dithering would tremble, and fill
    the file with noise. ffmpeg joins the images, because Pillow would hold all until the last, through the package
    under imageio's plugin, which has no palettes.
    """
    stay = str(round(100 * (1 + rest) / rate))  # hundredths of a second
    fixed = {"pix_fmt_in": "pal8", "pix_fmt_out": "pal8", "codec": "gif", "quality": None, "macro_block_size": 1}
    options = ["-loop", "0", "-final_delay", stay]
    writer, count = None, 0
    try:
        for image in images:
            if writer is None:
                size = image.shape[1], image.shape[0]
                writer = imageio_ffmpeg.write_frames(
                    path, size, fps=float(rate), ffmpeg_log_level="quiet", output_params=options, **fixed
                )
                writer.send(None)
            reduced = Image.fromarray(image).quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1)
            palette = np.full((256, 4), 255, np.uint8)  # blue, green, red, alpha
            colours = np.array(reduced.getpalette("RGB"), np.uint8).reshape(-1, 3)
            palette[: len(colours), :3] = colours[:, ::-1]
            try:
                writer.send(reduced.tobytes() + palette.tobytes())
            except OSError:
                raise _unfinished() from None
            count += 1
    finally:
        if writer is not None:
            writer.close()
    _check_whole(path, count)


def _unfinished() -> OSError:
    return OSError(errno.EIO, "ffmpeg did not finish; is the disk full?")


def _check_whole(path: str, count: int) -> None:
    """Raise OSError unless a video holds so many images; imageio does not look at how ffmpeg ended."""
    try:
        whole = imageio_ffmpeg.count_frames_and_secs(path)[0] == count
    except RuntimeError:
        whole = False
    if not whole:
        raise _unfinished()


def _join(silent: str, video: Video, path: str, container: Container, metadata: str) -> list[str]:
    """The images of one file and the sound of a video, as it is if that is possible; what could not be kept."""
    attempts: list[tuple[list[str], list[str]]] = [([], [])]
    if video.sound:
        again = container.sound.removeprefix("lib")
        attempts = [
            (["-map", "1:a", "-c:a", "copy"], []),
            (["-map", "1:a", "-c:a", container.sound], [f"sound encoded again, as {again.upper()}"]),
            ([], ["its sound could not be kept"]),
        ]
    source = "1" if metadata == "keep" else "-1"
    output = ["-c:v", "copy", "-map_metadata", source, "-map_chapters", source, "-movflags", "+faststart"]
    # A second output, nowhere, lets ffmpeg count the time of the sound from where the images begin, too.
    clock = ["-map", "1:V:0", "-c", "copy", "-f", "null", "-"]
    for sound, lost in attempts:
        inputs = ["-i", silent, *INPUT, "-i", full_name(video.path), "-map", "0:v", *sound]
        status, said = ffmpeg("-y", "-xerror", *inputs, *output, "-f", container.muxer, path, *clock)
        if status == 0:
            return lost
    raise OSError(errno.EIO, f"ffmpeg did not finish: {reason(said)}")
