"""ConvNeXt blocks behind an encoder: what refines the features in Thera Plus (Liu et al., CVPR 2022, arXiv 2201.03545,
figure 4; Becker et al., arXiv 2311.17643, with windows of 3x3 instead of 7x7).

Letters: B batch, C features, H W low-resolution.
"""

from typing import Any

from jittor import Var, nn
from pydantic import PositiveInt

from liif_jittor.models.layers import GELU, keeping_size
from liif_jittor.models.registry import models

EPS = 1e-6  # of the norms, as in Flax


@models.register("convnext")
class ConvNeXt(nn.Module):
    """encoder_spec: the encoder in front, with no_upsampling. blocks: pairs of a width and how many blocks have it; the
    default is Thera Plus'. (B, 3, H, W) -> (B, the last width, H, W)."""

    scale = 1

    def __init__(self, encoder_spec: dict, blocks: list[tuple[PositiveInt, PositiveInt]] | None = None):
        super().__init__()
        blocks = blocks or [(64, 6), (96, 7), (128, 3)]
        self.encoder: Any = keeping_size("convnext", encoder_spec)
        layers: list[nn.Module] = []
        width = self.encoder.out_dim
        for next_width, count in blocks:
            if next_width != width:
                layers.append(Projection(width, next_width))
            layers += [Block(next_width) for _ in range(count)]
            width = next_width
        self.layers = nn.Sequential(*layers)
        self.out_dim = width
        radius = self.encoder.receptive_radius
        self.receptive_radius = None if radius is None else radius + sum(count for _, count in blocks)

    def execute(self, x: Var) -> Var:
        """(B, 3, H, W) -> (B, out_dim, H, W)"""
        return self.layers(self.encoder(x))


class Block(nn.Module):
    """A window of each channel, then two layers across the channels, of which the first is four times as wide."""

    def __init__(self, width: int):
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv(width, width, 3, padding=1, groups=width, bias=False),
            ChannelNorm(width, EPS),
            nn.Conv(width, 4 * width, 1),
            GELU(tanh=True),
            nn.Conv(4 * width, width, 1),
        )

    def execute(self, x: Var) -> Var:
        """(B, C, H, W) -> (B, C, H, W)"""
        return x + self.residual(x)


class Projection(nn.Module):
    """From one width to another."""

    def __init__(self, width: int, next_width: int):
        super().__init__()
        self.norm, self.conv = ChannelNorm(width, EPS), nn.Conv(width, next_width, 1)

    def execute(self, x: Var) -> Var:
        """(B, C, H, W) -> (B, next_width, H, W)"""
        return self.conv(self.norm(x))


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation of each pixel's channels."""

    def execute(self, x: Var) -> Var:
        """(B, C, H, W) -> (B, C, H, W)"""
        return super().execute(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
