"""The command demo.py, once for both trees: see liif_core.cli."""

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from liif_core import coords, evaluation, imaging
from liif_core.cli import GPU_HELP, PRECISION_HELP, load_engine
from liif_core.config import PRETRAINED
from liif_core.engine import PRECISIONS
from liif_core.errors import UserError
from liif_core.normalisation import Normalisation

TILE_HELP = "encode in overlapping squares of this side, in pixels, for less memory; 0: at once (default: by size)"


def output_size(image: np.ndarray, resolution: str | None, scale: float | None) -> tuple[int, int]:
    """Height and width from "H,W" or a factor. Raises UserError for what is no picture."""
    if resolution is not None:
        parts = resolution.split(",")
        if len(parts) != 2 or not all(part.strip().isdecimal() for part in parts):
            raise UserError(f"--resolution '{resolution}': two whole numbers are wanted, height,width like 320,480")
        height, width = map(int, parts)
    elif scale is None:
        raise UserError("how large? give --resolution H,W or --scale FACTOR")
    elif not 0 < scale * max(image.shape[:2]) < math.inf:
        raise UserError(f"--scale {scale}: a factor above 0 like 3.7 is wanted")
    else:
        height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    coords.check_size(height, width)
    if height * width > imaging.MAX_PIXELS:
        raise UserError(f"output size {height}x{width}: at most {imaging.MAX_PIXELS:,} pixels are accepted")
    return height, width


def demo(framework: str, load_tree: Callable) -> None:
    """demo.py"""
    parser = argparse.ArgumentParser(description=f"Enlarge a picture with LIIF in {framework}.")
    parser.add_argument("--input", "-i", required=True, type=Path)
    parser.add_argument("--model", default=PRETRAINED, help="checkpoint (default: the one in pretrained/)")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--resolution", help="output height,width in pixels")
    size.add_argument("--scale", "-s", type=float, help="output size as a factor, any number above 0")
    parser.add_argument("--output", "-o", default="output.png", type=Path)
    parser.add_argument("--gpu", help=GPU_HELP)
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help=f"{PRECISION_HELP} (default: fp32)")
    parser.add_argument("--tile", "-t", type=int, help=TILE_HELP)
    arguments = parser.parse_args()
    if arguments.tile is not None and arguments.tile < 0:
        raise UserError(f"--tile {arguments.tile}: a side in pixels is wanted, or 0 for the whole picture")
    image = imaging.read_image(arguments.input)
    height, width = output_size(image, arguments.resolution, arguments.scale)
    imaging.check_writable(arguments.output)
    engine, norm, place = load_engine(arguments.model, framework, load_tree, arguments.gpu, arguments.precision)
    network = evaluation.Network(engine, Normalisation(norm), arguments.tile)
    started = time.monotonic()
    enlarged = np.empty((height, width, 3), dtype=np.uint8)
    bar = tqdm(total=height, unit="row", leave=False, disable=None)
    top = 0
    for band in network.bands(image, height, width):
        enlarged[top : top + len(band)] = imaging.to_uint8(band)
        top += len(band)
        bar.update(len(band))
    bar.close()
    imaging.write_image(arguments.output, enlarged)
    seconds = time.monotonic() - started
    print(f"{arguments.input} {image.shape[0]}x{image.shape[1]} -> {height}x{width} {arguments.output}")
    print(f"{place}, {seconds:.2f} s")
