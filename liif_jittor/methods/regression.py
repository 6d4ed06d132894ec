"""Regression of pixel values with the L1 loss (LIIF, section 4.1)."""

from typing import Any

import jittor as jt
from jittor import Var, nn

from liif_jittor.methods import methods


@methods.register("regression")
class Regression:
    """model: called with inp, coord, cell. optimizer: from liif_jittor.optim."""

    def __init__(self, model: Any, optimizer: Any):
        self.model = model
        self.optimizer = optimizer

    def step(self, batch: dict) -> Var:
        """One update from inp (B, 3, H, W), gt (B, Q, 3) on the device, coord and cell in numpy; returns the loss."""
        prediction = self.model(batch["inp"], batch["coord"], batch["cell"])
        loss = nn.l1_loss(prediction, batch["gt"])
        self.optimizer.step(loss)
        # Jittor: evaluates lazily; without this a loss that nobody reads keeps its whole graph alive.
        jt.sync([loss, *self.optimizer.param_groups[0]["params"]])
        return loss.detach()
