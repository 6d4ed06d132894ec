"""LM-LTE: LTE whose wide MLP runs once per feature pixel, and tells a narrow one what to make of the queries (LMF: He
and Jin, CVPR 2024, arXiv 2404.16451).

    s(x) = sum_t  S_t / S * r(a_t * [cos(pi theta_t), sin(pi theta_t)]; m_t) + bilinear(x)
    theta_t = f_t (x - v_t) + phase'(c),    [m_t, a_t, f_t] = h(A_t * [cos(pi psi_t), sin(pi psi_t)])
    psi_t = sum of F_t + phase(c)

x is the query, v_t its t = 4 neighbours; A_t (amplitudes, K values) and F_t (frequencies, K / 2 pairs) are convolutions
of the features at v_t, S_t the area opposite of t, c the cell; h is the hypernetwork, whose modulations m_t scale and
shift the layers of the render MLP r, and which gives it narrow amplitudes a_t and frequencies f_t.

Letters: B batch, C feature channels, D modulations and code, E the code alone, H W low-resolution, N feature pixels.
"""

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from liif_core.errors import UserError
from liif_torch.models.decoders.mlp import linear
from liif_torch.models.decoders.modulated import Modulated
from liif_torch.models.registry import make, models


@models.register("lmlte")
class LMLTE(Modulated):
    """encoder_spec: the encoder, with no_upsampling. imnet_spec: the render MLP r, an lmmlp. hypernet_spec: the
    hypernetwork h; its out_dim follows from r, whatever it says. hidden_dim: values of the waves, K. mod_input: of the
    authors' configs; it is on. local_ensemble, cell_decode: as LIIF's. scale_max: the largest factor it is trained for;
    beyond it, cells stay those of this factor, as in the authors' test script and demo; null takes any cell as it is.
    """

    needs_image = True

    def __init__(
        self,
        encoder_spec: dict,
        imnet_spec: dict,
        hypernet_spec: dict,
        hidden_dim: PositiveInt = 128,
        local_ensemble: bool = True,
        cell_decode: bool = True,
        mod_input: Literal[True] = True,
        scale_max: PositiveFloat | None = 4,
    ):
        super().__init__("lmlte", encoder_spec)
        width = self.code_width(imnet_spec)
        if hidden_dim % 2 or width % 2:
            raise UserError(
                f"model 'lmlte': expected even hidden_dim, for cosines and sines, got {hidden_dim} and {width}"
            )
        self.cell_decode, self.scale_max = cell_decode, scale_max
        self.corners = 4 if local_ensemble else 1
        self.coef = nn.Conv2d(self.encoder.out_dim, hidden_dim, 3, padding=1)
        self.freq = nn.Conv2d(self.encoder.out_dim, hidden_dim, 3, padding=1)
        self.phase = nn.Linear(2, hidden_dim // 2, bias=False)
        self.imphase = nn.Linear(2, width // 2, bias=False)
        self.imnet = make(imnet_spec, in_dim=width)
        self.hypernet: Any = self.hypernetwork(hypernet_spec, hidden_dim, self.imnet.mod_dim + 2 * width)

    def known(self, feat: Tensor) -> Tensor:
        """See Modulated: amplitudes and sums of frequencies, of a pair of which the sum alone is asked for here."""
        freq, coef = ([*layer.parameters()] for layer in (self.freq, self.coef))
        weight, bias = (torch.cat([a, b.unflatten(0, (-1, 2)).sum(dim=1)]) for a, b in zip(coef, freq, strict=True))
        with torch.autocast(feat.device.type, enabled=False):  # PyTorch: 16 bits would turn waves by a part of one
            return F.conv2d(feat.to(weight.dtype), weight, bias, padding=(0, 1)).permute(0, 2, 3, 1)

    def modulations(self, x: Tensor, relative_cell: Tensor) -> Tensor:
        """See Modulated."""
        coef, freq = x.split([self.coef.out_channels, self.phase.out_features], dim=-1)
        with torch.autocast(x.device.type, enabled=False):  # PyTorch: as above
            theta = (freq + self.phase(relative_cell.to(x.dtype)) if self.cell_decode else freq) * math.pi
            waves = coef * torch.cat([theta.cos(), theta.sin()], dim=-1)
        return self.hypernet(waves.flatten(0, -2)).to(x.dtype).view(*x.shape[:-1], -1)

    def entry(self, code: Tensor, down: Tensor, right: Tensor, relative_cell: Tensor) -> Tensor:
        """See Modulated."""
        width = 2 * self.imphase.out_features
        coef, freq = code.split([width, width], dim=-1)
        with torch.autocast(code.device.type, enabled=False):  # PyTorch: as above
            on_down, on_right = freq.unflatten(-1, (-1, 2)).unsqueeze(1).unbind(-1)  # (N, 1, width / 2) each
            theta_right = right.unsqueeze(-1) * on_right
            if self.cell_decode:
                theta_right = theta_right + self.imphase(relative_cell.to(code.dtype)).unsqueeze(1)
            theta = ((down.unsqueeze(-1) * on_down).unsqueeze(2) + theta_right.unsqueeze(1)) * math.pi
            waves = torch.cat([theta.cos(), theta.sin()], dim=-1) * coef[:, None, None]  # (N, P, P', width)
            return linear(self.imnet.layers[0], waves.flatten(0, 2)).view(*waves.shape[:-1], -1)
