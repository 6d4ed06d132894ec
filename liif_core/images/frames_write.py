"""Files of several images, written image by image, one of them in memory at a time.

libvips writes GIF, from all frames in a scratch file, and the pages of a TIFF, which Pillow joins. Pillow writes WebP
and AVIF. PNG is in liif_core.images.apng, and videos in video_write.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import chain, repeat
from math import gcd, lcm
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from PIL.TiffImagePlugin import AppendingTiffWriter

from liif_core.errors import UserError
from liif_core.images import apng, objects, video_write, vips
from liif_core.images.frames_read import PAGED, TIMED, Frames
from liif_core.images.image import ImageData, pyvips
from liif_core.images.video_read import Video
from liif_core.images.video_write import WRITTEN
from liif_core.system.files import WRITING, replacing, scratch

Source = Frames | Video
Results = Iterator[tuple[ImageData, np.ndarray]]  # what `fit` gave for the ending, and pixels (h, w, c) in its place
ROWS = 10_000_000  # of all frames of a GIF together, in libvips
SHORTEST = Fraction(1, 50)  # seconds: what players take for a mistake is shorter, and they show it for USUAL
USUAL = Fraction(1, 10)
FASTEST = 100  # frames per second of a video made from frames of different durations; the clock of GIF
LONGEST = 65_535  # hundredths of a second that GIF holds


def endings(source: Source) -> tuple[str, ...]:
    """Of the files that can hold all images of a source."""
    if isinstance(source, Video):
        return (*WRITTEN, ".gif", ".webp")
    return (*TIMED, *WRITTEN, *PAGED) if source.durations else PAGED


def check_output(path: Path, source: Source, sizes: Iterable[tuple[int, int]]) -> None:
    """Raise UserError before the work starts if `write` could not write images of these sizes (h, w) there."""
    suffix = path.suffix.lower()
    if suffix not in endings(source):
        accepted = ", ".join(endings(source))
        raise UserError(f"cannot tell a video format from '{path.name}': accepted are {accepted}")
    for size in set(sizes):
        if suffix in WRITTEN:
            video_write.check_output(path, size)
        else:
            vips.check_output(path, *size)
        if suffix == ".gif" and source.count * size[0] > ROWS:
            raise UserError(f"{source.count} frames of {size[0]} rows: a GIF takes at most {ROWS:,} in all; try WebP")


def lost(suffix: str, source: Source) -> list[str]:
    """What of a source a file with that ending does not hold, beside what `fit` says of each image."""
    notes, name = [], suffix[1:].upper()
    if suffix not in WRITTEN and isinstance(source, Video):
        notes += [f"{name} has no sound"] if source.sound else []
        notes += [f"{name} has square pixels: its shape changes"] if source.pixel != 1 else []
    if suffix in PAGED and source.durations:
        notes.append(f"{name} has no durations: pages")
    if suffix == ".gif" and source.durations != _for_gif(source.durations):
        notes.append(f"GIF counts hundredths of a second, from 2 to {LONGEST}: durations change")
    if suffix == ".avif" and source.plays:
        notes.append("AVIF has no number of plays here")
    if suffix in WRITTEN and isinstance(source, Frames):
        shown = _as_shown(source.durations)
        video, times = as_video(source)
        if shown != list(source.durations):
            notes.append("frames of less than 20 ms stay for 100, as players show them")
        if [count / video.rate for count in times] != shown:
            notes.append(f"durations change to whole numbers of 1/{FASTEST} s")
    return notes


def write(path: Path, images: Results, source: Source, metadata: str = "keep") -> list[str]:
    """Write as many images as the source has, with its durations; an ending of `endings` says as what.

    metadata: "keep", or "strip" for all but the profile. The file appears under its name only when it is whole. Returns
    what was not kept, a few words each. Raises UserError when it cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix in WRITTEN:
        if isinstance(source, Video):
            return video_write.write(path, map(_rgb, images), source, metadata)
        video, times = as_video(source)
        shown = chain.from_iterable(repeat(_rgb(result), count) for result, count in zip(images, times, strict=True))
        return video_write.write(path, shown, video, metadata, alone=True)
    with replacing(path) as temporary, vips.explained(path):
        return WRITERS[suffix](temporary, images, source, metadata)


def _rgb(result: tuple[ImageData, np.ndarray]) -> np.ndarray:
    pixels = result[1]
    return pixels if pixels.shape[2] == 3 else np.broadcast_to(pixels, (*pixels.shape[:2], 3))


