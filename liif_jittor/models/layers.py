"""Layers that several networks are made of."""

import math
from typing import Any

import jittor as jt
from jittor import Var, nn

from liif_core.errors import UserError
from liif_core.geometry import resampling
from liif_jittor.models.registry import make

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
    return _BatchNorm2d(channels)


class _BatchNorm2d(nn.BatchNorm2d):
    """Jittor: its own keeps the biased variance for prediction, PyTorch the unbiased one, n / (n - 1) times as large;
    and it subtracts squares of means, which costs digits where the mean is large.
    """

    def execute(self, x: Var) -> Var:
        if not self.is_train:
            return super().execute(x)
        axes, count = [0, 2, 3], x.numel() // x.shape[1]
        mean = x.mean(dims=axes)
        centred = x - mean.broadcast(x, axes)
        variance = (centred * centred).mean(dims=axes)
        for running, now in ((self.running_mean, mean), (self.running_var, variance * (count / (count - 1)))):
            running.update(running + (now.detach() - running) * self.momentum)
        scale = self.weight / jt.sqrt(variance + self.eps)
        return centred * scale.broadcast(x, axes) + self.bias.broadcast(x, axes)


def group_norm(groups: int, channels: int) -> nn.GroupNorm:
    """Group normalisation (Wu and He, 2018) of (B, channels, H, W)."""
    return _GroupNorm(groups, channels)


class _GroupNorm(nn.GroupNorm):
    """Jittor: its own subtracts squares of means, which costs digits where the mean is large."""

    def execute(self, x: Var) -> Var:
        groups = x.reshape(x.shape[0], self.num_groups, -1)
        centred = groups - groups.mean(dim=2, keepdims=True)
        variance = (centred * centred).mean(dim=2, keepdims=True)
        normed = (centred / jt.sqrt(variance + self.eps)).reshape(x.shape)
        return normed * self.weight.broadcast(x, [0, 2, 3]) + self.bias.broadcast(x, [0, 2, 3])


def layer_norm(channels: int) -> nn.LayerNorm:
    """Layer normalisation (Ba et al., 2016) of (..., channels)."""
    return _LayerNorm(channels)


class _LayerNorm(nn.LayerNorm):
    """Jittor: its own subtracts squares of means, which costs digits where the mean is large."""

    def execute(self, x: Var) -> Var:
        centred = x - x.mean(dim=-1, keepdims=True)
        variance = (centred * centred).mean(dim=-1, keepdims=True)
        return centred / jt.sqrt(variance + self.eps) * self.weight + self.bias


class GELU(nn.Module):
    """Gaussian error linear unit (Hendrycks and Gimpel, 2016), exactly or by its tanh, as in Flax."""

    def __init__(self, tanh: bool):
        super().__init__()
        self.tanh = tanh

    def execute(self, x: Var) -> Var:
        """Any shape."""
        if self.tanh:  # Jittor: its own has the other form alone
            return x * (jt.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)) + 1) * 0.5
        return nn.gelu(x)


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


def upscale(x: Var, scale: int, kernel: str) -> Var:
    """(B, C, H, W) -> (B, C, scale * H, scale * W) by interpolation (liif_core.geometry.resampling)."""
    down, right = (jt.array(resampling.weights(side, scale, kernel)) for side in x.shape[2:])
    # Jittor: its product of a matrix and a batch of them is slow; here the batch is the rows of one.
    rows = jt.matmul(x.permute(0, 1, 3, 2), down.transpose(0, 1))  # (B, C, W, h)
    return jt.matmul(rows.permute(0, 1, 3, 2), right.transpose(0, 1))


def luma(x: Var) -> Var:
    """Y of RGB, (B, 3, H, W) -> (B, 1, H, W), in the range of the colours."""
    red, green, blue = (x[:, channel : channel + 1] for channel in range(3))
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def replicate(x: Var, margin: int) -> Var:
    """(B, C, H, W) with so many pixels more on every side, as those at the border."""
    return nn.ReplicationPad2d(margin)(x)
