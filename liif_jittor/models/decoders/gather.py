"""Feature vectors by the row, for the decoders."""

import jittor as jt
import numpy as np
from jittor import Var


def rows_of(feat: Var) -> Var:
    """(B, C, H, W) -> (B * H * W, C), one row per pixel."""
    return feat.permute(0, 2, 3, 1).reshape(-1, feat.shape[1])


def on_device_of(feat: Var, *arrays: np.ndarray) -> list[Var]:
    """numpy arrays as variables beside the features."""
    return [jt.array(array) for array in arrays]  # Jittor: one device for the whole process
