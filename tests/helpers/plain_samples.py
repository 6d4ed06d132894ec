"""The oracle of the data: what a sample is, plain and slow, for the fast path to be held against, bit for bit.

Committed weights and resumed runs hang on these bits. Images are cut, flipped and copied as a whole, each random
number is drawn where the recipe names it, and coordinates are computed for every pixel. Nothing of liif_core is used;
of a wrapper only its data set and its arguments are read.
"""

import math

import numpy as np
from PIL import Image

TRAINING, VALIDATION = 1, 2  # the first word of a sample's seed


def pair(wrapper, index: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (H, W, 3) and (h, w, 3), cropped, downsampled and flipped."""
    return draw(wrapper, generator(wrapper, index, epoch), index)


def sample(wrapper, index: int, epoch: int) -> dict[str, np.ndarray]:
    """inp uint8 (H, W, 3), coord float32 (Q, 2), cell float32 (2,), gt uint8 (Q, 3)."""
    rng = generator(wrapper, index, epoch)
    low, high = draw(wrapper, rng, index)
    height, width = high.shape[:2]
    coord = np.stack(np.meshgrid(centres(height), centres(width), indexing="ij"), axis=-1).reshape(-1, 2)
    colours = high.reshape(-1, 3)
    if wrapper.sample_q is not None:
        which = rng.choice(height * width, wrapper.sample_q, replace=False, shuffle=False)
        coord, colours = coord[which], colours[which]
    return {"inp": low, "coord": coord, "cell": np.float32([2 / height, 2 / width]), "gt": colours}


def generator(wrapper, index: int, epoch: int) -> np.random.Generator:
    """Training differs by seed and epoch, validation never changes."""
    return np.random.default_rng((TRAINING, wrapper.seed, epoch, index) if wrapper.training else (VALIDATION, index))


def centres(n: int) -> np.ndarray:
    """(n,) float32: where n pixels lie on an axis that covers [-1, 1]."""
    return np.float32(-1 + 1 / n) + np.float32(2 / n) * np.arange(n, dtype=np.float32)


def draw(wrapper, rng: np.random.Generator, index: int) -> tuple[np.ndarray, np.ndarray]:
    """By the wrapper's kind."""
    kinds = {"ImplicitPaired": paired, "ImplicitDownsampled": downsampled, "ImplicitUniformVaried": varied}
    low, high = kinds[type(wrapper).__name__](wrapper, rng, index)
    return np.array(low, order="C"), np.array(high, order="C")


def downsampled(wrapper, rng, index):
    """A crop and what bicubic makes of it; or a whole image, cut to whole pixels first."""
    image = wrapper.dataset[index]
    scale = rng.uniform(wrapper.scale_min, wrapper.scale_max)
    if wrapper.inp_size is None:
        height, width = (math.floor(side / scale + 1e-9) for side in image.shape[:2])
        high = image[: round(height * scale), : round(width * scale)]
        return flipped(wrapper, rng, bicubic(high, height, width), high)
    size = larger = round(wrapper.inp_size * scale)
    if wrapper.gt_downsample_max > 1 and rng.random() < 0.5:
        larger = round(size * rng.uniform(1, wrapper.gt_downsample_max))
    high = crop(image, start(rng, image.shape[0], larger), start(rng, image.shape[1], larger), larger)
    high = high if larger == size else bicubic(high, size, size)
    return flipped(wrapper, rng, bicubic(high, wrapper.inp_size, wrapper.inp_size), high)


def paired(wrapper, rng, index):
    """The same place in both images."""
    low, high = wrapper.dataset[index]
    scale = high.shape[0] // low.shape[0]
    if wrapper.inp_size is None:
        return flipped(wrapper, rng, low, high[: low.shape[0] * scale, : low.shape[1] * scale])
    size = wrapper.inp_size
    top, left = start(rng, low.shape[0], size), start(rng, low.shape[1], size)
    return flipped(wrapper, rng, crop(low, top, left, size), crop(high, top * scale, left * scale, size * scale))


def varied(wrapper, rng, index):
    """A whole pair whose ground truth is downsampled to a size that grows over the data set."""
    low, high = wrapper.dataset[index]
    progress = index / max(len(wrapper.dataset) - 1, 1)
    high = shorter_side(high, round(wrapper.size_min + (wrapper.size_max - wrapper.size_min) * progress))
    if wrapper.augment and rng.random() < 0.5:
        low, high = np.fliplr(low), np.fliplr(high)
    return low, high if wrapper.gt_resize is None else shorter_side(high, wrapper.gt_resize)


def flipped(wrapper, rng, *images):
    """Upside down, left to right, rows to columns: each with probability 1/2, all images alike."""
    if not wrapper.augment:
        return images
    down, right, diagonal = rng.random(3) < 0.5
    for flip, drawn in ((np.flipud, down), (np.fliplr, right), (lambda image: image.transpose(1, 0, 2), diagonal)):
        images = [flip(image) for image in images] if drawn else images
    return images


def start(rng, length: int, size: int) -> int:
    """Where a crop begins."""
    return int(rng.integers(0, length - size + 1))


def crop(image: np.ndarray, top: int, left: int, size: int) -> np.ndarray:
    """A square of `size` pixels."""
    return image[top : top + size, left : left + size]


def bicubic(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pillow's, of a copy."""
    return np.array(Image.fromarray(np.array(image, order="C")).resize((width, height), Image.Resampling.BICUBIC))


def shorter_side(image: np.ndarray, size: int) -> np.ndarray:
    """To `size` pixels on the shorter side, the aspect kept."""
    height, width = image.shape[:2]
    if height <= width:
        return bicubic(image, size, int(size * width / height))
    return bicubic(image, int(size * height / width), size)
