"""Images beside each other under their captions, for the eye."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

CAPTION, GAP = 26, 8  # pixels


def upscale_pixels(image: np.ndarray, width: int) -> np.ndarray:
    """uint8 (h, w, 3) -> (h * width / w, width, 3), each pixel repeated."""
    height = round(image.shape[0] * width / image.shape[1])
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.NEAREST))


def comparison(
    images: Sequence[tuple[str, np.ndarray]],
    detail: tuple[int, int, int, int] | None = None,
    columns: int | None = None,
    below: Sequence[str] | None = None,
) -> np.ndarray:
    """One image of (caption, uint8 (h, w, 3)), all of one size, `columns` in a row (default: all).

    detail: top, left, height and width of a part that is shown below each image, upscaled to its width. below: a line
    of text under each.
    """
    cells = []
    for number, (caption, image) in enumerate(images):
        width = image.shape[1]
        parts = [line(caption, width), image]
        if detail:
            top, left, height, across = detail
            part = upscale_pixels(image[top : top + height, left : left + across], width)
            parts += [np.full((GAP, width, 3), 255, np.uint8), part]
        parts += [line(below[number], width)] if below else []
        cells.append(np.concatenate(parts))
    height, width = cells[0].shape[:2]
    columns = min(columns or len(cells), len(cells))
    rows = -(-len(cells) // columns)
    canvas = np.full(((height + GAP) * rows - GAP, (width + GAP) * columns - GAP, 3), 255, np.uint8)
    for number, cell in enumerate(cells):
        y, x = (number // columns) * (height + GAP), (number % columns) * (width + GAP)
        canvas[y : y + height, x : x + width] = cell
    return canvas


def sheet(images: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Images uint8 (h, w, 3) of one size in rows of `columns`, with nothing between them; what is left is white."""
    height, width = images[0].shape[:2]
    rows = -(-len(images) // columns)
    canvas = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for number, image in enumerate(images):
        y, x = number // columns * height, number % columns * width
        canvas[y : y + height, x : x + width] = image
    return canvas


def line(text: str, width: int) -> np.ndarray:
    """A line of text, uint8 (CAPTION, width, 3), black on white; what is too long is cut."""
    canvas = Image.new("RGB", (width, CAPTION), "white")
    ImageDraw.Draw(canvas).text((2, 2), text, fill="black", font=ImageFont.load_default(size=17))
    return np.array(canvas)
