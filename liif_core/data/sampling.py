"""What a sample is, as a pure function of (seed, epoch, index).

Both frameworks, any number of workers and any resumed run draw the same crops in the same order,
because no random state is carried from one sample to the next.
"""

import functools

import numpy as np

from liif_core.geometry import coords

# First word of every seed: keeps the order of an epoch, its samples, validation, what happens in a step and what a
# prediction draws apart.
ORDER, TRAINING, VALIDATION, STEP, NOISE = 0, 1, 2, 3, 4

Flips = tuple[bool, bool, bool]  # vertical, horizontal, then diagonal
UNFLIPPED: Flips = (False, False, False)

_centres = functools.lru_cache(maxsize=1024)(coords.pixel_centres)  # crops come in few sizes


def epoch_order(seed: int, epoch: int, length: int) -> np.ndarray:
    """(length,) the shuffled order in which a training epoch visits the data set."""
    return np.random.default_rng((ORDER, seed, epoch)).permutation(length)


def step_seed(seed: int, step: int, rank: int = 0) -> int:
    """What a framework's own random numbers of training step `step` start from, others in each process: nothing to
    save, nothing to resume.

    Below 2^31, for Jittor keeps a seed as a signed int.
    """
    return int(np.random.SeedSequence((STEP, seed, step, *([rank] if rank else ()))).generate_state(1)[0] >> 1)


def generator(seed: int, epoch: int, index: int, training: bool) -> np.random.Generator:
    """The random numbers of one sample; validation ignores seed and epoch: its crops never change."""
    key = (TRAINING, seed, epoch, index) if training else (VALIDATION, index)
    return np.random.default_rng(key)


def noise(seed: int, index: int) -> np.random.Generator:
    """The random numbers of the prediction of image `index`, for methods that draw: the same in both frameworks."""
    return np.random.default_rng((NOISE, seed, index))


def crop_start(rng: np.random.Generator, length: int, size: int) -> int:
    """Where a crop of `size` pixels starts on an axis of `length` pixels, all places equally likely."""
    return int(rng.integers(0, length - size + 1))


def flips(rng: np.random.Generator) -> Flips:
    """Vertical, horizontal and diagonal flip, each with probability 1/2: the 8 symmetries of a square."""
    down, right, diagonal = (rng.random(3) < 0.5).tolist()
    return down, right, diagonal


def flip(image: np.ndarray, down: bool, right: bool, diagonal: bool) -> np.ndarray:
    """Apply the three flips to an image (h, w, 3)."""
    if down:
        image = image[::-1]
    if right:
        image = image[:, ::-1]
    return image.swapaxes(0, 1) if diagonal else image


def flip_window(window: coords.Window, down: bool, right: bool, diagonal: bool) -> coords.Window:
    """Where a window of an image lies in the flipped image."""
    (top, bottom), (left, last) = window
    rows = (-bottom, -top) if down else (top, bottom)
    columns = (-last, -left) if right else (left, last)
    return (columns, rows) if diagonal else (rows, columns)


def pick(rng: np.random.Generator, pixels: int, count: int) -> np.ndarray:
    """(count,) distinct pixel numbers below `pixels`, in no particular order."""
    return rng.choice(pixels, count, replace=False, shuffle=False)


def queries(image: np.ndarray, flips: Flips, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (Q, 2) float32 in [-1, 1] and colours (Q, 3) uint8 of `flip(image, *flips)`, for an image (h, w, 3).

    which: (Q,) row-by-row numbers of pixels in the flipped image. They are few, so that it is cheaper to look for
    them where they were than to flip the image.
    """
    height, width = flip(image, *flips).shape[:2]
    row = which // width
    column = which - row * width
    coord = np.empty((len(which), 2), np.float32)
    coord[:, 0], coord[:, 1] = _centres(height).take(row), _centres(width).take(column)

    down, right, diagonal = flips
    height, width = image.shape[:2]
    if diagonal:
        row, column = column, row
    if down:
        row = height - 1 - row
    if right:
        column = width - 1 - column
    return coord, image.reshape(-1, 3).take(row * width + column, axis=0)


def batches(
    seed: int, epoch: int, length: int, batch_size: int, shuffle: bool, start_batch: int = 0
) -> list[np.ndarray]:
    """The indices of each batch of an epoch from batch `start_batch` on; the last may be smaller."""
    order = epoch_order(seed, epoch, length) if shuffle else np.arange(length)
    starts = range(start_batch * batch_size, length, batch_size)
    return [order[start : start + batch_size] for start in starts]
