"""SRCNN (Dong et al., TPAMI 2016, arXiv 1501.00092): three convolutions on the image after bicubic upscaling.

Letters: B batch, H W low-resolution, h w output. It is a model of one factor: its features are the image.
"""

from typing import Literal

from torch import Tensor, nn

from liif_torch.models.layers import luma, replicate, upscale
from liif_torch.models.registry import models

BICUBIC_RADIUS = 2  # low-resolution pixels that an upscaled one is made from, on either side


@models.register("srcnn")
class SRCNN(nn.Module):
    """f1-f2-f3 = 9-kernel-5 with 64 and 32 channels between (section 3.1).

    scale: its factor. kernel: side of the second convolution, 5 is the paper's best. channels: "y" restores the luma
    and takes the chroma of bicubic, "rgb" restores all three. Beyond the border the upscaled image goes on as at it.
    """

    def __init__(self, scale: Literal[2, 3, 4], kernel: Literal[1, 3, 5] = 5, channels: Literal["y", "rgb"] = "y"):
        super().__init__()
        colours = 1 if channels == "y" else 3
        self.channels = channels
        self.conv1 = nn.Conv2d(colours, 64, 9)
        self.conv2 = nn.Conv2d(64, 32, kernel)
        self.conv3 = nn.Conv2d(32, colours, 5)
        self.relu = nn.ReLU()
        self.margin = (9 + kernel + 5 - 3) // 2  # output pixels that a pixel sees on either side
        self.out_dim, self.scale = 3, scale
        self.receptive_radius = -(-self.margin // scale) + BICUBIC_RADIUS

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 3, scale * H, scale * W)"""
        bicubic = upscale(x, self.scale, "bicubic")  # (B, 3, h, w)
        y = luma(bicubic) if self.channels == "y" else bicubic
        restored = replicate(y, self.margin)
        restored = self.relu(self.conv2(self.relu(self.conv1(restored))))
        restored = self.conv3(restored)
        # The same added to R, G and B changes Y alone: Cb and Cr are differences to it.
        return bicubic + (restored - y) if self.channels == "y" else restored
