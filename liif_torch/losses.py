"""How far a prediction is from its target, by the names that configs use; each the mean over all values."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

EPS = 1e-3  # below it charbonnier is round: LapSRN's (Lai et al., TPAMI 2019, section 3.3)

Name = Literal["l1", "mse", "charbonnier"]


def charbonnier(prediction: Tensor, target: Tensor) -> Tensor:
    """sqrt(d^2 + eps^2): L1 without its corner (Charbonnier et al., 1994)."""
    difference = prediction - target
    return torch.sqrt(difference * difference + EPS**2).mean()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"l1": F.l1_loss, "mse": F.mse_loss, "charbonnier": charbonnier}
