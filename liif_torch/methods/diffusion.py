"""Diffusion: a network learns to tell the noise in an image (DDPM: Ho et al., NeurIPS 2020, arXiv 2006.11239), beside
one of lower resolution if it is to be upscaled (SR3: Saharia et al., arXiv 2104.07636).

Letters: B batch, h w sides of the image and of its condition, which are equal.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from liif_core.data import sampling
from liif_core.diffusion import samplers, schedules, targets
from liif_core.engine import MODEL, require_condition
from liif_core.errors import UserError
from liif_core.geometry import coords
from liif_torch import losses
from liif_torch.methods.registry import methods
from liif_torch.networks import set_training


@methods.register("diffusion")
class Diffusion:
    """The model is sr3-unet or ddpm-unet: it sees an image with noise, and the condition, and tells the noise.

    schedule: how noise grows, in `steps` times from `start` to `end`: linear, quad, const, warmup10, warmup50, jsd or
    cosine. loss: of the noise; l1 is SR3's, mse DDPM's. sampler: how noise becomes an image: ancestral, ddim with eta,
    or dpmpp-2m, in so many steps (null: all of the schedule), whose levels are equally far apart in time or in log-snr,
    from noise alone or, with a start below 1, from the condition with the noise of that part of the schedule.

    A batch has gt (B, 3, h, w) and, for a conditional model, inp (B, 3, h, w), both in [-1, 1]; noise (B, 3, h, w);
    level (B,), which is sqrt(gamma), and for ddpm-unet step (B,), the number of its time from 0.
    """

    def __init__(
        self,
        backend: Any,  # liif_torch.networks.Backend: makes the network
        schedule: schedules.Schedule = schedules.DEFAULT,
        loss: losses.Name = "l1",
        sampler: samplers.Sampler = samplers.DEFAULT,
    ):
        self.backend, self.schedule, self.sampler = backend, schedule, sampler
        self.loss = losses.LOSSES[loss]
        self.rows = samplers.table(schedule, sampler)
        self.model = backend.model(denoises=True)
        self.networks = {MODEL: self.model}
        self.conditional, self.told = self.model.module.conditional, self.model.module.told
        self.of_condition, self.of_noise = samplers.beginning(sampler, self.rows, self.conditional)
        self.receptive_radius = None

    def step(self, micro_batches: list[dict]) -> dict[str, Tensor]:
        """One update from the micro-batches of a batch: the loss by name, left on the device."""
        return {"loss": self.model.updater.step(self._loss(micro_batch) for micro_batch in micro_batches)}

    def _loss(self, micro_batch: dict) -> Tensor:
        """Of noisy images sqrt(gamma) gt + sqrt(1 - gamma) noise (SR3, section 2.2)."""
        targets.require(micro_batch, self.told, self.conditional)
        noise, level = self.backend.images(micro_batch["noise"]), micro_batch["level"]
        alpha, sigma = (self.backend.tensor(one)[:, None, None, None] for one in (level, targets.deviation(level)))
        noisy = alpha * self.backend.images(micro_batch["gt"]) + sigma * noise
        condition = self.backend.images(micro_batch["inp"]) if self.conditional else None
        found = self._noise(self.model.module, condition, noisy, self.backend.tensor(micro_batch[self.told]))
        return self.loss(found, noise) * micro_batch["weight"]

    def _noise(self, network: Any, condition: Tensor | None, noisy: Tensor, told: Tensor) -> Tensor:
        """What the network tells, (B, 3, h, w)."""
        with self.backend.arithmetic():
            return network(noisy if condition is None else torch.cat([condition, noisy], dim=1), told).float()

    @torch.no_grad()
    def sample(
        self,
        count: int,
        height: int,
        width: int,
        noise: np.random.Generator,
        inp: np.ndarray | None = None,
        process: list[np.ndarray] | None = None,
    ) -> np.ndarray:
        """See liif_core.engine."""
        require_condition(self.conditional, inp)
        network, generators, shape = self.model.predictor, noise.spawn(count), (3, height, width)
        set_training(network, False)

        def drawn() -> Tensor:
            return self.backend.images(np.stack([one.standard_normal(shape, np.float32) for one in generators]))

        condition = None if inp is None else self.backend.images(inp).expand(count, *shape)
        x = drawn() if condition is None else self.of_condition * condition + self.of_noise * drawn()
        last = x
        for number, row in enumerate(self.rows, start=1):
            told = torch.full((count,), getattr(row, self.told), device=x.device)
            x0 = (row.of_x * x + row.of_noise * self._noise(network, condition, x, told)).clamp(-1, 1)
            x = row.keep * x + row.new * x0 + row.old * last
            if row.chance:
                x = x + row.chance * drawn()
            last = x0
            if process is not None and samplers.shown(number, len(self.rows)):
                process.append(x.permute(0, 2, 3, 1).cpu().numpy())
        return x.permute(0, 2, 3, 1).cpu().numpy()

    def predict_queries(self, inp: np.ndarray, coord: np.ndarray, cell: np.ndarray) -> np.ndarray:
        """Never asked: see liif_core.engine."""
        raise UserError("method 'diffusion' gives whole images, not colours at coordinates")

    def predict_image(
        self,
        inp: np.ndarray,
        height: int,
        width: int,
        tile: int | None,
        window: coords.Window,
        noise: np.random.Generator | None,
    ) -> Iterator[np.ndarray]:
        """See liif_core.engine; the image is one band."""
        yield self.sample(1, height, width, noise or sampling.noise(0, 0), inp)[0]
