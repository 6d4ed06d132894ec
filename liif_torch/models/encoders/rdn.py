"""RDN (Zhang et al., CVPR 2018, arXiv 1802.08797): residual dense blocks, fused locally and globally.

Letters: B batch, C channels, H W low-resolution, G0 channels of the feature map, G channels that a layer adds
(growth rate). As an encoder (no_upsampling) it ends at the feature map; otherwise a pixel shuffle upscales it by a
fixed factor.
"""

from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from liif_core.errors import UserError
from liif_torch.models.layers import UPSAMPLER_RADIUS
from liif_torch.models.registry import models

# Blocks, layers per block, growth rate (section 5.1 has others; these two are EDSR-PyTorch's and LIIF's).
CONFIGS = {"A": (20, 6, 32), "B": (16, 8, 64)}


def conv(in_channels: int, out_channels: int, side: int) -> nn.Conv2d:
    """Convolution with a side x side kernel that keeps height and width."""
    return nn.Conv2d(in_channels, out_channels, side, padding=side // 2)


def convolve_parts(layer: Any, parts: list[Tensor]) -> Tensor:
    """A convolution over the concatenation of feature maps (B, C_i, H, W), which is not built: it is the sum of one
    convolution over each part. As fast, and without the copies that a concatenation in every layer makes."""
    first, *others = zip(parts, layer.weight.split([part.shape[1] for part in parts], dim=1), strict=True)
    total = F.conv2d(*first, layer.bias, padding=layer.padding)
    for part, weight in others:
        total = total + F.conv2d(part, weight, padding=layer.padding)
    return total


class DenseLayer(nn.Module):
    """G channels made of all the channels before."""

    def __init__(self, in_channels: int, growth: int, side: int):
        super().__init__()
        self.conv = nn.Sequential(conv(in_channels, growth, side), nn.ReLU())

    def forward(self, parts: list[Tensor]) -> Tensor:
        """Maps (B, C_i, H, W) -> (B, G, H, W)"""
        convolution, relu = self.conv
        return relu(convolve_parts(convolution, parts))


class ResidualDenseBlock(nn.Module):
    """x + 1x1 convolution of x and of what the dense layers add (section 3.2: local feature fusion, LFF)."""

    def __init__(self, G0: int, growth: int, n_layers: int, side: int):
        super().__init__()
        self.convs = nn.Sequential(*[DenseLayer(G0 + i * growth, growth, side) for i in range(n_layers)])
        self.LFF = conv(G0 + n_layers * growth, G0, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, G0, H, W) -> (B, G0, H, W)"""
        parts = [x]
        for layer in self.convs:
            parts.append(layer(parts))
        return x + convolve_parts(self.LFF, parts)


class RDN(nn.Module):
    """Shallow features, dense blocks, their global fusion (GFF) with a long skip connection, and an
    upsampling network (UPNet) unless no_upsampling.

    out_dim: channels of the output, G0 as an encoder, 3 otherwise. scale: output pixels per input pixel along an axis.
    receptive_radius: how many pixels away from its own an output sees.
    """

    def __init__(self, G0: int, side: int, n_blocks: int, n_layers: int, growth: int, scale: int, no_upsampling: bool):
        super().__init__()
        self.SFENet1 = conv(3, G0, side)
        self.SFENet2 = conv(G0, G0, side)
        self.RDBs = nn.ModuleList([ResidualDenseBlock(G0, growth, n_layers, side) for _ in range(n_blocks)])
        self.GFF = nn.Sequential(conv(n_blocks * G0, G0, 1), conv(G0, G0, side))
        self.no_upsampling = no_upsampling
        self.out_dim, self.scale, self.receptive_radius = G0, 1, (n_blocks * n_layers + 3) * (side // 2)
        if not no_upsampling:
            if scale not in (2, 3, 4):
                raise UserError(f"RDN's scale is {scale}: accepted is 2, 3 or 4")
            self.out_dim, self.scale = 3, scale
            self.receptive_radius += UPSAMPLER_RADIUS * (side // 2)
            layers, width = [], G0
            for factor in (2, 2) if scale == 4 else (scale,):
                layers += [conv(width, growth * factor**2, side), nn.PixelShuffle(factor)]
                width = growth
            self.UPNet = nn.Sequential(*layers, conv(width, 3, side))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, G0, H, W), or (B, 3, scale * H, scale * W) with an upsampling network."""
        shallow = self.SFENet1(x)
        x = self.SFENet2(shallow)
        # A 1x1 convolution over the blocks' outputs side by side is the sum of one over each. So they need not be
        # kept: of a 1020x678 image they would take 2.8 GB, and their concatenation as much again.
        fusion: list[Any] = list(self.GFF)
        fuse, smooth = fusion
        fused = fuse.bias.view(1, -1, 1, 1)
        for block, weight in zip(self.RDBs, fuse.weight.split(x.shape[1], dim=1), strict=True):
            x = block(x)
            fused = fused + F.conv2d(x, weight)
        x = smooth(fused) + shallow
        return x if self.no_upsampling else self.UPNet(x)


@models.register("rdn")
def make_rdn(
    G0: int = 64,
    RDNkSize: int = 3,
    RDNconfig: Literal["A", "B"] = "B",
    scale: int = 2,
    no_upsampling: bool = False,
) -> RDN:
    """RDN in configuration A (20 blocks of 6 layers, growth rate 32) or B (16 blocks of 8 layers, 64)."""
    n_blocks, n_layers, growth = CONFIGS[RDNconfig]
    return RDN(G0, RDNkSize, n_blocks, n_layers, growth, scale, no_upsampling)
