"""The decoding function f of LIIF: a multilayer perceptron with ReLU (section 3.1)."""

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from liif_torch.models.registry import models


@models.register("mlp")
class MLP(nn.Module):
    """in_dim -> hidden_list[0] -> ... -> out_dim, row by row."""

    def __init__(self, in_dim: int, out_dim: int, hidden_list: list[int]):
        super().__init__()
        layers = []
        width = in_dim
        for hidden in hidden_list:
            layers += [nn.Linear(width, hidden), nn.ReLU()]
            width = hidden
        self.layers = nn.Sequential(*layers, nn.Linear(width, out_dim))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_dim) -> (N, out_dim)"""
        return self.after_first(linear(self.layers[0], x))

    def after_first(self, x: Tensor) -> Tensor:
        """The rest, given what the first linear layer gives: (N, hidden) -> (N, out_dim). Overwrites x."""
        for layer in self.layers[1:]:
            # PyTorch: autograd copies all of a tensor of which a view, as x is one, is overwritten.
            x = linear(layer, x) if isinstance(layer, nn.Linear) else F.relu(x, inplace=not x.requires_grad)
        return x


def linear(layer: Any, x: Tensor) -> Tensor:
    """A linear layer on (N, in) -> (N, out)."""
    return product(x, layer.weight, layer.bias)


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (N, in) times weight (out, in), plus bias (out,) -> (N, out)."""
    if x.device.type != "cpu":
        return F.linear(x, weight, bias)
    # PyTorch: on the CPU a 1x1 convolution goes to oneDNN, the same product in F.linear to MKL, which is slower on AMD
    # processors (benchmarks/gemm.py); of at least 16 images, or oneDNN takes a slower path.
    images = math.gcd(len(x), 64)
    x = x.view(images, 1, -1, x.shape[-1]).permute(0, 3, 1, 2)  # (images, in, 1, N / images), channels last in memory
    x = F.conv2d(x, weight[:, :, None, None], bias)
    return x.permute(0, 2, 3, 1).reshape(-1, len(weight))
