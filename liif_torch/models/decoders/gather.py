"""Feature vectors by the row, for the decoders."""

import numpy as np
import torch
from torch import Tensor


def rows_of(feat: Tensor) -> Tensor:
    """(B, C, H, W) -> (B * H * W, C), one row per pixel."""
    return feat.permute(0, 2, 3, 1).reshape(-1, feat.shape[1])


def on_device_of(feat: Tensor, *arrays: np.ndarray) -> list[Tensor]:
    """numpy arrays as tensors beside the features; the copies do not hold up what is queued on a GPU."""
    return [torch.from_numpy(array).to(feat.device, non_blocking=True) for array in arrays]
