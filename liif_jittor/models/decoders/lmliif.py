"""LM-LIIF: LIIF whose wide MLP runs once per feature pixel, and tells a narrow one what to make of the queries (LMF: He
and Jin, CVPR 2024, arXiv 2404.16451).

    s(x) = sum_t  S_t / S * r([e_t, x - v_t, c]; m_t),    [m_t, e_t] = h([z_t, c])

x is the query, z_t the unfolded features at its t = 4 neighbours v_t, S_t the area opposite of t, c the cell; h is the
hypernetwork, whose modulations m_t scale and shift the layers of the render MLP r, and whose code e_t stands for z_t.

Letters: B batch, C feature channels, D modulations and code, E the code alone, H W low-resolution, N feature pixels.
"""

from typing import Any

import jittor as jt
from jittor import Var, nn
from pydantic import PositiveFloat

from liif_jittor.models.decoders.modulated import Modulated
from liif_jittor.models.registry import make, models


@models.register("lmliif")
class LMLIIF(Modulated):
    """encoder_spec: the encoder, with no_upsampling. imnet_spec: the render MLP r, an lmmlp. hypernet_spec: the
    hypernetwork h; its out_dim follows from r, whatever it says. mod_input: whether r takes a code of the hypernetwork,
    as wide as its layers, or the features themselves. local_ensemble, feat_unfold, cell_decode: as LIIF's. scale_max:
    the largest factor it is trained for; beyond it, cells stay those of this factor, as in the authors' test script and
    demo; null takes any cell as it is.
    """

    def __init__(
        self,
        encoder_spec: dict,
        imnet_spec: dict,
        hypernet_spec: dict,
        local_ensemble: bool = True,
        feat_unfold: bool = True,
        cell_decode: bool = True,
        mod_input: bool = False,
        scale_max: PositiveFloat | None = 4,
    ):
        super().__init__("lmliif", encoder_spec)
        self.feat_unfold, self.cell_decode, self.mod_input = feat_unfold, cell_decode, mod_input
        self.scale_max = scale_max
        self.corners = 4 if local_ensemble else 1
        n_cell = 2 if cell_decode else 0
        width = self.code_width(imnet_spec)
        n_code = width if mod_input else self.encoder.out_dim
        self.imnet = make(imnet_spec, in_dim=n_code + 2 + n_cell)
        self.n_unfolded = self.encoder.out_dim * (9 if feat_unfold else 1)
        out_dim = self.imnet.mod_dim + (n_code if mod_input else 0)
        self.hypernet: Any = self.hypernetwork(hypernet_spec, self.n_unfolded + n_cell, out_dim)

    def known(self, feat: Var) -> Var:
        """See Modulated: the first layer of the hypernetwork without the cell and, without mod_input, the features."""
        layer, side = self.hypernet.layers[0], 3 if self.feat_unfold else 1
        kernel = layer.weight[:, : self.n_unfolded].reshape(-1, self.encoder.out_dim, side, side)
        hidden = nn.conv2d(feat if side == 3 else feat[:, :, 1:-1], kernel, layer.bias, padding=(0, side // 2))
        known = hidden if self.mod_input else jt.concat([hidden, feat[:, :, 1:-1]], dim=1)
        return known.permute(0, 2, 3, 1)

    def modulations(self, x: Var, relative_cell: Var) -> Var:
        """See Modulated."""
        layer = self.hypernet.layers[0]
        hidden = x if self.mod_input else x[..., : layer.out_features]
        if self.cell_decode:
            hidden = hidden + nn.matmul_transpose(relative_cell, layer.weight[:, self.n_unfolded :])
        told = self.hypernet.after_first(hidden.reshape(-1, layer.out_features)).reshape(*x.shape[:-1], -1)
        return told if self.mod_input else jt.concat([told, x[..., layer.out_features :]], dim=-1)

    def entry(self, code: Var, down: Var, right: Var, relative_cell: Var) -> Var:
        """See Modulated. Linear, so that what does not depend on the query is computed once per feature pixel."""
        layer, width = self.imnet.layers[0], code.shape[1]
        # Jittor: it has no tensor_split.
        constant = nn.matmul_transpose(code, layer.weight[:, :width]) + layer.bias  # (N, hidden)
        if self.cell_decode:
            constant = constant + nn.matmul_transpose(relative_cell, layer.weight[:, width + 2 :])
        on_down, on_right = layer.weight[:, width], layer.weight[:, width + 1]
        right_part = right.unsqueeze(-1) * on_right + constant.unsqueeze(1)  # (N, P', hidden)
        return (down.unsqueeze(-1) * on_down).unsqueeze(2) + right_part.unsqueeze(1)
