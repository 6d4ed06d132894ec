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

import jittor as jt
from jittor import Var, nn
from pydantic import PositiveFloat, PositiveInt

from liif_core.errors import UserError
from liif_jittor.models.decoders.mlp import linear
from liif_jittor.models.decoders.modulated import Modulated
from liif_jittor.models.registry import make, models


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
        self.coef = nn.Conv(self.encoder.out_dim, hidden_dim, 3, padding=1)
        self.freq = nn.Conv(self.encoder.out_dim, hidden_dim, 3, padding=1)
        self.phase = nn.Linear(2, hidden_dim // 2, bias=False)
        self.imphase = nn.Linear(2, width // 2, bias=False)
        self.imnet = make(imnet_spec, in_dim=width)
        self.hypernet: Any = self.hypernetwork(hypernet_spec, hidden_dim, self.imnet.mod_dim + 2 * width)

    def known(self, feat: Var) -> Var:
        """See Modulated: amplitudes and sums of frequencies, of a pair of which the sum alone is asked for here."""
        weight, bias = (p[0::2] + p[1::2] for p in (self.freq.weight, self.freq.bias))
        weight, bias = jt.concat([self.coef.weight, weight], dim=0), jt.concat([self.coef.bias, bias], dim=0)
        return nn.conv2d(feat, weight, bias, padding=(0, 1)).permute(0, 2, 3, 1)

    def modulations(self, x: Var, relative_cell: Var) -> Var:
        """See Modulated."""
        coef, freq = x[..., : self.coef.out_channels], x[..., self.coef.out_channels :]
        theta = (freq + self.phase(relative_cell) if self.cell_decode else freq) * math.pi
        waves = coef * jt.concat([theta.cos(), theta.sin()], dim=-1)
        return self.hypernet(waves.reshape(-1, waves.shape[-1])).reshape(*x.shape[:-1], -1)

    def entry(self, code: Var, down: Var, right: Var, relative_cell: Var) -> Var:
        """See Modulated."""
        width = 2 * self.imphase.out_features
        # Jittor: it has no tensor_split.
        coef, freq = code[:, :width], code[:, width:].unsqueeze(1)
        theta_right = right.unsqueeze(-1) * freq[..., 1::2]
        if self.cell_decode:
            theta_right = theta_right + self.imphase(relative_cell).unsqueeze(1)
        theta = ((down.unsqueeze(-1) * freq[..., 0::2]).unsqueeze(2) + theta_right.unsqueeze(1)) * math.pi
        waves = jt.concat([theta.cos(), theta.sin()], dim=-1) * coef.unsqueeze(1).unsqueeze(1)  # (N, P, P', width)
        return linear(self.imnet.layers[0], waves.reshape(-1, width)).reshape(*waves.shape[:-1], -1)
