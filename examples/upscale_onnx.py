"""Upscale an image with the two graphs that scripts/export.py writes:

    python upscale_onnx.py FOLDER INPUT OUTPUT --scale 3.7

Needs onnxruntime, numpy and Pillow and nothing else: copy it wherever you like.
"""

import argparse
import json
import sys
from pathlib import Path

try:
    import numpy as np
    import onnxruntime
    from PIL import Image, ImageOps
except ImportError as error:
    sys.exit(f"error: {error.name} is missing: run `{sys.executable} -m pip install onnxruntime numpy pillow`")

QUERIES = 1 << 16  # decoded at a time; 13 KB of memory each
MODES = ("1", "L", "P", "RGB", "YCbCr")  # of Pillow; it makes RGB of them without a loss
GREY = (258, 262)  # tags of a TIFF: bits, and 1 where 0 is black
SETTINGS = ("inp_sub", "inp_div", "gt_sub", "gt_div")


def open_graph(path: Path) -> onnxruntime.InferenceSession:
    """One of the two graphs, on the CPU."""
    if not path.is_file():
        sys.exit(f"error: no {path}: FOLDER must hold encoder.onnx and decoder.onnx, as scripts/export.py writes them")
    options = onnxruntime.SessionOptions()
    options.enable_mem_pattern = False  # it would take twice the memory and save no time
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class for each thing that a file can suffer from
        sys.exit(f"error: {path} is not a graph that onnxruntime can read: {error}")


def read_image(path: Path) -> np.ndarray:
    """uint8 (H, W, 3), RGB; of 16 bits of grey the upper eight. Others would need more than these few lines."""
    try:
        with Image.open(path) as image:
            tags = getattr(image, "tag_v2", {})
            known = image.format == "PNG" or [tags.get(tag) for tag in GREY] == [(16,), 1]
            if known and image.mode[:4] in ("I;16", "I") and "transparency" not in image.info:
                levels = np.asarray(ImageOps.exif_transpose(image)) >> 8
                return np.repeat(levels.astype(np.uint8)[..., None], 3, axis=2)
            upright = ImageOps.exif_transpose(image)
            if "transparency" in image.info or image.mode in ("LA", "PA", "RGBA"):
                upright = upright.convert("RGBA")
                if upright.getextrema()[3][0] < 255:
                    sys.exit(f"error: {path} has transparent pixels: expected opaque ones; give it a background")
            elif image.mode not in MODES:
                sys.exit(f"error: {path} is {image.mode}: expected grey, RGB or a palette; convert it to RGB")
            return np.array(upright.convert("RGB"))
    except (OSError, ValueError) as error:
        sys.exit(f"error: cannot read {path} as an image: {error}")


def pixel_centres(n: int) -> np.ndarray:
    """(n,) float32: an image covers [-1, 1] along each axis."""
    return np.float32(-1 + 1 / n) + np.float32(2 / n) * np.arange(n, dtype=np.float32)


def upscale(folder: Path, image: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 (H, W, 3) -> uint8 (height, width, 3)."""
    encoder, decoder = open_graph(folder / "encoder.onnx"), open_graph(folder / "decoder.onnx")
    properties = encoder.get_modelmeta().custom_metadata_map
    if not set(SETTINGS) <= set(properties):
        sys.exit(f"error: {folder / 'encoder.onnx'} does not say how images are normalised: scripts/export.py does")
    inp_sub, inp_div, gt_sub, gt_div = (np.float32(json.loads(properties[name])) for name in SETTINGS)
    inp = (np.float32(image) / 255 - inp_sub) / inp_div
    (feat,) = encoder.run(None, {"inp": inp.transpose(2, 0, 1)[None]})
    down, right = pixel_centres(height), pixel_centres(width)
    cell = np.float32([[2 / height, 2 / width]])
    # Each call convolves the feature map once more, so that there should be no more calls than memory asks for.
    rows = max(1, QUERIES // width)
    bands = []
    for top in range(0, height, rows):
        coord = np.stack(np.meshgrid(down[top : top + rows], right, indexing="ij"), axis=-1)
        (rgb,) = decoder.run(None, {"feat": feat, "coord": coord.reshape(1, -1, 2), "cell": cell})
        values = np.clip(rgb * gt_div + gt_sub, 0, 1)
        if not np.isfinite(rgb).all():
            sys.exit("error: the graphs give NaN or infinity: their numbers overflow")
        bands.append(np.rint(values * 255).astype(np.uint8).reshape(-1, width, 3))
    return np.concatenate(bands)


def main() -> None:
    """Read, upscale, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0].rstrip(":"))
    parser.add_argument("folder", type=Path, help="with encoder.onnx and decoder.onnx")
    parser.add_argument("input", type=Path, help="an image")
    parser.add_argument("output", type=Path, help="the image to write; the ending chooses the format")
    parser.add_argument("--scale", type=float, default=4, help="any number above 0 (default: 4)")
    arguments = parser.parse_args()
    image = read_image(arguments.input)
    if not 0 < arguments.scale * max(image.shape[:2]) < 30000:
        parser.error(f"--scale {arguments.scale}: above 0, and no side longer than 30000 pixels, is accepted")
    height, width = (max(1, round(side * arguments.scale)) for side in image.shape[:2])
    upscaled = upscale(arguments.folder, image, height, width)
    try:
        Image.fromarray(upscaled).save(arguments.output)
    except (OSError, ValueError) as error:
        sys.exit(f"error: cannot write {arguments.output}: {error}")
    print(f"{arguments.input} {image.shape[0]}x{image.shape[1]} -> {height}x{width} {arguments.output}")


if __name__ == "__main__":
    main()
