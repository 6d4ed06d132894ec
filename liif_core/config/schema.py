"""The keys of the configs, their types and defaults.

The keys are LIIF's, so its files run unmodified; docs/configs.md says which are ours.
"""

import re
from typing import Annotated, Any, Literal

import pydantic
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt


class Strict(pydantic.BaseModel):
    """A block of a config that knows its keys."""

    model_config = pydantic.ConfigDict(extra="forbid")


class Spec(Strict):
    """A registered name and its arguments."""

    name: str
    args: dict[str, Any] = {}


class Data(Strict):
    """A data set, what is made of its images, and how many make a batch."""

    dataset: Spec
    wrapper: Spec
    batch_size: PositiveInt


class Norm(Strict):
    """(value - sub) / div, with one number or one per RGB channel; values are in [0, 1]."""

    sub: list[float]
    div: list[PositiveFloat]

    @pydantic.field_validator("sub", "div")
    @classmethod
    def one_or_three(cls, value: list[float]) -> list[float]:
        """A colour has one or three numbers."""
        if len(value) not in (1, 3):
            raise ValueError(f"{len(value)} numbers given; accepted is 1, or 3 for R, G, B")
        return value


class DataNorm(Strict):
    """How the network sees its input and its target; the default leaves [0, 1] as it is."""

    inp: Norm = Norm(sub=[0], div=[1])
    gt: Norm = Norm(sub=[0], div=[1])


class MultiStepLR(Strict):
    """The learning rate is multiplied by gamma when a milestone (in epochs) has passed."""

    milestones: list[PositiveInt]
    gamma: PositiveFloat = 0.1


class CosineLR(Strict):
    """The learning rate falls to lr_min at the end of the last epoch, along half a cosine."""

    lr_min: NonNegativeFloat = 0


class Evaluation(Strict):
    """Keys that training's validation and `test.py` share.

    eval_type: "div2k-S" or "benchmark-S" (see liif_core.evaluation.psnr_ssim), None for plain RGB PSNR.
    eval_bsize is accepted for LIIF's sake: memory is bounded without it.
    """

    data_norm: DataNorm = DataNorm()
    eval_type: str | None = None
    eval_bsize: PositiveInt | None = None

    @pydantic.field_validator("eval_type")
    @classmethod
    def known_protocol(cls, value: str | None) -> str | None:
        """A protocol and its scale."""
        if value is not None and not re.fullmatch(r"(div2k|benchmark)-[1-9]\d*", value):
            raise ValueError("accepted is div2k-S or benchmark-S, S the scale, like benchmark-4")
        return value


class TestConfig(Evaluation):
    """What test.py reads."""

    test_dataset: Data


class TrainConfig(Evaluation):
    """What train.py reads.

    epoch_val and epoch_save: validate and keep `epoch-N` every so many epochs. step_save: write
    `epoch-last` every so many steps too, so that a killed run loses no more. step_log: fetch the
    losses from the device and log them every so many steps. num_workers: processes that load
    samples; None is 0 on the CPU and up to 8 on a GPU. precision: of convolutions and matrix products; parameters,
    coordinates, loss and updates are float32 in any case.

    accumulate: micro-batches of a batch whose gradients are taken one after the other and added, which takes less
    memory and gives the same update to rounding. clip_grad: the largest L2 norm of all gradients together. ema: decay
    of the average of the weights that is validated and tested in their stead. val_images: how many images of the
    validation set tensorboard shows.
    """

    train_dataset: Data
    val_dataset: Data | None = None
    model: Spec
    method: Spec = Spec(name="regression")
    optimizer: Spec
    epoch_max: PositiveInt
    multi_step_lr: MultiStepLR | None = None
    cosine_lr: CosineLR | None = None
    accumulate: PositiveInt = 1
    clip_grad: PositiveFloat | None = None
    ema: Annotated[float, pydantic.Field(gt=0, lt=1)] | None = None
    resume: str | None = None
    epoch_val: PositiveInt | None = None
    epoch_save: PositiveInt | None = None
    step_save: PositiveInt | None = None
    step_log: PositiveInt = 20
    seed: NonNegativeInt = 0
    num_workers: NonNegativeInt | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    val_images: NonNegativeInt = 2

    @pydantic.model_validator(mode="after")
    def one_schedule(self) -> "TrainConfig":
        """There is one learning rate."""
        if self.multi_step_lr and self.cosine_lr:
            raise ValueError(
                "multi_step_lr and cosine_lr are both given; accepted is one of them (null takes a key away)"
            )
        return self
