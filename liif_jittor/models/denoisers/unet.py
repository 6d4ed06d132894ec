"""The UNet of SR3 (Saharia et al., arXiv 2104.07636) and DDPM (Ho et al., NeurIPS 2020, arXiv 2006.11239), as
SR3-PyTorch has it, parameter names too.

Letters: B batch, C channels, h w sides of the images, which it keeps.
"""

import math
from typing import Annotated

import jittor as jt
import numpy as np
from jittor import Var, nn
from pydantic import Field, NonNegativeInt, PositiveInt

from liif_core.errors import UserError
from liif_jittor.models.layers import conv3x3, group_norm


class Swish(jt.Module):
    """x sigmoid(x) of what a norm has just made (Ramachandran et al., 2017)."""

    def execute(self, x: Var) -> Var:
        """(B, C, h, w) -> (B, C, h, w)"""
        return x * jt.sigmoid(x)


class Block(jt.Module):
    """Norm, Swish and a convolution."""

    def __init__(self, before: int, channels: int, groups: int, dropout: float = 0.0):
        super().__init__()
        dropped = nn.Dropout(dropout) if dropout else nn.Identity()
        self.block = nn.Sequential(group_norm(groups, before), Swish(), dropped, conv3x3(before, channels))

    def execute(self, x: Var) -> Var:
        """(B, before, h, w) -> (B, channels, h, w)"""
        return self.block(x)


class ResnetBlock(jt.Module):
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

    def shift(self, embedding: Var) -> Var:
        """(B, embedding) -> (B, channels)"""
        raise NotImplementedError

    def execute(self, x: Var, embedding: Var) -> Var:
        """(B, before, h, w) -> (B, channels, h, w)"""
        inner = self.block1(x)
        inner = inner + self.shift(embedding).broadcast(inner, [2, 3])
        return self.block2(inner) + self.res_conv(x)


class SelfAttention(jt.Module):
    """Every pixel looks at all others (Vaswani et al., 2017), with one head."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.norm = group_norm(groups, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.out = nn.Conv2d(channels, channels, 1)

    def execute(self, x: Var) -> Var:
        """(B, C, h, w) -> (B, C, h, w)"""
        batch, channels, height, width = x.shape
        qkv = self.qkv(self.norm(x)).reshape(batch, 3 * channels, height * width)
        # Jittor: it has no attention of its own, and its convolutions give channels before pixels.
        query, key, value = (qkv[:, part * channels : (part + 1) * channels] for part in range(3))
        weights = nn.softmax(nn.bmm(query.transpose(0, 2, 1), key) / math.sqrt(channels), dim=2)  # (B, h w, h w)
        seen = nn.bmm(value, weights.transpose(0, 2, 1))
        return x + self.out(seen.reshape(batch, channels, height, width))


class AttendedBlock(jt.Module):
    """A block of a level, followed by attention where the level has it."""

    def __init__(self, res_block: ResnetBlock, channels: int, groups: int, attended: bool):
        super().__init__()
        self.res_block = res_block
        self.attn = SelfAttention(channels, groups) if attended else nn.Identity()

    def execute(self, x: Var, embedding: Var) -> Var:
        """(B, before, h, w) -> (B, channels, h, w)"""
        return self.attn(self.res_block(x, embedding))


class Downsample(jt.Module):
    """Half as high and wide."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = conv3x3(channels, channels, stride=2)

    def execute(self, x: Var) -> Var:
        """(B, C, h, w) -> (B, C, h / 2, w / 2)"""
        return self.conv(x)


class Upsample(jt.Module):
    """Twice as high and wide."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = conv3x3(channels, channels)

    def execute(self, x: Var) -> Var:
        """(B, C, h, w) -> (B, C, 2 h, 2 w)"""
        batch, channels, height, width = x.shape
        # Jittor: its interpolation computes the coordinates of every pixel.
        pixels = x.reshape(batch, channels, height, 1, width, 1).expand(batch, channels, height, 2, width, 2)
        return self.conv(pixels.reshape(batch, channels, 2 * height, 2 * width))


class Sinusoids(jt.Module):
    """Sines and cosines of a number at frequencies that fall from 1 towards 1 / 10000."""

    def __init__(self, channels: int):
        super().__init__()
        # Jittor: it takes every Var of a module for a parameter, hence an array of numpy.
        self.frequencies = np.exp(-math.log(1e4) * np.arange(channels // 2, dtype=np.float32) / (channels // 2))

    def execute(self, level: Var) -> Var:
        """(B,) -> (B, channels)"""
        angles = level.unsqueeze(1) * jt.array(self.frequencies).unsqueeze(0)
        return jt.concat([angles.sin(), angles.cos()], dim=1)


class UNet(jt.Module):
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
        downs: list[jt.Module] = [conv3x3(6 if self.conditional else 3, inner_channel)]
        for level, width in enumerate(widths):
            for _ in range(res_blocks):
                downs.append(attended_block(skips[-1], width, attended[level]))
                skips.append(width)
            if level < last:
                downs.append(Downsample(width))
                skips.append(width)
        width = widths[-1]
        middle = [attended_block(width, width, True), attended_block(width, width, False)]
        ups: list[jt.Module] = []
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

    def embedding(self, level: Var) -> Var:
        """(B,) -> (B, inner_channel)"""
        raise NotImplementedError

    def execute(self, x: Var, level: Var) -> Var:
        """The noise in images: (B, 6, h, w), of which the condition comes first, or (B, 3, h, w); level (B,): how much
        there is -> (B, 3, h, w). Raises UserError for sides that it cannot halve."""
        height, width = x.shape[2:]
        if height % self.multiple or width % self.multiple:
            raise UserError(
                f"the denoiser takes images whose sides are multiples of {self.multiple}, got {height}x{width} pixels"
            )
        embedding = self.embedding(level)
        skips = []
        for layer in self.downs:
            x = layer(x, embedding) if isinstance(layer, AttendedBlock) else layer(x)
            skips.append(x)
        for layer in self.mid:
            x = layer(x, embedding)
        for layer in self.ups:
            x = layer(jt.concat([x, skips.pop()], 1), embedding) if isinstance(layer, AttendedBlock) else layer(x)
        return self.final_conv(x)


def mlp(channels: int) -> nn.Sequential:
    """A number's sinusoids become an embedding."""
    return nn.Sequential(
        Sinusoids(channels), nn.Linear(channels, 4 * channels), nn.SiLU(), nn.Linear(4 * channels, channels)
    )
