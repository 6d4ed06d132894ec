"""VGG-19 (Simonyan and Zisserman, ICLR 2015, arXiv 1409.1556, configuration E) as far as its sixteenth convolution."""

import torch
from torch import Tensor, nn

from liif_torch.models.layers import conv3x3
from liif_torch.models.registry import models

# Channels of each convolution; between the groups the size is halved. Parameter names are torchvision's.
GROUPS = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's R, G and B


@models.register("vgg19-features")
class VGG19(nn.Module):
    """What the fourth convolution before the fifth pooling gives, after its ReLU: SRGAN's phi_5,4 (Ledig et al., CVPR
    2017, section 2.2.1).

    width: of the channels, as a part of VGG-19's, for tests.
    """

    def __init__(self, width: float = 1):
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for group in GROUPS:
            layers += [nn.MaxPool2d(2, 2)] if layers else []
            for number in group:
                channels = int(number * width)
                layers += [conv3x3(before, channels), nn.ReLU()]
                before = channels
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """RGB in [0, 1], (B, 3, h, w), both sides at least 16 -> (B, 512, h // 16, w // 16)"""
        mean, deviation = (torch.tensor(values, device=x.device).view(1, 3, 1, 1) for values in (MEAN, DEVIATION))
        return self.features((x - mean) / deviation)
