"""What is to be done with one file: how large, and which of its images. Known before a framework is imported."""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

from liif_core.errors import UserError
from liif_core.images import frames_read, frames_write, rgb8, video_read, video_write, vips
from liif_core.images.frames_read import PAGED, TIMED, Frames
from liif_core.images.video_write import WRITTEN
from liif_core.inference import plan


@dataclass(frozen=True)
class Task:
    """One image or video: from where, to where, and how large.

    frames: what is in a file of several images that go through the network. sizes: of their results; of one image its
    own. notes: what may surprise, a few words each.
    """

    source: Path
    output: Path
    source_size: tuple[int, int]
    sizes: tuple[tuple[int, int], ...]
    frames: frames_write.Source | None = None
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the result, of several the first."""
        return self.sizes[0]

    @property
    def pixels(self) -> int:
        """Number of pixels of the result, in all frames."""
        return sum(height * width for height, width in self.sizes)

    @property
    def compare(self) -> Path:
        """Where --compare draws the result beside bicubic."""
        return plan.compare_path(self.output)


def task_of(source: Path, output: Path, arguments: argparse.Namespace) -> Task:
    """Raises UserError for an image or video that cannot be read, or not be upscaled so far."""
    beside = plan.results(output, arguments)[1:]
    try:
        for path in beside:
            rgb8.check_writable(path)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    if frames := _frames(source, output, arguments):
        if plan.samples_path(output) in beside:
            raise UserError(f"{source}: --samples draws one image several times, and this has {frames.count} of them")
        return _frames_task(frames, output, arguments)
    source_size = vips.read_header(source)
    try:
        size = plan.output_size(source_size, arguments)
        vips.check_output(output, *size)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    return Task(source, output, source_size, (size,))


def require_new(task: Task, arguments: argparse.Namespace) -> None:
    """Raise UserError where another program has written the result since `plan.files` looked."""
    if os.path.lexists(task.output) and not arguments.overwrite:
        raise UserError(f"{task.output} has been written by another program meanwhile: --overwrite replaces it")


def _frames(source: Path, output: Path, arguments: argparse.Namespace) -> frames_write.Source | None:
    """What is in a video, or in a file of several images of which more than the first goes through the network."""
    if video_read.is_video(source):
        if arguments.frames == "first":
            raise UserError(f"{source}: --frames first is for images of several frames, and this is a video")
        return video_read.inspect(source)
    kind = frames_read.kind(source)
    if arguments.frames == "first" or not kind or (arguments.frames == "auto" and kind == "pages"):
        return None
    if output.suffix.lower() not in (PAGED if kind == "pages" else (*TIMED, *PAGED, *WRITTEN)):
        return None  # as of every image of several, the line says that it is the first
    return frames_read.inspect(source)


def _frames_task(frames: frames_write.Source, output: Path, arguments: argparse.Namespace) -> Task:
    before = frames.sizes if isinstance(frames, Frames) else (frames.size,) * frames.count
    suffix, notes = output.suffix.lower(), [*frames.notes]
    try:
        sizes = tuple(plan.output_size(size, arguments) for size in before)
        if suffix in WRITTEN:
            asked, sizes = sizes[0], tuple(map(video_write.even, sizes))
            notes += [f"videos have even sides, so not {asked[0]}x{asked[1]}"] if asked != sizes[0] else []
        frames_write.check_output(output, frames, sizes)
    except UserError as error:
        raise UserError(f"{frames.path}: {error}") from None
    return Task(frames.path, output, frames.size, sizes, frames, (*notes, *frames_write.lost(suffix, frames)))
