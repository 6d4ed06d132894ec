"""SRGAN (Ledig et al., CVPR 2017, arXiv 1609.04802, section 2.2): a generator and a discriminator that alternate.

Letters: B batch, H W low-resolution, h w output.
"""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import NonNegativeFloat
from torch import Tensor

from liif_core.checkpoints import vgg
from liif_core.engine import MODEL, NetworkState
from liif_core.errors import UserError
from liif_core.geometry import coords
from liif_torch import losses
from liif_torch.methods.registry import methods

DISCRIMINATOR = "discriminator"
CONTENT_WEIGHTS = {"pixel": 0.01, "vgg": 0.006}
OUTSIDE = 1e-3  # by which rounding may leave [0, 1]


@methods.register("adversarial")
class Adversarial:
    """The generator is the config's model; its loss is that of its content plus that of being told from a photograph.

    discriminator: a model that gives a logit. optimizer: the discriminator's, without one the config's; both follow the
    config's schedule, each from its own lr. content: "pixel" compares images by `loss`, "vgg" features of VGG-19 by
    MSE, whose weights are the file vgg_weights; the images are then brought to [0, 1] by gt_sub and gt_div, those of
    the config's data_norm for gt. content_weight: null is 0.006 for features and 0.01 for pixels. adversarial_weight:
    of -log D(G(x)).

    A batch has inp (B, 3, H, W) and gt (B, 3, h, w). Losses in the log: "loss" is the generator's sum, "content" and
    "adversarial" its parts without weights, "discriminator" the other's; "real" and "fake" are D's mean outputs.
    """

    def __init__(
        self,
        backend: Any,  # liif_torch.networks.Backend: makes the networks
        discriminator: dict,
        optimizer: dict | None = None,
        content: Literal["pixel", "vgg"] = "pixel",
        loss: losses.Name = "l1",
        content_weight: NonNegativeFloat | None = None,
        adversarial_weight: NonNegativeFloat = 1e-3,
        vgg_weights: str | None = None,
        gt_sub: float = 0,
        gt_div: float = 1,
    ):
        self.backend, self.content = backend, content
        self.loss, self.adversarial_weight = losses.LOSSES[loss], adversarial_weight
        self.content_weight = CONTENT_WEIGHTS[content] if content_weight is None else content_weight
        self.gt_sub, self.gt_div = gt_sub, gt_div
        self.model = backend.model()
        if self.model.scale is None:
            raise UserError("method 'adversarial': the model must be of one factor, such as srresnet")
        self.networks = {MODEL: self.model}
        self.receptive_radius = self.model.encoder.receptive_radius
        if backend.training:  # what only trains is neither made nor looked for where images are asked for
            self.networks[DISCRIMINATOR] = backend.network(discriminator, optimizer or backend.optimizer_spec)
            self.extractor = self._extractor(vgg_weights) if content == "vgg" else None

    def _extractor(self, path: str | None) -> Any:
        """VGG-19, which is neither trained nor kept in checkpoints."""
        weights = vgg.locate(path)
        network = self.backend.network({"name": "vgg19-features"})
        network.load_state(NetworkState(vgg.read(weights, network.state().parameters)))
        # Or what the features of targets need for a backward pass would be kept for one that never comes.
        network.module.requires_grad_(False)
        return network.module

    def step(self, micro_batches: list[dict]) -> dict[str, Tensor]:
        """One update of the generator, then one of the discriminator on the same images: losses by name, left on the
        device."""
        judge = self.networks[DISCRIMINATOR]
        judged: list[tuple[Tensor, Tensor, float]] = []
        found = {name: torch.zeros((), device=self.backend.device) for name in ("content", "adversarial")}
        outputs = {name: torch.zeros((), device=self.backend.device) for name in ("real", "fake")}

        def generating() -> Iterator[Tensor]:
            for micro_batch in micro_batches:
                weight = micro_batch["weight"]
                with self.backend.arithmetic():
                    prediction = self.model.encoder(self.backend.images(micro_batch["inp"]))
                    content = self._content(prediction, micro_batch["gt"])
                    logits = judge.module(prediction).float()
                adversarial = F.softplus(-logits).mean()  # -log of the sigmoid
                judged.append((prediction.detach(), self.backend.images(micro_batch["gt"]), weight))
                found["content"] += content.detach() * weight
                found["adversarial"] += adversarial.detach() * weight
                yield (self.content_weight * content + self.adversarial_weight * adversarial) * weight

        def judging() -> Iterator[Tensor]:
            for fake, real, weight in judged:
                with self.backend.arithmetic():
                    of_real, of_fake = (judge.module(images).float() for images in (real, fake))
                outputs["real"] += torch.sigmoid(of_real.detach()).mean() * weight
                outputs["fake"] += torch.sigmoid(of_fake.detach()).mean() * weight
                yield (F.softplus(-of_real).mean() + F.softplus(of_fake).mean()) * weight

        loss = self.model.updater.step(generating())
        return {"loss": loss, **found, DISCRIMINATOR: judge.updater.step(judging()), **outputs}

    def _content(self, prediction: Tensor, target: np.ndarray) -> Tensor:
        """How far predictions (B, 3, h, w) are from their targets in content."""
        gt = self.backend.images(target)
        if self.extractor is None:
            return self.loss(prediction.float(), gt)
        lowest, highest = (float(value) * self.gt_div + self.gt_sub for value in (target.min(), target.max()))
        if lowest < -OUTSIDE or highest > 1 + OUTSIDE:
            raise UserError(
                f"method 'adversarial': with gt_sub {self.gt_sub:g} and gt_div {self.gt_div:g} targets run from "
                f"{lowest:.3g} to {highest:.3g}, VGG-19 expects 0 to 1: give the sub and div of data_norm's gt"
            )
        of_target, of_prediction = (self.extractor(images * self.gt_div + self.gt_sub) for images in (gt, prediction))
        return F.mse_loss(of_prediction.float(), of_target.float())

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
