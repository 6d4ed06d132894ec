"""SRResNet (Ledig et al., CVPR 2017, arXiv 1609.04802): residual blocks with batch norm, the generator of SRGAN.

Letters: B batch, C channels, H W low-resolution. It is a model of one factor: its features are the image.
"""

from typing import Literal

from pydantic import PositiveInt
from torch import Tensor, nn

from liif_torch.models.layers import batch_norm, conv3x3
from liif_torch.models.registry import models


class ResidualBlock(nn.Module):
    """x + norm(conv(prelu(norm(conv(x)))))  (figure 4)."""

    def __init__(self, n_feats: int):
        super().__init__()
        self.body = nn.Sequential(
            conv3x3(n_feats, n_feats, bias=False),
            batch_norm(n_feats),
            nn.PReLU(),
            conv3x3(n_feats, n_feats, bias=False),
            batch_norm(n_feats),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)"""
        return x + self.body(x)


@models.register("srresnet")
class SRResNet(nn.Module):
    """Head, residual body with a long skip connection, pixel shuffles and a tail (figure 4). Every PReLU has one slope.

    scale: its factor.
    """

    def __init__(self, scale: Literal[2, 3, 4] = 4, n_resblocks: PositiveInt = 16, n_feats: PositiveInt = 64):
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(3, n_feats, 9, padding=4), nn.PReLU())
        blocks = [ResidualBlock(n_feats) for _ in range(n_resblocks)]
        self.body = nn.Sequential(*blocks, conv3x3(n_feats, n_feats, bias=False), batch_norm(n_feats))
        tail: list[nn.Module] = []
        for factor in (2, 2) if scale == 4 else (scale,):
            tail += [conv3x3(n_feats, factor**2 * n_feats), nn.PixelShuffle(factor), nn.PReLU()]
        self.tail = nn.Sequential(*tail, nn.Conv2d(n_feats, 3, 9, padding=4))
        self.out_dim, self.scale = 3, scale
        self.receptive_radius = 4 + 2 * n_resblocks + 1 + 3  # the tail: 1 + 1/2 + 4/4 pixels, 1 + 4/3 or 1 + 4/2

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 3, scale * H, scale * W)"""
        x = self.head(x)
        return self.tail(x + self.body(x))
