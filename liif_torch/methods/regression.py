"""Regression of pixel values with the L1 loss (LIIF, section 4.1)."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from liif_torch.methods import methods


@methods.register("regression")
class Regression:
    """model: called with inp, coord, cell. optimizer: from liif_torch.optim."""

    def __init__(self, model: Any, optimizer: Any):
        self.model = model
        self.optimizer = optimizer

    def step(self, batch: dict) -> Tensor:
        """One update from inp (B, 3, H, W), gt (B, Q, 3) on the device, coord and cell in numpy; returns the loss."""
        prediction = self.model(batch["inp"], batch["coord"], batch["cell"])
        loss = F.l1_loss(prediction, batch["gt"])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()
