"""What a sample is, as a pure function of (seed, epoch, index).

Both frameworks, any number of workers and any resumed run draw the same crops in the same order,
because no random state is carried from one sample to the next.
"""

import numpy as np

# First word of every seed: keeps the order of an epoch, its samples and validation apart.
ORDER, TRAINING, VALIDATION = 0, 1, 2


def epoch_order(seed: int, epoch: int, length: int) -> np.ndarray:
    """(length,) the shuffled order in which a training epoch visits the data set."""
    return np.random.default_rng((ORDER, seed, epoch)).permutation(length)


def generator(seed: int, epoch: int, index: int, training: bool) -> np.random.Generator:
    """The random numbers of one sample; validation ignores seed and epoch: its crops never change."""
    key = (TRAINING, seed, epoch, index) if training else (VALIDATION, index)
    return np.random.default_rng(key)


def crop_start(rng: np.random.Generator, length: int, size: int) -> int:
    """Where a crop of `size` pixels starts on an axis of `length` pixels, all places equally likely."""
    return int(rng.integers(0, length - size + 1))


def flips(rng: np.random.Generator) -> tuple[bool, bool, bool]:
    """Vertical, horizontal and diagonal flip, each with probability 1/2: the 8 symmetries of a square."""
    down, right, diagonal = rng.random(3) < 0.5
    return bool(down), bool(right), bool(diagonal)


def flip(image: np.ndarray, down: bool, right: bool, diagonal: bool) -> np.ndarray:
    """Apply the three flips to an image (h, w, 3)."""
    if down:
        image = image[::-1]
    if right:
        image = image[:, ::-1]
    return image.swapaxes(0, 1) if diagonal else image


def pick(rng: np.random.Generator, pixels: int, count: int) -> np.ndarray:
    """(count,) distinct pixel numbers below `pixels`, in no particular order."""
    return rng.choice(pixels, count, replace=False, shuffle=False)


def batches(
    seed: int, epoch: int, length: int, batch_size: int, shuffle: bool, start_batch: int = 0
) -> list[np.ndarray]:
    """The indices of each batch of an epoch from batch `start_batch` on; the last may be smaller."""
    order = epoch_order(seed, epoch, length) if shuffle else np.arange(length)
    starts = range(start_batch * batch_size, length, batch_size)
    return [order[start : start + batch_size] for start in starts]
