"""Layers that several networks are made of."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from liif_core.errors import UserError
from liif_core.geometry import resampling
from liif_torch.models.registry import make

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
    return nn.GroupNorm(groups, channels)


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
