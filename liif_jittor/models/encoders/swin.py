"""Blocks of a Swin Transformer, as SwinIR has them: pixels look at each other within windows (Liu et al., ICCV 2021,
arXiv 2103.14030; liif_core.geometry.windows).

Letters: B batch, C channels, H W low-resolution, multiples of a window, h w windows down and right, N pixels
of a window, n heads.
"""

import math
from typing import Any

import jittor as jt
import numpy as np
from jittor import Var, nn

from liif_core.geometry import windows
from liif_jittor.models.layers import GELU, conv3x3, layer_norm

BAND = {"cpu": 1 << 16, "cuda": 1 << 20}  # pixels in the windows that are predicted at once


class WindowAttention(nn.Module):
    """softmax(q k^T / sqrt(C / n) + bias) v in each window; the bias is learnt per head and offset (equation 5)."""

    starts = {"relative_position_bias_table": "normal"}

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = jt.zeros(((2 * windows.SIDE - 1) ** 2, heads))
        self.qkv, self.proj = Linear(width, 3 * width), Linear(width, width)

    def execute(self, x: Var, mask: Var | None) -> Var:
        """(B, h, w, N, C) and what is added between two pixels (h w, 1, N, N) -> (B, h, w, N, C)."""
        pixels, width = x.shape[-2], x.shape[-1] // self.heads
        # Jittor: it has no attention of its own, and batches of matrix products have one axis of batches.
        parts = self.qkv(x).reshape(-1, pixels, 3, self.heads, width).permute(2, 0, 3, 1, 4)
        query, key, value = (part.reshape(-1, pixels, width) for part in parts)
        index = jt.array(windows.relative_index().ravel())
        bias = self.relative_position_bias_table[index].permute(1, 0).reshape(1, 1, self.heads, pixels, pixels)
        if mask is not None:
            bias = bias + mask
        scores = nn.bmm(query, key.transpose(0, 2, 1)) / math.sqrt(width)
        scores = scores.reshape(x.shape[0], -1, self.heads, pixels, pixels) + bias  # (B, h w, n, N, N)
        weights = nn.softmax(scores, dim=-1).reshape(-1, pixels, pixels)
        seen = nn.bmm(weights, value).reshape(-1, self.heads, pixels, width)
        return self.proj(seen.transpose(0, 2, 1, 3).reshape(x.shape))


class Linear(nn.Linear):
    """A linear layer that starts as Swin's: weights of a normal distribution, no bias."""

    starts = {"weight": "normal", "bias": "zero"}


class Mlp(nn.Module):
    """Two linear layers with a GELU between them, in one of its two forms."""

    def __init__(self, width: int, hidden: int, tanh: bool):
        super().__init__()
        self.fc1, self.act, self.fc2 = Linear(width, hidden), GELU(tanh), Linear(hidden, width)

    def execute(self, x: Var) -> Var:
        """(..., C) -> (..., C)"""
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), in windows, which are shifted or not (figure 2a). In training a
    sample goes by both with the probability `drop_path` (Huang et al., ECCV 2016, arXiv 1603.09382)."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, shifted: bool, drop_path: float, tanh: bool):
        super().__init__()
        self.norm1, self.norm2 = layer_norm(width), layer_norm(width)
        self.attn = WindowAttention(width, heads)
        self.mlp = Mlp(width, int(width * mlp_ratio), tanh)
        self.shift, self.drop_path = windows.SHIFT * shifted, drop_path

    def execute(self, x: Var) -> Var:
        """(B, H, W, C) -> (B, H, W, C)"""
        if self.shift:
            x = jt.roll(x, (-self.shift, -self.shift), (1, 2))
        width = x.shape[2]
        x = in_windows(x)  # (B, h, w, N, C)
        kinds = windows.kinds(*x.shape[1:3])
        # Where no gradient is asked for, what attention takes in memory is that of a band.
        band = BAND["cuda" if jt.flags.use_cuda else "cpu"] // (width * windows.SIDE)
        step = len(kinds) if not jt.flags.no_grad else max(1, band)
        bands = [self.inside(x[:, top : top + step], kinds[top : top + step]) for top in range(0, len(kinds), step)]
        x = out_of_windows(bands[0] if len(bands) == 1 else jt.concat(bands, dim=1))
        return jt.roll(x, (self.shift, self.shift), (1, 2)) if self.shift else x

    def inside(self, x: Var, kinds: np.ndarray) -> Var:
        """Of rows of windows (B, h, w, N, C), and which masks they have: (B, h, w, N, C)."""
        mask = None
        if self.shift:
            mask = jt.array(windows.masks())[jt.array(kinds.ravel())].unsqueeze(1)
        x = x + self.dropped(self.attn(self.norm1(x), mask))
        return x + self.dropped(self.mlp(self.norm2(x)))

    def dropped(self, x: Var) -> Var:
        """The residual (B, ...) of the samples that do not go by, larger by as many as there are fewer."""
        if not self.is_training() or not self.drop_path:
            return x
        kept = jt.rand(len(x), 1, 1, 1, 1) >= self.drop_path
        return x * kept / (1 - self.drop_path)


class Blocks(nn.Module):
    """Blocks whose windows are shifted in turn."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, rates: list[float], tanh: bool):
        super().__init__()
        blocks = [Block(width, heads, mlp_ratio, number % 2 == 1, rate, tanh) for number, rate in enumerate(rates)]
        self.blocks = nn.Sequential(*blocks)


class Group(nn.Module):
    """Blocks and a convolution, with a skip connection over them (equation 2, RSTB)."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, rates: list[float], tanh: bool):
        super().__init__()
        self.residual_group: Any = Blocks(width, heads, mlp_ratio, rates, tanh)
        self.conv = conv3x3(width, width)

    def execute(self, x: Var) -> Var:
        """(B, H, W, C) -> (B, H, W, C)"""
        return x + channels_last(self.conv(channels_first(self.residual_group.blocks(x))))


class Embed(nn.Module):
    """What is done to a feature map before the groups: its pixels are normalised."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = layer_norm(width)

    def execute(self, x: Var) -> Var:
        """(B, C, H, W) -> (B, H, W, C)"""
        return self.norm(channels_last(x))


def in_windows(x: Var) -> Var:
    """(B, H, W, C) -> (B, h, w, N, C)"""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // windows.SIDE, windows.SIDE, width // windows.SIDE, windows.SIDE, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, x.shape[1], x.shape[3], -1, channels)


def out_of_windows(x: Var) -> Var:
    """(B, h, w, N, C) -> (B, H, W, C)"""
    batch, rows, columns, _, channels = x.shape
    x = x.reshape(batch, rows, columns, windows.SIDE, windows.SIDE, channels).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, rows * windows.SIDE, columns * windows.SIDE, channels)


def channels_last(x: Var) -> Var:
    """(B, C, H, W) -> (B, H, W, C)"""
    return x.permute(0, 2, 3, 1)


def channels_first(x: Var) -> Var:
    """(B, H, W, C) -> (B, C, H, W)"""
    return x.permute(0, 3, 1, 2)
