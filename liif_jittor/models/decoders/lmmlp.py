"""The render MLP of LMF: so narrow that a pixel costs next to nothing, because another MLP, which runs once per feature
pixel, scales and shifts its hidden layers (He and Jin, CVPR 2024, arXiv 2404.16451, section 3.2)."""

from typing import Any, Literal

import jittor as jt
from jittor import Var, nn
from pydantic import PositiveInt

from liif_jittor.models.decoders.mlp import MLP, linear
from liif_jittor.models.registry import models


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

    def execute(self, x: Var, modulation: Var) -> Var:
        """(N, in_dim), (N, mod_dim) -> (N, out_dim)"""
        return self.after_first(linear(self.layers[0], x), modulation)

    def after_first(self, x: Var, modulation: Var) -> Var:
        """The rest, given what the first linear layer gives: (N, hidden_dim), (N, mod_dim) -> (N, out_dim)."""
        return self.after_first_around(x.unsqueeze(1), modulation).squeeze(1)

    def after_first_around(self, x: Var, modulation: Var) -> Var:
        """The same for the M queries around each of N feature pixels: (N, M, hidden_dim), (N, mod_dim) -> (N, M,
        out_dim)."""
        # Jittor: its batched products are slow on the CPU; modulation and ReLU fuse into one pass after the plain one.
        shape = x.shape
        modulation = modulation.reshape(shape[0], 2, self.hidden_depth, 1, shape[-1])
        for number in range(self.hidden_depth):
            if number:
                x = linear(self.layers[2 * number], x.reshape(-1, shape[-1])).reshape(shape)
            x = jt.maximum(x * (modulation[:, 0, number] + 1) + modulation[:, 1, number], 0.0)
        return linear(self.layers[-1], x.reshape(-1, shape[-1])).reshape(shape[0], shape[1], -1)
