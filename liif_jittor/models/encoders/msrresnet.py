"""MSRResNet of BasicSR (github.com/XPixelGroup/BasicSR): SRResNet (Ledig et al., CVPR 2017) without batch norm.

Letters: B batch, C channels, H W low-resolution. Parameter names are BasicSR's, so that its weights load. It is a model
of one factor: its features are the image.
"""

from typing import Literal

import jittor as jt
from jittor import Var, nn
from pydantic import PositiveInt

from liif_jittor.models.layers import conv3x3, upscale
from liif_jittor.models.registry import models


class ResidualBlock(jt.Module):
    """x + conv(relu(conv(x)))."""

    def __init__(self, n_feats: int):
        super().__init__()
        self.conv1, self.conv2, self.relu = conv3x3(n_feats, n_feats), conv3x3(n_feats, n_feats), nn.ReLU()

    def execute(self, x: Var) -> Var:
        """(B, C, H, W) -> (B, C, H, W)"""
        return x + self.conv2(self.relu(self.conv1(x)))


@models.register("msrresnet")
class MSRResNet(jt.Module):
    """What it gives is added to bilinear upscaling. scale: its factor."""

    def __init__(self, scale: Literal[2, 3, 4] = 4, n_resblocks: PositiveInt = 16, n_feats: PositiveInt = 64):
        super().__init__()
        factor = 2 if scale == 4 else scale
        self.conv_first = conv3x3(3, n_feats)
        self.body = nn.Sequential(*(ResidualBlock(n_feats) for _ in range(n_resblocks)))
        self.upconv1 = conv3x3(n_feats, factor**2 * n_feats)
        if scale == 4:
            self.upconv2 = conv3x3(n_feats, 4 * n_feats)
        self.pixel_shuffle = nn.PixelShuffle(factor)
        self.conv_hr, self.conv_last = conv3x3(n_feats, n_feats), conv3x3(n_feats, 3)
        self.lrelu = nn.LeakyReLU(0.1)
        self.out_dim, self.scale = 3, scale
        self.receptive_radius = 1 + 2 * n_resblocks + 2  # after the body 1 + 1/2 + 2/4 pixels, 1 + 2/3 or 1 + 2/2

    def execute(self, x: Var) -> Var:
        """(B, 3, H, W) -> (B, 3, scale * H, scale * W)"""
        features = self.body(self.lrelu(self.conv_first(x)))
        features = self.lrelu(self.pixel_shuffle(self.upconv1(features)))
        if self.scale == 4:
            features = self.lrelu(self.pixel_shuffle(self.upconv2(features)))
        # PyTorch: the bilinear upscaling of its own, BasicSR's, is off by 1.4e-6 at x3, in float32; this one by 0.2e-6.
        return self.conv_last(self.lrelu(self.conv_hr(features))) + upscale(x, self.scale, "bilinear")
