"""What demo.py is to do: with which images, how large the results are, and where they go. All of it is known before a
framework is imported."""

import argparse
import math
import os
from pathlib import Path

from liif_core.errors import UserError
from liif_core.geometry import coords
from liif_core.images import foreign, frames_read, rgb8, vips
from liif_core.images.image import FORMATS
from liif_core.images.video_read import READ, is_video
from liif_core.images.video_write import WRITTEN
from liif_core.inference import folders

SUFFIX = "_liif"  # of results that nobody gave a name
COMPARE = "_compare.png"


def compare_path(output: Path) -> Path:
    """NAME_compare.png for NAME.EXT."""
    return output.with_name(output.stem + COMPARE)


def samples_path(output: Path) -> Path:
    """NAME_samples.png for NAME.EXT."""
    return output.with_name(f"{output.stem}_samples.png")


def add_size_arguments(parser: argparse.ArgumentParser) -> None:
    """--scale, --resolution, --width and --height, of which one is given."""
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--scale", "-s", "--outscale", type=float, metavar="FACTOR", help="output size as a factor, like 3.7"
    )
    size.add_argument("--resolution", metavar="H,W", help="output height,width in pixels")
    size.add_argument("--width", type=int, metavar="W", help="output width in pixels; the height follows")
    size.add_argument("--height", type=int, metavar="H", help="output height in pixels; the width follows")


def check_size_arguments(arguments: argparse.Namespace) -> None:
    """Raise UserError for what is no size of any image."""
    if arguments.resolution is not None:
        parts = arguments.resolution.split(",")
        if len(parts) != 2 or not all(part.strip().isdecimal() and len(part.strip()) < 10 for part in parts):
            raise UserError(
                f"--resolution: expected two whole numbers height,width like 320,480, got '{arguments.resolution}'"
            )
        height, width = map(int, parts)
        coords.check_size(height, width)
    elif arguments.scale is not None:
        if not 0 < arguments.scale < math.inf:
            raise UserError(f"--scale: expected a factor above 0 like 3.7, got {arguments.scale}")
    elif arguments.width is None and arguments.height is None:
        raise UserError("no output size: give --scale FACTOR, --resolution H,W, --width W or --height H")
    for name in ("width", "height"):
        side = getattr(arguments, name)
        if side is not None and not 0 < side < 10**9:
            raise UserError(
                f"--{name}: expected at least 1 pixel, and no more than a format holds, got {str(side)[:20]}"
            )


def output_size(size: tuple[int, int], arguments: argparse.Namespace) -> tuple[int, int]:
    """Height and width of the result of an image of `size`. Raises UserError for what is no size, or too large."""
    check_size_arguments(arguments)
    if arguments.resolution is not None:
        height, width = map(int, arguments.resolution.split(","))
    elif arguments.height is not None:
        height, width = arguments.height, max(1, round(size[1] * arguments.height / size[0]))
    elif arguments.width is not None:
        height, width = max(1, round(size[0] * arguments.width / size[1])), arguments.width
    elif arguments.scale * max(size) == math.inf:
        raise UserError(f"--scale: expected a factor above 0 like 3.7, got {arguments.scale}")
    else:
        height, width = rgb8.upscaled_size(size, arguments.scale)
    rgb8.check_pixels((height, width))
    return height, width


def add_file_arguments(parser: argparse.ArgumentParser) -> None:
    """Which images and videos, and where to."""
    parser.add_argument("images", nargs="*", type=Path, help="images, videos, or folders of them")
    parser.add_argument(
        "--input",
        "-i",
        nargs="+",
        action="extend",
        type=Path,
        default=[],
        help="the same as naming images without it",
    )
    parser.add_argument("--recursive", action="store_true", help="look into the folders of folders too")
    parser.add_argument(
        "--output", "-o", type=Path, help=f"a file for one image, else a folder (default: NAME{SUFFIX}.EXT here)"
    )
    parser.add_argument("--suffix", help=f"suffix appended to output names (default: {SUFFIX}, in --output nothing)")
    endings = ["auto", *(ending[1:] for ending in (*FORMATS, *WRITTEN))]
    parser.add_argument("--ext", choices=endings, default="auto", help="format of results (auto: that of the input)")
    parser.add_argument(
        "--frames",
        choices=["auto", "all", "first"],
        default="auto",
        help="which of several images in a file (auto: all of an animation, the first of pages)",
    )
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="replace existing results")
    existing.add_argument("--skip-existing", action="store_true", help="skip existing results")


