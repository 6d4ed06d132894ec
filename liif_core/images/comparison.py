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
) -> np.ndarray:
    """One image of (caption, uint8 (h, w, 3)), all of one size, `columns` in a row (default: all).

    detail: top, left, height and width of a part that is shown below each image, upscaled to its width.
    """
    cells = []
    for _, image in images:
        cell = image
        if detail:
            top, left, height, width = detail
            part = upscale_pixels(image[top : top + height, left : left + width], image.shape[1])
            cell = np.concatenate([image, np.full((GAP, image.shape[1], 3), 255, np.uint8), part])
        cells.append(cell)
    height, width = cells[0].shape[:2]
    columns = columns or len(cells)
    rows = -(-len(cells) // columns)
    size = (width + GAP) * min(columns, len(cells)) - GAP, (CAPTION + height + GAP) * rows - GAP
    canvas = Image.new("RGB", size, "white")
    font = ImageFont.load_default(size=17)
    for number, ((caption, _), cell) in enumerate(zip(images, cells, strict=True)):
        x, y = (number % columns) * (width + GAP), (number // columns) * (CAPTION + height + GAP)
        ImageDraw.Draw(canvas).text((x + 2, y + 2), caption, fill="black", font=font)
        canvas.paste(Image.fromarray(cell), (x, y + CAPTION))
    return np.array(canvas)