def as_video(source: Frames) -> tuple[Video, list[int]]:
    """An animation as a video of constant rate, and how many times each frame is shown.

    The rate is the lowest at which every frame has its duration, from 1 to FASTEST; where there is none, frames end at
    the nearest time.
    """
    durations = _as_shown(source.durations)
    below = lcm(*(duration.denominator for duration in durations))
    rate = Fraction(below, gcd(*(int(duration * below) for duration in durations)))
    rate = min(rate * -(-1 // rate), Fraction(FASTEST))
    times = _whole(durations, rate)
    return Video(source.path, source.size, rate, sum(times)), times


def _as_shown(durations: Iterable[Fraction]) -> list[Fraction]:
    return [duration if duration >= SHORTEST else USUAL for duration in durations]


def _whole(durations: Iterable[Fraction], rate: Fraction | int) -> list[int]:
    """Durations in whole numbers of 1 / rate; each end is at most half of that away from where it was."""
    total, ends = Fraction(0), [0]
    for duration in durations:
        total += duration
        ends.append(round(total * rate))
    return [end - start for start, end in zip(ends, ends[1:], strict=False)]


def _for_gif(durations: tuple[Fraction, ...]) -> tuple[Fraction, ...]:
    """Hundredths of a second, in seconds; those that are whole stay, and none becomes one that players do not heed."""
    if all(duration * 100 % 1 == 0 for duration in durations):
        return tuple(min(duration, Fraction(LONGEST, 100)) for duration in durations)
    return tuple(Fraction(min(max(2, count), LONGEST), 100) for count in _whole(durations, 100))


def _gif(name: str, images: Results, source: Source, metadata: str) -> list[str]:
    image, pixels = next(images)
    height = len(pixels)
    with scratch(Path(name).parent, (source.count * height, *pixels.shape[1:]), pixels.dtype) as joined:
        for number, (_, frame) in enumerate(chain([(image, pixels)], images)):
            joined[number * height : (number + 1) * height] = frame
        kind = pyvips.GValue
        fields: dict[str, tuple[int, object]] = {
            "page-height": (kind.gint_type, height),
            "delay": (kind.array_int_type, [int(1000 * duration) for duration in _for_gif(source.durations)]),
            "loop": (kind.gint_type, source.plays),
        }
        vips.save(name, ".gif", joined, replace(image, fields=fields), metadata)
    return []


def _pages(name: str, images: Results, source: Source, metadata: str) -> list[str]:
    large = isinstance(source, Frames) and 8 * sum(down * across for down, across in source.sizes) > 1 << 30
    with AppendingTiffWriter(name, True) as file, _folder(name) as folder:
        page = os.path.join(folder, "page.tif")
        for image, pixels in images:
            vips.save(page, ".tif", pixels, image, metadata, large)
            with open(page, "rb") as content:
                shutil.copyfileobj(content, file)
            file.newFrame()
    return []


def _folder(name: str) -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix=WRITING, dir=os.path.dirname(name))


# WebP and AVIF


class Sequence:
    """Images that Pillow's writers of animations ask for one after the other, as they do with a file of several."""

    is_animated, encoderconfig = True, ()

    def __init__(self, images: Results, count: int, options: dict[str, Any]):
        self.images, self.n_frames, self.encoderinfo = images, count, options
        self.number = -1
        self.seek(0)

    def seek(self, number: int) -> None:
        """Go forward; at the end they ask for what was at the beginning, and do not look at it."""
        if number >= self.n_frames:
            raise EOFError
        while self.number < number:
            pixels = np.asarray(next(self.images)[1])
            self.frame = PIL.Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
            self.number += 1

    def tell(self) -> int:
        """The number of the image."""
        return self.number

    def __getattr__(self, name: str) -> Any:
        return getattr(self.frame, name)


def _by_pillow(name: str, images: Results, source: Source, metadata: str) -> list[str]:
    first = next(images)
    info = objects.info(first[0])
    kept = ("icc_profile", "exif", "xmp") if metadata == "keep" else ("icc_profile",)
    options: dict[str, Any] = {key: value for key, value in info.items() if key in kept}
    options |= {"quality": vips.QUALITY, "duration": _whole(source.durations, 1000), "loop": source.plays}
    if name.lower().endswith(".webp"):
        options |= {"method": 4, "exif": options.get("exif", b"").removeprefix(b"Exif\0\0")}
    else:
        options["subsampling"] = "4:4:4"
    PIL.Image.init()
    with open(name, "wb") as file:
        sequence = Sequence(chain([first], images), source.count, options)
        PIL.Image.SAVE_ALL[name.rpartition(".")[2].upper()](sequence, file, name)  # type: ignore[arg-type]
    damaged = metadata == "keep" and "exif-data" in first[0].fields and "exif" not in info
    return ["its EXIF is damaged: not kept"] if damaged else []


def _png(name: str, images: Results, source: Source, metadata: str) -> list[str]:
    apng.write(name, images, source.durations, source.plays, metadata)
    return []


Writer = Callable[[str, Results, Source, str], list[str]]
WRITERS: dict[str, Writer] = {".gif": _gif, ".webp": _by_pillow, ".avif": _by_pillow, ".png": _png}
WRITERS |= dict.fromkeys(PAGED, _pages)
