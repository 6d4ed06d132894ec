"""The keys of the configs, their types and defaults.

The keys are LIIF's, so its files run unmodified; "Ours" marks the others. The docstring below a key is what
docs/configs.md says about it: `python scripts/report.py --readme` writes it there.
"""

from typing import Annotated, Any, Literal, get_args

import pydantic
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from liif_core.config import protocol
from liif_core.config.yaml_text import numbers


def _kinds(annotation: Any) -> set:
    """An annotation and those within it."""
    return {annotation}.union(*map(_kinds, get_args(annotation)))


class Strict(pydantic.BaseModel):
    """A block of a config that knows its keys."""

    model_config = pydantic.ConfigDict(extra="forbid", use_attribute_docstrings=True)

    @pydantic.field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: pydantic.ValidationInfo) -> Any:
        """YAML's `yes` and `true` would count as 1."""
        kinds = _kinds(cls.model_fields[str(info.field_name)].annotation)
        if isinstance(value, bool) and bool not in kinds and not {int, float}.isdisjoint(kinds):
            raise ValueError("expected a number")
        return value


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


class Warmup(Strict):
    """The learning rate grows to its base within the first epochs, step by step, from `factor` times it."""

    epochs: PositiveInt
    factor: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0


class Evaluation(Strict):
    """Keys that training's validation and `test.py` share."""

    data_norm: DataNorm = DataNorm()
    """`inp` and `gt`, each `{sub, div}` with one number or one for each of R, G, B: the network sees
    (value - sub) / div. In a test config it wins over the checkpoint's."""
    eval_type: str | None = None
    """[Protocol](testing.md#protocols), `div2k-S` or `benchmark-S` with S the scale, like 4 or 2.5, which must be the
    factor of the data; without it PSNR of RGB, no border. In a training config validation is measured as a test is, on
    what the wrapper of `val_dataset` gives: whole images if it has no `inp_size`."""
    eval_bsize: PositiveInt | None = None
    """Accepted for LIIF's sake: memory is bounded without it."""

    @pydantic.field_validator("eval_type")
    @classmethod
    def known_protocol(cls, value: str | None) -> str | None:
        """A protocol and its scale, in one spelling: benchmark-2.5 where 2.50 is given."""
        return None if value is None else "-".join(map(str, protocol.split(value)))


class TestConfig(Evaluation):
    """What test.py reads."""

    test_dataset: Data
    """Data set, wrapper (`{name, args}` each) and `batch_size`."""
    metrics: Annotated[list[str], pydantic.Field(min_length=1)] = ["psnr", "ssim"]
    """Ours. What is measured; the first is the result. `liif metrics` lists them."""


def _with_numbers(spec: Spec) -> Spec:
    """A number in quotes is one."""
    return spec.model_copy(update={"args": numbers(spec.args)})


class ModelConfig(Strict):
    """What a config says of bare weights: all of it, or these keys of a training config."""

    model: Spec
    data_norm: DataNorm = DataNorm()
    method: Spec = Spec(name="regression")

    with_numbers = pydantic.field_validator("model", "method")(_with_numbers)


class TrainConfig(Evaluation):
    """What train.py reads."""

    train_dataset: Data
    """Data set, wrapper (`{name, args}` each) and `batch_size`."""
    val_dataset: Data | None = None
    """The same for validation; without it nothing is validated."""
    metrics: Annotated[list[str], pydantic.Field(min_length=1)] = ["psnr"]
    """Ours. What is validated. Without an `eval_type`, a wrapper of queries gives colours without their neighbours:
    PSNR alone, also as `psnr-y` or `psnr-rgb`."""
    best: str = "psnr"
    """Ours. The metric, one of `metrics`, by which `epoch-best` is chosen."""
    model: Spec
    """See [Models](#models)."""
    method: Spec = Spec(name="regression")
    """Ours. What one training step does, see [Methods](#methods)."""
    optimizer: Spec
    """See [Optimisers](#optimisers)."""
    epoch_max: PositiveInt
    """How many epochs to train."""
    multi_step_lr: MultiStepLR | None = None
    """The learning rate is multiplied by `gamma` after each of the `milestones`, in epochs."""
    cosine_lr: CosineLR | None = None
    """Ours, instead of `multi_step_lr`. Half a cosine, step by step, from `lr` down to `lr_min` (default 0) at the end
    of the last epoch."""
    warmup: Warmup | None = None
    """Ours. The learning rate grows from `factor` (default 0) times `lr` to `lr` within the first `epochs`, step by
    step; `cosine_lr` begins behind them."""
    accumulate: PositiveInt = 1
    """Ours. Micro-batches into which a batch is cut, whose gradients are taken one after the other and added: less
    memory, and the same update to rounding, unless the model has BatchNorm, dropout or drop_path, which see one
    micro-batch at a time."""
    clip_grad: PositiveFloat | None = None
    """Ours. The largest L2 norm of all gradients together."""
    ema: Annotated[float, pydantic.Field(gt=0, lt=1)] | None = None
    """Ours. Decay, like 0.999, of a moving average of the weights; the average is validated, kept and tested. In the
    first steps the decay is less, (1 + steps) / (10 + steps), so that a short run forgets its initial weights."""
    resume: str | None = None
    """A checkpoint to start a new run from, at the epoch after its own, or at the beginning of the epoch that it was
    in the middle of. Bare weights start at epoch 1."""
    start_from: str | None = None
    """Ours. A checkpoint whose weights a new run starts from, at epoch 1 and with a new optimizer; or the name of a run
    beside this one, whose best checkpoint is taken: `srresnet-x4` is `srresnet-x4_torch` where PyTorch trains."""
    epoch_val: PositiveInt | None = None
    """Validate every so many epochs."""
    epoch_save: PositiveInt | None = None
    """Keep `epoch-N` every so many epochs."""
    step_save: PositiveInt | None = None
    """Ours. Write `epoch-last` every so many steps as well, so that a killed run loses no more than these."""
    step_log: PositiveInt = 20
    """Ours. Fetch the losses from the device and log them every so many steps; their batches are kept until then."""
    seed: NonNegativeInt = 0
    """Ours. Decides the initial weights and all samples."""
    num_workers: NonNegativeInt | None = None
    """Ours. Processes that load samples; null is none on the CPU and up to 8 on a GPU."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Ours. Of convolutions and matrix products, where the device has it; fp16 scales its gradients. Parameters,
    coordinates, loss and updates are float32 in any case."""
    val_images: NonNegativeInt = 2
    """Ours (`val_pictures` is read too). How many images of the validation set TensorBoard shows, beside bicubic and
    the original, some 60 KB each at every validation."""

    with_numbers = pydantic.field_validator("model", "method", "optimizer")(_with_numbers)

    @pydantic.model_validator(mode="after")
    def one_start(self) -> "TrainConfig":
        """A new run begins at one checkpoint."""
        if self.resume and self.start_from:
            raise ValueError(
                "resume and start_from are both given; accepted is one of them (null takes a key away): resume takes "
                "the optimizer and the epoch over as well"
            )
        return self

    @pydantic.model_validator(mode="after")
    def one_schedule(self) -> "TrainConfig":
        """There is one learning rate."""
        if self.multi_step_lr and self.cosine_lr:
            raise ValueError(
                "multi_step_lr and cosine_lr are both given; accepted is one of them (null takes a key away)"
            )
        if self.warmup and self.warmup.epochs >= self.epoch_max:
            raise ValueError(
                f"warmup.epochs is {self.warmup.epochs}; accepted is less than epoch_max, {self.epoch_max}"
            )
        return self
