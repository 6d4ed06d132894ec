"""Regression of pixel values: LIIF's (section 4.1) at queries, and that of models of one factor on whole crops."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from pydantic import NonNegativeFloat, NonNegativeInt
from torch import Tensor

from liif_core.engine import MODEL, receptive_radius
from liif_core.errors import UserError
from liif_core.geometry import coords
from liif_torch import losses
from liif_torch.methods.registry import methods
from liif_torch.models.decoders.features import features_of
from liif_torch.models.layers import luma


@methods.register("regression")
class Regression:
    """One network and one loss.

    loss: "l1", "mse" or "charbonnier". channels: "y" compares the luma alone. border: output pixels along the edges of
    a crop that the loss leaves out. total_variation: of the field of a thera, the mean of its absolute Jacobian before
    it cools, times this joins the loss.

    A batch has inp (B, 3, H, W) and, for a model of any factor, gt (B, Q, 3), coord and cell; for one of one factor gt
    (B, 3, h, w). channels and border are for the latter.
    """

    def __init__(
        self,
        backend: Any,  # liif_torch.networks.Backend: makes the network
        loss: losses.Name = "l1",
        channels: Literal["rgb", "y"] = "rgb",
        border: NonNegativeInt = 0,
        total_variation: NonNegativeFloat = 0,
    ):
        self.backend = backend
        self.loss, self.channels, self.border = losses.LOSSES[loss], channels, border
        self.total_variation = total_variation
        self.model = backend.model()
        self.networks = {MODEL: self.model}
        if backend.training and channels == "rgb" and getattr(self.model.encoder, "channels", "rgb") == "y":
            raise UserError("method 'regression': the model restores luma alone, so that channels must be y, not rgb")
        if total_variation and not hasattr(self.model.module, "query_field"):
            raise UserError(
                "method 'regression': total_variation is of a field of waves: expected the model thera, or "
                "total_variation 0"
            )
        self.receptive_radius = receptive_radius(self.model.module)

    def step(self, micro_batches: list[dict]) -> dict[str, Tensor]:
        """One update from the micro-batches of a batch, in numpy, each with its weight in the step: the loss by name,
        left on the device.
        """
        return {"loss": self.model.updater.step(self._loss(micro_batch) for micro_batch in micro_batches)}

    def _loss(self, micro_batch: dict) -> Tensor:
        if "coord" in micro_batch:
            if self.channels != "rgb" or self.border:
                raise UserError("method 'regression': channels and border are for whole crops, not for queries")
            with self.backend.arithmetic():
                inp = self.backend.images(micro_batch["inp"])
                prediction, penalty = self._predicted(inp, micro_batch["coord"], micro_batch["cell"])
            return (self.loss(prediction, self.backend.tensor(micro_batch["gt"])) + penalty) * micro_batch["weight"]
        with self.backend.arithmetic():
            prediction = self.model.encoder(self.backend.images(micro_batch["inp"]))
        compared = self._compared(prediction.float()), self._compared(self.backend.images(micro_batch["gt"]))
        return self.loss(*compared) * micro_batch["weight"]

    def _predicted(self, inp: Tensor, coord: np.ndarray, cell: np.ndarray) -> tuple[Tensor, Any]:
        """Colours at queries, and what joins the loss."""
        module = self.model.module
        if not self.total_variation:
            return module(inp, coord, cell), 0
        rgb, jacobian = module.query_field(features_of(module, inp), coord, cell)
        return rgb, self.total_variation * jacobian.abs().mean()

    def _compared(self, image: Tensor) -> Tensor:
        """What the loss sees of (B, 3, h, w). Raises UserError where the border leaves nothing."""
        height, width = image.shape[2:]
        if 2 * self.border >= min(height, width):
            raise UserError(
                f"method 'regression': a border of {self.border} leaves nothing of crops of {height}x{width} pixels"
            )
        rows, columns = (slice(self.border, side - self.border) for side in image.shape[2:])
        inner = image[:, :, rows, columns]
        return luma(inner) if self.channels == "y" else inner

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
