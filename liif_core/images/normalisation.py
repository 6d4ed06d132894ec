"""Between uint8 images and what a network sees: (value / 255 - sub) / div, and back."""

import numpy as np

from liif_core.config.schema import DataNorm
from liif_core.errors import NotFinite
from liif_core.images import rgb8


class Normalisation:
    """The `data_norm` of a config, applied the same way for both frameworks.

    norms: (sub, div) of each part of a batch that data_norm names; other parts are left as they are.
    """

    def __init__(self, data_norm: DataNorm):
        self.norms = {
            key: (np.asarray(norm.sub, dtype=np.float32), np.asarray(norm.div, dtype=np.float32))
            for key, norm in data_norm
        }

    def inp(self, images: np.ndarray, white: int = 255) -> np.ndarray:
        """Values 0 to `white`, (B, H, W, 3) or (H, W, 3) -> float32 (B, 3, H, W), B = 1 for a single image.

        The channels stay last in memory, which is how convolutions like them.
        """
        images = images[None] if images.ndim == 3 else images
        return _normalised(images, *self.norms["inp"], white).transpose(0, 3, 1, 2)

    def batch(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """A batch of samples as the engine's `train_step` takes it: uint8 images (B, H, W, 3) -> float32 (B, 3, H, W),
        uint8 colours (B, Q, 3) -> float32 (B, Q, 3).
        """
        normalised = {key: _normalised(batch[key], *norm) for key, norm in self.norms.items() if key in batch}
        return batch | {
            key: values.transpose(0, 3, 1, 2) if values.ndim == 4 else values for key, values in normalised.items()
        }

    def rgb(self, prediction: np.ndarray) -> np.ndarray:
        """What the network gives (..., 3) -> float32 RGB clamped to [0, 1]. Raises NotFinite for NaN and infinity,
        which clamping would hide."""
        if not np.isfinite(prediction).all():
            raise NotFinite(
                "the network gives NaN or infinity, though its weights are finite: its numbers overflow; "
                "try the precision fp32, or other weights"
            )
        sub, div = self.norms["gt"]
        values = prediction * div
        values += sub
        return np.clip(values, 0, 1, out=values)


def _normalised(values: np.ndarray, sub: np.ndarray, div: np.ndarray, white: int = 255) -> np.ndarray:
    """In one array: a new one for each operation costs more in page faults than in arithmetic."""
    result = rgb8.to_float(values, white)
    result -= sub
    result /= div
    return result
