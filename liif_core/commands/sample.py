"""The command sample.py, once for both trees: images that a network makes of noise alone."""

import math
import time
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from liif_core.commands import sampler_options
from liif_core.commands.entry import CONFIG_HELP, GPU_HELP, PRECISION_HELP
from liif_core.data import sampling
from liif_core.engine import MODEL, PRECISIONS
from liif_core.errors import UserError
from liif_core.images import comparison, rgb8, vips
from liif_core.inference import network
from liif_core.system.arguments import Parser
from liif_core.system.files import check_new

AT_ONCE = 8  # images that go through the network together


def side(text: str | None, found: network.Network) -> tuple[int, int]:
    """Height and width of --size, or those that the network was trained with."""
    if text is None:
        own = getattr(found.engine.networks[MODEL].predictor, "image_size", 1)  # of others no sample is drawn
        return own, own
    parts = text.split(",")
    if not 1 <= len(parts) <= 2 or not all(part.isdecimal() and 0 < int(part) <= 1 << 14 for part in parts):
        raise UserError(f"--size: expected a side, or height and width, in pixels, like 64 or 64,96, got {text}")
    return int(parts[0]), int(parts[-1])


def path_of(folder: Path, number: int) -> Path:
    """Where --images keeps an image."""
    return folder / f"{number:05d}.png"


def sample(framework: str, load_tree: Callable) -> None:
    """sample.py"""
    parser = Parser(description=f"Images that a model of diffusion makes of noise, in {framework}.")
    parser.add_argument("--model", required=True, help="checkpoint of a model without a condition")
    parser.add_argument("--config", "--model-config", metavar="CONFIG", help=CONFIG_HELP)
    parser.add_argument("--count", type=int, default=16, help="how many (default: 16)")
    parser.add_argument("--size", help="side, or height,width, in pixels (default: as the model was trained)")
    parser.add_argument("--output", "-o", type=Path, default=Path("samples.png"), help="all on one sheet")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="write each to FOLDER/00000.png ... as well")
    parser.add_argument("--overwrite", action="store_true", help="replace existing images")
    parser.add_argument("--gpu", help=GPU_HELP)
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help=f"{PRECISION_HELP} (default: fp32)")
    sampler_options.add(parser)
    arguments = parser.parse_args()
    sampler = sampler_options.chosen(arguments)
    if arguments.count < 1:
        raise UserError(f"--count: expected 1 or more images, got {arguments.count}")
    rgb8.check_writable(arguments.output)
    if arguments.images:
        rgb8.check_writable(path_of(arguments.images, 0))
    numbered = (path_of(arguments.images, k) for k in range(arguments.count)) if arguments.images else ()
    for path in (arguments.output, *numbered):
        check_new(path, Path(arguments.model), arguments.overwrite)
    kind = network.choose_device(framework, arguments.gpu).kind
    loaded = network.load(
        arguments.model, framework, kind, arguments.precision, None, load_tree, config=arguments.config, sampler=sampler
    )
    height, width = side(arguments.size, loaded)
    columns = math.ceil(math.sqrt(arguments.count))
    if arguments.output.suffix.lower() in vips.FORMATS:
        vips.check_output(arguments.output, height * math.ceil(arguments.count / columns), width * columns)
    started, noise, images = time.monotonic(), sampling.noise(arguments.seed, 0), []
    with tqdm(total=arguments.count, unit="image", leave=False, disable=None) as bar:
        for first in range(0, arguments.count, AT_ONCE):
            count = min(AT_ONCE, arguments.count - first)
            for image in loaded.engine.sample(count, height, width, noise):
                images.append(rgb8.to_uint8(loaded.normalisation.rgb(image)))
                if arguments.images:
                    rgb8.write_image(path_of(arguments.images, len(images) - 1), images[-1])
                bar.update()
    rgb8.write_image(arguments.output, comparison.sheet(images, columns))
    seconds = time.monotonic() - started
    print(f"{len(images)} images of {height}x{width} -> {arguments.output}; {loaded.device}, {seconds:.1f} s")
