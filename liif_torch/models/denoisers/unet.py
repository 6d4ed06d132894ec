"""The UNet of SR3 (Saharia et al., arXiv 2104.07636) and DDPM (Ho et al., NeurIPS 2020, arXiv 2006.11239), as
SR3-PyTorch has it, parameter names too.

Letters: B batch, C channels, h w sides of the images, which it keeps.
"""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from liif_core.errors import UserError
from liif_torch.models.layers import conv3x3, group_norm


class Swish(nn.Module):
    """x sigmoid(x) of what a norm has just made (Ramachandran et al., 2017)."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)"""
        return F.silu(x, inplace=not x.requires_grad)  # PyTorch: a copy only where the backward pass needs it


class Block(nn.Module):
    """Norm, Swish and a convolution."""

    def __init__(self, before: int, channels: int, groups: int, dropout: float = 0.0):
        super().__init__()
        dropped = nn.Dropout(dropout) if dropout else nn.Identity()
        self.block = nn.Sequential(group_norm(groups, before), Swish(), dropped, conv3x3(before, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, before, h, w) -> (B, channels, h, w)"""
        return self.block(x)


class ResnetBlock(nn.Module):
    """Two blocks beside a skip connection, with a shift of each channel between them, by which the noise level is told.

    A subclass says how an embedding becomes a shift.
    """

    def __init__(self, before: int, channels: int, embedding: int, groups: int, dropout: float):
        super().__init__()
        self.add_shift(embedding, channels)
        self.block1 = Block(before, channels, groups)
        self.block2 = Block(channels, channels, groups, dropout)
        self.res_conv = nn.Conv2d(before, channels, 1) if before != channels else nn.Identity()

    def add_shift(self, embedding: int, channels: int) -> None:
        """Make the layer that `shift` asks."""
        raise NotImplementedError

    def shift(self, embedding: Tensor) -> Tensor:
        """(B, embedding) -> (B, channels)"""
        raise NotImplementedError

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(B, before, h, w) -> (B, channels, h, w)"""
        inner = self.block1(x)
        inner = inner + self.shift(embedding).to(inner.dtype)[:, :, None, None]
        return self.block2(inner) + self.res_conv(x)


class SelfAttention(nn.Module):
    """Every pixel looks at all others (Vaswani et al., 2017), with one head."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.norm = group_norm(groups, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)"""
        batch, channels, height, width = x.shape
        qkv = self.qkv(self.norm(x)).permute(0, 2, 3, 1).reshape(batch, 1, height * width, 3 * channels)
        seen = F.scaled_dot_product_attention(*qkv.chunk(3, dim=3))  # (B, 1, h w, C)
        return x + self.out(seen.reshape(batch, height, width, channels).permute(0, 3, 1, 2))


class AttendedBlock(nn.Module):
    """A block of a level, followed by attention where the level has it."""

    def __init__(self, res_block: ResnetBlock, channels: int, groups: int, attended: bool):
        super().__init__()
        self.res_block = res_block
        self.attn = SelfAttention(channels, groups) if attended else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(B, before, h, w) -> (B, channels, h, w)"""
        return self.attn(self.res_block(x, embedding))


class Downsample(nn.Module):
    """Half as high and wide."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = conv3x3(channels, channels, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h / 2, w / 2)"""
        return self.conv(x)


class Upsample(nn.Module):
    """Twice as high and wide."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = conv3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, 2 h, 2 w)"""
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class Sinusoids(nn.Module):
    """Sines and cosines of a number at frequencies that fall from 1 towards 1 / 10000."""

    def __init__(self, channels: int):
        super().__init__()
        self.count = channels // 2

    def forward(self, level: Tensor) -> Tensor:
        """(B,) -> (B, channels)"""
        steps = torch.arange(self.count, dtype=torch.float32, device=level.device) / self.count
        angles = level[:, None] * torch.exp(-math.log(1e4) * steps)
        return torch.cat([angles.sin(), angles.cos()], dim=1)


class UNet(nn.Module):
    """Levels of residual blocks, down and up again, with a skip connection for each; `block` and `embedding` are a
    subclass's.

    out_dim, scale, receptive_radius: as of an encoder. image_size: side of those that it is trained on. told: the part
    of a batch that says how much noise there is. conditional: whether it sees an image beside the noisy one.
    orthogonal: how its weights start (liif_core.training.initial).
    """

    block: type[ResnetBlock]
    told = "level"
    orthogonal = True

    def __init__(
        self,
        scale: PositiveInt | None = None,
        inner_channel: PositiveInt = 64,
        channel_mults: tuple[PositiveInt, ...] = (1, 2, 4, 8, 8),
        attn_res: tuple[NonNegativeInt, ...] = (16,),
        res_blocks: PositiveInt = 2,
        norm_groups: PositiveInt = 32,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2,
        image_size: PositiveInt = 128,
    ):
        super().__init__()
        widths = [inner_channel * mult for mult in channel_mults]
        if any(width % norm_groups for width in (inner_channel, *widths)) or inner_channel % 2:
            raise UserError(
                f"a denoiser's 'inner_channel' is {inner_channel} and its 'norm_groups' {norm_groups}: expected an "
                f"even number, of which norm_groups divides the widths {', '.join(map(str, widths))}"
            )
        self.out_dim, self.scale, self.receptive_radius, self.conditional = 3, scale or 1, None, scale is not None
        self.image_size = image_size
        self.multiple = 2 ** (len(widths) - 1)
        self.add_embedding(inner_channel)

        def attended_block(before: int, channels: int, attended: bool) -> AttendedBlock:
            inner = self.block(before, channels, inner_channel, norm_groups, dropout)
            return AttendedBlock(inner, channels, norm_groups, attended)

        attended = [image_size // 2**level in attn_res for level in range(len(widths))]
        skips, last = [inner_channel], len(widths) - 1
        downs: list[nn.Module] = [conv3x3(6 if self.conditional else 3, inner_channel)]
        for level, width in enumerate(widths):
            for _ in range(res_blocks):
                downs.append(attended_block(skips[-1], width, attended[level]))
                skips.append(width)
            if level < last:
                downs.append(Downsample(width))
                skips.append(width)
        width = widths[-1]
        middle = [attended_block(width, width, True), attended_block(width, width, False)]
        ups: list[nn.Module] = []
        before = width
        for level in range(last, -1, -1):
            for _ in range(res_blocks + 1):
                ups.append(attended_block(before + skips.pop(), widths[level], attended[level]))
                before = widths[level]
            if level:
                ups.append(Upsample(before))
        self.downs, self.mid, self.ups = nn.ModuleList(downs), nn.ModuleList(middle), nn.ModuleList(ups)
        self.final_conv = Block(before, 3, norm_groups)

    def add_embedding(self, channels: int) -> None:
        """Make the layers that `embedding` asks."""
        raise NotImplementedError

    def embedding(self, level: Tensor) -> Tensor:
        """(B,) -> (B, inner_channel)"""
        raise NotImplementedError

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """The noise in images: (B, 6, h, w), of which the condition comes first, or (B, 3, h, w); level (B,): how much
        there is -> (B, 3, h, w). Raises UserError for sides that it cannot halve."""
        height, width = x.shape[2:]
        if height % self.multiple or width % self.multiple:
            raise UserError(
                f"the denoiser takes images whose sides are multiples of {self.multiple}, got {height}x{width} pixels"
            )
        # PyTorch: with autocast, 16 bits would make neighbouring levels one.
        with torch.autocast(x.device.type, enabled=False):
            embedding = self.embedding(level.float())
        skips = []
        for layer in self.downs:
            x = layer(x, embedding) if isinstance(layer, AttendedBlock) else layer(x)
            skips.append(x)
        for layer in self.mid:
            x = layer(x, embedding)
        for layer in self.ups:
            x = layer(torch.cat([x, skips.pop()], 1), embedding) if isinstance(layer, AttendedBlock) else layer(x)
        return self.final_conv(x)


def mlp(channels: int) -> nn.Sequential:
    """A number's sinusoids become an embedding."""
    return nn.Sequential(
        Sinusoids(channels), nn.Linear(channels, 4 * channels), nn.SiLU(), nn.Linear(4 * channels, channels)
    )
