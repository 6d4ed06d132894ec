"""The denoiser of SR3 (Saharia et al., arXiv 2104.07636, section 2.4), which is told sqrt(gamma)."""

from torch import Tensor, nn

from liif_torch.models.denoisers.unet import ResnetBlock, UNet, mlp
from liif_torch.models.registry import models


class FeatureShift(nn.Module):
    """A shift of each channel that is linear in the embedding."""

    def __init__(self, embedding: int, channels: int):
        super().__init__()
        self.noise_func = nn.Sequential(nn.Linear(embedding, channels))

    def forward(self, embedding: Tensor) -> Tensor:
        """(B, embedding) -> (B, channels)"""
        return self.noise_func(embedding)


class LevelBlock(ResnetBlock):
    """The embedding of the noise level goes straight into a linear layer."""

    def add_shift(self, embedding: int, channels: int) -> None:
        """See unet.ResnetBlock."""
        self.noise_func = FeatureShift(embedding, channels)

    def shift(self, embedding: Tensor) -> Tensor:
        """See unet.ResnetBlock."""
        return self.noise_func(embedding)


@models.register("sr3-unet")
class SR3UNet(UNet):
    """Tells the noise in images by their noise level sqrt(gamma): SR3's UNet, as SR3-PyTorch has it.

    scale: how much larger than the condition's image its own are; null: there is no condition. inner_channel: width of
    the first level; channel_mults: of each level, as a multiple of it. attn_res: sides of images on whose levels there
    is attention, where image_size is the side of those to be trained on. res_blocks: on each level. norm_groups: of
    each norm. dropout: of the second convolution of a block.
    """

    block = LevelBlock

    def add_embedding(self, channels: int) -> None:
        """See unet.UNet."""
        self.noise_level_mlp = mlp(channels)

    def embedding(self, level: Tensor) -> Tensor:
        """See unet.UNet."""
        return self.noise_level_mlp(level)