def files(arguments: argparse.Namespace) -> list[tuple[Path, Path]]:
    """Every image and video and the file that will become of it.

    Raises UserError if there are none, if two would write the same file, if a file of the user would be lost, or if a
    result cannot be written.
    """
    inputs = [*arguments.images, *arguments.input]
    if not inputs:
        raise UserError("no input: name an image or a folder, like --input image.png")
    check_size_arguments(arguments)
    if not {"/", "\0"}.isdisjoint(arguments.suffix or ""):
        raise UserError(f"--suffix '{arguments.suffix}': it is part of a name, and / is not; --output names a folder")
    if (
        arguments.ext != "auto"
        and _is_file(arguments, inputs)
        and arguments.output.suffix.lower() != f".{arguments.ext}"
    ):
        raise UserError(f"--ext {arguments.ext}: '{arguments.output}' names another format; give one of the two")
    unique: dict[tuple[Path, Path], tuple[Path, Path]] = {}
    for path in inputs:  # an image may be named twice, itself and with its folder
        for source, output in _below(path, arguments, inputs):
            unique.setdefault((_real(source), _real(output)), (source, output))
    pairs = list(unique.values())
    if not pairs:
        others = left_out(arguments)
        raise UserError(
            f"no images in {', '.join(map(str, inputs))}: looked for {vips.SUFFIXES}, {', '.join(READ)}"
            + (f"; {others}" if others else "")
            + ("" if arguments.recursive else "; --recursive looks into folders of it too")
        )
    if arguments.ext != "auto" and not any(f".{arguments.ext}" in _formats(source, arguments) for source, _ in pairs):
        kind = "a video or an animation" if f".{arguments.ext}" in WRITTEN else "an image"
        raise UserError(f"--ext {arguments.ext}: expected {kind} among the inputs, got none")
    written = [(source, result) for source, output in pairs for result in results(output, arguments)]
    _check_names(written)
    _check_existing([result for _, result in written], arguments)
    return pairs


def left_out(arguments: argparse.Namespace) -> str:
    """What the folders hold beside images and videos, in a sentence; empty if there is nothing."""
    inputs = [path for path in (*arguments.images, *arguments.input) if os.path.isdir(path)]
    others = {
        _real(file): (file, what) for path in inputs for file, what in folders.left_out(path, arguments.recursive)
    }
    for path in (*arguments.images, *arguments.input):  # those that are named beside their folder
        others.pop(_real(path), None)
    return folders.sentence(list(others.values()))


def zoom_files(arguments: argparse.Namespace) -> tuple[Path, Path]:
    """The image of a zoom video, and the video. Raises UserError as `files` does."""
    inputs = [*arguments.images, *arguments.input]
    if len(inputs) != 1 or os.path.isdir(inputs[0]) or is_video(inputs[0]):
        raise UserError("--zoom makes a video of one image: name one file")
    for name in ("scale", "width", "height"):
        if getattr(arguments, name) is not None:
            raise UserError(f"--{name} does not go with --zoom: give --resolution H,W for one half of the video")
    for name, without in (
        ("suffix", None),
        ("ext", "auto"),
        ("metadata", "keep"),
        ("compare", False),
        ("frames", "auto"),
        ("recursive", False),
    ):
        if getattr(arguments, name) != without:
            raise UserError(f"--{name} does not go with --zoom: a video is named by --output and holds no metadata")
    output = arguments.output or Path(f"{inputs[0].stem}_zoom.gif")
    _check_names([(inputs[0], output)])
    _check_existing([output], arguments)
    return inputs[0], output


