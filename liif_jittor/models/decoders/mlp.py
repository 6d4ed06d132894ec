"""The decoding function f of LIIF: a multilayer perceptron with ReLU (section 3.1)."""

from typing import Any

import jittor as jt
from jittor import Var, nn

from liif_jittor.models.registry import models


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

    def execute(self, x: Var) -> Var:
        """(N, in_dim) -> (N, out_dim)"""
        return self.after_first(linear(self.layers[0], x))

    def after_first(self, x: Var) -> Var:
        """The rest, given what the first linear layer gives: (N, hidden) -> (N, out_dim)."""
        for layer in self.layers[1:]:
            # Jittor: maximum fuses into one pass on the CPU, nn.ReLU's ternary operator is slower.
            x = linear(layer, x) if isinstance(layer, nn.Linear) else jt.maximum(x, 0.0)
        return x


def linear(layer: Any, x: Var) -> Var:
    """A linear layer on (N, in) -> (N, out)."""
    return product(x, layer.weight, layer.bias)


def product(x: Var, weight: Var, bias: Var | None = None) -> Var:
    """x (N, in) times weight (out, in), plus bias (out,) -> (N, out)."""
    x = nn.matmul_transpose(x, weight)  # Jittor: its matrix products go to oneDNN as they are
    return x if bias is None else x + bias
