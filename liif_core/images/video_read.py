"""What a video file holds, and its frames, read one by one with ffmpeg through imageio's plugin.

ffmpeg itself is called for what the plugin does not tell: rotation, colours, and whether the file is whole.
"""

import contextlib
import logging
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import imageio.v3
import imageio_ffmpeg
import numpy as np

from liif_core.errors import UserError
from liif_core.images.image import ImageData
from liif_core.system.files import check_readable

READ = tuple(".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .ts .mts .m2ts .wmv .flv .3gp".split())
# By content, whatever the ending: no images, no texts, and no playlists, which would name other files.
INPUT = ("-protocol_whitelist", "file", "-format_whitelist", "mov,mp4,matroska,webm,avi,mpeg,mpegts,asf,flv")
ALL = ("-map", "0:V:0", "-map", "0:a?", "-map", "0:s?", "-map", "0:d?", "-ignore_unknown")
# ffmpeg's names of YCbCr matrices: as it prints and takes them, and as its scaler does.
MATRICES = {"bt709": "bt709", "smpte170m": "smpte170m", "bt470bg": "bt470", "fcc": "fcc", "bt2020nc": "bt2020"}
EXACT = "flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"

logging.getLogger("imageio_ffmpeg").addHandler(logging.NullHandler())  # or Python would print what it logs


class Colours(NamedTuple):
    """How colours are encoded, in ffmpeg's words: one of MATRICES, and two that may be "unknown"."""

    matrix: str = "bt709"
    primaries: str = "unknown"
    transfer: str = "unknown"


@dataclass(frozen=True)
class Video:
    """What a file holds.

    size: height and width of the upright frames. rate: frames per second. count: how many frames there are at that
    rate. pixel: width over height of a pixel. sound: whether there is any. notes: what of the file is not kept, a few
    words each.
    """

    path: Path
    size: tuple[int, int]
    rate: Fraction
    count: int
    colours: Colours = Colours()
    pixel: Fraction = Fraction(1)
    sound: bool = False
    notes: tuple[str, ...] = ()
    plays = 0  # times: as an animation, for ever

    @property
    def durations(self) -> tuple[Fraction, ...]:
        """How many seconds each frame is shown."""
        return (1 / self.rate,) * self.count

    def images(self) -> Iterator[ImageData]:
        """What `frames` gives."""
        return map(ImageData, frames(self))


def is_video(path: Path) -> bool:
    """Whether the ending says so."""
    return path.suffix.lower() in READ


def inspect(path: Path) -> Video:
    """What is in a file. All of it is decoded once, which counts the frames and shows whether they are whole.

    Raises UserError for a file that is missing, cut short, damaged or no video.
    """
    check_readable(path, "video")
    _, text = ffmpeg(*INPUT, "-i", full_name(path))
    line = re.search(r"^ +Stream #0:\d+.*: Video: (?!.*\(attached pic\)).*$(\n {4,}.*)*", text, re.MULTILINE)
    header = line and re.search(r", (\w+)(?:\(([^)]*)\))?, (\d+)x(\d+)(?: \[SAR (\d+):(\d+) )?", line[0])
    if not line or not header or not (rate := _rate(line[0])):
        raise UserError(f"cannot read {path} as a video (cut short, damaged or none): {reason(text)}")
    pixel_format, about, *numbers = header.groups(default="")
    height, width = int(numbers[1]), int(numbers[0])
    across, down = (int(number or 1) for number in numbers[2:])
    pixel = Fraction(across, down) if across and down else Fraction(1)
    colours = _colours(about, height)
    if re.search(r"rotation of -?(90|270)\.", line[0]):
        height, width, pixel = width, height, 1 / pixel
    sound, notes = _has(text, "Audio"), tuple(_lost(pixel_format, about, text))
    count = _count(path, _output(rate, colours.matrix, sound), _duration(text), rate)
    return Video(path, (height, width), rate, count, colours, pixel, sound, notes)


def _rate(line: str) -> Fraction:
    """Frames per second, from what ffmpeg prints about a stream; 0 where it tells none."""
    mean, ticks = (
        Fraction(found[1]) * (1000 if found[2] else 1) if (found := re.search(rf", ([\d.]+)(k?) {word}\b", line)) else 0
        for word in ("fps", "tbr")
    )
    # Frames that last differently long all have a place at `ticks`; 1000 and the like are those of a clock.
    rate = Fraction(ticks if not mean or 0.99 * mean < ticks < min(121, 1.9 * mean) else mean)
    ntsc = Fraction(1000 * round(rate), 1001)  # 29.97 is printed, 30000/1001 is meant
    return ntsc if rate.denominator > 1 and abs(rate - ntsc) < 0.006 else rate


def _colours(about: str, height: int) -> Colours:
    """From the words about a pixel format; a matrix that is not told is the one that players take."""
    told = [word for word in about.split(", ") if "/" in word or word in MATRICES]
    colours = Colours(*(told[0].split("/") * 3)[:3]) if told else Colours("unknown")
    usual = "bt709" if height >= 720 else "smpte170m"
    return colours if colours.matrix in MATRICES else colours._replace(matrix=usual)


