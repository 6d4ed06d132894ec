"""A method with two networks, statistics of BatchNorm and random numbers, in Jittor: what the seam has to carry.

Importing it registers "test-bn-encoder", "test-discriminator" and the method "test-two-networks".
"""

import jittor as jt
import numpy as np
from jittor import nn

from liif_core.engine import MODEL
from liif_jittor.methods.registry import methods
from liif_jittor.models.layers import batch_norm, conv3x3
from liif_jittor.models.registry import models


@models.register("test-bn-encoder")
class Encoder(jt.Module):
    """Two convolutions with BatchNorm and PReLU between them."""

    def __init__(self, n_feats: int = 8):
        super().__init__()
        self.head, self.norm, self.act, self.tail = (
            conv3x3(3, n_feats),
            batch_norm(n_feats),
            nn.PReLU(),
            conv3x3(n_feats, n_feats),
        )
        self.out_dim, self.scale, self.receptive_radius = n_feats, 1, 2

    def execute(self, x):
        return self.tail(self.act(self.norm(self.head(x))))


@models.register("test-discriminator")
class Discriminator(jt.Module):
    """(B, Q, 3) -> (B, 1, Q, 1) logits, each of one colour."""

    def __init__(self):
        super().__init__()
        self.head, self.norm, self.tail = nn.Conv2d(3, 6, 1), batch_norm(6), nn.Conv2d(6, 1, 1)

    def execute(self, colours):
        x = colours.permute(0, 2, 1).unsqueeze(3)
        return self.tail(nn.leaky_relu(self.norm(self.head(x)), 0.2))


@methods.register("test-two-networks")
class TwoNetworks:
    """L1, and the logistic loss of a second network that tells predictions from targets."""

    def __init__(self, backend, adversarial: float = 0.05, noise: float = 0.01):
        self.backend, self.adversarial, self.noise = backend, adversarial, noise
        self.model = backend.model()
        self.networks = {MODEL: self.model}
        self.receptive_radius = self.model.module.encoder.receptive_radius
        if backend.training:
            spec = {"name": "test-discriminator"}
            self.networks["discriminator"] = backend.network(spec, backend.optimizer_spec, average=False)

    def step(self, micro_batches):
        judge, pairs = self.networks["discriminator"], []

        def generating():
            for batch in micro_batches:
                inp, gt = self.backend.images(batch["inp"]), self.backend.tensor(batch["gt"])
                prediction = self.model.module(inp, batch["coord"], batch["cell"])
                pairs.append((prediction.detach(), gt, batch["weight"]))
                fooled = nn.softplus(-judge.module(prediction)).mean()
                yield (nn.l1_loss(prediction, gt) + self.adversarial * fooled) * batch["weight"]

        def judging():
            for fake, real, weight in pairs:
                yield (nn.softplus(judge.module(fake)).mean() + nn.softplus(-judge.module(real)).mean()) * weight

        return {"loss": self.model.updater.step(generating()), "loss_discriminator": judge.updater.step(judging())}

    def predict_queries(self, inp, coord, cell):
        return self.model.queries(inp, coord, cell)

    def predict_image(self, inp, height, width, tile, window, noise):
        for band in self.model.image(inp, height, width, tile, window):
            yield band + self.noise * noise.standard_normal(band.shape, dtype=np.float32)
