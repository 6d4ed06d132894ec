"""How far a prediction is from its target, by the names that configs use; each the mean over all values."""

from collections.abc import Callable
from typing import Literal

import jittor as jt
from jittor import Var, nn

EPS = 1e-3  # below it charbonnier is round: LapSRN's (Lai et al., TPAMI 2019, section 3.3)

Name = Literal["l1", "mse", "charbonnier"]


def charbonnier(prediction: Var, target: Var) -> Var:
    """sqrt(d^2 + eps^2): L1 without its corner (Charbonnier et al., 1994)."""
    difference = prediction - target
    return jt.sqrt(difference * difference + EPS**2).mean()


LOSSES: dict[str, Callable[[Var, Var], Var]] = {"l1": nn.l1_loss, "mse": nn.mse_loss, "charbonnier": charbonnier}