def _lost(pixel_format: str, about: str, text: str) -> Iterator[str]:
    if depth := re.search(r"p(9|1\d)(le|be)", pixel_format):
        yield f"{depth[1]} bits become 8"
    if pixel_format.startswith(("yuva", "rgba", "bgra", "argb", "abgr", "gbrap", "ya")):
        yield "alpha is dropped"
    if "first" in about:
        yield "interlaced, upscaled as it is"
    if _has(text, "Subtitle"):
        yield "subtitles are dropped"


def _has(text: str, kind: str) -> bool:
    return re.search(rf"^ +Stream #0:\d+.*: {kind}: ", text, re.MULTILINE) is not None


def _count(path: Path, output: list[str], duration: float, rate: Fraction) -> int:
    """How many frames `frames` will give. Raises UserError unless the file is whole: decoded without an error, and as
    long as its header says. output: as of `_output`. duration: in seconds, 0 if the header says nothing."""
    source = ["-xerror", *INPUT, "-i", full_name(path)]
    status, said = ffmpeg(*source, *output, "-f", "null", "-")
    counts = re.findall(r"^frame= *(\d+)", said.replace("\r", "\n"), re.MULTILINE)
    if status == 0:  # all that is in it, as quickly as it can be read: the sound may be longer
        status, said = ffmpeg(*source, *ALL, "-c", "copy", "-f", "null", "-")
    if status or not counts or counts[-1] == "0":
        raise UserError(f"cannot read {path} as a video (cut short or damaged): {reason(said)}")
    read = _seconds((re.findall(r" time=([\d:.]+)", said) or ["0:0:0"])[-1])
    if read < duration - 0.1 - 2 / rate or _is_cut_avi(path):
        of = f" of {duration:.2f}" if read < duration else ""
        raise UserError(f"cannot read {path} as a video: it is cut short, after {read:.2f}{of} seconds")
    return int(counts[-1])


def _duration(text: str) -> float:
    """In seconds; 0 where ffmpeg tells none."""
    return _seconds((re.findall(r"Duration: ([\d:.]+)", text) or ["0:0:0"])[0])


def _output(rate: Fraction, matrix: str, sound: bool) -> list[str]:
    """What makes RGB frames at a constant rate of a file's. The first one takes the time before it, when there is sound
    alone; of which ffmpeg does not know in all formats unless it reads the sound as well."""
    colours = f"scale=in_color_matrix={MATRICES[matrix]}:{EXACT},format=rgb24"
    graph = f"[0:V:0]fps={rate}:start_time=0,{colours}[images]" + ";[0:a:0]anullsink" * sound
    return ["-filter_complex", graph, "-map", "[images]"]


def _seconds(text: str) -> float:
    hours, minutes, seconds = map(float, text.split(":"))
    return 3600 * hours + 60 * minutes + seconds


def _is_cut_avi(path: Path) -> bool:
    """An AVI plays without its end, but says at its beginning how many bytes follow."""
    with open(path, "rb") as file:
        head = file.read(8)
    return head[:4] == b"RIFF" and path.stat().st_size < 8 + int.from_bytes(head[4:], "little")


def frames(video: Video) -> Iterator[np.ndarray]:
    """All frames, uint8 RGB (h, w, 3), at the constant rate, one in memory at a time. Raises UserError when one cannot
    be read any more."""
    words = {"input_params": list(INPUT), "output_params": _output(video.rate, video.colours.matrix, video.sound)}
    number = 0
    try:
        # The plugin knows few endings, ffmpeg looks at the content. After an error, `with reader` would not close it.
        open_any: Any = imageio.v3.imopen
        with open_any(full_name(video.path), "r", plugin="FFMPEG", extension=".mp4") as file:
            with contextlib.closing(file.legacy_get_reader(**words)) as reader:
                for frame in reader:
                    number += 1
                    yield np.asarray(frame)
    except (OSError, RuntimeError) as error:
        raise UserError(f"cannot read frame {number + 1} of {video.path}: {reason(str(error))}") from None
    if number != video.count:
        raise UserError(f"{video.path} changed while it was read: {number} frames instead of {video.count}")


def require_ffmpeg() -> str:
    """The name of the program. Raises UserError where there is none."""
    try:
        program = imageio_ffmpeg.get_ffmpeg_exe()  # $IMAGEIO_FFMPEG_EXE, the package's own, that of the PATH
    except RuntimeError as error:
        raise UserError(f"videos need ffmpeg: {error}") from None
    if shutil.which(program) is None:
        raise UserError(f"videos need ffmpeg: expected a program, got {program}")
    return program


def ffmpeg(*words: str) -> tuple[int, str]:
    """Run it with these arguments; its exit status and what it said."""
    # A session of its own: Ctrl-C is for this process to handle.
    command = [require_ffmpeg(), "-hide_banner", "-nostdin", *words]
    result = subprocess.run(command, capture_output=True, check=False, start_new_session=True)
    return result.returncode, result.stderr.decode(errors="replace")


def full_name(path: Path) -> str:
    """A name that neither ffmpeg nor imageio takes for an option or an address."""
    return os.path.abspath(path)


def reason(text: str) -> str:
    """The first thing that ffmpeg complains about in what it said."""
    said = re.findall(r"^\[[^]]+ @ 0x[0-9a-f]+\] (.*\S)", text, re.MULTILINE)
    return said[0][:200] if said else "ffmpeg finds no video in it"
