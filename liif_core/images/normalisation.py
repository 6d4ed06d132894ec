"""Between uint8 images and what a network sees: (value / 255 - sub) / div, and back."""

import numpy as np

from liif_core.config.schema import DataNorm
from liif_core.images import rgb8


class Normalisation:
    """The `data_norm` of a config, applied the same way for both frameworks."""

    def __init__(self, data_norm: DataNorm):
        self.inp_sub, self.inp_div, self.gt_sub, self.gt_div = (
            np.asarray(numbers, dtype=np.float32)
            for norm in (data_norm.inp, data_norm.gt)
            for numbers in (norm.sub, norm.div)
        )

    def inp(self, images: np.ndarray, white: int = 255) -> np.ndarray:
        """Values 0 to `white`, (B, H, W, 3) or (H, W, 3) -> float32 (B, 3, H, W), B = 1 for a single image.

        The channels stay last in memory, which is how convolutions like them.
        """
        images = images[None] if images.ndim == 3 else images
        return _normalised(images, self.inp_sub, self.inp_div, white).transpose(0, 3, 1, 2)

    def gt(self, colours: np.ndarray) -> np.ndarray:
        """uint8 (..., 3) -> float32 (..., 3)."""
        return _normalised(colours, self.gt_sub, self.gt_div)

    def batch(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """A batch of samples as the engine's `train_step` takes it."""
        return {**batch, "inp": self.inp(batch["inp"]), "gt": self.gt(batch["gt"])}

    def rgb(self, prediction: np.ndarray) -> np.ndarray:
        """What the network gives (..., 3) -> float32 RGB clamped to [0, 1]."""
        values = prediction * self.gt_div
        values += self.gt_sub
        return np.clip(values, 0, 1, out=values)


def _normalised(values: np.ndarray, sub: np.ndarray, div: np.ndarray, white: int = 255) -> np.ndarray:
    """In one array: a new one for each operation costs more in page faults than in arithmetic."""
    result = rgb8.to_float(values, white)
    result -= sub
    result /= div
    return result
