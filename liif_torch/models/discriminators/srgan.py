"""The discriminator of SRGAN (Ledig et al., CVPR 2017, arXiv 1609.04802, figure 4)."""

from pydantic import PositiveInt
from torch import Tensor, nn

from liif_core.errors import UserError
from liif_torch.models.layers import batch_norm, conv3x3
from liif_torch.models.registry import models

STRIDES = 16  # by which height and width are smaller in the end


@models.register("srgan-discriminator")
class Discriminator(nn.Module):
    """Eight convolutions, every second one of stride 2, then two linear layers: one logit, high for real images.

    size: side of the square images that it judges, a multiple of 16 from 32 on: 96 in the paper. n_feats: channels of
    the first convolution, twice as many after each stride but the last.
    """

    def __init__(self, size: PositiveInt = 96, n_feats: PositiveInt = 64):
        super().__init__()
        if size % STRIDES or size == STRIDES:  # batch norm has no deviation of a single value
            raise UserError(
                f"model 'srgan-discriminator': 'size' is {size}: expected a multiple of {STRIDES} from {2 * STRIDES} on"
            )
        self.size = size
        layers: list[nn.Module] = [conv3x3(3, n_feats), nn.LeakyReLU(0.2)]
        before = n_feats
        for number in range(1, 8):
            channels, stride = n_feats * 2 ** (number // 2), 1 + number % 2
            layers += [conv3x3(before, channels, stride, bias=False), batch_norm(channels), nn.LeakyReLU(0.2)]
            before = channels
        self.features = nn.Sequential(*layers)
        area = (size // STRIDES) ** 2
        self.classifier = nn.Sequential(
            nn.Linear(before * area, 16 * n_feats), nn.LeakyReLU(0.2), nn.Linear(16 * n_feats, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, size, size) -> (B, 1)"""
        if tuple(x.shape[2:]) != (self.size, self.size):
            raise UserError(
                f"model 'srgan-discriminator' judges crops of {self.size}x{self.size} pixels, got "
                f"{x.shape[2]}x{x.shape[3]}: set its size, or the wrapper's inp_size"
            )
        return self.classifier(self.features(x).flatten(1))
