"""LTE: what a decoder is told of the features as waves, whose frequencies the features choose (Lee and Jin, CVPR 2022,
arXiv 2111.08918).

    s(x) = sum_t  S_t / S * f(A_t * [cos(pi theta_t), sin(pi theta_t)]) + bilinear(x)
    theta_t = F_t (x - v_t) + phase(c)

x is the query, v_t its t = 4 neighbours; A_t (amplitudes, K values) and F_t (frequencies, K / 2 pairs) are convolutions
of the features at v_t, S_t the area opposite of t, c the cell, bilinear the image between its pixels.

Letters: B batch, Q queries, C feature channels, K waves' values, H W low-resolution, S neighbours.

A and F are computed once per feature pixel, the phase once per cell: once for an image.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from liif_core.errors import UserError
from liif_torch.models.decoders.ensemble import Ensemble
from liif_torch.models.registry import make, models


@models.register("lte")
class LTE(Ensemble):
    """encoder_spec: the encoder, with no_upsampling. imnet_spec: the decoding function f. hidden_dim: values of the
    waves, K, half of them cosines. scale_max: the largest factor it is trained for; beyond it, cells stay those of
    this factor, as in the authors' test script and demo; null takes any cell as it is.
    """

    needs_image = True

    def __init__(
        self,
        encoder_spec: dict,
        imnet_spec: dict,
        hidden_dim: PositiveInt = 256,
        scale_max: PositiveFloat | None = 4,
    ):
        super().__init__("lte", encoder_spec)
        if hidden_dim % 2:
            raise UserError(f"model 'lte': expected an even hidden_dim, for cosines and sines, got {hidden_dim}")
        self.scale_max = scale_max
        self.coef = nn.Conv2d(self.encoder.out_dim, hidden_dim, 3, padding=1)
        self.freq = nn.Conv2d(self.encoder.out_dim, hidden_dim, 3, padding=1)
        self.phase = nn.Linear(2, hidden_dim // 2, bias=False)
        self.imnet: Any = make(imnet_spec, in_dim=hidden_dim)

    def table(self, feat: Tensor, relative_cell: Tensor) -> Tensor:
        """Amplitudes, then frequencies down, then those to the right, times pi: (B, C, H + 2, W) -> (B, H, W, 2 K)."""
        coef = F.conv2d(feat, self.coef.weight, self.coef.bias, padding=(0, 1))
        # PyTorch: with autocast, 16 bits would turn waves of many periods by a part of one.
        with torch.autocast(feat.device.type, enabled=False):
            # Down and right take turns in the parameters; apart they are two contiguous blocks.
            weight, bias = (p.unflatten(0, (-1, 2)).transpose(0, 1).flatten(0, 1) for p in self.freq.parameters())
            freq = F.conv2d(feat.to(weight.dtype), weight * math.pi, bias * math.pi, padding=(0, 1))
        return torch.cat([coef.to(freq.dtype), freq], dim=1).permute(0, 2, 3, 1)

    def colours(self, x: Tensor, down: Tensor, right: Tensor, relative_cell: Tensor) -> Tensor:
        """See Ensemble."""
        half = self.phase.out_features
        coef, freq_down, freq_right = x.split([2 * half, half, half], dim=-1)
        with torch.autocast(x.device.type, enabled=False):  # PyTorch: as above
            phase = self.phase(relative_cell.to(x.dtype)) * math.pi
            theta = torch.addcmul(torch.addcmul(phase, freq_down, down.unsqueeze(-1)), freq_right, right.unsqueeze(-1))
            waves = coef * torch.cat([theta.cos(), theta.sin()], dim=-1)
        return self.imnet(waves.flatten(0, 2)).view(*waves.shape[:-1], -1)
