"""SR3's and DDPM's UNet as one plain function of its parameters by name: the oracle for both trees.

It is written from the description in the papers and the names in SR3-PyTorch's checkpoints, layer by layer, with
nothing but convolutions, and in float64.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F


def unet(parameters: dict[str, np.ndarray], x: np.ndarray, level: np.ndarray, args: dict) -> np.ndarray:
    """The noise (B, 3, h, w) that a UNet with these parameters tells in x (B, 6 or 3, h, w) at a level (B,)."""
    weights = {name: torch.from_numpy(array).double() for name, array in parameters.items()}
    groups, kind = args["norm_groups"], "time_mlp" if "time_mlp.1.weight" in parameters else "noise_level_mlp"

    def convolution(x, name, stride=1):
        kernel = weights[f"{name}.weight"]
        return F.conv2d(x, kernel, weights.get(f"{name}.bias"), stride, kernel.shape[-1] // 2)

    def linear(x, name):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def swish(x):
        return x / (1 + torch.exp(-x))

    def norm(x, name):
        parts = x.reshape(len(x), groups, -1)
        mean, variance = parts.mean(2, keepdim=True), parts.var(2, unbiased=False, keepdim=True)
        normed = ((parts - mean) / torch.sqrt(variance + 1e-5)).reshape(x.shape)
        return normed * weights[f"{name}.weight"][:, None, None] + weights[f"{name}.bias"][:, None, None]

    def attention(x, name):
        query, key, value = convolution(norm(x, f"{name}.norm"), f"{name}.qkv").flatten(2).chunk(3, dim=1)
        share = torch.softmax(torch.einsum("bcp,bcq->bpq", query, key) / math.sqrt(x.shape[1]), dim=2)
        seen = torch.einsum("bpq,bcq->bcp", share, value).reshape(x.shape)
        return x + convolution(seen, f"{name}.out")

    def block(x, name):
        inner = convolution(swish(norm(x, f"{name}.res_block.block1.block.0")), f"{name}.res_block.block1.block.3")
        if kind == "time_mlp":
            shift = linear(swish(embedding), f"{name}.res_block.mlp.1")
        else:
            shift = linear(embedding, f"{name}.res_block.noise_func.noise_func.0")
        inner = inner + shift[:, :, None, None]
        inner = convolution(swish(norm(inner, f"{name}.res_block.block2.block.0")), f"{name}.res_block.block2.block.3")
        straight = f"{name}.res_block.res_conv"
        x = inner + (convolution(x, straight) if f"{straight}.weight" in weights else x)
        return attention(x, f"{name}.attn") if f"{name}.attn.qkv.weight" in weights else x

    half = args["inner_channel"] // 2
    angles = torch.from_numpy(level).double()[:, None] * 10.0 ** (-4 * torch.arange(half).double() / half)
    embedding = torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)
    embedding = linear(swish(linear(embedding, f"{kind}.1")), f"{kind}.3")
    last, number = len(args["channel_mults"]) - 1, 0
    x = convolution(torch.from_numpy(x).double(), "downs.0")
    skips = [x]
    for depth in range(last + 1):
        for _ in range(args["res_blocks"]):
            number += 1
            x = block(x, f"downs.{number}")
            skips.append(x)
        if depth < last:
            number += 1
            x = convolution(x, f"downs.{number}.conv", stride=2)
            skips.append(x)
    x, number = block(block(x, "mid.0"), "mid.1"), -1
    for depth in range(last, -1, -1):
        for _ in range(args["res_blocks"] + 1):
            number += 1
            x = block(torch.cat([x, skips.pop()], dim=1), f"ups.{number}")
        if depth:
            number += 1
            x = convolution(x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3), f"ups.{number}.conv")
    assert not skips
    return convolution(swish(norm(x, "final_conv.block.0")), "final_conv.block.3").numpy()
