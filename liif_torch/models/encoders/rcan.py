"""RCAN (Zhang et al., ECCV 2018, arXiv 1807.02758): residual groups whose blocks weigh their channels.

Letters: B batch, C channels, H W low-resolution. As an encoder (no_upsampling) it ends at the feature map; otherwise
a pixel shuffle upscales it by a fixed factor.
"""

from torch import Tensor, nn

from liif_torch.models.layers import conv3x3, upsampler
from liif_torch.models.registry import models


class ChannelAttention(nn.Module):
    """x times a weight in (0, 1) per channel, made of the channels' means (section 3.3)."""

    def __init__(self, n_feats: int, reduction: int):
        super().__init__()
        self.conv_du = nn.Sequential(
            nn.Conv2d(n_feats, n_feats // reduction, 1),
            nn.ReLU(),
            nn.Conv2d(n_feats // reduction, n_feats, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)"""
        return x * self.conv_du(x.mean(dim=(2, 3), keepdim=True))


class ResidualBlock(nn.Module):
    """x + attention(conv(relu(conv(x))))  (section 3.4, RCAB)."""

    def __init__(self, n_feats: int, reduction: int):
        super().__init__()
        layers = [conv3x3(n_feats, n_feats), nn.ReLU(), conv3x3(n_feats, n_feats)]
        self.body = nn.Sequential(*layers, ChannelAttention(n_feats, reduction))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)"""
        return x + self.body(x)


class ResidualGroup(nn.Module):
    """Residual blocks and a convolution, with a short skip connection over them (section 3.2)."""

    def __init__(self, n_resblocks: int, n_feats: int, reduction: int):
        super().__init__()
        blocks = [ResidualBlock(n_feats, reduction) for _ in range(n_resblocks)]
        self.body = nn.Sequential(*blocks, conv3x3(n_feats, n_feats))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)"""
        return x + self.body(x)


class RCAN(nn.Module):
    """Head, residual groups with a long skip connection, and a tail unless no_upsampling.

    out_dim: channels of the output, n_feats as an encoder, 3 otherwise. scale: output pixels per input pixel along an
    axis. receptive_radius: None, for the channels' means are those of the whole image.
    """

    def __init__(
        self, n_resgroups: int, n_resblocks: int, n_feats: int, reduction: int, scale: int, no_upsampling: bool
    ):
        super().__init__()
        self.head = nn.Sequential(conv3x3(3, n_feats))
        groups = [ResidualGroup(n_resblocks, n_feats, reduction) for _ in range(n_resgroups)]
        self.body = nn.Sequential(*groups, conv3x3(n_feats, n_feats))
        self.no_upsampling = no_upsampling
        self.out_dim, self.scale, self.receptive_radius = n_feats, 1, None
        if not no_upsampling:
            self.out_dim, self.scale = 3, scale
            self.tail = nn.Sequential(upsampler(scale, n_feats), conv3x3(n_feats, 3))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, out_dim, H, W), or (B, 3, scale * H, scale * W) with a tail."""
        x = self.head(x)
        x = x + self.body(x)
        return x if self.no_upsampling else self.tail(x)


@models.register("rcan")
def make_rcan(
    n_resgroups: int = 10,
    n_resblocks: int = 20,
    n_feats: int = 64,
    reduction: int = 16,
    scale: int = 2,
    no_upsampling: bool = False,
    rgb_range: float = 1,
) -> RCAN:
    """RCAN: 10 groups of 20 blocks of 64 channels. rgb_range is LIIF's and has no effect."""
    return RCAN(n_resgroups, n_resblocks, n_feats, reduction, scale, no_upsampling)
