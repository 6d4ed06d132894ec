"""Layers that several networks are made of."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from liif_core.errors import UserError
from liif_core.geometry import resampling
from liif_torch.models.registry import make

IN_CACHE = 1 << 20  # numbers in float32, 4 MiB, that GroupNorm's gradient works on at a time
LUMA = (0.299, 0.587, 0.114)  # of R, G and B (ITU-R BT.601)


def keeping_size(name: str, encoder_spec: dict) -> Any:
    """The encoder of the model called so, which needs a feature per pixel."""
    encoder = make(encoder_spec)
    if encoder.scale != 1:
        raise UserError(
            f"model '{name}': expected an encoder with a feature per pixel, got '{encoder_spec['name']}' with "
            f"{encoder.scale} along each axis: give it no_upsampling"
        )
    return encoder


def conv3x3(in_channels: int, out_channels: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    """3x3 convolution that keeps height and width, or divides them by the stride. Before a batch norm a bias has no
    effect."""
    return nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=bias)


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Batch normalisation (Ioffe and Szegedy, 2015) of (B, channels, H, W)."""
    return nn.BatchNorm2d(channels)


def group_norm(groups: int, channels: int) -> nn.GroupNorm:
    """Group normalisation (Wu and He, 2018) of (B, channels, H, W)."""
    return _GroupNorm(groups, channels)


class _GroupNorm(nn.GroupNorm):
    """PyTorch: in 16 bits the gradient of its own takes a processor 7 to 15 times as long, with channels last."""

    def forward(self, x: Tensor) -> Tensor:
        last = x.is_contiguous(memory_format=torch.channels_last)
        if x.device.type == "cpu" and x.element_size() == 2 and last and torch.is_grad_enabled():
            return _Normed.apply(x, self.weight, self.bias, self.num_groups, self.eps)
        return super().forward(x)


class _Normed(torch.autograd.Function):
    """(x - mean) / deviation * weight + bias, some images at a time in the backward pass, so that what it makes stays
    in the cache; in float32 where x has 16 bits.

    x (B, C, H, W), weight and bias (C,). With y the gradient of the result, n the normed x and w the weight, that of x
    is (w y - mean of w y - n times the mean of n w y) / deviation, where the means are a group's.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        batch, channels, height, width = x.shape
        result, *moments = torch.native_group_norm(x, weight, bias, batch, channels, height * width, groups, eps)
        ctx.save_for_backward(x, weight, *moments)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse = ctx.saved_tensors  # both moments (B, groups), of the deviation its inverse
        gradient = gradient.contiguous(memory_format=torch.channels_last)  # or else sums of y would be of 16 bits
        batch, channels, height, width = x.shape
        groups, dtype = mean.shape[1], mean.dtype
        size = channels // groups
        of_channels = mean.repeat_interleave(size, 1), inverse.repeat_interleave(size, 1)
        # BatchNorm's gradient has the two sums of a channel of one image in one pass, n y and y.
        ones, asked = torch.ones(channels, dtype=dtype), [False, True, True]
        sums = [
            torch.ops.aten.native_batch_norm_backward(
                gradient[i : i + 1], x[i : i + 1], ones, None, None, *(one[i] for one in of_channels), True, 0.0, asked
            )[1:]
            for i in range(batch)
        ]
        of_normed, plain = (torch.stack(each) for each in zip(*sums, strict=True))
        weighted = ((each * weight).view(batch, groups, size).sum(2) for each in (of_normed, plain))
        second, first = (each / (size * height * width) for each in weighted)  # the means
        scale = weight * of_channels[1]
        slope, offset = (
            each.repeat_interleave(size, 1)
            for each in (-second * inverse**2, (second * inverse * mean - first) * inverse)
        )
        pixels = [each.permute(0, 2, 3, 1).reshape(batch, -1, channels) for each in (x, gradient)]
        factors = (each[:, None] for each in (scale, slope, offset))
        result, some = torch.empty_like(pixels[0]), max(1, IN_CACHE // pixels[0][0].numel())
        for one, image, given, *terms in zip(*(each.split(some) for each in (result, *pixels, *factors)), strict=True):
            own = torch.addcmul(terms[2], image.to(dtype), terms[1])
            one.copy_(own.addcmul_(given.to(dtype), terms[0]))
        result = result.view(batch, height, width, channels).permute(0, 3, 1, 2)
        return result, of_normed.sum(0), plain.sum(0), None, None


def layer_norm(channels: int) -> nn.LayerNorm:
    """Layer normalisation (Ba et al., 2016) of (..., channels)."""
    return nn.LayerNorm(channels)


class GELU(nn.Module):
    """Gaussian error linear unit (Hendrycks and Gimpel, 2016), exactly or by its tanh, as in Flax."""

    def __init__(self, tanh: bool):
        super().__init__()
        self.tanh = tanh

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return F.gelu(x, approximate="tanh" if self.tanh else "none")


UPSAMPLER_RADIUS = 2  # of the convolutions of an upsampler and a tail: 1 + 1/2 + 1/4 pixels, or 1 + 1/3


def upsampler(scale: int, n_feats: int) -> nn.Sequential:
    """Convolutions and pixel shuffles for a factor of 3 or a power of two (Shi et al., 2016)."""
    if scale == 3:
        return nn.Sequential(conv3x3(n_feats, 9 * n_feats), nn.PixelShuffle(3))
    if scale < 1 or scale & (scale - 1):
        raise UserError(f"the encoder's scale is {scale}: accepted is 3 or a power of two")
    layers = []
    for _ in range(int(math.log2(scale))):
        layers += [conv3x3(n_feats, 4 * n_feats), nn.PixelShuffle(2)]
    return nn.Sequential(*layers)


def upscale(x: Tensor, scale: int, kernel: str) -> Tensor:
    """(B, C, H, W) -> (B, C, scale * H, scale * W) by interpolation (liif_core.geometry.resampling)."""
    down, right = (torch.tensor(resampling.weights(side, scale, kernel), device=x.device) for side in x.shape[2:])
    # PyTorch: with autocast, 16 bits would round the image.
    with torch.autocast(x.device.type, enabled=False):
        return down @ x.float() @ right.T


def luma(x: Tensor) -> Tensor:
    """Y of RGB, (B, 3, H, W) -> (B, 1, H, W), in the range of the colours."""
    red, green, blue = (x[:, channel : channel + 1] for channel in range(3))
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def replicate(x: Tensor, margin: int) -> Tensor:
    """(B, C, H, W) with so many pixels more on every side, as those at the border."""
    return F.pad(x, (margin,) * 4, mode="replicate")
