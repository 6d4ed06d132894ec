"""Animated PNG, written frame by frame. Pillow would hold all frames until the last, and libvips knows none.

libvips compresses each frame as an image of its own; what makes an animation of them is written here, as
https://www.w3.org/TR/png-3/#apng-chunks says.
"""

import os
import struct
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import BinaryIO

import numpy as np

from liif_core.images import png_chunks, vips
from liif_core.images.image import ImageData
from liif_core.system.files import WRITING

KEEP, REPLACE = 0, 0  # what is done with a frame when it is over, and with what it covers


def write(
    name: str,
    images: Iterable[tuple[ImageData, np.ndarray]],
    durations: tuple[Fraction, ...],
    plays: int,
    metadata: str = "keep",
) -> None:
    """As liif_core.images.frames_write.write: images, of one size and kind, each shown for so many seconds; plays: how
    many times, 0 for ever. Each frame holds the rectangle in which it differs from the one before."""
    before, number = None, 0  # number: of the chunks of the animation
    with open(name, "wb") as file, tempfile.TemporaryDirectory(prefix=WRITING, dir=os.path.dirname(name)) as folder:
        for (image, pixels), duration in zip(images, durations, strict=True):
            rows, columns = (slice(None), slice(None)) if before is None else _changed(before, pixels)
            part = np.ascontiguousarray(pixels[rows, columns])
            image = replace(image, palette=False) if before is None else ImageData(part, image.depth)
            header, *more = _compressed(os.path.join(folder, "frame.png"), part, image, metadata)
            if before is None:
                file.write(png_chunks.MAGIC)
                _write(file, *header)
                _write(file, b"acTL", struct.pack(">II", len(durations), plays))
                for kind, body in more:
                    if kind not in (b"IDAT", b"IEND"):
                        _write(file, kind, body)
            box = part.shape[1], part.shape[0], columns.start or 0, rows.start or 0
            _write(file, b"fcTL", struct.pack(">5IHHBB", number, *box, *_fraction(duration), KEEP, REPLACE))
            number += 1
            for body in (body for kind, body in more if kind == b"IDAT"):
                if before is None:
                    _write(file, b"IDAT", body)
                else:
                    _write(file, b"fdAT", struct.pack(">I", number) + body)
                    number += 1
            before = np.array(pixels)
        _write(file, b"IEND", b"")


def _changed(before: np.ndarray, after: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of what differs; one pixel where nothing does."""
    changed = (before != after).any(axis=2)
    if not changed.any():
        return slice(0, 1), slice(0, 1)
    rows, columns = (np.flatnonzero(changed.any(axis=axis)) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _compressed(name: str, pixels: np.ndarray, image: ImageData, metadata: str) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of a PNG of its own; `name` is where it may lie."""
    vips.save(name, ".png", pixels, image, metadata)
    with open(name, "rb") as file:
        for place in png_chunks.places(file):
            file.seek(place.start + 8)
            yield place.name, file.read(place.end - place.start - png_chunks.AROUND)


def _write(file: BinaryIO, kind: bytes, body: bytes) -> None:
    file.write(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)))


def _fraction(duration: Fraction) -> tuple[int, int]:
    """Above and below the line, at most 65535."""
    near = duration.limit_denominator(65_535)
    if near.numerator <= 65_535:
        return near.numerator, near.denominator
    below = max(1, int(65_535 / duration))
    return min(65_535, round(duration * below)), below
