"""The decoding function f of LIIF: a multilayer perceptron with ReLU (section 3.1)."""

import torch.nn.functional as F
from torch import Tensor, nn

from liif_torch.models import models


@models.register("mlp")
class MLP(nn.Module):
    """in_dim -> hidden_list[0] -> ... -> out_dim, on the last axis."""

    def __init__(self, in_dim: int, out_dim: int, hidden_list: list[int]):
        super().__init__()
        layers = []
        width = in_dim
        for hidden in hidden_list:
            layers += [nn.Linear(width, hidden), nn.ReLU(inplace=True)]
            width = hidden
        self.layers = nn.Sequential(*layers, nn.Linear(width, out_dim))

    def forward(self, x: Tensor) -> Tensor:
        """(A, M, in_dim) -> (A, M, out_dim)"""
        return self.after_first(linear(self.layers[0], x))

    def after_first(self, x: Tensor) -> Tensor:
        """The rest, given what the first linear layer gives: (A, M, hidden) -> (A, M, out_dim). Overwrites x."""
        for layer in self.layers[1:]:
            x = linear(layer, x) if isinstance(layer, nn.Linear) else layer(x)
        return x


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """A linear layer on (A, M, in) -> (A, M, out)."""
    if x.device.type != "cpu" or x.shape[1] == 1:
        return layer(x)
    # PyTorch: on the CPU a 1x1 convolution goes to oneDNN, the same product in F.linear to MKL, which is
    # slower on AMD processors (benchmarks/linear_layer.py).
    x = x.unsqueeze(1).permute(0, 3, 1, 2)  # (A, in, 1, M), channels last in memory
    x = F.conv2d(x, layer.weight[:, :, None, None], layer.bias)
    return x.permute(0, 2, 3, 1).squeeze(1)  # (A, M, out)
