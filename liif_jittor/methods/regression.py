"""Regression of pixel values with the L1 loss (LIIF, section 4.1)."""

from typing import Any

from jittor import Var, nn

from liif_jittor.methods.registry import methods


@methods.register("regression")
class Regression:
    """model: called with inp, coord, cell. updater: liif_jittor.optim's."""

    def __init__(self, model: Any, updater: Any):
        self.model = model
        self.updater = updater

    def step(self, parts: list[dict]) -> Var:
        """One update from the parts of a batch; returns the loss.

        A part: inp (B, 3, H, W), gt (B, Q, 3) on the device, coord and cell in numpy, share of the step's samples.
        """
        return self.updater.step(self._loss(part) for part in parts)

    def _loss(self, part: dict) -> Var:
        prediction = self.model(part["inp"], part["coord"], part["cell"])
        return nn.l1_loss(prediction, part["gt"]) * part["share"]
