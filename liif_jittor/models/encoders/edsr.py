"""EDSR (Lim et al., CVPR workshops 2017, arXiv 1707.02921): residual blocks without batch norm.

Letters: B batch, C channels, H W low-resolution. As an encoder (no_upsampling) it ends at the
feature map; otherwise a pixel shuffle upscales it by a fixed factor.
"""

from jittor import Var, nn

from liif_jittor.models.layers import UPSAMPLER_RADIUS, conv3x3, upsampler
from liif_jittor.models.registry import models


class ResBlock(nn.Module):
    """x + res_scale * conv(relu(conv(x)))  (figure 2c)."""

    def __init__(self, n_feats: int, res_scale: float):
        super().__init__()
        self.body = nn.Sequential(conv3x3(n_feats, n_feats), nn.ReLU(), conv3x3(n_feats, n_feats))
        self.res_scale = res_scale

    def execute(self, x: Var) -> Var:
        """(B, C, H, W) -> (B, C, H, W)"""
        residual = self.body(x)
        return x + (residual if self.res_scale == 1 else residual * self.res_scale)


class EDSR(nn.Module):
    """Head, residual body with a long skip connection, and a tail unless no_upsampling.

    out_dim: channels of the output, n_feats as an encoder, 3 otherwise. scale: output pixels per input pixel along an
    axis. receptive_radius: how many pixels away from its own an output sees.
    """

    def __init__(self, n_resblocks: int, n_feats: int, res_scale: float, scale: int, no_upsampling: bool):
        super().__init__()
        self.head = nn.Sequential(conv3x3(3, n_feats))
        blocks = [ResBlock(n_feats, res_scale) for _ in range(n_resblocks)]
        self.body = nn.Sequential(*blocks, conv3x3(n_feats, n_feats))
        self.no_upsampling = no_upsampling
        self.out_dim, self.scale, self.receptive_radius = n_feats, 1, 2 * n_resblocks + 2
        if not no_upsampling:
            self.out_dim, self.scale = 3, scale
            self.receptive_radius += UPSAMPLER_RADIUS
            self.tail = nn.Sequential(upsampler(scale, n_feats), conv3x3(n_feats, 3))

    def execute(self, x: Var) -> Var:
        """(B, 3, H, W) -> (B, out_dim, H, W), or (B, 3, scale * H, scale * W) with a tail."""
        x = self.head(x)
        x = x + self.body(x)
        return x if self.no_upsampling else self.tail(x)


@models.register("edsr-baseline")
def make_edsr_baseline(
    n_resblocks: int = 16,
    n_feats: int = 64,
    res_scale: float = 1,
    scale: int = 2,
    no_upsampling: bool = False,
    rgb_range: float = 1,
) -> EDSR:
    """EDSR-baseline: 16 blocks of 64 channels. rgb_range is LIIF's and has no effect."""
    return EDSR(n_resblocks, n_feats, res_scale, scale, no_upsampling)


@models.register("edsr")
def make_edsr(
    n_resblocks: int = 32,
    n_feats: int = 256,
    res_scale: float = 0.1,
    scale: int = 2,
    no_upsampling: bool = False,
    rgb_range: float = 1,
) -> EDSR:
    """EDSR in full: 32 blocks of 256 channels, residuals scaled by 0.1 (section 3.3)."""
    return EDSR(n_resblocks, n_feats, res_scale, scale, no_upsampling)
