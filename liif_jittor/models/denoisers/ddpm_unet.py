"""The denoiser of DDPM (Ho et al., NeurIPS 2020, arXiv 2006.11239, appendix B), which is told the time."""

from typing import Annotated

from jittor import Var, nn
from pydantic import Field, NonNegativeInt, PositiveInt

from liif_jittor.models.denoisers.unet import ResnetBlock, UNet, mlp
from liif_jittor.models.registry import models


class TimeBlock(ResnetBlock):
    """The embedding of the time goes through Swish and a linear layer."""

    def add_shift(self, embedding: int, channels: int) -> None:
        """See unet.ResnetBlock."""
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(embedding, channels))

    def shift(self, embedding: Var) -> Var:
        """See unet.ResnetBlock."""
        return self.mlp(embedding)


@models.register("ddpm-unet")
class DDPMUNet(UNet):
    """Tells the noise in images by the number of its time, from 0: DDPM's UNet, as SR3-PyTorch has it.

    The arguments are those of sr3-unet.
    """

    told = "step"

    def __init__(
        self,
        scale: PositiveInt | None = None,
        inner_channel: PositiveInt = 64,
        channel_mults: tuple[PositiveInt, ...] = (1, 1, 2, 2, 4, 4),
        attn_res: tuple[NonNegativeInt, ...] = (16,),
        res_blocks: PositiveInt = 2,
        norm_groups: PositiveInt = 32,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2,
        image_size: PositiveInt = 128,
    ):
        super().__init__(
            TimeBlock,
            scale,
            inner_channel,
            channel_mults,
            attn_res,
            res_blocks,
            norm_groups,
            dropout,
            image_size,
        )

    def add_embedding(self, channels: int) -> None:
        """See unet.UNet."""
        self.time_mlp = mlp(channels)

    def embedding(self, level: Var) -> Var:
        """See unet.UNet."""
        return self.time_mlp(level)
