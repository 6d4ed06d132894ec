"""Small images that tests make themselves: noise over gradients, never square unless asked for."""

from pathlib import Path

import numpy as np
from PIL import Image


def make_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8 (height, width, 3): a gradient of its own per channel and axis, with noise."""
    down = np.linspace(0, 120, height)[:, None, None] * np.array([1, 0.5, 0.2])
    right = np.linspace(0, 100, width)[None, :, None] * np.array([0.1, 0.6, 1])
    noise = np.random.default_rng(seed).uniform(0, 35, (height, width, 3))
    return np.rint(down + right + noise).astype(np.uint8)


def write(path: Path, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Write such an image and return it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = make_image(height, width, seed)
    Image.fromarray(pixels).save(path)
    return pixels


def folder(path: Path, sizes: dict[str, tuple[int, int]]) -> Path:
    """A folder of images, named and sized as given."""
    for seed, (name, size) in enumerate(sizes.items()):
        write(path / name, *size, seed=seed)
    return path
