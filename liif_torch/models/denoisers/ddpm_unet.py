"""The denoiser of DDPM (Ho et al., NeurIPS 2020, arXiv 2006.11239, appendix B), which is told the time."""

from torch import Tensor, nn

from liif_torch.models.denoisers.unet import ResnetBlock, UNet, mlp
from liif_torch.models.registry import models


class TimeBlock(ResnetBlock):
    """The embedding of the time goes through Swish and a linear layer."""

    def add_shift(self, embedding: int, channels: int) -> None:
        """See unet.ResnetBlock."""
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(embedding, channels))

    def shift(self, embedding: Tensor) -> Tensor:
        """See unet.ResnetBlock."""
        return self.mlp(embedding)


@models.register("ddpm-unet")
class DDPMUNet(UNet):
    """Tells the noise in images by the number of its time, from 0: DDPM's UNet, as SR3-PyTorch has it.

    The arguments are those of sr3-unet.
    """

    block = TimeBlock
    told = "step"

    def add_embedding(self, channels: int) -> None:
        """See unet.UNet."""
        self.time_mlp = mlp(channels)

    def embedding(self, level: Tensor) -> Tensor:
        """See unet.UNet."""
        return self.time_mlp(level)