def centre(text: str) -> tuple[float, float]:
    """Fractions of an image from "down,right"."""
    try:
        down, right = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--centre: expected two fractions down,right like 0.4,0.6, got '{text}'") from None
    return down, right


def _check_existing(outputs: list[Path], arguments: argparse.Namespace) -> None:
    """Raise UserError where a result is there already and nobody said what to do with it."""
    # A link that leads nowhere is there as well.
    existing = [output for output in outputs if os.path.lexists(output) and not os.path.isdir(output)]
    if existing and not (arguments.overwrite or arguments.skip_existing):
        count, them = f"{existing[0]} exists", "it"
        if len(existing) > 1:
            count, them = f"{len(existing)} results, such as {existing[0]}, exist", "them"
        raise UserError(f"{count} already: --overwrite replaces {them}, --skip-existing leaves {them}")


def _is_file(arguments: argparse.Namespace, inputs: list[Path]) -> bool:
    """Whether --output names a file, and no folder."""
    output = arguments.output
    return (
        output is not None
        and not os.path.isdir(output)
        and len(inputs) == 1
        and not os.path.isdir(inputs[0])
        and (output.suffix != "")
    )


def _below(path: Path, arguments: argparse.Namespace, inputs: list[Path]) -> list[tuple[Path, Path]]:
    """A file, or the images and videos of a folder, each with its output."""
    if _is_file(arguments, inputs):
        return [(path, arguments.output)]
    if not os.path.isdir(path):
        return [(path, _output(path, Path(), arguments, arguments.output))]
    into = arguments.output or Path(f"{_real(path).name}{SUFFIX}")
    found = folders.images(path, arguments.recursive)
    return [(file, _output(file, file.relative_to(path).parent, arguments, into)) for file in found]


def _real(path: Path) -> Path:
    """Without links and dots; unlike Path.resolve it takes loops and names that are too long as they are."""
    return Path(os.path.realpath(path))


def results(output: Path, arguments: argparse.Namespace) -> list[Path]:
    """All files that will become of an image, the result first."""
    several = vars(arguments).get("samples", 1) > 1  # other commands draw no more than one
    compared = [compare_path(output)] if arguments.compare else []
    return [output, *compared, *([samples_path(output)] if several else [])]


def _output(file: Path, below: Path, arguments: argparse.Namespace, into: Path | None) -> Path:
    suffix = arguments.suffix if arguments.suffix is not None else ("" if into else SUFFIX)
    formats = _formats(file, arguments)
    known = [ending for ending in (file.suffix, foreign.suffix(file)) if ending.lower() in formats]
    ending = (*known, formats[0])[0]
    if f".{arguments.ext}" in formats:  # of images and videos, --ext is for one
        ending = f".{arguments.ext}"
    stem = file.stem if folders.has_ending(file) else file.name
    return (into or Path()) / below / f"{stem}{suffix}{ending}"


def _formats(file: Path, arguments: argparse.Namespace) -> tuple[str, ...]:
    """The endings that a result can have, the usual one first: PNG and MP4."""
    if is_video(file):
        return (*WRITTEN, ".gif", ".webp")
    moving = f".{arguments.ext}" in WRITTEN and arguments.frames != "first" and _is_animation(file)
    return (*FORMATS, *WRITTEN) if moving else tuple(FORMATS)


def _is_animation(file: Path) -> bool:
    try:
        return frames_read.kind(file) == "frames"
    except UserError:  # said when it is its turn
        return False


def _check_names(written: list[tuple[Path, Path]]) -> None:
    """Raise UserError where a result would replace another one or an image. written: images and results."""
    sources = {_real(source): source for source, _ in written}
    first: dict[Path, Path] = {}
    for source, result in written:
        target = _real(result)
        if target in sources:
            raise UserError(f"the result of {source} would replace {sources[target]}: give --output or --suffix")
        if target in first:
            raise UserError(f"{first[target]} and {source} would both become {result}: rename one of them")
        first[target] = source
