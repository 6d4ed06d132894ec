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

    def step(self, micro_batches: list[dict]) -> Var:
        """One update from the micro-batches of a batch; returns the loss.

        A micro-batch: inp (B, 3, H, W), gt (B, Q, 3) on the device, coord and cell in numpy, weight in the step.
        """
        return self.updater.step(self._loss(micro_batch) for micro_batch in micro_batches)

    def _loss(self, micro_batch: dict) -> Var:
        prediction = self.model(micro_batch["inp"], micro_batch["coord"], micro_batch["cell"])
        return nn.l1_loss(prediction, micro_batch["gt"]) * micro_batch["weight"]
