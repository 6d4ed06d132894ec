"""Regression of pixel values with the L1 loss (LIIF, section 4.1)."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from liif_core.engine import MODEL
from liif_core.geometry import coords
from liif_torch.methods.registry import methods


@methods.register("regression")
class Regression:
    """backend: makes the network (liif_torch.networks). A batch has inp (B, 3, H, W), gt (B, Q, 3), coord and cell."""

    def __init__(self, backend: Any):
        self.backend = backend
        self.model = backend.model()
        self.networks = {MODEL: self.model}
        self.receptive_radius = self.model.module.encoder.receptive_radius

    def step(self, micro_batches: list[dict]) -> dict[str, Tensor]:
        """One update from the micro-batches of a batch, in numpy, each with its weight in the step: the loss by name,
        left on the device.
        """
        return {"loss": self.model.updater.step(self._loss(micro_batch) for micro_batch in micro_batches)}

    def _loss(self, micro_batch: dict) -> Tensor:
        with self.backend.arithmetic():
            inp = self.backend.images(micro_batch["inp"])
            prediction = self.model.module(inp, micro_batch["coord"], micro_batch["cell"])
        return F.l1_loss(prediction, self.backend.tensor(micro_batch["gt"])) * micro_batch["weight"]

    def predict_queries(self, inp: np.ndarray, coord: np.ndarray, cell: np.ndarray) -> np.ndarray:
        """See liif_core.engine."""
        return self.model.queries(inp, coord, cell)

    def predict_image(
        self,
        inp: np.ndarray,
        height: int,
        width: int,
        tile: int | None,
        window: coords.Window,
        noise: np.random.Generator | None,
    ) -> Iterator[np.ndarray]:
        """See liif_core.engine; nothing is random here."""
        return self.model.image(inp, height, width, tile, window)
