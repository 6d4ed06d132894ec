"""The command demo.py, once for both trees: see liif_core.commands.entry."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from tqdm import tqdm

from liif_core.commands import sampler_options
from liif_core.commands.entry import BORDER_HELP, CONFIG_HELP, ENSEMBLE_HELP, GPU_HELP, MODEL_HELP, PRECISION_HELP
from liif_core.engine import PRECISIONS
from liif_core.errors import Stopped, UserError, one_line
from liif_core.geometry.tiling import BORDERS
from liif_core.images import frames_write, rgb8, vips
from liif_core.images.image import ImageData, fit
from liif_core.inference import frames, plan, zoom
from liif_core.inference.beside import compared, samples
from liif_core.inference.network import Network, choose_device
from liif_core.inference.network import load as load_network
from liif_core.inference.task import Task, require_new, task_of
from liif_core.inference.upscale import passes, upscale
from liif_core.system import memory
from liif_core.system.arguments import Parser, as_path
from liif_core.system.files import scratch
from liif_core.system.places import PRETRAINED

TILE_HELP = "encode in overlapping tiles of this side, in pixels, for less memory; 0: at once (default: auto, by size)"


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = Parser(description="Upscale images, animations and videos by any factor with LIIF.")
    plan.add_file_arguments(parser)
    plan.add_size_arguments(parser)
    parser.add_argument("--model", default=PRETRAINED, help=MODEL_HELP)
    parser.add_argument("--config", "--model-config", metavar="CONFIG", help=CONFIG_HELP)
    parser.add_argument("--metadata", choices=["keep", "strip"], default="keep", help="EXIF, XMP and the like")
    parser.add_argument("--compare", action="store_true", help="draw each result beside bicubic, in NAME_compare.png")
    parser.add_argument(
        "--samples", type=int, default=1, metavar="N", help="of a model that draws: N of them in NAME_samples.png"
    )
    zooming = parser.add_argument_group("a video of the zoom into one image, bicubic beside LIIF (.gif or .mp4)")
    zooming.add_argument("--zoom", type=float, metavar="FACTOR", help="how far; --resolution is then that of one half")
    zooming.add_argument("--centre", metavar="D,R", help="where to: fractions down,right (default: 0.5,0.5)")
    zooming.add_argument("--seconds", type=float, help="how long (default: 5)")
    zooming.add_argument("--fps", type=float, help="frames per second (default: 20)")
    parser.add_argument("--gpu", help=GPU_HELP)
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help=f"{PRECISION_HELP} (default: fp32)")
    parser.add_argument("--border", choices=BORDERS, default="mirror", help=f"{BORDER_HELP} (default: mirror)")
    parser.add_argument("--self-ensemble", action="store_true", help=ENSEMBLE_HELP)
    parser.add_argument("--tile", "-t", default="auto", help=TILE_HELP)
    sampler_options.add(parser)
    # What comes after `--` are images, whatever they begin with; argparse mixes that up with what comes before.
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    arguments = parser.parse_intermixed_args(words[:end])
    arguments.images += map(as_path, words[end + 1 :])
    arguments.tile = tile_side(arguments.tile)  # not as its type: argparse would say another sentence
    arguments.drawn = sampler_options.chosen(arguments)
    if arguments.samples < 1 or (arguments.samples > 1 and arguments.zoom is not None):
        raise UserError(f"--samples: expected 1 or more, and 1 with --zoom, got {arguments.samples}")
    return arguments


def tile_side(text: str) -> int | None:
    """The value of --tile; None for "auto"."""
    if text == "auto":
        return None
    if not text.isdecimal() or len(text) > 9:
        raise UserError(f"--tile: expected a side in pixels, 0 for the whole image, or auto, got {text}")
    return int(text)


class Progress:
    """A bar over the output pixels of all images and frames, and what is said beside it."""

    def __init__(self, tasks: list[Task]):
        self.count, self.number = len(tasks), 0
        self.bar = tqdm(total=sum(task.pixels for task in tasks), unit="px", unit_scale=True, leave=False, disable=None)

    def begin(self, task: Task, times: int) -> None:
        """An image or a video that goes through the network so many times."""
        self.number += 1
        self.bar.total += (times - 1) * task.pixels
        self.bar.set_description(f"{self.number}/{self.count} {one_line(task.source.name[:30])}")

    def say(self, text: str, error: bool = False) -> None:
        """A line that the bar does not tear."""
        tqdm.write(text, file=sys.stderr if error else sys.stdout)
        (sys.stderr if error else sys.stdout).flush()


def demo(framework: str, load_tree: Callable) -> None:
    """demo.py"""
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, _stop)

    def load() -> Network:
        device = choose_device(framework, arguments.gpu).kind
        rest = arguments.precision, arguments.tile, load_tree, arguments.border, arguments.self_ensemble
        network = load_network(
            arguments.model,
            framework,
            device,
            *rest,
            config=arguments.config,
            sampler=arguments.drawn,
            seed=arguments.seed,
        )
        if arguments.samples > 1 and not network.engine.preupsampled:
            raise UserError(
                f"--samples {arguments.samples}: {arguments.model} draws nothing, its samples would be equal"
            )
        if device == "cpu":
            memory.limit_memory()
        return network

    if arguments.zoom is not None:
        make_zoom_video(arguments, load)
    else:
        upscale_files(arguments, load)


def upscale_files(arguments: argparse.Namespace, load: Callable[[], Network]) -> None:
    """All images and videos, one after the other; leaves with status 2 if one failed."""
    for name in ("centre", "seconds", "fps"):
        if getattr(arguments, name) is not None:
            raise UserError(f"--{name} is for a zoom video: give --zoom FACTOR too")
    pairs, left_out = plan.files(arguments), plan.left_out(arguments)
    tasks, failed, skipped = [], 0, 0
    # Videos are decoded once to see that they are whole, which may take a while.
    for source, output in tqdm(pairs, "looking at files", leave=False, disable=None, delay=2):
        if arguments.skip_existing and os.path.lexists(output):
            skipped += 1
            continue
        try:
            tasks.append(task_of(source, output, arguments))
        except UserError as error:
            tqdm.write(f"error: {error}", file=sys.stderr)
            failed += 1
    if tasks:
        network = load()
        started, progress = time.monotonic(), Progress(tasks)
        for task in tasks:
            try:
                work = upscale_frames if task.frames else upscale_file
                progress.say(one_line(work(network, task, arguments, progress)))
            except (UserError, MemoryError) as error:
                reason = str(error) if isinstance(error, UserError) else "not enough memory"
                named = reason if task.source.name in reason else f"{task.source}: {reason}"
                progress.say(f"error: {named}", error=True)
                failed += 1
        progress.bar.close()
        print(f"{network.device}, {time.monotonic() - started:.2f} s")
    if len(pairs) > 1 or skipped:
        print(f"{len(pairs) - skipped - failed} upscaled, {skipped} skipped, {failed} failed")
    if left_out:
        print(one_line(left_out))
    if failed:
        sys.exit(2)


def make_zoom_video(arguments: argparse.Namespace, load: Callable[[], Network]) -> None:
    """The zoom into one image."""
    source, output = plan.zoom_files(arguments)
    if arguments.skip_existing and os.path.lexists(output):
        return print(one_line(f"{output} exists, skipped"))
    image = vips.read(source).rgb()
    size = (image.shape[0], image.shape[1])
    half = plan.output_size(size, arguments) if arguments.resolution else zoom.default_size(size)
    shown = zoom.ZoomVideo(half, arguments.zoom)
    if arguments.centre is not None:
        shown = replace(shown, centre=plan.centre(arguments.centre))
    if arguments.seconds is not None:
        shown = replace(shown, seconds=arguments.seconds)
    if arguments.fps is not None:
        shown = replace(shown, frames_per_second=arguments.fps)
    zoom.check(shown, output, size)
    network = load()
    started = time.monotonic()
    with tqdm(total=len(shown), unit="frame", leave=False, disable=None) as bar:
        zoom.make(network, image, output, shown, bar.update)
    print(one_line(f"{source} {size[0]}x{size[1]}, x{arguments.zoom:g} in {len(shown)} frames -> {output}"))
    print(f"{network.device}, {time.monotonic() - started:.2f} s")


def _stop(number, frame):
    raise Stopped("stopped; no image is left half written")


def upscale_file(network: Network, task: Task, arguments: argparse.Namespace, progress: Progress) -> str:
    """Upscale one image; what was done, in a line. Raises UserError."""
    image = fit(vips.read(task.source), task.output.suffix.lower())
    if image.size != task.source_size:
        raise UserError(f"{task.source} changed while the images before it were upscaled")
    progress.begin(task, passes(network, image))
    with scratch(task.output.parent, (*task.size, image.pixels.shape[2]), image.pixels.dtype) as result:
        upscale(network, image, result, progress.bar.update)
        require_new(task, arguments)
        vips.write(task.output, result, image, arguments.metadata)
        if arguments.compare and not (arguments.skip_existing and os.path.lexists(task.compare)):
            rgb8.write_image(task.compare, compared(image, result, network.caption))
    drawn = plan.samples_path(task.output)
    if arguments.samples > 1 and not (arguments.skip_existing and os.path.lexists(drawn)):
        rgb8.write_image(drawn, samples(network, image, arguments.samples))
    sizes = " -> ".join(f"{height}x{width}" for height, width in (task.source_size, task.size))
    return "; ".join([f"{task.source} {sizes} {task.output}", *network.notes(image.size, *task.size), *image.notes])


def upscale_frames(network: Network, task: Task, arguments: argparse.Namespace, progress: Progress) -> str:
    """Upscale a video, an animation or pages, as `upscale_file` does it; --compare draws the middle one."""
    source, suffix, notes, middle = task.frames, task.output.suffix.lower(), list(task.notes), []
    assert source is not None

    def images() -> Iterator[tuple[ImageData, tuple[int, int]]]:
        begun = 0
        for number, (image, size) in enumerate(zip(source.images(), task.sizes, strict=True)):
            image = fit(image, suffix)
            if not number:
                begun = passes(network, image)
                progress.begin(task, begun)
            progress.bar.total += (passes(network, image) - begun) * size[0] * size[1]
            progress.bar.set_postfix_str(f"{number + 1}/{source.count}", refresh=False)
            surprising = (*network.notes(image.size, *size), *image.notes)
            notes.extend(note for note in surprising if note not in notes)
            yield image, size

    def results() -> Iterator[tuple[ImageData, np.ndarray]]:
        done = frames.upscaled(network, images(), task.output.parent, progress.bar.update)
        for number, (image, result) in enumerate(done):
            if arguments.compare and number == source.count // 2:
                middle.append(compared(image, result, network.caption))
            yield image, result

    require_new(task, arguments)
    notes += frames_write.write(task.output, results(), source, arguments.metadata)
    progress.bar.set_postfix_str("")
    if middle and not (arguments.skip_existing and os.path.lexists(task.compare)):
        rgb8.write_image(task.compare, middle[0])
    sizes = " -> ".join(f"{height}x{width}" for height, width in (task.source_size, task.size))
    others = ", not all of this size" if len(set(task.sizes)) > 1 else ""
    count = f"{source.count} {'frames' if source.durations else 'pages'}{others}"
    return "; ".join([f"{task.source} {sizes} {task.output}", count, *notes])
