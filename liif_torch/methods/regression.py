"""Regression of pixel values with the L1 loss (LIIF, section 4.1)."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from liif_torch.methods.registry import methods


@methods.register("regression")
class Regression:
    """model: called with inp, coord, cell. updater: liif_torch.optim's."""

    def __init__(self, model: Any, updater: Any):
        self.model = model
        self.updater = updater

    def step(self, parts: list[dict]) -> Tensor:
        """One update from the parts of a batch; returns the loss.

        A part: inp (B, 3, H, W), gt (B, Q, 3) on the device, coord and cell in numpy, share of the step's samples.
        """
        return self.updater.step(self._loss(part) for part in parts)

    def _loss(self, part: dict) -> Tensor:
        prediction = self.model(part["inp"], part["coord"], part["cell"])
        return F.l1_loss(prediction, part["gt"]) * part["share"]
