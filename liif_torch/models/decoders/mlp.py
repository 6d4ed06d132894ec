"""The decoding function f of LIIF: a multilayer perceptron with ReLU (section 3.1)."""

import functools
import math
from typing import Any

import torch
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
        if len(self.layers) == 1:
            return x
        x = _relu(x)
        for layer in self.layers[2:-1:2]:
            x = _linear_relu(layer, x)
        return linear(self.layers[-1], x)


def _relu(x: Tensor) -> Tensor:
    """ReLU in place, if it may be."""
    # PyTorch: autograd copies all of a tensor of which a view, as x of `MLP.after_first` is one, is overwritten.
    return F.relu(x, inplace=not x.requires_grad)


def _linear_relu(layer: Any, x: Tensor) -> Tensor:
    """A linear layer and ReLU on (N, in) -> (N, out)."""
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    if x.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_exporting() or not _has_fused(dtype):
        return _relu(linear(layer, x))
    return _fused(x.to(dtype), layer.weight.to(dtype), layer.bias.to(dtype))


def _fused(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """ReLU of x (N, in) times weight (out, in) plus bias (out,), on the CPU: oneDNN adds and cuts while the product is
    in registers, instead of in another pass over memory. No gradient."""
    # PyTorch: this is what torch.compile makes of the three; itself it would compile each shape for 10 to 30 seconds.
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "relu", [], "")


@functools.cache
def _has_fused(dtype: torch.dtype) -> bool:
    """Whether this PyTorch on this processor has `_fused`, which is not part of its public interface."""
    if dtype not in (torch.float32, torch.bfloat16):
        return False
    x = torch.tensor([[1.0, -2.0]], dtype=dtype)
    try:
        return _fused(x, torch.cat([x, -x]), x[0]).tolist() == [[6.0, 0.0]]
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False


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
