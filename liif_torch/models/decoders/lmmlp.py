"""The render MLP of LMF: so narrow that a pixel costs next to nothing, because another MLP, which runs once per feature
pixel, scales and shifts its hidden layers (He and Jin, CVPR 2024, arXiv 2404.16451, section 3.2)."""

from typing import Any, Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from liif_torch.models.decoders.mlp import MLP, linear, product
from liif_torch.models.registry import models


@models.register("lmmlp")
class LMMLP(nn.Module):
    """in_dim -> hidden_dim, hidden_depth times -> out_dim. Each hidden layer times 1 + scale, plus shift, before its
    ReLU, by modulations of which all scales come first. mod_scale, mod_shift: of the authors' configs; both are on.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        hidden_dim: PositiveInt,
        hidden_depth: PositiveInt,
        mod_scale: Literal[True] = True,
        mod_shift: Literal[True] = True,
    ):
        super().__init__()
        self.layers: Any = MLP(in_dim, out_dim, [hidden_dim] * hidden_depth).layers
        self.hidden_dim, self.hidden_depth = hidden_dim, hidden_depth
        self.mod_dim = 2 * hidden_dim * hidden_depth

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """(N, in_dim), (N, mod_dim) -> (N, out_dim)"""
        return self.after_first(linear(self.layers[0], x), modulation)

    def after_first(self, x: Tensor, modulation: Tensor) -> Tensor:
        """The rest, given what the first linear layer gives: (N, hidden_dim), (N, mod_dim) -> (N, out_dim)."""
        scales, shifts = modulation.unflatten(-1, (2, self.hidden_depth, -1)).unbind(1)
        for number in range(self.hidden_depth):
            x = x if number == 0 else linear(self.layers[2 * number], x)
            x = torch.addcmul(x + shifts[:, number], x, scales[:, number]).relu()
        return linear(self.layers[-1], x)

    def after_first_around(self, x: Tensor, modulation: Tensor) -> Tensor:
        """The same for the M queries around each of N feature pixels: (N, M, hidden_dim), (N, mod_dim) -> (N, M,
        out_dim). Overwrites x.

        Scales go into the layers' weights, one batched product per layer, where these are fewer numbers than the hidden
        values that they spare."""
        scales, shifts = modulation.view(len(modulation), 2, self.hidden_depth, 1, -1).unbind(1)
        scales, batched = scales + 1, x.shape[1] > self.hidden_dim  # (N, depth, 1, hidden)
        x = torch.addcmul(shifts[:, 0], x, scales[:, 0]).relu_()
        for number in range(1, self.hidden_depth):
            layer, scale = self.layers[2 * number], scales[:, number]
            bias = torch.addcmul(shifts[:, number], layer.bias, scale)  # (N, 1, hidden)
            if batched:
                x = torch.baddbmm(bias, x, layer.weight.T * scale).relu_()  # of (N, M, in) and (N, in, out)
            else:
                x = torch.addcmul(bias, product(x.flatten(0, 1), layer.weight).view_as(x), scale).relu_()
        return linear(self.layers[-1], x.flatten(0, 1)).view(*x.shape[:2], -1)
