"""SwinIR (Liang et al., ICCV workshops 2021, arXiv 2108.10257): groups of transformer blocks whose pixels look at each
other within windows.

Letters: B batch, C channels, H W low-resolution. As an encoder (no_upsampling) it ends at the feature map; otherwise a
pixel shuffle upscales it by a fixed factor.
"""

from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from liif_core.errors import UserError
from liif_core.geometry import windows
from liif_torch.models.encoders.swin import Embed, Group, channels_first
from liif_torch.models.layers import UPSAMPLER_RADIUS, conv3x3, keeping_size, layer_norm, upsampler
from liif_torch.models.registry import models

N_FEATS = 64  # channels of the feature map


@models.register("swinir")
class SwinIR(nn.Module):
    """SwinIR for super-resolution: by default 6 groups of 6 blocks, 180 channels, 6 heads, windows of 8x8, and 64
    channels at its end. An image whose sides are no multiples of a window goes on below and on the right as its
    reflection.

    depths, num_heads: blocks of each group, and the heads of their attention. mlp_ratio: how much wider the hidden
    layer of a block is. drop_path_rate: with which probability a sample goes by the last block in training; from the
    first one on, where it is 0, it grows to that. scale: of the upsampling, which no_upsampling is without.
    encoder_spec: an encoder in front, with no_upsampling, whose features it refines, as Thera Pro's does. gelu: the
    form of its blocks' GELU, "tanh" in Thera Pro.
    """

    def __init__(
        self,
        depths: list[PositiveInt] | None = None,
        num_heads: list[PositiveInt] | None = None,
        embed_dim: PositiveInt = 180,
        mlp_ratio: PositiveFloat = 2,
        drop_path_rate: Annotated[float, Field(ge=0, lt=1)] = 0.1,
        scale: int = 2,
        no_upsampling: bool = False,
        encoder_spec: dict | None = None,
        gelu: Literal["erf", "tanh"] = "erf",
    ):
        super().__init__()
        depths = depths or [6] * 6
        num_heads = num_heads or [6] * len(depths)
        if len(depths) != len(num_heads) or any(embed_dim % heads for heads in num_heads):
            raise UserError(
                f"model 'swinir': expected num_heads for each of {len(depths)} depths, by which embed_dim {embed_dim} "
                f"can be divided, got {num_heads}"
            )
        self.encoder: Any = encoder_spec and keeping_size("swinir", encoder_spec)
        rates = np.linspace(0, drop_path_rate, sum(depths)).tolist()
        self.conv_first = conv3x3(self.encoder.out_dim if self.encoder else 3, embed_dim)
        self.patch_embed = Embed(embed_dim)
        groups = [
            Group(embed_dim, heads, mlp_ratio, rates[sum(depths[:number]) : sum(depths[: number + 1])], gelu == "tanh")
            for number, heads in enumerate(num_heads)
        ]
        self.layers, self.norm = nn.Sequential(*groups), layer_norm(embed_dim)
        self.conv_after_body = conv3x3(embed_dim, embed_dim)
        self.conv_before_upsample = nn.Sequential(conv3x3(embed_dim, N_FEATS), nn.LeakyReLU(0.01))
        self.no_upsampling = no_upsampling
        self.out_dim, self.scale = N_FEATS, 1
        if not no_upsampling:
            self.out_dim, self.scale = 3, scale
            self.upsample, self.conv_last = upsampler(scale, N_FEATS), conv3x3(N_FEATS, 3)
        before = self.encoder.receptive_radius if self.encoder else 0
        after = 2 if no_upsampling else 2 + UPSAMPLER_RADIUS
        self.receptive_radius = None if before is None else windows.receptive_radius(depths, before + 1, after)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, out_dim, H, W), or (B, 3, scale * H, scale * W) with a tail."""
        x = self.encoder(x) if self.encoder else x
        height, width = x.shape[2:]
        down, right = (torch.from_numpy(windows.reflected(side)).to(x.device) for side in (height, width))
        x = self.conv_first(x[:, :, down][:, :, :, right])
        x = x + self.conv_after_body(channels_first(self.norm(self.layers(self.patch_embed(x)))))
        x = self.conv_before_upsample(x)
        if not self.no_upsampling:
            x = self.conv_last(self.upsample(x))
        return x[:, :, : height * self.scale, : width * self.scale]
